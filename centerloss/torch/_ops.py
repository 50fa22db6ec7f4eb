"""The functions of `_cpu` as PyTorch operators, on every device.

`torch.compile` cannot look into C. If it looked into `_plain`, it would save the
centers for the backward pass, and refuse that pass after the update. A schema, which
says that `centers` is modified in place, and a fake implementation, which computes
shapes and dtypes, let it keep a call in one graph.

An operator that modifies an input has no derivative in PyTorch. So `step` and
`value_and_grad` return loss and gradient as numbers, and `attach` makes the loss a
function of the embeddings that has this gradient.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import _checks, _cpu, _plain
from ._batch import Batch, Settings

_ROWS = "Tensor embeddings, Tensor labels, "
_LOSS = "Tensor? sample_weight, str reduction, Tensor loss_weight, int? ignore_index"
_UPDATE = "Tensor alpha, bool normalize, bool skip_nonfinite"
_SCHEMAS = {
    "loss": f"({_ROWS}Tensor centers, {_LOSS}) -> Tensor",
    "value_and_grad": f"({_ROWS}Tensor centers, {_LOSS}) -> (Tensor, Tensor)",
    "step": f"({_ROWS}Tensor(a!) centers, {_LOSS}, {_UPDATE})"
    " -> (Tensor, Tensor, Tensor)",
    "update_centers": f"({_ROWS}Tensor(a!) centers, Tensor? sample_weight, "
    f"int? ignore_index, {_UPDATE}) -> Tensor",
    "attach": f"({_ROWS}Tensor loss, Tensor gradient, {_LOSS}) -> Tensor",
}


def loss(batch: Batch, settings: Settings) -> Tensor:
    return torch.ops.centerloss.loss.default(*batch, *_of_the_loss(settings))


def value_and_grad(batch: Batch, settings: Settings) -> tuple[Tensor, Tensor]:
    return torch.ops.centerloss.value_and_grad.default(*batch, *_of_the_loss(settings))


def step(batch: Batch, settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    return torch.ops.centerloss.step.default(
        *batch, *_of_the_loss(settings), *_of_the_update(settings)
    )


def update_centers(batch: Batch, settings: Settings) -> Tensor:
    return torch.ops.centerloss.update_centers.default(
        *batch, settings.ignore_index, *_of_the_update(settings)
    )


def attach(batch: Batch, loss: Tensor, gradient: Tensor, settings: Settings) -> Tensor:
    embeddings, labels, _, sample_weight = batch
    return torch.ops.centerloss.attach.default(
        embeddings, labels, loss, gradient, sample_weight, *_of_the_loss(settings)
    )


def _of_the_loss(settings: Settings) -> tuple[str, Tensor, int | None]:
    return settings.reduction, _input(settings.loss_weight), settings.ignore_index


def _of_the_update(settings: Settings) -> tuple[Tensor, bool, bool]:
    return _input(settings.alpha), settings.normalize, settings.skip_nonfinite


def _input(value: float | Tensor) -> Tensor:
    """Return a setting as a tensor: see `Settings`."""
    if isinstance(value, Tensor):  # pragma: no cover: torch.compile traces this line
        return value
    return torch.tensor(value, dtype=torch.float64, device="cpu")


# --- implementations: in C, and elsewhere in PyTorch's own operations -----------------


def _in_c(batch: Batch) -> bool:
    return batch.centers.is_cpu


def _loss(*arguments: Any) -> Tensor:
    batch, settings = _from_arguments(*arguments)
    if _in_c(batch):
        return _cpu.loss(batch, settings)
    _checks.check_call("loss", batch, settings)
    return _plain.loss(batch, settings)


def _value_and_grad(*arguments: Any) -> tuple[Tensor, Tensor]:
    batch, settings = _from_arguments(*arguments)
    if _in_c(batch):
        return _cpu.value_and_grad(batch, settings)
    _checks.check_call("loss", batch, settings)
    return _plain.value_and_grad(batch, settings)


def _step(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    batch, settings = _from_arguments(*arguments)
    if _in_c(batch):
        loss, gradient, updated = _cpu.step(batch, settings)
        return loss, gradient, torch.tensor(updated, device="cpu")
    _checks.check_call("step", batch, settings)
    of_the_loss = _plain.value_and_grad(batch, settings)
    return *of_the_loss, _plain.update_centers(batch, settings)


def _from_arguments(
    embeddings: Tensor,
    labels: Tensor,
    centers: Tensor,
    sample_weight: Tensor | None,
    reduction: str,
    loss_weight: Tensor,
    ignore_index: int | None,
    *of_the_update: Any,
) -> tuple[Batch, Settings]:
    settings = Settings(reduction, loss_weight.item(), ignore_index)
    if of_the_update:
        alpha, normalize, skip_nonfinite = of_the_update
        settings = Settings(*settings[:3], alpha.item(), normalize, skip_nonfinite)
    return Batch(embeddings, labels, centers, sample_weight), settings


def _update_centers(
    embeddings: Tensor,
    labels: Tensor,
    centers: Tensor,
    sample_weight: Tensor | None,
    ignore_index: int | None,
    alpha: Tensor,
    normalize: bool,
    skip_nonfinite: bool,
) -> Tensor:
    batch = Batch(embeddings, labels, centers, sample_weight)
    settings = Settings(
        ignore_index=ignore_index,
        alpha=alpha.item(),
        normalize=normalize,
        skip_nonfinite=skip_nonfinite,
    )
    if _in_c(batch):
        return torch.tensor(_cpu.update_centers(batch, settings), device="cpu")
    _checks.check_call("update_centers", batch, settings)
    return _plain.update_centers(batch, settings)


def _attach(_embeddings: Tensor, _labels: Tensor, loss: Tensor, *_: Any) -> Tensor:
    return loss.clone()


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001
    ctx.number_of_inputs = len(inputs)
    embeddings, labels, _, gradient, sample_weight, *settings = inputs
    _cpu.save_for_backward(
        ctx, embeddings, labels, gradient, sample_weight, Settings(*settings)
    )


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Return the derivative by the embeddings; the other inputs have none."""
    others = [None] * (ctx.number_of_inputs - 1)
    return _cpu.attach_backward(ctx, grad), *others


