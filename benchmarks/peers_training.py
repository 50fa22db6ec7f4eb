"""A training step in PyTorch: forward, backward, and the move of the centers.

The embeddings stand for what a network puts out; a step leaves their gradient.
"""

from importlib.util import find_spec
from itertools import cycle
from typing import Any, ClassVar

import torch
from torch import nn

import centerloss
from centerloss.torch import CenterLoss

from .peers import ALPHA
from .peers_torch import dense_means, move_sparse
from .workloads import Batch


class Training:
    """One way to train. The centers are the batch's own and move in place."""

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


class Ours(Training):
    name = "centerloss.torch"

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self.loss_fn: Any = CenterLoss(*batch.centers.shape, init=self.centers)

    def _train(self, labels: torch.Tensor) -> torch.Tensor:
        loss = self.loss_fn(self.embeddings, labels)
        loss.backward()
        return loss


class Compiled(Ours):
    name = "centerloss.torch, compiled"

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self.loss_fn = torch.compile(self.loss_fn, fullgraph=True)


class Network(Ours):
    """A small network and its classifier too, with the losses of both."""

    name = "network with centerloss.torch"

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        classes, dim = batch.centers.shape
        torch.manual_seed(0)
        layers = [nn.Linear(dim, dim), nn.PReLU(), nn.Linear(dim, dim)]
        self.network = nn.Sequential(*layers)
        self.classifier = nn.Linear(dim, classes)
        self.whole: Any = self._whole

    def _whole(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        embeddings = self.network(inputs)
        softmax_loss = nn.functional.cross_entropy(self.classifier(embeddings), labels)
        return softmax_loss + self.loss_fn(embeddings, labels)

    def _train(self, labels: torch.Tensor) -> torch.Tensor:
        self.network.zero_grad()
        self.classifier.zero_grad()
        loss: torch.Tensor = self.whole(self.embeddings, labels)
        loss.backward()
        return loss


class CompiledNetwork(Network):
    name = "network with centerloss.torch, compiled"

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self.whole = torch.compile(self._whole, fullgraph=True)


class MetricLearning(Training):
    """The adapter for pytorch-metric-learning: two calls."""

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
    """As the common copies: the centers' gradient is Eq. 4 over the number of rows."""

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
    """The common copies: a parameter, a delta for every class, and its own SGD."""

    name = "PyTorch dense, trained"

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self.parameter = torch.nn.Parameter(self.centers)
        rate = ALPHA * len(batch.features)  # so that they move by ALPHA times Eq. 4
        self.optimizer = torch.optim.SGD([self.parameter], lr=rate)

    def _train(self, labels: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = _DenseFunction.apply(self.embeddings, labels, self.parameter)
        loss.backward()
        self.optimizer.step()
        return loss


class Sparse(Training):
    """By hand for the classes in the batch alone, the gradient left to PyTorch."""

    name = "PyTorch sparse, trained"

    def _train(self, labels: torch.Tensor) -> torch.Tensor:
        d = self.embeddings - self.centers.index_select(0, labels)
        loss = d.pow(2).sum() / (2 * len(labels))
        loss.backward()
        with torch.no_grad():
            move_sparse(self.centers, labels, d)
        return loss


def networks() -> dict[str, type[Training]]:
    """Training with a network around it, as it is and compiled."""
    return {way.name: way for way in (Network, CompiledNetwork)}


def ways() -> dict[str, type[Training]]:
    """All ways to train, by name, centerloss first."""
    found: list[type[Training]] = [Ours, Compiled]
    if find_spec("pytorch_metric_learning"):
        found.append(MetricLearning)
    return {way.name: way for way in [*found, Dense, Sparse]}
