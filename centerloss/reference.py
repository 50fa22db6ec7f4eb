"""The functions of the package in plain NumPy: the executable specification.

Each function here has the signature, the results and the errors of its namesake in
`centerloss`, written to be read next to the paper rather than to be fast. Use it to
see what a function means, or to check a port. The tests run on both; their results
agree within rounding, not bit by bit.

In the formulas x_i is row i of the features, y_i its label, c_j center j,
d_i = x_i - c_{y_i}, w_i a sample weight (1 unless given), n_j the sum of w_i over the
rows of class j and W the sum of w_i over all rows. Ignored rows are in none of the
sums. Differences are rounded to the dtype of the centers, sums are taken in float64.

Errors are the same in all functions. `loss` lists them in the order in which they
are found; after any of them nothing has changed.

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

from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from centerloss._reference_checks import Batch, checked_batch

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


def _differences(batch: Batch) -> NDArray[Any]:
    """d_i = x_i - c_{y_i}, in the dtype of the centers."""
    d: NDArray[Any] = batch.x - batch.c[batch.y]
    return d


def _factor(batch: Batch) -> float:
    """What multiplies w_i l_i and w_i d_i: loss_weight, for "mean" over W."""
    if batch.reduction != "mean":
        return batch.loss_weight
    total_weight = batch.w.sum()
    return float(batch.loss_weight / total_weight) if total_weight else 0.0


def _loss(batch: Batch, d: NDArray[Any]) -> float | NDArray[np.floating[Any]]:
    """l_i = 1/2 ||d_i||^2; factor w_i l_i row by row, or summed (Eq. 2)."""
    weighted = batch.w * 0.5 * np.square(d, dtype=np.float64).sum(axis=1)
    if batch.reduction == "mean" and not batch.w.any():
        return 0.0  # no mean to take, even where a row holds NaN
    if batch.reduction != "none":
        return float(_factor(batch) * weighted.sum())
    rows = np.zeros(len(batch.live), batch.c.dtype)
    rows[batch.live] = _factor(batch) * weighted
    return rows


def _gradient(batch: Batch, d: NDArray[Any]) -> NDArray[Any]:
    """Factor w_i d_i (Eq. 3) in the rows that count, 0 in the others."""
    factors = (_factor(batch) * batch.w).astype(d.dtype)
    rows = np.zeros((len(batch.live), d.shape[1]), batch.dtype)
    rows[batch.live] = factors[:, np.newaxis] * d
    return rows.reshape(batch.shape)


def _sums(
    batch: Batch, d: NDArray[Any]
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """The classes present, the sums of w_i d_i over their rows, and their n_j."""
    order = np.argsort(batch.y, kind="stable")
    classes, starts = np.unique(batch.y[order], return_index=True)
    weighted = batch.w[:, np.newaxis] * d
    # Along a segment reduceat adds in pairs, so 10^5 rows of a class lose no digits.
    sums = np.add.reduceat(weighted[order], starts, axis=0)
    counts = np.add.reduceat(batch.w[order], starts)
    return classes, sums, counts


def _shares(batch: Batch, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + n_j), or 1, of each class: (U, 1)."""
    denominator = 1.0 + counts if batch.normalize else np.ones_like(counts)
    shares: NDArray[np.float64] = (1.0 / denominator)[:, np.newaxis]
    return shares


