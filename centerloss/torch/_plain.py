"""Loss and center update in PyTorch's own operations.

They serve devices other than the CPU, and derivatives that the C functions do not have:
forward mode and gradients of weights. The update touches only the centers of the
batch's classes and allocates nothing of size K. The formulas are those of
`centerloss.reference`; results agree within rounding, not bit by bit.
"""

import torch
from torch import Tensor

from ._batch import Batch, Settings


def ignored(labels: Tensor, ignore_index: int | None) -> Tensor:
    """Return which rows are ignored: bool, of the labels' shape."""
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
    """Return w_i, of the labels' shape: zero for ignored rows."""
    if sample_weight is None:
        sample_weight = torch.ones_like(labels, dtype=dtype)
    return sample_weight.to(dtype).masked_fill(ignored(labels, ignore_index), 0.0)


def row_factors(weights: Tensor, settings: Settings) -> Tensor:
    """Return the factors of 1/2 ||d_i||^2 in the loss and of d_i in the gradient."""
    if settings.reduction == "mean":
        total = weights.sum()
        weights = weights / total.masked_fill(total == 0, 1.0)
    return weights * settings.loss_weight


def flat(batch: Batch) -> Batch:
    """Return the batch with labels and weights (B,) and embeddings (B, D)."""
    embeddings, labels, centers, weights = batch
    rows = labels.numel()
    return Batch(
        embeddings.reshape(rows, centers.shape[1]),
        labels.reshape(rows),
        centers,
        weights if weights is None else weights.reshape(rows),
    )


def differences(batch: Batch, ignore_index: int | None) -> Tensor:
    """Return d_i = x_i - c_{y_i}, (B, D), of a flat batch: zero for ignored rows."""
    embeddings, labels, centers, _ = batch
    x = embeddings.to(centers.dtype)
    if len(centers) == 0:
        return x * 0.0
    left_out = ignored(labels, ignore_index)
    own = labels.to(torch.int64).masked_fill(left_out, 0)
    d = x - centers.index_select(0, own)
    return d.masked_fill(left_out[:, None], 0.0)


def terms(batch: Batch, settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """Return d_i, 1/2 ||d_i||^2 and w_i of a flat batch."""
    d = differences(batch, settings.ignore_index)
    weights = row_weights(
        batch.labels, batch.sample_weight, settings.ignore_index, batch.centers.dtype
    )
    return d, 0.5 * (d * d).sum(1), weights


def loss(batch: Batch, settings: Settings) -> Tensor:
    """Return the loss, differentiable by embeddings and weights (Eq. 2)."""
    _, squares, weights = terms(flat(batch), settings)
    losses = squares * row_factors(weights, settings)
    return _reduced(losses, weights, batch.labels, settings)


def value_and_grad(batch: Batch, settings: Settings) -> tuple[Tensor, Tensor]:
    """Return the loss, and its gradient in the embeddings' dtype (Eq. 3)."""
    d, squares, weights = terms(flat(batch), settings)
    factors = row_factors(weights, settings)
    gradient = (d * factors[:, None]).to(batch.embeddings.dtype)
    value = _reduced(squares * factors, weights, batch.labels, settings)
    return value, gradient.reshape(batch.embeddings.shape)


def _reduced(
    losses: Tensor, weights: Tensor, labels: Tensor, settings: Settings
) -> Tensor:
    if settings.reduction == "none":
        return losses.reshape(labels.shape)
    if settings.reduction == "sum":
        return losses.sum()
    # The mean over rows without weight is zero, even if a row holds NaN.
    return losses.sum().masked_fill((weights == 0).all(), 0.0)


@torch.no_grad()
def update_centers(batch: Batch, settings: Settings) -> Tensor:
    """Update the centers of the classes present (Eq. 4); return their number.

    All shapes are known beforehand, so that no device has to be waited for, and tensors
    without values will do.
    """
    batch = flat(batch)
    centers = batch.centers
    d = differences(batch, settings.ignore_index)
    w = row_weights(
        batch.labels, batch.sample_weight, settings.ignore_index, centers.dtype
    )
    left_out = ignored(batch.labels, settings.ignore_index)
    if len(centers) == 0 or len(d) == 0:
        return left_out.new_zeros((), dtype=torch.int64)
    if settings.skip_nonfinite:
        left_out = left_out | ~_squares_are_finite(d)
        d = d.masked_fill(left_out[:, None], 0.0)
        w = w.masked_fill(left_out, 0.0)
    labels = batch.labels.to(torch.int64).masked_fill(left_out, -1)

    # Rows in the order of their classes; each class gets a place, from 0 upwards.
    labels, order = labels.sort(stable=True)
    first = torch.ones_like(left_out)
    first[1:] = labels[1:] != labels[:-1]
    places = first.cumsum(0) - 1
    classes = torch.full_like(labels, -1).scatter_(0, places, labels)
    sums = torch.zeros_like(d).index_add_(0, places, (d * w[:, None])[order])
    if settings.normalize:
        counts = torch.zeros_like(w).index_add_(0, places, w[order])
        sums /= 1 + counts[:, None]

    # Places without a class add -0.0 to a center, which changes no bit of it.
    unused = classes < 0
    moves = (sums * settings.alpha).masked_fill(unused[:, None], -0.0)
    centers.index_add_(0, classes.clamp(min=0), moves)
    return (~unused).sum()


def _squares_are_finite(d: Tensor) -> Tensor:
    """Return whether ||d_i||^2 is finite, computed in float64 as in C."""
    if d.dtype is torch.float64:
        return (d * d).sum(1).isfinite()
    return d.isfinite().all(1)  # squares of float32 do not overflow in float64


def empty_sums(centers: Tensor) -> tuple[Tensor, Tensor]:
    """Return sums (K, D) and counts (K,) of zero, for `add_to_classes`."""
    # Apple's devices have no float64.
    wide = torch.float32 if centers.device.type == "mps" else torch.float64
    return torch.zeros_like(centers, dtype=wide), centers.new_zeros(
        len(centers), dtype=wide
    )


def set_means(centers: Tensor, sums: Tensor, counts: Tensor) -> int:
    """Set the centers of the classes with rows to their means; return their number."""
    present = counts > 0
    means = sums[present] / counts[present, None]
    centers[present] = means.to(centers.dtype)
    return int(present.sum())


def add_to_classes(
    sums: Tensor,
    counts: Tensor,
    embeddings: Tensor,
    labels: Tensor,
    ignore_index: int | None,
) -> None:
    """Add each row to `sums` (K, D) and `counts` (K,) of its class."""
    x = embeddings.reshape(labels.numel(), sums.shape[1])
    labels = labels.reshape(-1)
    if ignore_index is not None:
        counted = ~ignored(labels, ignore_index)
        x, labels = x[counted], labels[counted]
    classes = labels.to(torch.int64)
    sums.index_add_(0, classes, x.to(sums.dtype))
    counts.index_add_(0, classes, counts.new_ones(len(classes)))
