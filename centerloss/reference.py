"""The functions of the package in plain NumPy: the executable specification.

Each function has the signature, the results and the errors of its namesake in
`centerloss`, but is written to be read next to the paper, not to be fast. Use it to see
what a function computes, or to check a port. Results agree within rounding, not bit by
bit. The arguments are checked by the same code.

The labels have any shape S with at least one axis, such as (B,). There are B of them,
and a row for each: features of shape S + (...), whose other axes have D values in all.

In the formulas x_i is row i of the features, y_i its label, c_j center j,
d_i = x_i - c_{y_i}, w_i a sample weight (1 unless given), n_j the sum of w_i over the
rows of class j and W the sum of w_i over all rows. Ignored rows are in none of the
sums. Differences are rounded to the dtype of the centers, sums are taken in float64.

All functions raise the same errors. `loss` lists them in the order of the checks. After
an error nothing has changed.

References
----------
Y. Wen, K. Zhang, Z. Li and Y. Qiao, "A Discriminative Feature Learning Approach for
Deep Face Recognition", ECCV 2016: Eq. 2 (loss), 3 (gradient) and 4 (center delta).

Examples
--------
>>> import numpy as np
>>> from centerloss import reference
>>> features = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 4.0], [0.0, 2.0]])
>>> labels = np.array([0, 0, 0, 1])
>>> centers = np.zeros((2, 2))
>>> reference.step(features, labels, centers)[0]
5.75
>>> centers
array([[0.5, 1. ],
       [0. , 0.5]])
"""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from centerloss._core import check

__all__ = [
    "center_delta",
    "class_sums",
    "gradient",
    "loss",
    "step",
    "update_centers",
    "value_and_grad",
]

Array = TypeVar("Array", bound=NDArray[Any])

_quiet = np.errstate(all="ignore")  # NaN and infinity are data, no cause to warn


# --- the formulas -------------------------------------------------------------------


@dataclass(frozen=True)
class _Batch:
    """The N rows that count (those not ignored), in the letters of the formulas."""

    x: NDArray[Any]  # (N, D) features, in the dtype of the centers
    y: NDArray[np.intp]  # (N,) labels
    w: NDArray[np.float64]  # (N,) sample weights
    c: NDArray[Any]  # (K, D) centers, in the caller's memory
    counted: NDArray[np.bool_]  # (B,) which rows of the features the N rows are
    shape: tuple[int, ...]  # of the labels: one axis (B,), or several of B in all


def _read(function: str, **arguments: Any) -> tuple[_Batch, dict[str, Any]]:
    """Return the batch and all arguments as plain values; raise what C would raise."""
    given = check(function, arguments)
    c, y = given["centers"], given["labels"].ravel()
    x = given["features"].reshape(len(y), c.shape[1])
    counted = np.ones(len(y), bool)
    if given["ignore_index"] is not None:
        counted = y != given["ignore_index"]
    w = np.ones(len(y))
    if given["sample_weight"] is not None:
        w = given["sample_weight"].ravel()
    batch = _Batch(
        x=x[counted].astype(c.dtype),
        y=y[counted].astype(np.intp),
        w=w[counted],
        c=c,
        counted=counted,
        shape=given["labels"].shape,
    )
    return batch, given


def _differences(b: _Batch) -> NDArray[Any]:
    """d_i = x_i - c_{y_i}, in the dtype of the centers."""
    d: NDArray[Any] = b.x - b.c[b.y]
    return d


def _squares(d: NDArray[Any]) -> NDArray[np.float64]:
    """||d_i||^2 of each row, squared and added up in float64."""
    squares: NDArray[np.float64] = np.square(d, dtype=np.float64).sum(axis=1)
    return squares


def _only_finite(b: _Batch, d: NDArray[Any]) -> tuple[_Batch, NDArray[Any]]:
    """The rows whose ||d_i||^2 is finite, and their d_i."""
    finite = np.isfinite(_squares(d))
    counted = b.counted.copy()
    counted[b.counted] = finite
    rows = replace(b, x=b.x[finite], y=b.y[finite], w=b.w[finite], counted=counted)
    return rows, d[finite]


