"""The NumPy functions on CPU tensors, and the derivative of the loss.

The centers are modified through NumPy views, which autograd cannot see. The version
counter of the tensor is therefore incremented by hand: a backward pass that needs the
old centers then raises an error.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.graph import increment_version

from .. import _core
from ._arrays import array, find_error
from ._batch import Batch, Settings
from ._plain import row_factors, row_weights

# A private function of PyTorch. Without it, every graph is treated as one that is
# kept, which costs one more pass over the gradient.
_graph_is_kept: Callable[[], bool] = getattr(
    getattr(torch._C, "_autograd", None),
    "_get_current_graph_task_keep_graph",
    lambda: True,
)


_CPU = torch.device("cpu")  # PyTorch's default device may be another one
_LARGEST_FLOAT32 = torch.finfo(torch.float32).max


def loss(batch: Batch, settings: Settings) -> Tensor:
    value = _call(
        _core.loss,
        batch,
        reduction=settings.reduction,
        loss_weight=settings.loss_weight,
        ignore_index=settings.ignore_index,
    )
    return loss_tensor(value, batch.centers)


def value_and_grad(batch: Batch, settings: Settings) -> tuple[Tensor, Tensor]:
    gradient = empty_gradient(batch.embeddings)
    value, _ = _call(
        _core.value_and_grad,
        batch,
        reduction=settings.reduction,
        loss_weight=settings.loss_weight,
        ignore_index=settings.ignore_index,
        out=array(gradient),
    )
    return loss_tensor(value, batch.centers), gradient


def step(batch: Batch, settings: Settings) -> tuple[Tensor, Tensor, int]:
    gradient = empty_gradient(batch.embeddings)
    value, _, updated = _call(
        _core.step_and_count,
        batch,
        **_step_options(settings),
        out=array(gradient),
    )
    increment_version(batch.centers)
    return loss_tensor(value, batch.centers), gradient, updated


def try_step(batch: Batch, settings: Settings) -> tuple[Tensor, Tensor, int] | None:
    """Return what `step` returns, or None, with nothing changed, if there is an error.

    It takes less time than `step`, and embeddings that need a gradient.
    """
    embeddings, labels, centers, _ = batch
    try:
        gradient = empty_gradient(embeddings)
        value, _, updated = _core.step_and_count(
            embeddings.detach().numpy(),
            labels.numpy(),
            centers.numpy(),
            **_step_options(settings),
            out=gradient.numpy(),
        )
    except (TypeError, ValueError, IndexError, RuntimeError):
        return None
    increment_version(centers)
    return loss_tensor(value, centers), gradient, updated


def _step_options(settings: Settings) -> dict[str, Any]:
    return {
        "alpha": settings.alpha,
        "normalize": settings.normalize,
        "skip_nonfinite": settings.skip_nonfinite,
        "reduction": settings.reduction,
        "loss_weight": settings.loss_weight,
        "ignore_index": settings.ignore_index,
    }


def update_centers(batch: Batch, settings: Settings) -> int:
    updated: int = _call(
        _core.update_centers,
        batch,
        alpha=settings.alpha,
        normalize=settings.normalize,
        skip_nonfinite=settings.skip_nonfinite,
        ignore_index=settings.ignore_index,
    )
    increment_version(batch.centers)
    return updated


def update_centers_at(batch: Batch, places: NDArray[Any], settings: Settings) -> int:
    """`update_centers`, with rows at these places of a larger batch."""
    updated: int = _call(
        _core.update_centers_at,
        batch,
        places=places,
        alpha=settings.alpha,
        normalize=settings.normalize,
        skip_nonfinite=settings.skip_nonfinite,
    )
    increment_version(batch.centers)
    return updated


def terms_and_grad(
    batch: Batch, settings: Settings, total_weight: float
) -> tuple[NDArray[Any], Tensor]:
    """Return the terms of the loss of a larger batch, in float64, and the gradient."""
    gradient = empty_gradient(batch.embeddings)
    terms, _ = _call(
        _core.terms_and_grad,
        batch,
        reduction=settings.reduction,
        loss_weight=settings.loss_weight,
        total_weight=total_weight,
        ignore_index=settings.ignore_index,
        out=array(gradient),
    )
    return terms, gradient


def _call(function: Callable[..., Any], batch: Batch, **options: Any) -> Any:
    """Call a NumPy function on the tensors' memory; errors are about tensors."""
    weights = batch.sample_weight
    arguments = {
        "features": array(batch.embeddings),
        "labels": array(batch.labels),
        "centers": array(batch.centers),
        "sample_weight": None if weights is None else array(weights),
        **options,
    }
    try:
        return function(**arguments)
    except (TypeError, ValueError, IndexError):
        error = find_error(function.__name__, arguments)
        if error is None:
            raise
        raise error from None


