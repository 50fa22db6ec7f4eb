"""The checks of arguments, in Python: arguments in, a batch or one error out.

`centerloss.reference` has all of them in one; `centerloss.torch` takes some, for what
it does not hand to C.

Every function of the reference calls `checked_batch` first and writes last, so an
error leaves every array as it was. The order of the lines in `checked_batch` is the
order of the errors: each TypeError, argument by argument, before any ValueError, and
IndexError, which needs a look at the labels themselves, at the end.
"""

import math
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

REDUCTIONS = ("none", "sum", "mean")
# Where the strides of many axes do not nest, to tell may take hours. Any, as NumPy's
# types know of no number but -1 and 0.
_MOST_OVERLAP_STEPS: Any = 100_000


@dataclass(frozen=True)
class Batch:
    """The N rows that count (those not ignored), in the letters of the formulas.

    The gradient has every row of the features, so `live` and `shape` say where the N
    rows belong among the B given.
    """

    x: NDArray[Any]  # (N, D) features, widened to the dtype of the centers
    y: NDArray[np.intp]  # (N,) labels, each inside 0..K-1
    w: NDArray[np.float64]  # (N,) sample weights
    c: NDArray[Any]  # (K, D) centers, the caller's own memory
    live: NDArray[np.bool_]  # (B,) which of the given rows count
    shape: tuple[int, ...]  # (B, ...) of the features as given
    dtype: np.dtype[Any]  # of the gradient: that of the features, native
    alpha: float
    normalize: bool
    reduction: str
    loss_weight: float


def checked_batch(
    features: Any,
    labels: Any,
    centers: Any,
    *,
    sample_weight: Any,
    ignore_index: Any,
    reduction: Any = "mean",
    loss_weight: Any = 1.0,
    alpha: Any = 0.0,
    normalize: Any = True,
    out: Any = None,
    out_holds: str = "gradient",
    moves_centers: bool = False,
) -> Batch:
    """Check the arguments of a function of the reference, and read them.

    Arguments that a function does not have keep their defaults, which pass.
    `out_holds` is "loss", "gradient" or "delta"; with `moves_centers` the centers
    are going to be written.
    """
    c = read_centers(centers)
    x = read_features(features, c.dtype)
    y = read_labels(labels)
    alpha_number = _number("alpha", alpha)
    if not isinstance(normalize, (bool, np.bool_)):
        raise TypeError(f"normalize is {normalize!r}, expected True or False")
    if not isinstance(reduction, str):
        raise TypeError(_wrong_reduction(reduction))
    loss_weight_number = _number("loss_weight", loss_weight)
    w = read_weights(sample_weight)
    ignored = _ignore_index(ignore_index)
    gradient_dtype = x.dtype.newbyteorder("=")
    out_dtype = gradient_dtype if out_holds == "gradient" else c.dtype
    if out is not None:
        _check_type_of_out(out, out_dtype)
        out = np.asarray(out)  # a subclass may answer as it likes

    if reduction not in REDUCTIONS:
        raise ValueError(_wrong_reduction(reduction))
    _check_rate("alpha", alpha, alpha_number)
    _check_rate("loss_weight", loss_weight, loss_weight_number)
    if ignored is not None and not -(2**63) <= ignored < 2**63:
        raise ValueError(
            f"ignore_index is {ignore_index!r}, expected an integer of 64 bits"
        )
    check_shapes(x, y, w, c)
    if out is not None:
        if out_holds == "loss" and reduction != "none":
            raise ValueError(
                "out needs reduction='none': "
                f"the loss is a float with reduction={reduction!r}"
            )
        out_shape = {"loss": y.shape, "gradient": x.shape, "delta": c.shape}[out_holds]
        if out.shape != out_shape:
            raise ValueError(f"out has shape {out.shape}, expected {out_shape}")
    _check_rows("centers", c, written=moves_centers)
    if out is not None:
        _check_rows("out", out, written=True)
    inputs = {"features": x, "labels": y, "sample_weight": w}
    if moves_centers:
        _check_overlap("centers", c, inputs)
    if out is not None:
        inputs = {"features": x, "labels": y, "centers": c, "sample_weight": w}
        _check_overlap("out", out, inputs)
    w = np.ones(len(y)) if w is None else w.astype(np.float64)
    check_weights(w)
    live = np.ones(len(y), bool) if ignored is None else y != ignored
    check_labels(y, live, len(c))

    rows = x.reshape(len(y), c.shape[1])
    return Batch(
        x=rows[live].astype(c.dtype, order="C"),
        y=y[live].astype(np.intp),
        w=w[live],
        c=c,
        live=live,
        shape=x.shape,
        dtype=gradient_dtype,
        alpha=alpha_number,
        normalize=bool(normalize),
        reduction=reduction,
        loss_weight=loss_weight_number,
    )


def read_centers(centers: Any) -> NDArray[Any]:
    """View the centers as a plain ndarray; they are changed in place, so no copy."""
    if not isinstance(centers, np.ndarray):
        raise TypeError(
            f"centers is a {type(centers).__name__}, "
            "expected a NumPy array of float32 or float64"
        )
    native = centers.dtype.newbyteorder("=")
    if native not in (np.float32, np.float64):
        raise TypeError(
            f"centers has dtype {centers.dtype}, expected float32 or float64: "
            "make it with centers.astype(np.float32)"
        )
    if centers.dtype != native:
        raise TypeError(
            f"centers has dtype {centers.dtype}, expected native byte order: "
            f"make it with centers.astype(np.{native})"
        )
    return np.asarray(centers)


