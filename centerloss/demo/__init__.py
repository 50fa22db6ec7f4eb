"""Center loss at work: ``python -m centerloss.demo`` trains on handwritten digits.

The same as a library: load images, train networks side by side under several loss
weights, measure what came of it; `centerloss.demo.report` draws it. Needs what
``pip install 'centerloss[demo]'`` installs.
"""

from .data import DataError, Split, load_digits_split, load_idx
from .network import Network
from .training import (
    Divergence,
    Result,
    Run,
    Settings,
    evaluate,
    nearest_center,
    scatter,
    train,
)

__all__ = [
    "DataError",
    "Divergence",
    "Network",
    "Result",
    "Run",
    "Settings",
    "Split",
    "evaluate",
    "load_digits_split",
    "load_idx",
    "nearest_center",
    "scatter",
    "train",
]
