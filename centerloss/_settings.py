"""The settings of the classes named CenterLoss, and checks of them."""

import operator
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ._core import check

SETTINGS = (
    *("alpha", "loss_weight", "reduction", "normalize", "ignore_index"),
    "skip_nonfinite",
)
OPTIONAL = ("skip_nonfinite",)  # older files, states and pickles do not have it


def check_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Raise what `step` would raise; return the settings as plain Python values.

    Settings that are missing get their defaults.
    """
    # Explicit dtypes: with the default, np.empty leaks a reference to the dtype.
    no_rows = {
        "features": np.empty((0, 1), np.float64),
        "labels": np.empty(0, np.intp),
        "centers": np.empty((0, 1), np.float64),
    }
    checked = check("step", no_rows | settings)
    return {name: checked[name] for name in SETTINGS}


def check_centers(
    centers: NDArray[Any], *, written: bool, name: str = "centers"
) -> None:
    """Raise what `loss` would raise or, if the centers are to be written, `step`.

    `name` is what messages call the centers.
    """
    no_rows = {
        "features": np.empty_like(
            centers, shape=(0, *np.shape(centers)[1:]), subok=False
        ),
        "labels": np.empty(0, np.intp),
    }
    function = "step" if written else "loss"
    check(function, no_rows | {"centers": centers}, names={"centers": name})


def check_keys(what: str, keys: Collection[str], expected: tuple[str, ...]) -> None:
    for key in expected:
        if key not in keys and key not in OPTIONAL:
            raise ValueError(f"{what} has no {key!r}, expected {', '.join(expected)}")
    for key in keys:
        if key not in expected:
            raise ValueError(f"{what} has a {key!r}, expected {', '.join(expected)}")


def size(name: str, value: Any) -> int:
    """Return a size as an int; raise unless it is an integer >= 0."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, expected an integer") from None
    if number < 0:
        raise ValueError(f"{name} is {value!r}, expected an integer >= 0")
    return number


def float_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the dtype of centers; raise unless it is float32 or float64."""
    try:
        found = None if dtype is None else np.dtype(dtype)
    except TypeError:
        found = None
    if found not in (np.float32, np.float64):
        raise TypeError(f"dtype is {dtype!r}, expected float32 or float64")
    return found
