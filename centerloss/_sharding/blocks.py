"""Which rank owns which classes, and where the rows of a batch go."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_NORMAL_ROWS = 256  # centers drawn by one generator


class Blocks(NamedTuple):
    """The consecutive classes that each rank owns, as `torch.chunk` cuts them.

    The last ranks own fewer than the others, or none.
    """

    classes: int
    ranks: int

    @property
    def rows(self) -> int:
        """The number of classes of the first rank, at least 1."""
        return max(1, -(-self.classes // self.ranks))

    def of(self, rank: int) -> tuple[int, int]:
        """Return the first class of a rank, and the one after its last."""
        first = min(rank * self.rows, self.classes)
        return first, min(first + self.rows, self.classes)


def normal_rows(
    first: int,
    last: int,
    columns: int,
    dtype: np.dtype[Any],
    seed: int,
    store: Callable[[int, NDArray[Any]], None],
) -> None:
    """Draw the centers of the classes first..last-1 from the normal distribution.

    ``store(class, rows)`` receives them in pieces. A generator of its own draws each
    256 classes, so that the numbers do not depend on the range.
    """
    for start in range(first - first % _NORMAL_ROWS, last, _NORMAL_ROWS):
        generator = np.random.default_rng([seed, start // _NORMAL_ROWS])
        stop = min(start + _NORMAL_ROWS, last)
        rows = generator.standard_normal((stop - start, columns), dtype)
        store(max(start, first), rows[max(first - start, 0) :])


class Rows(NamedTuple):
    """The batch of this rank, flat."""

    values: NDArray[Any]  # (B, D), of any dtype of 2, 4 or 8 bytes
    labels: NDArray[np.int64]  # (B,), negative for an ignored row
    weights: NDArray[np.float64] | None  # (B,)
    type: str  # what the values are: one of TYPES in headers.py
    done: bool = False  # is this the last call of a series, on this rank?


class Route(NamedTuple):
    """Where the rows of a batch, and their classes, go."""

    positions: NDArray[np.int64]  # (B,) of the row's class in `asked`; -1: ignored
    asked: NDArray[np.int64]  # (U,) the classes, ascending, as labels of their owners
    asked_counts: list[int]  # of each owner
    order: NDArray[np.int64]  # rows by owner, in the order of the batch within
    labels: NDArray[np.int64]  # of these rows, in the shards of their owners
    row_counts: list[int]  # of each owner


def counted_labels(labels: NDArray[Any], ignore_index: int | None) -> NDArray[np.int64]:
    """Return a copy of checked labels, flat, with -1 for ignored rows."""
    result = labels.reshape(-1).astype(np.int64)
    if ignore_index is not None:
        result[result == ignore_index] = -1
    return result


def find_route(labels: NDArray[np.int64], blocks: Blocks) -> Route:
    """Return where rows with these labels go; a negative label is ignored."""
    positions = np.full(len(labels), -1, np.int64)
    rows = np.flatnonzero(labels >= 0)
    classes, positions[rows] = np.unique(labels[rows], return_inverse=True)
    owners = classes // blocks.rows
    asked = classes - owners * blocks.rows
    # NumPy sorts integers of up to 16 bits in linear time.
    small = np.min_scalar_type(blocks.ranks)
    owner_of_row = owners[positions[rows]].astype(small)
    order = rows[np.argsort(owner_of_row, kind="stable")]
    return Route(
        positions,
        asked,
        np.bincount(owners, minlength=blocks.ranks).tolist(),
        order,
        asked[positions[order]],
        np.bincount(owner_of_row, minlength=blocks.ranks).tolist(),
    )
