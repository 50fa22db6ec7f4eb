"""Ways to do a step in NumPy, and centerloss's own.

Every peer does the same job: the mean loss, its gradient with respect to the
features, and the move of the centers by Eq. 4. Each is written the way a good user
of its library would, with differences and gradient kept from step to step.
"""

from importlib.util import find_spec
from itertools import cycle
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

import centerloss

from .workloads import Batch

ALPHA = 0.5


class Peer:
    """One way to do the step, with all it needs prepared.

    The centers are the batch's own and move in place. After a step, `gradient` holds
    the gradient.
    """

    name: ClassVar[str]
    threaded: ClassVar[bool] = False

    def __init__(self, batch: Batch) -> None:
        self.features = batch.features
        self.centers = batch.centers
        self.gradient = np.empty_like(batch.features)
        self.labels = cycle(batch.label_sets)

    def step(self) -> float:
        """Do one step with the next labels; return the loss."""
        raise NotImplementedError

    @staticmethod
    def set_threads(threads: int) -> None:
        """Let the library use so many threads, if it has any."""


class Ours(Peer):
    """What all this is about."""

    name = "centerloss"
    threaded = True

    def step(self) -> float:
        labels = next(self.labels)
        loss, _ = centerloss.step(
            self.features, labels, self.centers, alpha=ALPHA, out=self.gradient
        )
        return loss

    @staticmethod
    def set_threads(threads: int) -> None:
        centerloss.set_num_threads(threads)


class _NumPy(Peer):
    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self.diff = np.empty_like(batch.features)

    def _loss(self, labels: NDArray[np.int64]) -> float:
        """Return the loss and fill `diff` and `gradient`."""
        diff, rows = self.diff, len(self.features)
        # Of the modes, "clip" is the one that takes straight into `out`.
        np.take(self.centers, labels, axis=0, out=diff, mode="clip")
        np.subtract(self.features, diff, out=diff)
        np.divide(diff, rows, out=self.gradient)
        return float(np.vdot(diff, diff)) / (2 * rows)


class AddAt(_NumPy):
    """NumPy's unbuffered addition of every row to the center of its class."""

    name = "NumPy add.at"

    def step(self) -> float:
        labels, diff = next(self.labels), self.diff
        loss = self._loss(labels)
        rates = ALPHA / (1 + np.bincount(labels)[labels])
        diff *= rates.astype(np.float32)[:, None]
        np.add.at(self.centers, labels, diff)
        return loss


class ReduceAt(_NumPy):
    """NumPy's sums over runs of sorted rows, for the classes in the batch alone."""

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


def available() -> dict[str, type[Peer]]:
    """All peers whose library is installed, by name, centerloss first."""
    peers: list[type[Peer]] = [Ours, AddAt, ReduceAt]
    if find_spec("numba"):
        from .peers_numba import Loop

        peers.append(Loop)
    if find_spec("torch"):
        from .peers_torch import Dense, Sparse

        peers += [Dense, Sparse]
    return {peer.name: peer for peer in peers}
