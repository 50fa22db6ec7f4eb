"""The tensor with the centers of a rank: how it starts, and its use beyond the CPU."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._sharding import check_init, normal_rows
from . import _checks
from ._arrays import check_dtype, default_dtype, dtype_name


class DeviceShard:
    """A shard that is not in the memory of the CPU."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self.dtype = np.dtype(dtype_name(tensor.dtype))

    def read(self, labels: NDArray[np.int64], out: NDArray[Any]) -> None:
        index = torch.from_numpy(labels).to(self._tensor.device)
        out[...] = self._tensor.index_select(0, index).cpu().numpy()

    def piece(self, first: int, last: int) -> NDArray[Any]:
        rows: NDArray[Any] = self._tensor[first:last].cpu().numpy()
        return rows

    def store(self, first: int, rows: NDArray[Any]) -> None:
        self._tensor[first : first + len(rows)] = torch.from_numpy(rows)


def initial_shard(
    init: Any,
    classes: range,
    columns: int,
    device: torch.device | str | int | None,
    dtype: torch.dtype | None,
    seed: int,
) -> Tensor:
    """Return the first centers of the classes of this rank."""
    check_dtype(dtype)
    shape = (len(classes), columns)
    if callable(init):
        rows = init(classes.start, classes.stop)
        name = f"init({classes.start}, {classes.stop})"
        if not isinstance(rows, Tensor):
            raise TypeError(f"{name} is a {type(rows).__name__}, expected a tensor")
        if tuple(rows.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(rows.shape)}, expected {shape}")
        shard = rows.detach().to(device=device, dtype=dtype)
        if not shard.is_contiguous():
            raise ValueError(f"{name} is not contiguous: return rows.contiguous()")
        _checks.check_centers(shard, name)
        return shard
    check_init(init)
    shard = torch.zeros(shape, device=device, dtype=dtype or default_dtype())
    if init == "normal":
        normal_rows(
            classes.start,
            classes.stop,
            columns,
            np.dtype(dtype_name(shard.dtype)),
            seed,
            lambda first, rows: DeviceShard(shard).store(first - classes.start, rows),
        )
    return shard
