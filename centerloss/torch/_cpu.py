"""The functions of `centerloss` on CPU tensors, and the loss's derivative.

The functions change what they change in the tensors' own memory, through views that
PyTorch does not know of: the version of a tensor says it to those who saved it.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

import centerloss

from ._arrays import array, told_of_tensors
from ._plain import rates


def _loss_tensor(loss: Any, centers: Tensor) -> Tensor:
    """Return a loss from C, a float or an array of the centers' dtype."""
    if isinstance(loss, float):
        return torch.scalar_tensor(loss, dtype=centers.dtype)
    return torch.from_numpy(loss)


def _weights(sample_weight: Tensor | None) -> Any:
    return None if sample_weight is None else array(sample_weight)


@told_of_tensors
def loss(
    embeddings: Tensor,
    labels: Tensor,
    centers: Tensor,
    sample_weight: Tensor | None,
    reduction: str,
    loss_weight: float,
    ignore_index: int | None,
) -> Tensor:
    value = centerloss.loss(
        array(embeddings),
        array(labels),
        array(centers),
        reduction=reduction,
        loss_weight=loss_weight,
        sample_weight=_weights(sample_weight),
        ignore_index=ignore_index,
    )
    return _loss_tensor(value, centers)


@told_of_tensors
def value_and_grad(
    embeddings: Tensor,
    labels: Tensor,
    centers: Tensor,
    sample_weight: Tensor | None,
    reduction: str,
    loss_weight: float,
    ignore_index: int | None,
) -> tuple[Tensor, Tensor]:
    gradient = empty_gradient(embeddings)
    value, _ = centerloss.value_and_grad(
        array(embeddings),
        array(labels),
        array(centers),
        reduction=reduction,
        loss_weight=loss_weight,
        sample_weight=_weights(sample_weight),
        ignore_index=ignore_index,
        out=array(gradient),
    )
    return _loss_tensor(value, centers), gradient


@told_of_tensors
def step(
    embeddings: Tensor,
    labels: Tensor,
    centers: Tensor,
    sample_weight: Tensor | None,
    reduction: str,
    loss_weight: float,
    ignore_index: int | None,
    alpha: float,
    normalize: bool,
) -> tuple[Tensor, Tensor]:
    gradient = empty_gradient(embeddings)
    value, _ = centerloss.step(
        array(embeddings),
        array(labels),
        array(centers),
        alpha=alpha,
        normalize=normalize,
        reduction=reduction,
        loss_weight=loss_weight,
        sample_weight=_weights(sample_weight),
        ignore_index=ignore_index,
        out=array(gradient),
    )
    increment_version(centers)
    return _loss_tensor(value, centers), gradient


@told_of_tensors
def update_centers(
    embeddings: Tensor,
    labels: Tensor,
    centers: Tensor,
    sample_weight: Tensor | None,
    alpha: float,
    normalize: bool,
    ignore_index: int | None,
) -> Tensor:
    updated = centerloss.update_centers(
        array(embeddings),
        array(labels),
        array(centers),
        alpha=alpha,
        normalize=normalize,
        sample_weight=_weights(sample_weight),
        ignore_index=ignore_index,
    )
    increment_version(centers)
    return torch.tensor(updated)


def empty_gradient(embeddings: Tensor) -> Tensor:
    # PyTorch's own memory begins on a cache line, which NumPy's does not.
    return torch.empty_like(embeddings, memory_format=torch.contiguous_format)


class _Attach(torch.autograd.Function):
    """Returns a loss that is known as a function of the embeddings."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        """Take what `keep` does; return the loss."""
        keep(ctx, inputs)
        loss: Tensor = inputs[2]
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Return the derivative by each input."""
        (grad,) = grads
        # As from loss.backward(): no second pass over the batch. A graph that is kept
        # hands out the gradient again, and needs it as it is.
        if _is_one(grad) and not _keeps_graph():
            embeddings, _, gradient, _ = ctx.saved_tensors
            return gradient.to(embeddings.dtype), *(None,) * 7
        return attach_backward(ctx, grad)


def _is_one(grad: Tensor) -> bool:
    """Whether a gradient multiplies all by one, and is not to be differentiated."""
    if torch.is_grad_enabled() or grad.dim() > 0:
        return False
    try:
        return grad.item() == 1.0
    except RuntimeError:  # many at once, inside of vmap: there is no such number
        return False


def _keeps_graph() -> bool:
    return torch._C._autograd._get_current_graph_task_keep_graph()


attach = _Attach.apply


def keep(ctx: Any, inputs: tuple[Any, ...], output: Any = None) -> None:  # noqa: ARG001
    """Save what the backward pass of `attach` needs."""
    embeddings, labels, _, gradient, sample_weight, *objective = inputs
    ctx.save_for_backward(embeddings, labels, gradient, sample_weight)
    ctx.objective = objective


def attach_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradient that is known, times that of the loss."""
    embeddings, labels, gradient, sample_weight = ctx.saved_tensors
    wide = gradient.to(grad.dtype)
    if torch.is_grad_enabled():
        # This backward pass is to be differentiated too. The gradient is linear in
        # the embeddings: the value is known, and the rate of each row is added to it.
        reduction, loss_weight, ignore_index = ctx.objective
        rate = rates(
            labels, sample_weight, reduction, loss_weight, ignore_index, grad.dtype
        )
        # Where it is NaN or infinite, zero all the same.
        zero = (embeddings - embeddings.detach()).nan_to_num()
        wide = wide + _per_row(rate, wide) * zero
    scaled = wide * (_per_row(grad, wide) if grad.dim() else grad)
    return scaled.to(embeddings.dtype), *(None,) * 7


def _per_row(values: Tensor, rows: Tensor) -> Tensor:
    """Return one value a row so that it multiplies the rows."""
    return values.reshape(values.shape + (1,) * (rows.dim() - 1))
