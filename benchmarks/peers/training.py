"""A training step in PyTorch: forward, backward and center update.

The embeddings stand for the output of a network; a step computes their gradient.
"""

from itertools import cycle
from typing import Any, ClassVar

import torch
from torch import nn

import centerloss
from centerloss.torch import CenterLoss

from ..workloads import Batch
from .base import ALPHA
from .torch import dense_means, move_sparse


class Training:
    """An implementation of the training step, which updates the batch's centers."""

    name: ClassVar[str]

    def __init__(self, batch: Batch) -> None:
        self.embeddings = torch.from_numpy(batch.features).requires_grad_()
        self.centers = torch.from_numpy(batch.centers)
        self.labels = cycle([torch.from_numpy(labels) for labels in batch.label_sets])

    @property
    def gradient(self) -> torch.Tensor:
        assert self.embeddings.grad is not None
        return self.embeddings.grad

    def step(self) -> torch.Tensor:
        """Do one step with the next labels; return the loss."""
        self.embeddings.grad = None
        return self._train(next(self.labels)).detach()

    def _train(self, labels: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    @staticmethod
    def set_threads(threads: int) -> None:
        torch.set_num_threads(threads)
        centerloss.set_num_threads(threads)


class Centerloss(Training):
    name = "centerloss.torch"

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self.loss_fn: Any = CenterLoss(*batch.centers.shape, init=self.centers)

    def _train(self, labels: torch.Tensor) -> torch.Tensor:
        loss = self.loss_fn(self.embeddings, labels)
        loss.backward()
        return loss


class Compiled(Centerloss):
    name = "centerloss.torch, compiled"

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self.loss_fn = torch.compile(self.loss_fn, fullgraph=True)


class Network(Centerloss):
    """A small network and a classifier, trained with softmax loss + center loss."""

    name = "network with centerloss.torch"

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        classes, dim = batch.centers.shape
        torch.manual_seed(0)
        layers = [nn.Linear(dim, dim), nn.PReLU(), nn.Linear(dim, dim)]
        self.network = nn.Sequential(*layers)
        self.classifier = nn.Linear(dim, classes)
        self.total_loss: Any = self._total_loss

    def _total_loss(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        embeddings = self.network(inputs)
        softmax_loss = nn.functional.cross_entropy(self.classifier(embeddings), labels)
        return softmax_loss + self.loss_fn(embeddings, labels)

    def _train(self, labels: torch.Tensor) -> torch.Tensor:
        self.network.zero_grad()
        self.classifier.zero_grad()
        loss: torch.Tensor = self.total_loss(self.embeddings, labels)
        loss.backward()
        return loss


class CompiledNetwork(Network):
    name = "network with centerloss.torch, compiled"

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self.total_loss = torch.compile(self._total_loss, fullgraph=True)


class MetricLearning(Training):
    """The class for pytorch-metric-learning, which takes a second call per step."""

    name = "centerloss.torch.metric_learning"

    def __init__(self, batch: Batch) -> None:
        from centerloss.torch.metric_learning import CenterLoss

        super().__init__(batch)
        self.loss_fn = CenterLoss(*batch.centers.shape)
        self.loss_fn.center_loss.centers = self.centers

    def _train(self, labels: torch.Tensor) -> torch.Tensor:
        loss = self.loss_fn(self.embeddings, labels)
        loss.backward()
        self.loss_fn.update_centers(self.embeddings, labels)
        return loss


class _DenseFunction(torch.autograd.Function):
    """As in commonly copied code: the centers' gradient is Eq. 4 divided by B."""

    @staticmethod
    def forward(ctx: Any, x: Any, labels: Any, centers: Any) -> torch.Tensor:
        ctx.save_for_backward(x, labels, centers)
        d = x - centers.index_select(0, labels)
        return d.pow(2).sum() / (2 * len(x))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, labels, centers = ctx.saved_tensors
        d = x - centers.index_select(0, labels)
        delta = dense_means(centers, labels, -d)
        return grad * d / len(x), None, delta / len(x)


class Dense(Training):
    """Commonly copied code: centers as a parameter with an SGD optimizer of its own."""

    name = "PyTorch dense, trained"

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self.parameter = torch.nn.Parameter(self.centers)
        rate = ALPHA * len(batch.features)  # the centers' gradient is divided by B
        self.optimizer = torch.optim.SGD([self.parameter], lr=rate)

    def _train(self, labels: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = _DenseFunction.apply(self.embeddings, labels, self.parameter)
        loss.backward()
        self.optimizer.step()
        return loss


class Sparse(Training):
    """Written for this benchmark: only the classes in the batch are touched."""

    name = "PyTorch sparse, trained"

    def _train(self, labels: torch.Tensor) -> torch.Tensor:
        d = self.embeddings - self.centers.index_select(0, labels)
        loss = d.pow(2).sum() / (2 * len(labels))
        loss.backward()
        with torch.no_grad():
            move_sparse(self.centers, labels, d)
        return loss
