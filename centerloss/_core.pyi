from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Reduction: TypeAlias = Literal["none", "sum", "mean"]
# A float, but with reduction="none" an array; a checker cannot tell which in general.
_Loss: TypeAlias = float | Any
_Array: TypeAlias = NDArray[Any]
_Centers = TypeVar("_Centers", NDArray[np.float32], NDArray[np.float64])

def loss(
    features: ArrayLike,
    labels: ArrayLike,
    centers: _Array,
    *,
    reduction: _Reduction = "mean",
    loss_weight: float = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    out: _Array | None = None,
) -> _Loss: ...
def gradient(
    features: ArrayLike,
    labels: ArrayLike,
    centers: _Array,
    *,
    reduction: _Reduction = "mean",
    loss_weight: float = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    out: _Array | None = None,
) -> _Array: ...
def value_and_grad(
    features: ArrayLike,
    labels: ArrayLike,
    centers: _Array,
    *,
    reduction: _Reduction = "mean",
    loss_weight: float = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    out: _Array | None = None,
) -> tuple[_Loss, _Array]: ...
def center_delta(
    features: ArrayLike,
    labels: ArrayLike,
    centers: _Centers,
    *,
    normalize: bool = True,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    out: _Centers | None = None,
) -> _Centers: ...
def class_sums(
    features: ArrayLike,
    labels: ArrayLike,
    centers: _Centers,
    *,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
) -> tuple[NDArray[np.int64], _Centers, NDArray[np.float64]]: ...
def update_centers(
    features: ArrayLike,
    labels: ArrayLike,
    centers: _Array,
    *,
    alpha: float = 0.5,
    normalize: bool = True,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
) -> int: ...
def step(
    features: ArrayLike,
    labels: ArrayLike,
    centers: _Array,
    *,
    alpha: float = 0.5,
    normalize: bool = True,
    reduction: _Reduction = "mean",
    loss_weight: float = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    out: _Array | None = None,
) -> tuple[_Loss, _Array]: ...
def set_num_threads(n: int, /) -> None: ...
def get_num_threads() -> int: ...
def _build_info() -> dict[str, str]: ...