def _factor(b: _Batch, reduction: str, loss_weight: float) -> float:
    """The factor of w_i l_i and w_i d_i: L, or L / W for "mean"."""
    if reduction != "mean":
        return loss_weight
    total_weight = b.w.sum()
    return float(loss_weight / total_weight) if total_weight else 0.0


def _loss(
    b: _Batch, d: NDArray[Any], reduction: str, factor: float
) -> float | NDArray[Any]:
    """l_i = 1/2 ||d_i||^2; the factor times w_i l_i, per row or summed (Eq. 2)."""
    losses = b.w * 0.5 * _squares(d)
    if reduction == "none":
        return _with_ignored_rows(b, factor * losses, b.c.dtype).reshape(b.shape)
    if reduction == "mean" and not b.w.any():
        return 0.0  # there is no mean, even if a row holds NaN
    return float(factor * losses.sum())


def _gradient(
    b: _Batch, d: NDArray[Any], factor: float, features: NDArray[Any]
) -> NDArray[Any]:
    """The factor times w_i d_i (Eq. 3), of the dtype and shape of the features."""
    factors = (factor * b.w).astype(d.dtype)
    rows = _with_ignored_rows(b, factors[:, np.newaxis] * d, features.dtype)
    return rows.reshape(features.shape)


def _with_ignored_rows(
    b: _Batch, rows: NDArray[Any], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """B rows: those given where a row counts, 0 where it is ignored."""
    result: NDArray[Any] = np.zeros((len(b.counted), *rows.shape[1:]), dtype)
    result[b.counted] = rows
    return result


def _sums(
    b: _Batch, d: NDArray[Any]
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """The classes j in the batch; sum_{i: y_i = j} w_i d_i and n_j of each."""
    order = np.argsort(b.y, kind="stable")
    classes, starts = np.unique(b.y[order], return_index=True)
    weighted = b.w[:, np.newaxis] * d
    # reduceat adds pairwise, so a class of 10^5 rows loses no digits.
    sums = np.add.reduceat(weighted[order], starts, axis=0)
    counts = np.add.reduceat(b.w[order], starts)
    return classes, sums, counts


def _shares(counts: NDArray[np.float64], normalize: bool) -> NDArray[np.float64]:
    """1 / (1 + n_j) of each class, or 1: (U, 1)."""
    denominator = 1.0 + counts if normalize else np.ones_like(counts)
    shares: NDArray[np.float64] = (1.0 / denominator)[:, np.newaxis]
    return shares


def _delta(
    b: _Batch, d: NDArray[Any], normalize: bool
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The classes j in the batch; sum_i w_i (c_j - x_i) / (1 + n_j) of each (Eq. 4)."""
    classes, sums, counts = _sums(b, d)
    return classes, (0.0 - sums) * _shares(counts, normalize)  # -sums would be -0.0


def _updated(
    b: _Batch, d: NDArray[Any], alpha: float, normalize: bool, skip_nonfinite: bool
) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """The classes j with a row that counts; c_j - alpha Delta c_j, rounded once."""
    if skip_nonfinite:
        b, d = _only_finite(b, d)
    classes, sums, counts = _sums(b, d)
    # In this order: if alpha / (1 + n_j) is 0 and the sum infinite, the center is NaN.
    updated = b.c[classes] + alpha * _shares(counts, normalize) * sums
    return classes, updated.astype(b.c.dtype)


def _return(result: Array, out: Array | None) -> Array:
    """Return the result, in `out` if given."""
    if out is None:
        return result
    np.asarray(out)[...] = result
    return out


# --- the functions ------------------------------------------------------------------


@_quiet
def loss(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[Any],
    *,
    reduction: str = "mean",
    loss_weight: float = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    out: NDArray[Any] | None = None,
) -> float | NDArray[Any]:
    """Center loss (Eq. 2): half the squared distance of each row to its center.

    With l_i = 1/2 ||x_i - c_{y_i}||^2 and L standing for `loss_weight`

    - "none": L w_i l_i for each row,
    - "sum": L sum_i w_i l_i,
    - "mean": L sum_i w_i l_i / W, or 0 if W = sum_i w_i is 0.

    The equations are those of Wen et al., ECCV 2016.

    Parameters
    ----------
    features : array_like, shape S + (...)
        A row of D values for each label: the shape of `labels`, and after it axes of D
        values in all. The dtype of `centers`, or float16 or bfloat16 with float32
        centers, in any memory layout and byte order. A sequence without a dtype takes
        that of `centers`.
    labels : array_like of integers or bool, shape S
        The class of each row, 0..K-1. At least one axis: (B,), or (B, T) with features
        (B, T, D). False and True are 0 and 1.
    centers : ndarray of float32 or float64, shape (K, D)
        One center per class; native byte order, aligned, each row contiguous.
    reduction : {"mean", "sum", "none"}
        Mean or sum over the rows, or one loss per row.
    loss_weight : float
        Multiplies loss and gradient, but not the update of the centers. Finite, >= 0.
    sample_weight : array_like of real numbers, shape S, optional
        The w_i, 1 unless given. Finite, >= 0.
    ignore_index : int, optional
        Rows with this label are ignored: their loss and gradient are 0, and they
        move no center. It may be outside 0..K-1.
    out : ndarray of the dtype of `centers`, shape S, optional
        Array for the result of reduction "none"; not allowed otherwise. One stride
        leads from each element to the next, as in every array of one axis.

    Returns
    -------
    float, or ndarray of the dtype of `centers` and shape S for "none"
        `out` itself if given.

    Raises
    ------
    TypeError
        An argument has a wrong type or dtype.
    ValueError
        Shapes do not match, the memory of an array is unsuitable, or a number is
        negative or not finite.
    IndexError
        A label is outside 0..K-1.

    Examples
    --------
    >>> features = np.array([[1.0, 0.0], [3.0, 4.0]])
    >>> loss(features, [0, 1], np.zeros((2, 2)))
    6.5
    >>> loss(features, [0, 1], np.zeros((2, 2)), reduction="none")
    array([ 0.5, 12.5])
    >>> tokens = np.ones((2, 3, 4))  # 2 sequences of 3 tokens
    >>> loss(tokens, [[0, 1, 1], [0, 0, 1]], np.zeros((2, 4)), reduction="none")
    array([[2., 2., 2.],
           [2., 2., 2.]])
    """
    batch, given = _read(
        "loss",
        features=features,
        labels=labels,
        centers=centers,
        reduction=reduction,
        loss_weight=loss_weight,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        out=out,
    )
    d = _differences(batch)
    factor = _factor(batch, given["reduction"], given["loss_weight"])
    value = _loss(batch, d, given["reduction"], factor)
    return _return(value, out) if isinstance(value, np.ndarray) else value


@_quiet
def gradient(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[Any],
    *,
    reduction: str = "mean",
    loss_weight: float = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Gradient of the loss with respect to the features (Eq. 3).

    L w_i d_i for "none" and "sum", L w_i d_i / W for "mean", where
    d_i = x_i - c_{y_i} and the other letters are as in `loss`.

    Parameters
    ----------
    features, labels, centers, reduction, loss_weight, sample_weight, ignore_index
        As in `loss`.
    out : ndarray of the dtype (native) and shape of `features`, optional
        Array for the gradient. Its rows must be contiguous, with one stride from each
        row to the next, and it must not overlap other arguments.

    Returns
    -------
    ndarray of the dtype (native) and shape of `features`
        `out` itself if given.

    Raises
    ------
    TypeError, ValueError, IndexError
        As in `loss`.

    Examples
    --------
    >>> gradient([[1.0, 0.0], [3.0, 4.0]], [0, 1], np.zeros((2, 2)))
    array([[0.5, 0. ],
           [1.5, 2. ]])
    """
    batch, given = _read(
        "gradient",
        features=features,
        labels=labels,
        centers=centers,
        reduction=reduction,
        loss_weight=loss_weight,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        out=out,
    )
    d = _differences(batch)
    factor = _factor(batch, given["reduction"], given["loss_weight"])
    return _return(_gradient(batch, d, factor, given["features"]), out)


@_quiet
def value_and_grad(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[Any],
    *,
    reduction: str = "mean",
    loss_weight: float = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    out: NDArray[Any] | None = None,
) -> tuple[float | NDArray[Any], NDArray[Any]]:
    """Loss (Eq. 2) and gradient (Eq. 3) together.

    Parameters
    ----------
    features, labels, centers, reduction, loss_weight, sample_weight, ignore_index
        As in `loss`.
    out : ndarray, optional
        As in `gradient`.

    Returns
    -------
    loss : float, or ndarray of the shape of `labels` for reduction "none"
        As from `loss`.
    gradient : ndarray shaped like `features`
        As from `gradient`.

    Raises
    ------
    TypeError, ValueError, IndexError
        As in `loss`.

    Examples
    --------
    >>> value_and_grad([[1.0, 0.0]], [1], np.zeros((2, 2)), loss_weight=3)
    (1.5, array([[3., 0.]]))
    """
    batch, given = _read(
        "value_and_grad",
        features=features,
        labels=labels,
        centers=centers,
        reduction=reduction,
        loss_weight=loss_weight,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        out=out,
    )
    d = _differences(batch)
    factor = _factor(batch, given["reduction"], given["loss_weight"])
    value = _loss(batch, d, given["reduction"], factor)
    return value, _return(_gradient(batch, d, factor, given["features"]), out)


@_quiet
def center_delta(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[Any],
    *,
    normalize: bool = True,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """What `update_centers` subtracts from the centers, before alpha (Eq. 4).

    Delta c_j = sum_{i: y_i = j} w_i (c_j - x_i) / (1 + n_j), where n_j is the sum of
    w_i over the rows of class j. Without `normalize`, the sum is not divided: it is the
    gradient of the "sum" loss with respect to the centers.

    Parameters
    ----------
    features, labels, centers, sample_weight, ignore_index
        As in `loss`.
    normalize : bool
        Whether to divide by 1 + n_j.
    out : ndarray of the dtype and shape of `centers`, optional
        Array for the result. Its rows must be contiguous, and it must not overlap
        other arguments.

    Returns
    -------
    ndarray of the dtype and shape of `centers`
        Rows of absent classes are zero. `out` itself if given.

    Raises
    ------
    TypeError, ValueError, IndexError
        As in `loss`.

    Examples
    --------
    >>> center_delta([[1.0, 0.0], [3.0, 4.0], [2.0, 2.0]], [1, 1, 1], np.zeros((2, 2)))
    array([[ 0. ,  0. ],
           [-1.5, -1.5]])
    """
    batch, given = _read(
        "center_delta",
        features=features,
        labels=labels,
        centers=centers,
        normalize=normalize,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        out=out,
    )
    result = np.zeros_like(batch.c, order="C")
    classes, delta = _delta(batch, _differences(batch), given["normalize"])
    result[classes] = delta
    return _return(result, out)


@_quiet
def class_sums(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[Any],
    *,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[np.float64]]:
    """Sums and counts of the classes in the batch, from which Eq. 4 is computed.

    Parameters
    ----------
    features, labels, centers, sample_weight, ignore_index
        As in `loss`.

    Returns
    -------
    classes : ndarray of int64, shape (U,)
        The classes in the batch, ascending.
    sums : ndarray of the dtype of `centers`, shape (U, D)
        sum_{i: y_i = j} w_i (x_i - c_j) for each of them.
    counts : ndarray of float64, shape (U,)
        n_j for each of them: the sum of w_i over its rows.

    Raises
    ------
    TypeError, ValueError, IndexError
        As in `loss`.

    Examples
    --------
    >>> class_sums([[1.0, 0.0], [3.0, 4.0]], [1, 1], np.zeros((2, 2)))
    (array([1]), array([[4., 4.]]), array([2.]))
    """
    batch, _ = _read(
        "class_sums",
        features=features,
        labels=labels,
        centers=centers,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
    )
    classes, sums, counts = _sums(batch, _differences(batch))
    return classes.astype(np.int64), sums.astype(batch.c.dtype), counts


@_quiet
def update_centers(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[Any],
    *,
    alpha: float = 0.5,
    normalize: bool = True,
    skip_nonfinite: bool = True,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
) -> int:
    """Move the centers in place: c_j <- c_j - alpha Delta c_j (Eq. 4).

    Delta c_j is what `center_delta` returns for the rows that are not left out.

    Parameters
    ----------
    features, labels, sample_weight, ignore_index
        As in `loss`.
    centers : ndarray of float32 or float64, shape (K, D)
        As in `loss`; writable, and overlapping no other argument.
    alpha : float
        The rate of the centers. Finite, >= 0.
    normalize : bool
        Whether to divide by 1 + n_j, as in `center_delta`.
    skip_nonfinite : bool
        Whether rows whose ||d_i||^2 is not finite move no center, as if they were
        ignored: rows with NaN or infinity, and rows so far from their center that the
        square overflows. Otherwise NaN and infinity reach the center of the row's
        class.

    Returns
    -------
    int
        The number of centers updated: classes with a row that is not left out.

    Raises
    ------
    TypeError, ValueError, IndexError
        As in `loss`.

    Examples
    --------
    >>> centers = np.zeros((2, 2))
    >>> update_centers([[1.0, 0.0], [3.0, 4.0], [2.0, 2.0]], [1, 1, 1], centers)
    1
    >>> centers
    array([[0.  , 0.  ],
           [0.75, 0.75]])
    """
    batch, given = _read(
        "update_centers",
        features=features,
        labels=labels,
        centers=centers,
        alpha=alpha,
        normalize=normalize,
        skip_nonfinite=skip_nonfinite,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
    )
    d = _differences(batch)
    classes, updated = _updated(
        batch, d, given["alpha"], given["normalize"], given["skip_nonfinite"]
    )
    batch.c[classes] = updated
    return len(classes)


@_quiet
def step(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[Any],
    *,
    alpha: float = 0.5,
    normalize: bool = True,
    skip_nonfinite: bool = True,
    reduction: str = "mean",
    loss_weight: float = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    out: NDArray[Any] | None = None,
) -> tuple[float | NDArray[Any], NDArray[Any]]:
    """`value_and_grad` at the old centers, then `update_centers`.

    Loss (Eq. 2), gradient (Eq. 3) and update (Eq. 4) in one pass over the batch.

    Parameters
    ----------
    features, labels, reduction, loss_weight, sample_weight, ignore_index
        As in `loss`.
    centers, alpha, normalize, skip_nonfinite
        As in `update_centers`. A row that moves no center still shows in loss and
        gradient.
    out : ndarray, optional
        Array for the gradient, as in `gradient`.

    Returns
    -------
    loss, gradient
        As from `value_and_grad`.

    Raises
    ------
    TypeError, ValueError, IndexError
        As in `loss`.

    Examples
    --------
    >>> centers = np.zeros((2, 2))
    >>> step([[1.0, 0.0]], [1], centers)
    (0.5, array([[1., 0.]]))
    >>> centers
    array([[0.  , 0.  ],
           [0.25, 0.  ]])
    """
    batch, given = _read(
        "step",
        features=features,
        labels=labels,
        centers=centers,
        alpha=alpha,
        normalize=normalize,
        skip_nonfinite=skip_nonfinite,
        reduction=reduction,
        loss_weight=loss_weight,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        out=out,
    )
    d = _differences(batch)
    factor = _factor(batch, given["reduction"], given["loss_weight"])
    value = _loss(batch, d, given["reduction"], factor)
    rows = _gradient(batch, d, factor, given["features"])
    classes, updated = _updated(
        batch, d, given["alpha"], given["normalize"], given["skip_nonfinite"]
    )
    batch.c[classes] = updated
    return value, _return(rows, out)