def _delta(
    batch: Batch, d: NDArray[Any]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The classes present and sum_i w_i (c_j - x_i) / (1 + n_j) (Eq. 4) of each."""
    classes, sums, counts = _sums(batch, d)
    return classes, (0.0 - sums) * _shares(batch, counts)  # -sums has -0.0


def _moved(batch: Batch, d: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """The classes present and c_j - alpha Delta c_j of each, rounded once.

    The rate comes first: where alpha / (1 + n_j) is zero, infinity times it is NaN.
    """
    classes, sums, counts = _sums(batch, d)
    moved = batch.c[classes] + batch.alpha * _shares(batch, counts) * sums
    return classes, moved.astype(batch.c.dtype)


def _deliver(result: Array, out: Array | None) -> Array:
    if out is None:
        return result
    np.asarray(out)[...] = result
    return out


# --- the functions ------------------------------------------------------------------
# locals() on the first line of each is its arguments, all of them and nothing else.


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
    features : array_like, shape (B, ...)
        One row per sample, flattened to (B, D). The dtype of `centers`, or float16
        or bfloat16 with float32 centers, in any memory layout and byte order. A
        sequence without a dtype takes that of `centers`.
    labels : array_like of integers, shape (B,)
        The class of each row, 0..K-1.
    centers : ndarray of float32 or float64, shape (K, D)
        One center per class; native byte order, aligned, each row contiguous.
    reduction : {"mean", "sum", "none"}
        How the rows are put together.
    loss_weight : float
        Multiplies loss and gradient, and never reaches the centers. Finite, >= 0.
    sample_weight : array_like of real numbers, shape (B,), optional
        The w_i, 1 unless given. Finite, >= 0.
    ignore_index : int, optional
        Rows with this label do not count: their loss and gradient are 0, and no
        center sees them. It may lie outside 0..K-1.
    out : ndarray of the dtype of `centers`, shape (B,), optional
        Where to put the result of reduction "none", and only that.

    Returns
    -------
    float, or ndarray of the dtype of `centers` and shape (B,) for "none"
        `out` itself if given.

    Raises
    ------
    TypeError
        An argument or a dtype is of the wrong type.
    ValueError
        Shapes do not match, memory is unsuitable, or a number is negative or not
        finite.
    IndexError
        A label is outside 0..K-1.

    Examples
    --------
    >>> features = np.array([[1.0, 0.0], [3.0, 4.0]])
    >>> loss(features, [0, 1], np.zeros((2, 2)))
    6.5
    >>> loss(features, [0, 1], np.zeros((2, 2)), reduction="none")
    array([ 0.5, 12.5])
    """
    batch = checked_batch(**locals(), out_holds="loss")
    value = _loss(batch, _differences(batch))
    return _deliver(value, out) if isinstance(value, np.ndarray) else value


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
        Where to put the gradient. Each row contiguous, overlapping no other argument.

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
    batch = checked_batch(**locals())
    return _deliver(_gradient(batch, _differences(batch)), out)


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
    loss : float, or ndarray of shape (B,) for reduction "none"
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
    batch = checked_batch(**locals())
    d = _differences(batch)
    value = _loss(batch, d)
    return value, _deliver(_gradient(batch, d), out)


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
    w_i over the rows of class j. Without `normalize` the sum itself, which is the
    gradient of the "sum" loss with respect to the centers.

    Parameters
    ----------
    features, labels, centers, sample_weight, ignore_index
        As in `loss`.
    normalize : bool
        Whether to divide by 1 + n_j.
    out : ndarray of the dtype and shape of `centers`, optional
        Where to put the result. Each row contiguous, overlapping no other argument.

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
    batch = checked_batch(**locals(), out_holds="delta")
    result = np.zeros(batch.c.shape, batch.c.dtype)
    classes, delta = _delta(batch, _differences(batch))
    result[classes] = delta
    return _deliver(result, out)


@_quiet
def class_sums(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[Any],
    *,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[np.float64]]:
    """Sums and counts of the classes present, from which Eq. 4 is made.

    Parameters
    ----------
    features, labels, centers, sample_weight, ignore_index
        As in `loss`.

    Returns
    -------
    classes : ndarray of int64, shape (U,)
        The classes present in the batch, ascending.
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
    batch = checked_batch(**locals())
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
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
) -> int:
    """Move the centers in place: c_j <- c_j - alpha Delta c_j (Eq. 4).

    Delta c_j is what `center_delta` returns.

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

    Returns
    -------
    int
        The number of centers updated: classes with a row that is not ignored.

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
    batch = checked_batch(**locals(), moves_centers=True)
    classes, moved = _moved(batch, _differences(batch))
    batch.c[classes] = moved
    return len(classes)


@_quiet
def step(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[Any],
    *,
    alpha: float = 0.5,
    normalize: bool = True,
    reduction: str = "mean",
    loss_weight: float = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    out: NDArray[Any] | None = None,
) -> tuple[float | NDArray[Any], NDArray[Any]]:
    """`value_and_grad` at the old centers, then `update_centers`.

    Loss (Eq. 2), gradient (Eq. 3) and move (Eq. 4) in one pass over the batch.

    Parameters
    ----------
    features, labels, reduction, loss_weight, sample_weight, ignore_index
        As in `loss`.
    centers, alpha, normalize
        As in `update_centers`.
    out : ndarray, optional
        Where to put the gradient, as in `gradient`.

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
    batch = checked_batch(**locals(), moves_centers=True)
    d = _differences(batch)
    value, rows = _loss(batch, d), _gradient(batch, d)
    classes, moved = _moved(batch, d)
    rows = _deliver(rows, out)
    batch.c[classes] = moved
    return value, rows
