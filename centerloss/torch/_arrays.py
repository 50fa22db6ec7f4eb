"""Tensors as NumPy arrays: the same memory, seen from the other side."""

import functools
import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray

P = ParamSpec("P")
T = TypeVar("T")


def told_of_tensors(function: Callable[P, T]) -> Callable[P, T]:
    """Put the errors of NumPy arrays in the words of those who gave tensors."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except (TypeError, ValueError) as error:
            message = str(error).replace("features", "embeddings")
            message = re.sub(r"\.astype\(np\.(\w+)\)", r".to(torch.\1)", message)
            raise type(error)(message.replace(".copy()", ".clone()")) from None

    return wrapper


def array(tensor: torch.Tensor) -> NDArray[Any]:
    """Return a view of a tensor on the CPU; nothing is copied."""
    if tensor.dtype is torch.bfloat16:  # which NumPy knows by another package
        view: NDArray[Any] = tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return view
    return tensor.numpy()


def stand_in(tensor: torch.Tensor) -> NDArray[Any]:
    """Return an array of a tensor's shape and dtype, wherever its values are."""
    dtype = np.dtype(str(tensor.dtype).removeprefix("torch."))  # ml_dtypes' names too
    return np.broadcast_to(np.zeros((), dtype), tensor.shape)


def values(tensor: torch.Tensor) -> NDArray[Any]:
    """Return a tensor's values if they are at hand, else zeros in their place."""
    # Inside of torch.func's transforms a tensor stands for others, and has no memory.
    at_hand = tensor.device.type == "cpu" and not transforming()
    return array(tensor.detach()) if at_hand else stand_in(tensor)


def transforming() -> bool:
    """Whether a transform of torch.func is running."""
    return torch._C._are_functorch_transforms_active()
