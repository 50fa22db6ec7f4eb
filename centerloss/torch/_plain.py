"""The loss and the move of the centers in PyTorch's own operations.

For devices other than the CPU, and where PyTorch has to differentiate what C did:
forward mode, or weights that need a gradient. A move touches the centers of the batch's
classes alone, and makes nothing of the size of all. The formulas are those of
`centerloss.reference`; results agree within rounding, not bit by bit.
"""

import numpy as np
import torch
from torch import Tensor

from .. import _reference_checks as checks
from ._arrays import stand_in, told_of_tensors, values


@told_of_tensors
def check(
    embeddings: Tensor,
    labels: Tensor,
    centers: Tensor,
    sample_weight: Tensor | None,
    ignore_index: int | None,
) -> None:
    """Raise what the NumPy functions would, but for values on other devices."""
    c = checks.read_centers(stand_in(centers))
    x = checks.read_features(stand_in(embeddings), c.dtype)
    y = checks.read_labels(values(labels))
    w = checks.read_weights(None if sample_weight is None else values(sample_weight))
    checks.check_shapes(x, y, w, c)
    checks.check_weights(np.ones(0) if w is None else w.astype(np.float64))
    live = np.ones(len(y), bool) if ignore_index is None else y != ignore_index
    checks.check_labels(y, live, len(c))


def ignored(labels: Tensor, ignore_index: int | None) -> Tensor:
    """Return which rows do not count: (B,), bool."""
    if ignore_index is None:
        return torch.zeros_like(labels, dtype=torch.bool)
    # In 64 bits, for PyTorch makes the number one of the labels' dtype: -1 is 255 then.
    return labels.to(torch.int64) == ignore_index


def rates(
    labels: Tensor,
    sample_weight: Tensor | None,
    reduction: str,
    loss_weight: float,
    ignore_index: int | None,
    dtype: torch.dtype,
) -> Tensor:
    """Return what multiplies 1/2 ||d_i||^2 and d_i, for each row: (B,).

    Zero for rows that are ignored.
    """
    if sample_weight is None:
        sample_weight = torch.ones_like(labels, dtype=dtype)
    w = sample_weight.to(dtype)
    w = w.masked_fill(ignored(labels, ignore_index), 0.0)
    if reduction == "mean":
        total = w.sum()
        w = w / total.masked_fill(total == 0, 1.0)
    return w * loss_weight


def differences(
    embeddings: Tensor, labels: Tensor, centers: Tensor, ignore_index: int | None
) -> Tensor:
    """Return d_i = x_i - c_{y_i}, (B, D), zero for rows that are ignored."""
    x = embeddings.reshape(len(labels), centers.shape[1])
    left_out = ignored(labels, ignore_index)
    own = labels.to(torch.int64).masked_fill(left_out, 0)
    if len(centers) == 0:
        return x.to(centers.dtype) * 0.0
    d = x.to(centers.dtype) - centers.index_select(0, own)
    return d.masked_fill(left_out[:, None], 0.0)


def loss(
    embeddings: Tensor,
    labels: Tensor,
    centers: Tensor,
    sample_weight: Tensor | None,
    reduction: str,
    loss_weight: float,
    ignore_index: int | None,
) -> Tensor:
    """Return the loss, differentiable in embeddings and weights (Eq. 2)."""
    d = differences(embeddings, labels, centers, ignore_index)
    rate = rates(
        labels, sample_weight, reduction, loss_weight, ignore_index, centers.dtype
    )
    losses = 0.5 * (d * d).sum(1) * rate
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    weights = rates(labels, sample_weight, "none", 1.0, ignore_index, centers.dtype)
    # Without weight there is no mean to take, even where a row holds NaN.
    return losses.sum().masked_fill((weights == 0).all(), 0.0)


@torch.no_grad()
def update_centers(
    embeddings: Tensor,
    labels: Tensor,
    centers: Tensor,
    sample_weight: Tensor | None,
    alpha: float,
    normalize: bool,
    ignore_index: int | None,
) -> Tensor:
    """Move the centers of the classes present (Eq. 4); return their number."""
    d = differences(embeddings, labels, centers, ignore_index)
    w = rates(labels, sample_weight, "sum", 1.0, ignore_index, centers.dtype)
    if ignore_index is not None:
        counted = ~ignored(labels, ignore_index)
        d, w, labels = d[counted], w[counted], labels[counted]
    classes, places = torch.unique(labels.to(torch.int64), return_inverse=True)
    pulls = d.new_zeros(len(classes), d.shape[1])
    pulls.index_add_(0, places, d * w[:, None])
    if normalize:
        counts = w.new_zeros(len(classes)).index_add_(0, places, w)
        pulls /= 1 + counts[:, None]
    centers.index_add_(0, classes, pulls, alpha=alpha)
    return torch.tensor(len(classes))


def add_to_classes(
    sums: Tensor,
    counts: Tensor,
    embeddings: Tensor,
    labels: Tensor,
    ignore_index: int | None,
) -> None:
    """Add the rows of each class to its row of `sums` (K, D), and to its count."""
    x = embeddings.reshape(len(labels), sums.shape[1])
    if ignore_index is not None:
        counted = ~ignored(labels, ignore_index)
        x, labels = x[counted], labels[counted]
    classes = labels.to(torch.int64)
    sums.index_add_(0, classes, x.to(sums.dtype))
    counts.index_add_(0, classes, counts.new_ones(len(classes)))
