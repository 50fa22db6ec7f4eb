"""Checks of tensors and settings, the same for C and for PyTorch's operations."""

import torch
from torch import Tensor

from .._settings import no_rows
from ._arrays import check, dtype_name, shape_only_array, values_or_zeros
from ._batch import Batch, Settings

_OF_THE_LOSS = ("reduction", "loss_weight", "ignore_index")
_OF_THE_UPDATE = ("alpha", "normalize", "skip_nonfinite", "ignore_index")
_SETTINGS_OF = {
    "loss": _OF_THE_LOSS,
    "update_centers": _OF_THE_UPDATE,
    "step": (*_OF_THE_LOSS, *_OF_THE_UPDATE),
}


def check_call(function: str, batch: Batch, settings: Settings) -> None:
    """Raise what the function of NumPy would raise for batch and settings."""
    check_settings(function, settings)
    check_batch(batch, settings.ignore_index)


@torch.compiler.disable  # torch.compile cannot look into C
def check_settings(function: str, settings: Settings) -> None:
    """Raise what the function of NumPy would raise for its settings."""
    names = _SETTINGS_OF[function]
    given = {name: getattr(settings, name) for name in names}
    # While torch.compile runs, a factor is a tensor: see `Settings`.
    given |= {k: v.item() for k, v in given.items() if isinstance(v, Tensor)}
    check(function, no_rows() | given)


def check_centers(centers: Tensor, name: str) -> None:
    """Raise what the NumPy functions would raise for centers; values are not checked.

    `name` is what a message calls them.
    """
    batch = {
        "features": shape_only_array(centers[:0]),
        "centers": shape_only_array(centers),
    }
    check("loss", no_rows() | batch, centers=name)


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
        dtype = dtype_name(value.dtype)
        hint = f": pass {name}.dequantize()" if value.is_quantized else ""
        raise TypeError(f"{name} has dtype {dtype}, expected one that NumPy has{hint}")


def _raise_labels_need_a_gradient(batch: Batch) -> None:
    if not batch.embeddings.is_floating_point():
        check_batch(batch)  # embeddings and labels look swapped
    raise TypeError(
        "labels needs a gradient, expected numbers of classes, of an integer dtype"
    )
