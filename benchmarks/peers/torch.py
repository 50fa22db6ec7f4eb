"""The step in PyTorch.

The gradient is computed explicitly, as in the autograd functions that most projects
copy. There is no autograd overhead, which favors PyTorch.
"""

from itertools import cycle

import torch

from ..workloads import Batch
from .base import ALPHA, Peer


def dense_means(
    centers: torch.Tensor, labels: torch.Tensor, diff: torch.Tensor
) -> torch.Tensor:
    """Return the (K, D) negative center deltas of Eq. 4."""
    counts = centers.new_ones(len(centers))
    counts.scatter_add_(0, labels, counts.new_ones(len(labels)))
    delta = torch.zeros_like(centers)
    delta.scatter_add_(0, labels[:, None].expand_as(diff), diff)
    return delta.div_(counts[:, None])


def move_sparse(
    centers: torch.Tensor, labels: torch.Tensor, diff: torch.Tensor
) -> None:
    """Update only the centers of the classes in the batch."""
    classes, positions, counts = torch.unique(
        labels, return_inverse=True, return_counts=True
    )
    moves = diff.new_zeros(len(classes), diff.shape[1])
    moves.index_add_(0, positions, diff)
    moves.mul_((ALPHA / (1 + counts))[:, None])
    centers.index_add_(0, classes, moves)


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
    """As in commonly copied code: a delta for every class, in the batch or not."""

    name = "PyTorch dense"

    def step(self) -> float:
        labels = next(self.labels)
        loss = self._loss(labels)
        self.centers.add_(dense_means(self.centers, labels, self.diff), alpha=ALPHA)
        return loss


class Sparse(_Torch):
    """Written for this benchmark: only the classes in the batch are touched."""

    name = "PyTorch sparse"

    def step(self) -> float:
        labels = next(self.labels)
        loss = self._loss(labels)
        move_sparse(self.centers, labels, self.diff)
        return loss
