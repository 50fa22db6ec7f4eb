"""The settings that both classes named CenterLoss keep, and what they may be."""

import operator
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._core import loss, step

SETTINGS = ("alpha", "loss_weight", "reduction", "normalize", "ignore_index")


def check_settings(settings: dict[str, Any]) -> None:
    """Raise what a step with them would raise."""
    # The dtypes are said: NumPy counts the default one once too often in every call.
    step([], np.empty(0, np.intp), np.empty((0, 1), np.float64), **settings)


def check_centers(centers: NDArray[Any], *, written: bool) -> None:
    """Raise what a loss with them would or, if they are to be written, a step."""
    no_rows = np.empty_like(centers, shape=(0, *np.shape(centers)[1:]), subok=False)
    use = step if written else loss
    use(no_rows, np.empty(0, np.intp), centers)


def check_keys(what: str, keys: Collection[str], expected: tuple[str, ...]) -> None:
    for key in expected:
        if key not in keys:
            raise ValueError(f"{what} has no {key!r}, expected {', '.join(expected)}")
    for key in keys:
        if key not in expected:
            raise ValueError(f"{what} has a {key!r}, expected {', '.join(expected)}")


def plain_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return them as plain Python values; raise what a step with them would raise."""
    check_settings(settings)
    ignore_index = settings["ignore_index"]
    return {
        "alpha": float(settings["alpha"]),
        "loss_weight": float(settings["loss_weight"]),
        "reduction": str.__str__(settings["reduction"]),  # that of an enum is another
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
