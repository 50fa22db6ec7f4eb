"""Centers of classes that are learned from batches of rows."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ._core import class_sums

_BLOCK_BYTES = 4 << 20  # of the differences from the centers that are squared at a time


class RunningCenters:
    """The centers of K classes after the batches so far.

    Parameters
    ----------
    num_classes, dim : int
        K and D.
    dtype : {"float32", "float64"}
        Dtype of ``centers`` and of the rows to come.
    with_squares : bool
        Whether to add up ``squares``, which takes longer than the centers do.

    Attributes
    ----------
    centers : ndarray of shape (K, D)
        The centers, rounded; NaN for a class without weight so far.
    counts : ndarray of shape (K,), float64
        The sum of the weights of each class.
    squares : ndarray of shape (D,) or None
        The weighted sums of ``(x - c) ** 2`` over all rows of all classes.
    """

    def __init__(
        self, num_classes: int, dim: int, dtype: DTypeLike, *, with_squares: bool
    ) -> None:
        self.centers = np.full((num_classes, dim), np.nan, dtype)
        self.counts = np.zeros(num_classes)
        self.squares = np.zeros(dim) if with_squares else None
        # In float64, so that the rounding of many small steps does not add up.
        self._exact = np.zeros((num_classes, dim))

    @np.errstate(over="ignore", invalid="ignore")  # what is not finite raises below
    def add(
        self,
        rows: NDArray[Any],
        labels: NDArray[np.intp],
        weights: NDArray[np.float64] | None,
        alpha: float | None,
    ) -> None:
        """Move the centers of the classes in a batch; on an error, none.

        The centers move to the means of all rows so far or, with `alpha`, by Eq. 4 of
        the paper. The first rows of a class move its center to their mean.
        """
        # From here on, labels are indices into `present`.
        present, labels = np.unique(labels, return_inverse=True)
        # A slice copies nothing, which saves a fifth of the time if all are present.
        touched = present if len(present) < len(self.counts) else slice(None)
        old, counts = self._exact[touched], self.counts[touched]
        # Differences are taken from the rounded centers, which are within a roundoff of
        # float32 of the exact ones.
        origin = old.astype(rows.dtype)
        _, sums, added = class_sums(rows, labels, origin, sample_weight=weights)
        moving = added > 0
        rates = np.divide(1, counts + added, where=moving, out=np.zeros(len(added)))
        if alpha is not None:
            known = counts > 0
            rates[known] = alpha / (1 + added[known])
        new = sums * rates[:, np.newaxis]
        new += old
        centers = new.astype(rows.dtype)
        if not np.isfinite(centers).all():
            raise ValueError(
                f"the sum of the rows of a class is too large for {rows.dtype}"
            )
        if self.squares is not None:
            # The rows so far, about the new centers, and the rows of this batch.
            squares = self.squares + counts @ (old - new) ** 2
            squares += _sum_of_squares(rows, labels, new, weights)
            if not np.isfinite(squares).all():
                raise ValueError("the squares of the rows are too large for float64")
            self.squares = squares
        centers[~moving & (counts == 0)] = np.nan
        self._exact[touched] = new
        self.counts[touched] += added
        self.centers[touched] = centers

    def shrunk(self, threshold: float) -> NDArray[Any]:
        """Return the centers, shrunk towards the mean of all rows.

        For class k and feature j, the distance from that mean decreases by `threshold`
        times ``sqrt(1 / n_k - 1 / n) * (s_j + median(s))``, at most to 0, where s_j is
        the standard deviation within the classes. As long as this is not defined, since
        there are no more rows than classes, the centers stay.
        """
        seen = self.counts > 0
        means, counts = self._exact[seen], self.counts[seen]
        total = counts.sum()
        degrees = total - len(counts)
        centers = self.centers.copy()
        if self.squares is not None and degrees > 0:
            deviations = np.sqrt(self.squares / degrees)
            scales = np.sqrt(1 / counts - 1 / total)
            limits = np.outer(scales, deviations + np.median(deviations)) * threshold
            middle = counts @ means / total
            from_middle = means - middle
            left = np.maximum(np.abs(from_middle) - limits, 0)
            centers[seen] = middle + np.copysign(left, from_middle)
        return centers


def _sum_of_squares(
    rows: NDArray[Any],
    labels: NDArray[np.intp],
    centers: NDArray[np.float64],
    weights: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Return the weighted sum of ``(x - c) ** 2`` for each feature."""
    dim = rows.shape[1]
    total = np.zeros(dim)
    step = max(1, _BLOCK_BYTES // (8 * dim))
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        squares = (rows[block] - centers[labels[block]]) ** 2
        total += squares.sum(axis=0) if weights is None else weights[block] @ squares
    return total
