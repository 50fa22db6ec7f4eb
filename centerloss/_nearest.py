"""Distances of rows to centers, and the nearest center of each row."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._core import loss

_ROUNDOFF = 2.0**-24  # of float32
_ROUNDOFF_64 = 2.0**-53  # of float64
_TINY = float(np.finfo(np.float32).smallest_normal)
_HUGE = 1e37  # sums of larger terms may overflow in float32
_BLOCK_BYTES = 16 << 20  # larger blocks are slower
_FEW_ROWS = 256  # smaller matrix products are slow
_PAIR_BYTES = 1 << 20  # of the rows compared with their candidates at a time


def half_squares(
    rows: NDArray[Any], centers: NDArray[Any], offsets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return half the squared distances of all rows to all centers, plus the offsets.

    They are sums of squared differences in float64, of shape (len(rows), len(centers)).
    """
    rows, centers = (np.ascontiguousarray(a, np.float64) for a in (rows, centers))
    if len(rows) < len(centers):
        halves = _half_squares_by_column(centers, rows).T
    else:
        halves = _half_squares_by_column(rows, centers)
    halves += offsets
    return halves


def _half_squares_by_column(
    rows: NDArray[np.float64], centers: NDArray[np.float64]
) -> NDArray[np.float64]:
    halves = np.empty((len(rows), len(centers)))
    for k in range(len(centers)):
        labels = np.full(len(rows), k)
        halves[:, k] = loss(rows, labels, centers, reduction="none")
    return halves


def rows_per_block(dim: int, count: int, memory: float) -> int:
    """Return how many rows to pass at a time, for `count` centers and `memory` bytes.

    A row takes 20 bytes for each of its values, 24 for each center, and 64 more.
    """
    row_bytes = 20 * dim + 24 * count + 64
    rows = max(_FEW_ROWS, _BLOCK_BYTES // row_bytes)
    return int(max(1, min(rows, memory // row_bytes)))


def _rows_per_part(rows: int, dim: int, count: int) -> int:
    """Return how many rows to compare with up to `count` candidates at a time.

    A row and a candidate take 12 bytes for each value, and 64 more. They get the memory
    of a block that its rows, scores and candidates leave.
    """
    memory = min(_PAIR_BYTES, rows * (4 * dim + 19 * count))
    return max(1, memory // ((12 * dim + 64) * count))


class NearestCenters:
    """Finds the nearest center of each row, with the offsets of `half_squares`.

    A matrix product in float32 finds the candidates: the centers that can be nearest,
    given the bound of its rounding errors. If a row has several, the one with the
    smallest `half_squares` is taken, and the first of equal ones. So the answer is that
    of differences in float64, whatever the order of the sums in the product.

    With the mean m of the centers, ``|x - c|^2 / 2`` is ``|x - m|^2 / 2`` minus a
    score, ``(x - o) @ (c - m) - (m - o) @ (c - m) - |c - m|^2 / 2``, for any o. If m is
    small, o is 0, so that rows need no copy; otherwise o is m. A sum of D products has
    an error of at most D times the roundoff times the product of the norms [1]_. The
    other roundings add less than 8 times the roundoff times that product. The bound is
    twice the sum of both, since the norms are rounded, too.

    References
    ----------
    .. [1] N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed.,
       SIAM, 2002, section 3.1.
    """

    def __init__(self, centers: NDArray[Any], offsets: NDArray[np.float64]) -> None:
        self._centers = centers.astype(np.float64, order="C")
        self._offsets = offsets
        with np.errstate(over="ignore", invalid="ignore"):
            # Rounded to the dtype of the centers, so that x - m is rounded once.
            mean = self._centers.mean(axis=0).astype(centers.dtype)
            moved = self._centers - mean
            squares = np.vecdot(moved, moved)
            self._reach = np.sqrt(squares.max())
            self._origin = None
            heights = squares / 2 + offsets
            if np.linalg.norm(mean) > 4 * self._reach:
                self._origin = mean
            else:
                heights += moved @ mean
            self._height = np.abs(heights).max()
            self._moved = moved.astype(np.float32)
            self._heights = heights.astype(np.float32)

    def __call__(self, rows: NDArray[Any]) -> NDArray[np.intp]:
        """Return the index of the nearest center for each row."""
        every = np.arange(len(rows))
        with np.errstate(over="ignore", invalid="ignore"):
            scores, errors = self._scores(rows)
            nearest: NDArray[np.intp] = scores.argmax(axis=1)
            best = scores[every, nearest]
            least = best - 2 * errors
            scores[every, nearest] = -np.inf
            # Written so that NaN, for sums that may have overflowed, is a candidate.
            several = np.flatnonzero(~(scores.max(axis=1) < least))
            candidates = ~(scores[several] < least[several, np.newaxis])
        candidates[np.arange(len(several)), nearest[several]] = True
        step = _rows_per_part(len(rows), rows.shape[1], len(self._centers))
        nearest[several] = self._nearest_of_candidates(rows[several], candidates, step)
        return nearest

    def _scores(
        self, rows: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return a score for each row and center, and a bound of its error by row."""
        dim = rows.shape[1]
        if self._origin is None:
            moved = rows.astype(np.float32, copy=False)
        else:
            moved = np.empty(rows.shape, np.float32)
            np.subtract(rows, self._origin, out=moved, casting="same_kind")
        norms = np.sqrt(np.vecdot(moved, moved).astype(np.float64))
        sizes = norms * self._reach + self._height
        errors = 2 * (dim + 8) * _ROUNDOFF * sizes + dim * _TINY
        # Far from all centers, rounding of the differences in float64 exceeds the rest.
        errors += (dim + 8) * _ROUNDOFF_64 * norms**2
        errors[~(sizes < _HUGE)] = np.nan
        scores = moved @ self._moved.T
        scores -= self._heights
        return scores, errors

    def _nearest_of_candidates(
        self, rows: NDArray[Any], candidates: NDArray[np.bool_], step: int
    ) -> NDArray[np.intp]:
        """Return the nearest of the candidates of each row, by differences.

        They are computed for `step` rows at a time.
        """
        nearest = np.empty(len(rows), np.intp)
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            halves = np.full(candidates[part].shape, np.inf)
            row, center = np.nonzero(candidates[part])
            pairs = rows[part][row].astype(np.float64, copy=False)
            halves[row, center] = (
                loss(pairs, center, self._centers, reduction="none")
                + self._offsets[center]
            )
            nearest[part] = halves.argmin(axis=1)
        return nearest
