"""Center loss for NumPy: loss, gradient and center update in C.

The functions take a batch and the centers. `CenterLoss` keeps the centers and the
settings between calls. `centerloss.reference` has the same functions in plain NumPy.
"""

__version__ = "0.1.0"

import logging as _logging

try:
    from ._core import (
        center_delta,
        class_sums,
        get_num_threads,
        gradient,
        loss,
        set_num_threads,
        step,
        update_centers,
        value_and_grad,
    )
except ModuleNotFoundError as _error:  # pragma: no cover: a test imports a copy
    if _error.name != "centerloss._core":
        raise
    raise ModuleNotFoundError(
        f"centerloss was imported from {__path__[0]}, where its C extension is not "
        "built: start Python in a folder that does not contain the source, or build "
        "it there with pip install --editable",
        name=_error.name,
    ) from None
from ._include import get_include
from ._threads import default_num_threads as _default_num_threads
from ._versions import log_build as _log_build
from ._versions import show_versions
from .center_loss import CenterLoss

__all__ = [
    "CenterLoss",
    "center_delta",
    "class_sums",
    "get_include",
    "get_num_threads",
    "gradient",
    "loss",
    "set_num_threads",
    "show_versions",
    "step",
    "update_centers",
    "value_and_grad",
]

set_num_threads(_default_num_threads())
_logging.getLogger(__name__).addHandler(_logging.NullHandler())
_log_build()
