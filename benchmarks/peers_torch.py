"""The step in PyTorch.

The gradient is written out, as in the common copies, whose autograd functions do so
in their backward: there is no tape here, to PyTorch's advantage.
"""

from itertools import cycle

import torch

from .peers import ALPHA, Peer
from .workloads import Batch


class _Torch(Peer):
    threaded = True

    def __init__(self, batch: Batch) -> None:
        self.features = torch.from_numpy(batch.features)
        self.centers = torch.from_numpy(batch.centers)
        self.labels = cycle([torch.from_numpy(labels) for labels in batch.label_sets])
        self.diff = torch.empty_like(self.features)
        self.gradient = torch.empty_like(self.features)

    def _loss(self, labels: torch.Tensor) -> float:
        """Return the loss and fill `diff` and `gradient`."""
        rows = len(self.features)
        torch.sub(self.features, self.centers.index_select(0, labels), out=self.diff)
        torch.div(self.diff, rows, out=self.gradient)
        flat = self.diff.view(-1)
        return torch.dot(flat, flat).item() / (2 * rows)

    @staticmethod
    def set_threads(threads: int) -> None:
        torch.set_num_threads(threads)


class Dense(_Torch):
    """As the common copies: a delta for every class, in the batch or not."""

    name = "PyTorch dense"

    def step(self) -> float:
        labels = next(self.labels)
        loss = self._loss(labels)
        counts = self.centers.new_ones(len(self.centers))
        counts.scatter_add_(0, labels, counts.new_ones(len(labels)))
        delta = torch.zeros_like(self.centers)
        delta.scatter_add_(0, labels[:, None].expand_as(self.diff), self.diff)
        delta.div_(counts[:, None])
        self.centers.add_(delta, alpha=ALPHA)
        return loss


class Sparse(_Torch):
    """By hand for the classes in the batch alone."""

    name = "PyTorch sparse"

    def step(self) -> float:
        labels = next(self.labels)
        loss = self._loss(labels)
        classes, places, counts = torch.unique(
            labels, return_inverse=True, return_counts=True
        )
        moves = self.diff.new_zeros(len(classes), self.diff.shape[1])
        moves.index_add_(0, places, self.diff)
        moves.mul_((ALPHA / (1 + counts))[:, None])
        self.centers.index_add_(0, classes, moves)
        return loss
