"""Loss and center update in PyTorch's own operations.

They serve devices other than the CPU, and derivatives that the C functions do not have:
forward mode and gradients of weights. The update touches only the centers of the
batch's classes and allocates nothing of size K. The formulas are those of
`centerloss.reference`; results agree within rounding, not bit by bit.
"""

import numpy as np
import torch
from torch import Tensor

from ._arrays import check, shape_only_array, values_or_zeros
from ._batch import Batch, Settings

_OF_THE_LOSS = ("reduction", "loss_weight", "ignore_index")
_OF_THE_UPDATE = ("alpha", "normalize", "skip_nonfinite", "ignore_index")
_SETTINGS_OF = {
    "loss": _OF_THE_LOSS,
    "update_centers": _OF_THE_UPDATE,
    "step": (*_OF_THE_LOSS, *_OF_THE_UPDATE),
}


@torch.compiler.disable  # torch.compile cannot look into C
def check_settings(function: str, settings: Settings) -> None:
    """Raise what the function of NumPy would raise for its settings."""
    no_rows = {
        "features": np.empty((0, 1), np.float64),
        "labels": np.empty(0, np.intp),
        "centers": np.empty((0, 1), np.float64),
    }
    names = _SETTINGS_OF[function]
    given = {name: getattr(settings, name) for name in names}
    # While torch.compile runs, a factor is a tensor: see `Settings`.
    given |= {k: v.item() for k, v in given.items() if isinstance(v, Tensor)}
    check(function, no_rows | given)


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


# Dtypes that NumPy, with ml_dtypes, has too.
_DTYPES = frozenset(
    getattr(torch, name)
    for name in (
        *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
        *("bool", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64"),
    )
)


def check_tensors(batch: Batch) -> None:
    """Raise unless the batch consists of tensors that could be arrays.

    These checks come first, on every device.
    """
    device = batch.centers.device
    _check_tensor("embeddings", batch.embeddings, device)
    _check_tensor("labels", batch.labels, device)
    if batch.sample_weight is not None:
        _check_tensor("sample_weight", batch.sample_weight, device)
    if batch.centers.requires_grad:
        raise ValueError(
            "centers needs a gradient, but the loss has none by the centers, which it "
            "updates itself: call centers.requires_grad_(False), and give no centers "
            "to an optimizer"
        )
    if batch.labels.requires_grad:
        _raise_labels_need_a_gradient(batch)


def _check_tensor(name: str, value: object, device: torch.device) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} is a {type(value).__name__}, expected a tensor")
    if value.device != device:
        raise ValueError(f"{name} is on {value.device}, but centers are on {device}")
    if value.is_nested:
        raise TypeError(
            f"{name} is a nested tensor, expected a dense one: pass "
            f"{name}.to_padded_tensor(0), with a label to be ignored for the padding"
        )
    if value.layout is not torch.strided:
        raise TypeError(
            f"{name} has layout {value.layout}, expected a dense tensor: pass "
            f"{name}.to_dense()"
        )
    if value.dtype not in _DTYPES:
        dtype = str(value.dtype).removeprefix("torch.")
        hint = f": pass {name}.dequantize()" if value.is_quantized else ""
        raise TypeError(f"{name} has dtype {dtype}, expected one that NumPy has{hint}")


def _raise_labels_need_a_gradient(batch: Batch) -> None:
    if not batch.embeddings.is_floating_point():
        check_batch(batch)  # embeddings and labels look swapped
    raise TypeError(
        "labels needs a gradient, expected numbers of classes, of an integer dtype"
    )


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


def loss(batch: Batch, settings: Settings) -> Tensor:
    """Return the loss, differentiable by embeddings and weights (Eq. 2)."""
    shape = batch.labels.shape
    batch = flat(batch)
    d = differences(batch, settings.ignore_index)
    weights = row_weights(
        batch.labels, batch.sample_weight, settings.ignore_index, batch.centers.dtype
    )
    losses = 0.5 * (d * d).sum(1) * row_factors(weights, settings)
    if settings.reduction == "none":
        return losses.reshape(shape)
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
