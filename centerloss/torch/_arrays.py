"""Tensors as NumPy arrays that share their memory, and error messages about tensors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import _core
from ._batch import Batch


def _bfloat16() -> np.dtype[Any]:
    """Return the dtype that NumPy lacks."""
    try:
        import ml_dtypes
    except ImportError as error:
        raise ImportError(
            "tensors in bfloat16 need the package ml_dtypes: pip install ml_dtypes"
        ) from error
    return np.dtype(ml_dtypes.bfloat16)


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name that NumPy has for a dtype, such as "float32"."""
    return str(dtype).removeprefix("torch.")


def array(tensor: Tensor) -> NDArray[Any]:
    """Return a view of a CPU tensor; nothing is copied."""
    if tensor.dtype is torch.bfloat16:
        view: NDArray[Any] = tensor.view(torch.int16).numpy().view(_bfloat16())
        return view
    return tensor.numpy()


def shape_only_array(tensor: Tensor) -> NDArray[Any]:
    """Return an array of a tensor's shape and dtype; all its rows are one row of zeros.

    It stands for tensors whose values are on another device.
    """
    bfloat16 = tensor.dtype is torch.bfloat16
    dtype = _bfloat16() if bfloat16 else np.dtype(dtype_name(tensor.dtype))
    return np.broadcast_to(np.zeros(tensor.shape[1:], dtype), tensor.shape)


def values_or_zeros(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor's values if this process can read them, else zeros."""
    if tensor.device.type != "cpu":
        return shape_only_array(tensor)
    try:
        return array(tensor.detach())
    except RuntimeError:  # a tensor inside a torch.func transform has no memory
        return shape_only_array(tensor)


def check(
    function: str, arguments: dict[str, Any], *, centers: str = "centers"
) -> None:
    """Raise what a NumPy function would raise, in a message about tensors.

    `centers` is what the message calls the centers.
    """
    names = {"features": "embeddings", "centers": centers}
    _core.check(function, arguments, names=names, tensors=True)


def find_error(function: str, arguments: dict[str, Any]) -> Exception | None:
    """Return the error that `check` raises, or None."""
    try:
        check(function, arguments)
    except (TypeError, ValueError, IndexError) as error:
        return error
    return None


def check_dtype(dtype: object) -> None:
    """Raise unless centers can have this dtype, or it is None."""
    if dtype not in (None, torch.float32, torch.float64):
        raise TypeError(f"dtype is {dtype!r}, expected torch.float32 or torch.float64")


def default_dtype() -> torch.dtype:
    """Return the dtype of centers: PyTorch's default, but float32 if that is narrower.

    The default may be that of a network in half precision.
    """
    dtype = torch.get_default_dtype()
    return torch.float32 if dtype.itemsize < 4 else dtype


def keep_wide(convert: Callable[[Tensor], Tensor], centers: Tensor) -> Tensor:
    """Convert or move centers; they stay in float32 or wider."""
    converted = convert(centers)
    return centers.to(converted.device) if converted.dtype.itemsize < 4 else converted


def numpy_compatible(batch: Batch) -> Batch:
    """Return the batch with weights in a dtype that NumPy has without ml_dtypes."""
    weights = batch.sample_weight
    if weights is not None and weights.dtype is torch.bfloat16:
        return batch._replace(sample_weight=weights.float())
    return batch
