"""The functions of `centerloss` as PyTorch operators on CPU tensors.

What PyTorch cannot look into, it has to be told: by a schema, which names the tensor
that is changed in place, and by a fake implementation, which gives the shapes and
dtypes alone. With these `torch.compile` keeps a call of the C in one graph.

An operator that changes a tensor has no derivative in PyTorch. So `step` and
`value_and_grad` return loss and gradient as plain numbers, and `attach` hands the loss
on as a function of the embeddings that has this gradient.
"""

from typing import Any

import torch
from torch import Tensor

from . import _cpu

_BATCH = "Tensor embeddings, Tensor labels, "
_LOSS = "Tensor? sample_weight, str reduction, float loss_weight, int? ignore_index"
_MOVE = "Tensor? sample_weight, float alpha, bool normalize, int? ignore_index"

torch.library.define("centerloss::loss", f"({_BATCH}Tensor centers, {_LOSS}) -> Tensor")
torch.library.define(
    "centerloss::value_and_grad",
    f"({_BATCH}Tensor centers, {_LOSS}) -> (Tensor, Tensor)",
)
torch.library.define(
    "centerloss::step",
    f"({_BATCH}Tensor(a!) centers, {_LOSS}, float alpha, bool normalize)"
    " -> (Tensor, Tensor)",
)
torch.library.define(
    "centerloss::update_centers", f"({_BATCH}Tensor(a!) centers, {_MOVE}) -> Tensor"
)
torch.library.define(
    "centerloss::attach", f"({_BATCH}Tensor loss, Tensor gradient, {_LOSS}) -> Tensor"
)

loss = torch.ops.centerloss.loss.default
value_and_grad = torch.ops.centerloss.value_and_grad.default
step = torch.ops.centerloss.step.default
update_centers = torch.ops.centerloss.update_centers.default
attach = torch.ops.centerloss.attach.default

torch.library.impl("centerloss::loss", "CPU")(_cpu.loss)
torch.library.impl("centerloss::value_and_grad", "CPU")(_cpu.value_and_grad)
torch.library.impl("centerloss::step", "CPU")(_cpu.step)
torch.library.impl("centerloss::update_centers", "CPU")(_cpu.update_centers)


@torch.library.impl("centerloss::attach", "CPU")
def _(
    embeddings: Tensor,  # noqa: ARG001
    labels: Tensor,  # noqa: ARG001
    loss: Tensor,
    *_: Any,
) -> Tensor:
    return loss.clone()


torch.library.register_autograd(
    "centerloss::attach", _cpu.attach_backward, setup_context=_cpu.keep
)


# --- fakes: shapes and dtypes alone --------------------------------------------------


@torch.library.register_fake("centerloss::loss")
def _fake_loss(
    embeddings: Tensor,
    labels: Tensor,  # noqa: ARG001
    centers: Tensor,
    sample_weight: Tensor | None,  # noqa: ARG001
    reduction: str,
    *_: Any,
) -> Tensor:
    shape = embeddings.shape[:1] if reduction == "none" else ()
    return centers.new_empty(shape)


@torch.library.register_fake("centerloss::value_and_grad")
@torch.library.register_fake("centerloss::step")
def _fake_step(
    embeddings: Tensor, labels: Tensor, centers: Tensor, *rest: Any
) -> tuple[Tensor, Tensor]:
    loss = _fake_loss(embeddings, labels, centers, *rest)
    return loss, _cpu.empty_gradient(embeddings)


@torch.library.register_fake("centerloss::update_centers")
def _(embeddings: Tensor, *_: Any) -> Tensor:
    return embeddings.new_empty((), dtype=torch.int64)


@torch.library.register_fake("centerloss::attach")
def _(
    embeddings: Tensor,  # noqa: ARG001
    labels: Tensor,  # noqa: ARG001
    loss: Tensor,
    *_: Any,
) -> Tensor:
    return torch.empty_like(loss)