# --- fake implementations: shapes and dtypes -----------------------------------------


def _fake_loss(
    _embeddings: Tensor,
    labels: Tensor,
    centers: Tensor,
    _sample_weight: Tensor | None,
    reduction: str,
    *_: Any,
) -> Tensor:
    shape = labels.shape if reduction == "none" else ()
    return centers.new_empty(shape)


def _fake_loss_and_gradient(embeddings: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return _fake_loss(embeddings, *rest), _cpu.empty_gradient(embeddings)


def _fake_step(embeddings: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return *_fake_loss_and_gradient(embeddings, *rest), _fake_count(embeddings)


def _fake_count(embeddings: Tensor, *_: Any) -> Tensor:
    return embeddings.new_empty((), dtype=torch.int64)


def _fake_attach(_embeddings: Tensor, _labels: Tensor, loss: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(loss)


# --- registration --------------------------------------------------------------------


def _register() -> None:
    implementations: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
        "loss": (_loss, _fake_loss),
        "value_and_grad": (_value_and_grad, _fake_loss_and_gradient),
        "step": (_step, _fake_step),
        "update_centers": (_update_centers, _fake_count),
        "attach": (_attach, _fake_attach),
    }
    for name, (function, fake) in implementations.items():
        operator = f"centerloss::{name}"
        torch.library.define(operator, _SCHEMAS[name])
        torch.library.impl(operator, "CompositeExplicitAutograd", function)
        torch.library.register_fake(operator, fake)
    torch.library.register_autograd(
        "centerloss::attach", _backward, setup_context=_setup_context
    )


# PyTorch refuses a second registration, as after importlib.reload.
if not hasattr(torch.ops.centerloss, "loss"):
    _register()
