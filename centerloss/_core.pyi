# Gradients have the dtype and shape of the features, if those are an array. Every other
# result has the dtype of the centers. Whether the two dtypes go together is checked by
# the call only.
#
# The first overload of a function is for the usual call. In the second, `reduction` may
# be any str, and the loss is a float or an array.

from typing import (
    Any,
    Literal,
    SupportsFloat,
    SupportsIndex,
    TypeAlias,
    TypeVar,
    overload,
)

import numpy as np
from numpy.typing import ArrayLike, NDArray

_C = TypeVar("_C", np.float32, np.float64)  # dtype of the centers
_F = TypeVar("_F", bound=np.generic)  # dtype of the features
_Shape = TypeVar("_Shape", bound=tuple[Any, ...])
_Features: TypeAlias = np.ndarray[_Shape, np.dtype[_F]]

_Total: TypeAlias = Literal["mean", "sum"]  # the loss is a float

@overload
def loss(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[_C],
    *,
    reduction: _Total = "mean",
    loss_weight: SupportsFloat = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    out: None = None,
) -> float: ...
@overload
def loss(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[_C],
    *,
    reduction: str,
    loss_weight: SupportsFloat = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    out: NDArray[_C] | None = None,
) -> NDArray[_C] | Any: ...

# The overloads of the next functions overlap: an array is ArrayLike too.
# pyright: reportOverlappingOverload=false
@overload
def gradient(
    features: _Features[_Shape, _F],
    labels: ArrayLike,
    centers: NDArray[_C],
    *,
    reduction: str = "mean",
    loss_weight: SupportsFloat = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    out: _Features[_Shape, _F] | None = None,
) -> _Features[_Shape, _F]: ...
@overload
def gradient(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[_C],
    *,
    reduction: str = "mean",
    loss_weight: SupportsFloat = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    out: NDArray[_C] | None = None,
) -> NDArray[_C]: ...
@overload
def value_and_grad(
    features: _Features[_Shape, _F],
    labels: ArrayLike,
    centers: NDArray[_C],
    *,
    reduction: _Total = "mean",
    loss_weight: SupportsFloat = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    out: _Features[_Shape, _F] | None = None,
) -> tuple[float, _Features[_Shape, _F]]: ...
@overload
def value_and_grad(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[_C],
    *,
    reduction: str = "mean",
    loss_weight: SupportsFloat = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    out: NDArray[Any] | None = None,
) -> tuple[Any, NDArray[Any]]: ...
def terms_and_grad(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[Any],
    *,
    reduction: _Total = "mean",
    loss_weight: SupportsFloat = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    out: NDArray[Any] | None = None,
    total_weight: SupportsFloat | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def step(
    features: _Features[_Shape, _F],
    labels: ArrayLike,
    centers: NDArray[_C],
    *,
    alpha: SupportsFloat = 0.5,
    normalize: bool | np.bool_ = True,
    skip_nonfinite: bool | np.bool_ = True,
    reduction: _Total = "mean",
    loss_weight: SupportsFloat = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    out: _Features[_Shape, _F] | None = None,
) -> tuple[float, _Features[_Shape, _F]]: ...
@overload
def step(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[_C],
    *,
    alpha: SupportsFloat = 0.5,
    normalize: bool | np.bool_ = True,
    skip_nonfinite: bool | np.bool_ = True,
    reduction: str = "mean",
    loss_weight: SupportsFloat = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    out: NDArray[Any] | None = None,
) -> tuple[Any, NDArray[Any]]: ...
def step_and_count(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[_C],
    *,
    alpha: SupportsFloat = 0.5,
    normalize: bool | np.bool_ = True,
    skip_nonfinite: bool | np.bool_ = True,
    reduction: str = "mean",
    loss_weight: SupportsFloat = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    out: NDArray[Any] | None = None,
) -> tuple[Any, NDArray[Any], int]: ...
def step_of_class(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[Any],
    alpha: SupportsFloat = 0.5,
    normalize: bool | np.bool_ = True,
    skip_nonfinite: bool | np.bool_ = True,
    reduction: str = "mean",
    loss_weight: SupportsFloat = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    out: NDArray[Any] | None = None,
) -> tuple[Any, NDArray[Any]]: ...
def center_delta(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[_C],
    *,
    normalize: bool | np.bool_ = True,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    out: NDArray[_C] | None = None,
) -> NDArray[_C]: ...
def class_sums(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[_C],
    *,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
) -> tuple[NDArray[np.int64], NDArray[_C], NDArray[np.float64]]: ...
def update_centers(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[_C],
    *,
    alpha: SupportsFloat = 0.5,
    normalize: bool | np.bool_ = True,
    skip_nonfinite: bool | np.bool_ = True,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
) -> int: ...
def class_sums_at(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[_C],
    *,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    places: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[_C], NDArray[np.float64]]: ...
def update_centers_at(
    features: ArrayLike,
    labels: ArrayLike,
    centers: NDArray[Any],
    *,
    alpha: SupportsFloat = 0.5,
    normalize: bool | np.bool_ = True,
    skip_nonfinite: bool | np.bool_ = True,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    places: NDArray[np.int64],
) -> int: ...
def ordered_sum(values: NDArray[np.float64], /) -> float: ...
def ordered_sum_of_runs(sums: NDArray[np.float64], n: SupportsIndex, /) -> float: ...
def set_num_threads(n: SupportsIndex, /) -> None: ...
def get_num_threads() -> int: ...
def check(
    function: str,
    arguments: dict[str, Any],
    names: dict[str, str] | None = None,
    tensors: bool = False,
) -> dict[str, Any]: ...
def _build_info() -> dict[str, str]: ...