def loss_tensor(loss: Any, centers: Tensor) -> Tensor:
    """Return a loss from C, a float or an array of the centers' dtype."""
    if not isinstance(loss, float):
        return torch.from_numpy(loss)
    if loss <= _LARGEST_FLOAT32:
        return torch.scalar_tensor(loss, dtype=centers.dtype, device=_CPU)
    # scalar_tensor raises an error if a number is out of range; to() returns infinity.
    wide = torch.scalar_tensor(loss, dtype=torch.float64, device=_CPU)
    return wide.to(centers.dtype)


def empty_gradient(embeddings: Tensor) -> Tensor:
    # PyTorch aligns its memory to cache lines; NumPy does not.
    return torch.empty_like(embeddings, memory_format=torch.contiguous_format)


# --- the derivative ------------------------------------------------------------------


class _Attach(torch.autograd.Function):
    """Makes a loss a function of the embeddings, with a gradient that is known."""

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, known: "_Known") -> Tensor:
        """Return the loss; save what `attach_backward` needs."""
        loss, gradient, labels, sample_weight, settings = known
        save_for_backward(ctx, embeddings, labels, gradient, sample_weight, settings)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Return the derivative by the embeddings; the other input has none."""
        (grad,) = grads
        # After loss.backward() the saved gradient itself is returned. A graph that is
        # kept needs it again, so `attach_backward` returns a copy there.
        if _is_one(grad) and not _graph_is_kept():
            embeddings, _, gradient, _ = ctx.saved_tensors
            if gradient.dtype is not embeddings.dtype:  # to() takes long to do nothing
                gradient = gradient.to(embeddings.dtype)
            return gradient, None
        return attach_backward(ctx, grad), None


# Loss, gradient, labels, weights and settings. PyTorch does not look into a tuple. If
# the loss were an input by itself, `forward` would have to copy it.
_Known: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor | None, Settings]

# `_Attach.apply` without what Function.apply adds for transforms: none runs here.
_attach: Any = getattr(super(torch.autograd.Function, _Attach), "apply", _Attach.apply)


def attach(batch: Batch, loss: Tensor, gradient: Tensor, settings: Settings) -> Tensor:
    """Return the loss, as a function of the embeddings that has this gradient."""
    embeddings, labels, _, sample_weight = batch
    known = (loss, gradient, labels, sample_weight, settings)
    attached: Tensor = _attach(embeddings, known)
    return attached


def save_for_backward(
    ctx: Any,
    embeddings: Tensor,
    labels: Tensor,
    gradient: Tensor,
    sample_weight: Tensor | None,
    settings: Settings,
) -> None:
    ctx.save_for_backward(embeddings, labels, gradient, sample_weight)
    ctx.settings = settings


def attach_backward(ctx: Any, grad: Tensor) -> Tensor:
    """Return the known gradient times the incoming one."""
    embeddings, labels, gradient, sample_weight = ctx.saved_tensors
    wide = gradient.to(grad.dtype)
    if torch.is_grad_enabled():
        # This backward pass will be differentiated too. The gradient is linear in the
        # embeddings: add zero, times the slope of each row, to the known values.
        weights = row_weights(
            labels, sample_weight, ctx.settings.ignore_index, grad.dtype
        )
        slope = row_factors(weights, ctx.settings)
        # Zero also in a row that has NaN or infinity.
        zero = (embeddings - embeddings.detach()).nan_to_num()
        wide = wide + _per_row(slope, wide) * zero
    scaled = wide * (_per_row(grad, wide) if grad.dim() else grad)
    return scaled.to(embeddings.dtype)


def _is_one(grad: Tensor) -> bool:
    """Whether an incoming gradient is the number 1, and will not be differentiated."""
    if torch.is_grad_enabled() or grad.dim() > 0:
        return False
    try:
        return grad.item() == 1.0
    except RuntimeError:  # inside vmap it stands for many numbers
        return False


def _per_row(values: Tensor, rows: Tensor) -> Tensor:
    """Reshape one value per row so that it multiplies the rows."""
    return values.reshape(values.shape + (1,) * (rows.dim() - values.dim()))
