"""The step as plain loops, compiled by numba."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..workloads import Batch
from .base import ALPHA, Peer


@njit
def _step(
    features: NDArray[Any],
    labels: NDArray[np.int64],
    centers: NDArray[np.float32],
    counts: NDArray[np.int64],
    gradient: NDArray[Any],
    alpha: float,
) -> float:
    rows, dim = features.shape
    scale = np.float32(1 / rows)
    total = 0.0
    for i in range(rows):
        y = labels[i]
        counts[y] += 1
        for j in range(dim):
            diff = features[i, j] - centers[y, j]
            total += diff * diff
            gradient[i, j] = diff * scale
    # The gradient holds the differences from the centers before the update.
    for i in range(rows):
        y = labels[i]
        rate = np.float32(alpha * rows / (1 + counts[y]))
        for j in range(dim):
            centers[y, j] += rate * gradient[i, j]
    for i in range(rows):
        counts[labels[i]] = 0
    return total / (2 * rows)


class Loop(Peer):
    """A loop on one thread, without fastmath.

    A parallel loop would need a way to share centers between threads, since rows of
    the same class update the same center.
    """

    name = "numba"

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self.counts = np.zeros(len(batch.centers), np.int64)

    def step(self) -> float:
        return _step(
            self.features,
            next(self.labels),
            self.centers,
            self.counts,
            self.gradient,
            ALPHA,
        )
