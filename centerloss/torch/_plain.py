"""Loss and center update in PyTorch's own operations.

They serve devices other than the CPU, and derivatives that the C functions do not have:
forward mode and gradients of weights. The update touches only the centers of the
batch's classes and allocates nothing of size K. The formulas are those of
`centerloss.reference`; results agree within rounding, not bit by bit.
"""

import torch
from torch import Tensor

from .. import _settings
from ._arrays import check, shape_only_array, values_or_zeros
from ._batch import Batch, Settings


@torch.compiler.disable  # torch.compile cannot look into C
def check_settings(settings: Settings) -> None:
    """Raise what a call with these settings would raise."""
    _settings.check_settings(settings._asdict())


@torch.compiler.disable
def check_batch(batch: Batch, ignore_index: int | None = None) -> None:
    """Raise what the NumPy functions would raise; values elsewhere are not checked."""
    weights = batch.sample_weight
    arguments = {
        "features": shape_only_array(batch.embeddings),
        "labels": values_or_zeros(batch.labels),
        "centers": shape_only_array(batch.centers),
        "sample_weight": None if weights is None else values_or_zeros(weights),
        "ignore_index": ignore_index,
    }
    check("loss", arguments)


def ignored(labels: Tensor, ignore_index: int | None) -> Tensor:
    """Return which rows are ignored: (B,), bool."""
    if ignore_index is None:
        return torch.zeros_like(labels, dtype=torch.bool)
    # Compared in 64 bits: in uint8, PyTorch would take an ignore_index of -1 as 255.
    return labels.to(torch.int64) == ignore_index


def row_weights(
    labels: Tensor,
    sample_weight: Tensor | None,
    ignore_index: int | None,
    dtype: torch.dtype,
) -> Tensor:
    """Return w_i, (B,): zero for ignored rows."""
    if sample_weight is None:
        sample_weight = torch.ones_like(labels, dtype=dtype)
    return sample_weight.to(dtype).masked_fill(ignored(labels, ignore_index), 0.0)


def row_factors(weights: Tensor, settings: Settings) -> Tensor:
    """Return the factors of 1/2 ||d_i||^2 in the loss and of d_i in the gradient."""
    if settings.reduction == "mean":
        total = weights.sum()
        weights = weights / total.masked_fill(total == 0, 1.0)
    return weights * settings.loss_weight


def differences(batch: Batch, ignore_index: int | None) -> Tensor:
    """Return d_i = x_i - c_{y_i}, (B, D): zero for ignored rows."""
    centers, labels = batch.centers, batch.labels
    x = batch.embeddings.reshape(len(labels), centers.shape[1]).to(centers.dtype)
    if len(centers) == 0:
        return x * 0.0
    left_out = ignored(labels, ignore_index)
    own = labels.to(torch.int64).masked_fill(left_out, 0)
    d = x - centers.index_select(0, own)
    return d.masked_fill(left_out[:, None], 0.0)


def loss(batch: Batch, settings: Settings) -> Tensor:
    """Return the loss, differentiable by embeddings and weights (Eq. 2)."""
    d = differences(batch, settings.ignore_index)
    weights = row_weights(
        batch.labels, batch.sample_weight, settings.ignore_index, batch.centers.dtype
    )
    losses = 0.5 * (d * d).sum(1) * row_factors(weights, settings)
    if settings.reduction == "none":
        return losses
    if settings.reduction == "sum":
        return losses.sum()
    # The mean over rows without weight is zero, even if a row holds NaN.
    return losses.sum().masked_fill((weights == 0).all(), 0.0)


@torch.no_grad()
def update_centers(batch: Batch, settings: Settings) -> Tensor:
    """Update the centers of the classes present (Eq. 4); return their number."""
    labels, centers = batch.labels, batch.centers
    d = differences(batch, settings.ignore_index)
    w = row_weights(labels, batch.sample_weight, settings.ignore_index, centers.dtype)
    if settings.ignore_index is not None:
        counted = ~ignored(labels, settings.ignore_index)
        d, w, labels = d[counted], w[counted], labels[counted]
    classes, positions = torch.unique(labels.to(torch.int64), return_inverse=True)
    sums = d.new_zeros(len(classes), d.shape[1])
    sums.index_add_(0, positions, d * w[:, None])
    if settings.normalize:
        counts = w.new_zeros(len(classes)).index_add_(0, positions, w)
        sums /= 1 + counts[:, None]
    centers.index_add_(0, classes, sums, alpha=settings.alpha)
    return torch.tensor(len(classes))


def add_to_classes(
    sums: Tensor,
    counts: Tensor,
    embeddings: Tensor,
    labels: Tensor,
    ignore_index: int | None,
) -> None:
    """Add each row to `sums` (K, D) and `counts` (K,) of its class."""
    x = embeddings.reshape(len(labels), sums.shape[1])
    if ignore_index is not None:
        counted = ~ignored(labels, ignore_index)
        x, labels = x[counted], labels[counted]
    classes = labels.to(torch.int64)
    sums.index_add_(0, classes, x.to(sums.dtype))
    counts.index_add_(0, classes, counts.new_ones(len(classes)))
