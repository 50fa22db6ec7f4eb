"""A demo of center loss: ``python -m centerloss.demo`` trains on handwritten digits.

The functions can also be called: load images, train a network for each of several loss
weights, and evaluate them; `centerloss.demo.report` draws the features. Requires
``pip install 'centerloss[demo]'``.
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
