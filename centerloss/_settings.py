"""What the classes of center loss share: settings, and checks of arguments."""

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
OPTIONAL = ("skip_nonfinite",)  # older files and states do not have it


def settings_of(loss_fn: object) -> dict[str, Any]:
    """Return the attributes of an object that are settings, unchecked."""
    return {name: getattr(loss_fn, name) for name in SETTINGS}


def settings_text(settings: dict[str, Any]) -> str:
    """Return settings as keywords in a call: "alpha=0.5, reduction='mean'"."""
    return ", ".join(f"{name}={_repr(value)}" for name, value in settings.items())


def _repr(value: object) -> str:
    """Return the repr of a setting: of an enum its text, of NumPy's 0.25 plain 0.25."""
    return repr("".join(value)) if isinstance(value, str) else str(value)


def no_rows() -> dict[str, NDArray[Any]]:
    """Return an empty batch, to check other arguments with."""
    # Explicit dtypes: with the default, np.empty leaks a reference to the dtype.
    return {
        "features": np.empty((0, 1), np.float64),
        "labels": np.empty(0, np.intp),
        "centers": np.empty((0, 1), np.float64),
    }


def check_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Raise what `step` would raise; return the settings as plain Python values.

    Settings that are missing get their defaults.
    """
    checked = check("step", no_rows() | settings)
    return {name: checked[name] for name in SETTINGS}


def check_centers(
    centers: NDArray[Any], *, written: bool, name: str = "centers"
) -> None:
    """Raise what `loss` would raise or, if the centers are to be written, `step`.

    `name` is what messages call the centers.
    """
    shape = (0, *np.shape(centers)[1:])
    batch = no_rows() | {
        "features": np.empty_like(centers, shape=shape, subok=False),
        "centers": centers,
    }
    check("step" if written else "loss", batch, names={"centers": name})


def check_init(init: Any, other: str) -> None:
    """Raise unless `init` names how centers start; `other` is what else it may be."""
    choices = f"'normal', 'zeros' or {other}"
    if not isinstance(init, str):
        raise TypeError(f"init is a {type(init).__name__}, expected {choices}")
    if init not in ("normal", "zeros"):
        raise ValueError(f"init is {init!r}, expected {choices}")


def zero_centers(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return centers at zero, of which all share the memory of one row.

    Differences from them are the features.
    """
    row = np.zeros(shape[1:], dtype)
    return np.ndarray(shape, dtype, row, strides=(0, row.itemsize))


def check_keys(what: str, keys: Collection[str], expected: tuple[str, ...]) -> None:
    """Raise unless these are the expected keys; those of `OPTIONAL` may be missing."""
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
