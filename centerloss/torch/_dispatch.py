"""Chooses how a batch is computed: in C, or in PyTorch's own operations.

The functions take tensors on one device, with all other errors still to be found.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import _checks, _cpu, _ops, _plain
from ._batch import Batch, Settings

# A private function of PyTorch. Without it, a transform is assumed to run always:
# every batch is then computed in PyTorch's operations, slower and within rounding.
_transform_runs: Callable[[], bool] = getattr(
    torch._C, "_are_functorch_transforms_active", lambda: True
)


def is_usual(batch: Batch) -> bool:
    """Whether a training step may call `usual_step` before anything is checked.

    Rows have to be on the CPU in the centers' dtype, without weights. C or NumPy find
    what else may be wrong.
    """
    embeddings, labels, centers, sample_weight = batch
    return (
        not torch.compiler.is_compiling()
        and type(embeddings) is Tensor
        and type(labels) is Tensor
        and sample_weight is None
        and embeddings.is_cpu
        and embeddings.requires_grad
        and embeddings.dtype is centers.dtype
        and not embeddings.is_inference()  # it could not be saved
        and not labels.is_inference()
        and not _transform_runs()
        and forward_ad.unpack_dual(embeddings).tangent is None
    )


def usual_step(batch: Batch, settings: Settings) -> tuple[Tensor, int] | None:
    """Return what `step` returns, or None if C refuses the batch; it is unchanged then.

    Checks and conversions take a tenth of the time of a small training step. So they
    come only after a refusal.
    """
    step = _cpu.try_step(batch, settings)
    if step is None:
        return None
    loss, gradient, updated = step
    return _cpu.attach(batch, loss, gradient, settings), updated


def loss(batch: Batch, settings: Settings) -> Tensor:
    if not can_use_c(batch.embeddings, batch.sample_weight):
        return _plain_loss(batch, settings)
    batch, rows, operations = for_c(batch, "loss", settings)
    if not (torch.is_grad_enabled() and batch.embeddings.requires_grad):
        loss: Tensor = operations.loss(rows, settings)
        return loss
    loss, gradient = operations.value_and_grad(rows, settings)
    attached: Tensor = operations.attach(batch, loss, gradient, settings)
    return attached


def step(batch: Batch, settings: Settings) -> tuple[Tensor, int | Tensor]:
    """Return the loss and the number of centers updated, if `can_use_c`."""
    batch, rows, operations = for_c(batch, "step", settings)
    loss, gradient, updated = operations.step(rows, settings)
    return operations.attach(batch, loss, gradient, settings), updated


def update_centers(batch: Batch, settings: Settings) -> int | Tensor:
    """Return the number of centers updated."""
    # No derivative is asked for, not even by the weights.
    if can_use_c(batch.embeddings, None):
        _, rows, operations = for_c(batch, "update_centers", settings)
        updated: int | Tensor = operations.update_centers(rows, settings)
        return updated
    return _plain_update(batch, settings)


# torch.compile must not look into these: see `_ops`.
@torch.compiler.disable
def _plain_loss(batch: Batch, settings: Settings) -> Tensor:
    _checks.check_call("loss", batch, settings)
    return _plain.loss(batch, settings)


@torch.compiler.disable
def _plain_update(batch: Batch, settings: Settings) -> Tensor:
    _checks.check_call("update_centers", batch, settings)
    return _plain.update_centers(batch, settings)


def can_use_c(embeddings: Tensor, sample_weight: Tensor | None) -> bool:
    """Whether C can read the tensors and has the derivatives that are asked for.

    torch.compile has operators for every device instead.
    """
    weights_matter = sample_weight is not None and sample_weight.requires_grad
    if weights_matter and torch.is_grad_enabled():
        return False
    if torch.compiler.is_compiling():
        return True  # pragma: no cover: torch.compile traces this line
    if not embeddings.is_cpu or _transform_runs():
        return False
    if forward_ad.unpack_dual(embeddings).tangent is not None:
        return False
    return (
        sample_weight is None or forward_ad.unpack_dual(sample_weight).tangent is None
    )


def for_c(batch: Batch, function: str, settings: Settings) -> tuple[Batch, Batch, Any]:
    """Return the batch to be saved, the one for C, and `_cpu` or `_ops`.

    torch.compile and tensor subclasses must see operators.
    """
    embeddings, labels, centers, weights = batch
    # is_inference() cannot be traced. What torch.compile traces is not counted as run.
    if torch.compiler.is_compiling():  # pragma: no cover
        operations: Any = _ops
    else:
        operations = _cpu
        if type(embeddings) is not Tensor:
            operations = _ops
            _checks.check_settings(function, settings)
        embeddings, labels = _saveable(embeddings), _saveable(labels)
        weights = weights if weights is None else _saveable(weights.detach())
        if embeddings.is_neg():  # a view of complex numbers, which NumPy cannot read
            embeddings = embeddings.resolve_neg()
    rows = embeddings.detach()
    # A gradient over the number of rows may underflow in float16 before a scaled loss
    # multiplies it. It has the dtype of the rows, so they are converted.
    if rows.dtype is torch.float16 and function != "update_centers":
        rows = rows.float()
    return (
        Batch(embeddings, labels, centers, weights),
        Batch(rows, labels, centers, weights),
        operations,
    )


def _saveable(tensor: Tensor) -> Tensor:
    """Return a tensor that can be saved for the backward pass.

    PyTorch refuses to save tensors made under `torch.inference_mode`, and would raise
    only after the centers have moved.
    """
    return tensor.clone() if tensor.is_inference() else tensor
