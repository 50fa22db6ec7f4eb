"""The step in NumPy."""

import numpy as np
from numpy.typing import NDArray

from ..workloads import Batch
from .base import ALPHA, Peer


class _NumPy(Peer):
    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self.diff = np.empty_like(batch.features)

    def _loss(self, labels: NDArray[np.int64]) -> float:
        """Return the loss and fill `diff` and `gradient`."""
        diff, rows = self.diff, len(self.features)
        # Only mode="clip" writes to `out` without a buffer.
        np.take(self.centers, labels, axis=0, out=diff, mode="clip")
        np.subtract(self.features, diff, out=diff)
        np.divide(diff, rows, out=self.gradient)
        return float(np.vdot(diff, diff)) / (2 * rows)


class AddAt(_NumPy):
    """Add every row to the center of its class with `np.add.at`."""

    name = "NumPy add.at"

    def step(self) -> float:
        labels, diff = next(self.labels), self.diff
        loss = self._loss(labels)
        rates = ALPHA / (1 + np.bincount(labels)[labels])
        diff *= rates.astype(np.float32)[:, None]
        np.add.at(self.centers, labels, diff)
        return loss


class ReduceAt(_NumPy):
    """Sort the rows and sum each class, visiting only the classes in the batch."""

    name = "NumPy reduceat"

    def step(self) -> float:
        labels, diff = next(self.labels), self.diff
        loss = self._loss(labels)
        order = np.argsort(labels)
        ordered = labels[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=-1))
        counts = np.diff(starts, append=len(labels))
        moves = np.add.reduceat(diff[order], starts, axis=0)
        moves *= (ALPHA / (1 + counts)).astype(np.float32)[:, None]
        self.centers[ordered[starts]] += moves
        return loss
