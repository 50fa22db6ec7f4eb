"""What every implementation of a step has in common, and centerloss itself.

A step returns the mean loss, computes its gradient with respect to the features and
moves the centers by Eq. 4. Each implementation is written the way a good user of its
library would write it, with buffers for differences and gradient that are reused.
"""

from itertools import cycle
from typing import ClassVar

import centerloss

from ..workloads import Batch

ALPHA = 0.5


class Peer:
    """An implementation of the step, with its buffers.

    It updates the batch's centers in place and writes the gradient to `gradient`.
    """

    name: ClassVar[str]
    threaded: ClassVar[bool] = False

    def __init__(self, batch: Batch) -> None:
        self.features = batch.features
        self.centers = batch.centers
        self.gradient = batch.empty_gradient()
        self.labels = cycle(batch.label_sets)

    def step(self) -> float:
        """Do one step with the next labels; return the loss."""
        raise NotImplementedError

    @staticmethod
    def set_threads(threads: int) -> None:
        """Set the library's number of threads, if it has one."""


class Centerloss(Peer):
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
