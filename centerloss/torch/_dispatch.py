"""Chooses how a batch is computed: in C, or in PyTorch's own operations.

The functions take tensors on one device, with all other errors still to be found.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import _cpu, _ops, _plain
from ._batch import Batch, Settings

# A private function of PyTorch. Without it, a transform is assumed to run always:
# every batch is then computed in PyTorch's operations, slower and within rounding.
_transform_runs: Callable[[], bool] = getattr(
    torch._C, "_are_functorch_transforms_active", lambda: True
)


def loss(batch: Batch, settings: Settings) -> Tensor:
    if not can_use_c(batch.embeddings, batch.sample_weight):
        _plain.check_settings(settings)
        _plain.check_batch(batch, settings.ignore_index)
        return _plain.loss(batch, settings)
    return _loss_in_c(batch, settings, moves_centers=False)


def step(batch: Batch, settings: Settings) -> Tensor:
    """Return the loss and update the centers, in one pass; for C only."""
    return _loss_in_c(batch, settings, moves_centers=True)


def update_centers(batch: Batch, settings: Settings) -> Tensor:
    # No derivative is asked for, not even by the weights.
    if can_use_c(batch.embeddings, None):
        compiling = torch.compiler.is_compiling()
        operations = _operations(batch.embeddings, compiling)
        updated: Tensor = operations.update_centers(batch, settings)
        return updated
    _plain.check_settings(settings)
    _plain.check_batch(batch, settings.ignore_index)
    return _plain.update_centers(batch, settings)


def _loss_in_c(batch: Batch, settings: Settings, *, moves_centers: bool) -> Tensor:
    embeddings, labels, centers, weights = batch
    compiling = torch.compiler.is_compiling()
    operations = _operations(embeddings, compiling)
    # is_inference() cannot be traced. What torch.compile traces is not counted as run.
    if not compiling:  # pragma: no branch
        embeddings, labels = _saveable(embeddings), _saveable(labels)
        weights = weights if weights is None else _saveable(weights)
    batch = Batch(_rows(embeddings), labels, centers, weights)
    if not (torch.is_grad_enabled() and embeddings.requires_grad):
        loss: Tensor = operations.loss(batch, settings)
        return loss
    compute = operations.step if moves_centers else operations.value_and_grad
    loss, gradient = compute(batch, settings)
    attached: Tensor = operations.attach(embeddings, loss, gradient, batch, settings)
    return attached


def can_use_c(embeddings: Tensor, sample_weight: Tensor | None) -> bool:
    """Whether C can read the tensors and has the derivatives that are asked for."""
    if embeddings.device.type != "cpu":
        return False
    weights_matter = sample_weight is not None and sample_weight.requires_grad
    if weights_matter and torch.is_grad_enabled():
        return False
    if torch.compiler.is_compiling():
        return True  # pragma: no cover: torch.compile traces this line
    if _transform_runs():
        return False
    given = (embeddings,) if sample_weight is None else (embeddings, sample_weight)
    return all(forward_ad.unpack_dual(x).tangent is None for x in given)


def _operations(embeddings: Tensor, compiling: bool) -> Any:
    """Return `_ops` if torch.compile or a tensor subclass must see operators."""
    return _ops if compiling or type(embeddings) is not Tensor else _cpu


def _saveable(tensor: Tensor) -> Tensor:
    """Return a tensor that can be saved for the backward pass.

    PyTorch refuses to save tensors made under `torch.inference_mode`, and would raise
    only after the centers have moved.
    """
    return tensor.clone() if tensor.is_inference() else tensor


def _rows(embeddings: Tensor) -> Tensor:
    """Return the embeddings without their graph, float16 as float32.

    A gradient over the number of rows may underflow in float16 before a scaled loss
    multiplies it. It has the dtype of the rows, so they are converted.
    """
    rows = embeddings.detach()
    return rows.float() if rows.dtype is torch.float16 else rows
