"""Where the time of a small training step in PyTorch goes.

Each line adds a piece to the one before, and all are timed in turns. Pieces timed in
loops of their own would not add up: a loop keeps their code in the caches.
"""

from collections.abc import Callable
from timeit import Timer
from typing import Any

import numpy as np
import torch
from torch import Tensor

from centerloss.torch import _cpu
from centerloss.torch._batch import Batch

from .machine import describe
from .measure import Entry, measure
from .peers.training import Centerloss, Compiled, Dense, Training
from .workloads import WORKLOADS, make_batch


class _Empty(torch.autograd.Function):
    """A loss and a gradient that exist already."""

    @staticmethod
    def forward(ctx: Any, _embeddings: Tensor, loss: Tensor, gradient: Tensor) -> Any:
        ctx.gradient = gradient
        return loss.view(())

    @staticmethod
    def backward(ctx: Any, *_grads: Any) -> Any:
        return ctx.gradient, None, None


class _Pieces(Centerloss):
    """Parts of the step, from the autograd of PyTorch alone to the whole."""

    def __init__(self, batch: Any) -> None:
        super().__init__(batch)
        self.given = torch.zeros(()), torch.zeros_like(self.embeddings)
        labels = next(self.labels)
        self.batch = Batch(self.embeddings, labels, self.centers, None)
        self.settings = self.loss_fn._settings()

    def empty(self) -> Tensor:
        loss: Tensor = _Empty.apply(self.embeddings, *self.given)
        return loss

    def tensors(self) -> Tensor:
        loss = _cpu._loss_tensor(1.0, self.centers)
        gradient = _cpu.empty_gradient(self.embeddings)
        return _cpu.attach(self.batch, loss, gradient, self.settings)

    def c(self) -> Tensor:
        step = _cpu.try_step(self.batch, self.settings)
        assert step is not None
        loss, gradient, _ = step
        return _cpu.attach(self.batch, loss, gradient, self.settings)

    def forward(self) -> Any:
        return self.loss_fn.forward(self.embeddings, self.batch.labels)

    def call(self) -> Any:
        return self.loss_fn(self.embeddings, self.batch.labels)


class _CompiledSum(Training):
    """What torch.compile takes by itself."""

    def __init__(self, batch: Any) -> None:
        super().__init__(batch)
        self.sum: Any = torch.compile(torch.sum, fullgraph=True)

    def _train(self, labels: Tensor) -> Tensor:  # noqa: ARG002
        loss: Tensor = self.sum(self.embeddings)
        loss.backward()
        return loss


def _backward(pieces: _Pieces, forward: Callable[[], Tensor]) -> Callable[[], object]:
    def step() -> object:
        pieces.embeddings.grad = None
        return forward().backward()

    return step


def main() -> None:
    Training.set_threads(1)
    batch = make_batch(WORKLOADS["toy"], np.random.default_rng(0))
    pieces = _Pieces(batch)
    steps: dict[str, Callable[[], object]] = {
        "empty autograd.Function, backward()": _backward(pieces, pieces.empty),
        "+ new loss and gradient, saved": _backward(pieces, pieces.tensors),
        "+ tensors as arrays, the C": _backward(pieces, pieces.c),
        "+ forward of the module": _backward(pieces, pieces.forward),
        "+ nn.Module.__call__": _backward(pieces, pieces.call),
        Dense.name: Dense(batch).step,
        "torch.compile, of a sum": _CompiledSum(batch).step,
        Compiled.name: Compiled(batch).step,
    }
    entries = [Entry(name, 1, Timer(f), lambda: None) for name, f in steps.items()]
    timings = measure(entries, 60.0, np.random.default_rng(0))
    dense = next(t.median for t in timings if t.name == Dense.name)
    print(describe())
    print("| one step, toy | µs | over dense |\n| --- | --- | --- |")
    for t in timings:
        print(f"| {t.name} | {1e6 * t.median:.0f} | {t.median / dense:.2f} |")


if __name__ == "__main__":
    main()
