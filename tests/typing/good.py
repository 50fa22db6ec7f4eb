"""Calls that type checkers accept, and the types that they see in the results."""

from typing import Any, Literal, TypeAlias, assert_type

import numpy as np
from numpy.typing import NDArray

import centerloss
from centerloss import (
    CenterLoss,
    center_delta,
    class_sums,
    gradient,
    loss,
    reference,
    step,
    update_centers,
    value_and_grad,
)

Float16: TypeAlias = NDArray[np.float16]
Float32: TypeAlias = NDArray[np.float32]
Float64: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = NDArray[np.int64]
Matrix: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.float32]]
Lists: TypeAlias = list[list[float]]


def losses(x: Float32, x16: Float16, y: Labels, c: Float32, c64: Float64) -> None:
    assert_type(loss(x, y, c), float)
    assert_type(loss(x16, y, c, reduction="mean", out=None), float)
    assert_type(loss([[1.0, 2.0]], [0], c64, reduction="sum"), float)
    assert_type(loss(x, y, c, reduction="none"), Float32 | Any)
    assert_type(loss(x16, y, c, reduction="none"), Float32 | Any)
    assert_type(loss([[1, 2]], (0,), c64, reduction="none"), Float64 | Any)
    assert_type(loss(x, y, c, reduction="none", out=c[:, 0]), Float32 | Any)


def losses_by_name(x: Float32, y: Labels, c: Float32, name: str) -> None:
    value = loss(x, y, c, reduction=name)
    print(value.sum() if isinstance(value, np.ndarray) else abs(value))
    assert_type(value_and_grad(x, y, c, reduction=name), tuple[Any, NDArray[Any]])


def losses_by_choice(
    x: Float32, y: Labels, c: Float32, name: Literal["sum", "none"]
) -> None:
    value = loss(x, y, c, reduction=name)
    print(value.sum() if isinstance(value, np.ndarray) else abs(value))
    step(x, y, c, reduction=name)[1].sum()


def gradients(x: Float32, x16: Float16, y: Labels, c: Float32) -> None:
    assert_type(gradient(x, y, c), Float32)
    assert_type(gradient(x16, y, c, reduction="none"), Float16)
    assert_type(gradient(x16, y, c, out=x16), Float16)
    assert_type(value_and_grad(x16, y, c), tuple[float, Float16])
    assert_type(value_and_grad(x16, y, c, reduction="sum"), tuple[float, Float16])
    assert_type(step(x16, y, c, out=x16), tuple[float, Float16])


def one_loss_per_row(x: Float32, y: Labels, c: Float32) -> None:
    value, rows = value_and_grad(x, y, c, reduction="none")
    value += step(x, y, c, reduction="none", out=x)[0]
    print(value.sum(), rows.sum())


def gradients_of_lists(x: Lists, y: list[int], c: Float32, c64: Float64) -> None:
    assert_type(gradient(x, y, c), Float32)
    assert_type(gradient(x, y, c64, reduction="sum", out=c64), Float64)
    total = 0.0
    total += value_and_grad(x, y, c64)[0]
    total += step(x, y, c64)[0]
    rows: Float64 = step(x, y, c64)[1]
    print(rows)


def tokens(x: Float32, y: list[list[bool]], c: Float32) -> None:
    assert_type(loss(x, y, c, sample_weight=[[0.5, 1.0]]), float)
    assert_type(update_centers(x, y, c, skip_nonfinite=False), int)


def shapes(x: Matrix, y: Labels, c: Float32) -> None:
    assert_type(gradient(x, y, c), Matrix)
    assert_type(gradient(x, y, c, out=x), Matrix)
    assert_type(step(x, y, c, alpha=1)[1], Matrix)


def centers(x: Float32, x16: Float16, y: Labels, c: Float32, c64: Float64) -> None:
    assert_type(center_delta(x16, y, c), Float32)
    assert_type(center_delta([[1.0]], [0], c64, normalize=False, out=c64), Float64)
    assert_type(class_sums(x16, y, c), tuple[Labels, Float32, Float64])
    assert_type(class_sums([[1.0]], [0], c64), tuple[Labels, Float64, Float64])
    assert_type(update_centers(x, y, c, alpha=0.1, sample_weight=[1, 2]), int)


def numbers_of_numpy(x: Float32, y: Labels, c: Float32) -> None:
    update_centers(x, y, c, alpha=np.float32(0.5), normalize=np.True_)
    step(x, y, c, skip_nonfinite=np.False_)
    loss(x, y, c, loss_weight=np.float64(2), ignore_index=np.int64(-1))


def unknown_types(x: NDArray[Any], anything: Any, y: Labels, c: Float32) -> None:
    assert_type(loss(x, y, c), float)
    assert_type(loss(anything, y, c, reduction="none"), Float32 | Any)
    assert_type(class_sums(x, y, anything)[0], Labels)
    gradient(x, y, anything).sum()
    gradient(anything, y, c, out=anything).sum()


def bfloat16(x: NDArray[np.generic], y: Labels, c: Float32) -> None:
    gradient(x, y, c, out=x).astype(np.float32)
    step(x, y, c)[1].astype(np.float32)


def the_rest() -> None:
    assert_type(centerloss.get_num_threads(), int)
    centerloss.set_num_threads(np.int64(2))
    centerloss.show_versions()
    assert_type(centerloss.get_include(), str)
    assert_type(centerloss.__version__, str)


def objects(x: Float32, y: Labels, c: Float64) -> None:
    loss_fn = CenterLoss(10, 2, alpha=0.1, ignore_index=-1, dtype=np.float64, rng=0)
    CenterLoss(10, 2, init="zeros", reduction="none", rng=np.random.default_rng())
    CenterLoss(10, 2, skip_nonfinite=False).skip_nonfinite = True
    CenterLoss(*c.shape, init=c)
    total = 0.0
    total += loss_fn(x, y)
    value, rows = loss_fn.step(x, y, [1.0, 2.0], out=x)
    total += value
    assert_type(rows, NDArray[Any])
    assert_type(loss_fn.value_and_grad(x, y)[1], NDArray[Any])
    assert_type(loss_fn.update(x, y), int)
    assert_type(loss_fn.init_centers(x, y), int)
    assert_type(loss_fn.num_classes + loss_fn.feat_dim, int)
    assert_type(loss_fn.centers, NDArray[Any])
    loss_fn.load_state_dict(loss_fn.state_dict())
    loss_fn.save("centers.npz")
    assert_type(CenterLoss.load("centers.npz"), CenterLoss)


def twins(x: Float32, y: Labels, c: Float32) -> None:
    assert_type(reference.loss(x, y, c), float | NDArray[Any])
    assert_type(reference.gradient(x, y, c), NDArray[Any])
    assert_type(reference.step(x, y, c), tuple[float | NDArray[Any], NDArray[Any]])
    assert_type(reference.update_centers(x, y, c), int)
