"""The settings that both classes named CenterLoss keep, and what they may be."""

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._core import step

SETTINGS = ("alpha", "loss_weight", "reduction", "normalize", "ignore_index")


def check_settings(centers: NDArray[Any], settings: dict[str, Any]) -> None:
    """Raise what a step with these would raise; a batch of no rows moves nothing."""
    features = np.empty((0, centers.shape[1]), centers.dtype)
    step(features, np.empty(0, np.intp), centers, **settings)


def plain_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return them as plain Python values; raise what a step with them would raise."""
    # The dtype is said: NumPy counts the default one once too often in every call.
    check_settings(np.empty((0, 0), np.float64), settings)
    ignore_index = settings["ignore_index"]
    return {
        "alpha": float(settings["alpha"]),
        "loss_weight": float(settings["loss_weight"]),
        "reduction": str(settings["reduction"]),
        "normalize": bool(settings["normalize"]),
        "ignore_index": None if ignore_index is None else int(ignore_index),
    }


def size(name: str, value: Any) -> int:
    """Return a size as an int; raise if it is none."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, expected an integer") from None
    if number < 0:
        raise ValueError(f"{name} is {value!r}, expected an integer >= 0")
    return number