def read_features(features: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Features as an array: a sequence without a dtype takes that of the centers."""
    if not hasattr(features, "dtype"):
        return _as_array("features", features, dtype)
    x = _as_array("features", features)
    # bfloat16 comes from ml_dtypes, which must not be needed, so it goes by its name.
    half = x.dtype.newbyteorder("=") == np.float16 or x.dtype.name == "bfloat16"
    if x.dtype.newbyteorder("=") == dtype or (half and dtype == np.float32):
        return x
    hint = f": pass features.astype(np.{dtype})" if _is_real(x) else ""
    raise TypeError(f"features has dtype {x.dtype}, but centers has {dtype}{hint}")


def _as_array(
    name: str, value: Any, dtype: np.dtype[Any] | None = None
) -> NDArray[Any]:
    try:
        return np.asarray(value, dtype)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} cannot be an array: {error}") from error


def _is_real(array: NDArray[Any]) -> bool:
    """Whether a cast to another dtype would keep what the numbers mean."""
    return array.dtype.kind in "biuf"


def read_labels(labels: Any) -> NDArray[Any]:
    y = _as_array("labels", labels)
    if y.size == 0 and not hasattr(labels, "dtype"):
        y = y.astype(np.int64)  # NumPy makes [] a float64
    if y.dtype.kind not in "iu":
        hint = ": pass labels.astype(np.int64)" if _is_real(y) else ""
        raise TypeError(f"labels has dtype {y.dtype}, expected an integer dtype{hint}")
    return y


def _number(name: str, value: Any) -> float:
    """Read what has __float__ or __index__; a str has neither, though float takes it.

    NumPy's complex numbers have a __float__, which drops the imaginary part.
    """
    wrong_type = TypeError(f"{name} is {value!r}, expected a number")
    kind = type(value)
    if isinstance(value, np.complexfloating) or not (
        hasattr(kind, "__float__") or hasattr(kind, "__index__")
    ):
        raise wrong_type
    try:
        return float(value)
    except TypeError:
        raise wrong_type from None
    except OverflowError:
        return math.inf  # an int beyond every float: not finite, a ValueError later


def read_weights(sample_weight: Any) -> NDArray[Any] | None:
    if sample_weight is None:
        return None
    w = _as_array("sample_weight", sample_weight)
    if not _is_real(w):
        raise TypeError(
            f"sample_weight has dtype {w.dtype}, expected a real number dtype"
        )
    return w


def _ignore_index(ignore_index: Any) -> int | None:
    if ignore_index is None:
        return None
    try:
        return int(operator.index(ignore_index))
    except TypeError:
        raise TypeError(
            f"ignore_index is {ignore_index!r}, expected an integer or None"
        ) from None


def _check_type_of_out(out: Any, dtype: np.dtype[Any]) -> None:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out is a {type(out).__name__}, expected a NumPy array")
    if out.dtype != dtype:
        raise TypeError(f"out has dtype {out.dtype}, expected {dtype}")


def _wrong_reduction(reduction: Any) -> str:
    return f"reduction is {reduction!r}, expected 'none', 'sum' or 'mean'"


def _check_rate(name: str, given: Any, number: float) -> None:
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} is {given!r}, expected a finite number >= 0")


def check_shapes(
    x: NDArray[Any], y: NDArray[Any], w: NDArray[Any] | None, c: NDArray[Any]
) -> None:
    if c.ndim != 2:
        raise ValueError(f"centers has shape {c.shape}, expected (classes, features)")
    if x.ndim == 0:
        raise ValueError("features has shape (), expected (rows, ...)")
    row = math.prod(x.shape[1:])
    if row != c.shape[1]:
        raise ValueError(
            f"features has {row} values per row, but centers has {c.shape[1]}: "
            f"shapes {x.shape} and {c.shape}"
        )
    expected = x.shape[:1]
    if y.shape != expected:
        raise ValueError(
            f"labels has shape {y.shape}, expected {expected}: "
            "one label per row of features"
        )
    if w is not None and w.shape != expected:
        raise ValueError(
            f"sample_weight has shape {w.shape}, expected {expected}: "
            "one weight per row of features"
        )


def _check_rows(name: str, array: NDArray[Any], *, written: bool) -> None:
    """Rows have to be contiguous, and apart from each other where they are written."""
    if written and not array.flags.writeable:
        raise ValueError(f"{name} is read-only")
    if not array.flags.aligned:
        raise ValueError(f"{name} is not aligned")
    first = array[:1]  # the flag of a single row knows nothing of the row stride
    if not first.flags.c_contiguous:
        raise ValueError(
            f"{name} has strided rows: each row must be contiguous in memory"
        )
    if written and len(array) > 1 and abs(array.strides[0]) < first.nbytes:
        raise ValueError(f"{name} overlaps itself")


def _check_overlap(
    name: str, written: NDArray[Any], others: dict[str, NDArray[Any] | None]
) -> None:
    for other, array in others.items():
        if array is None:
            continue
        try:
            overlaps = np.shares_memory(written, array, _MOST_OVERLAP_STEPS)
        except np.exceptions.TooHardError:
            raise ValueError(
                f"whether {name} overlaps {other} in memory is too hard to tell: "
                f"pass {other}.copy()"
            ) from None
        if overlaps:
            raise ValueError(f"{name} overlaps {other} in memory")


def check_weights(w: NDArray[np.float64]) -> None:
    bad = np.flatnonzero(~((w >= 0) & np.isfinite(w)))
    if bad.size:
        i = int(bad[0])
        raise ValueError(
            f"sample_weight[{i}] is {float(w[i])!r}, expected a finite number >= 0"
        )


def check_labels(y: NDArray[Any], live: NDArray[np.bool_], classes: int) -> None:
    bad = np.flatnonzero(live & ((y < 0) | (y >= classes)))
    if bad.size:
        i = int(bad[0])
        raise IndexError(f"labels[{i}] is {y[i]}, but there are {classes} classes")
