"""Calls that type checkers refuse: each line with a comment is an error to them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from centerloss import (
    CenterLoss,
    center_delta,
    class_sums,
    get_num_threads,
    gradient,
    loss,
    set_num_threads,
    step,
    update_centers,
    value_and_grad,
)

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Labels = NDArray[np.int64]


def centers(x: Float32, y: Labels, integers: Labels, half: NDArray[np.float16]) -> None:
    loss(x, y, [[1.0, 2.0]])  # type: ignore[call-overload]
    loss(x, y, integers)  # type: ignore[type-var]
    gradient(x, y, half)  # type: ignore[type-var]
    step(x, y, None)  # type: ignore[call-overload]
    update_centers(x, y, [[1.0, 2.0]])  # type: ignore[arg-type]
    class_sums(x, y, integers)  # type: ignore[type-var]


def missing(x: Float32, y: Labels) -> None:
    loss(x, y)  # type: ignore[call-overload]
    update_centers(x, y)  # type: ignore[call-arg]
    CenterLoss(10)  # type: ignore[call-arg]


def options(x: Float32, y: Labels, c: Float32) -> None:
    loss(x, y, c, "sum")  # type: ignore[call-overload]
    loss(x, y, c, reduction=None)  # type: ignore[call-overload]
    loss(x, y, c, alpha=0.5)  # type: ignore[call-overload]
    loss(x, y, c, loss_weight="2")  # type: ignore[call-overload]
    value_and_grad(x, y, c, ignore_index=0.5)  # type: ignore[call-overload]
    update_centers(x, y, c, 0.5)  # type: ignore[call-arg]
    update_centers(x, y, c, alpha="0.5")  # type: ignore[arg-type]
    update_centers(x, y, c, normalize=None)  # type: ignore[arg-type]
    update_centers(x, y, c, skip_nonfinite=None)  # type: ignore[arg-type]
    center_delta(x, y, c, skip_nonfinite=True)  # type: ignore[call-arg]
    center_delta(x, y, c, reduction="sum")  # type: ignore[call-arg]
    class_sums(x, y, c, normalize=False)  # type: ignore[call-arg]


def out(x: Float32, y: Labels, c: Float32, c64: Float64) -> None:
    loss(x, y, c, out=c)  # type: ignore[call-overload]
    loss(x, y, c, reduction="none", out=c64)  # type: ignore[type-var]
    gradient(x, y, c, out=[[0.0]])  # type: ignore[call-overload]
    gradient([[1.0]], [0], c, out=c64)  # type: ignore[type-var]
    center_delta(x, y, c, out=c64)  # type: ignore[type-var]
    update_centers(x, y, c, out=c)  # type: ignore[call-arg]


def results(x: Float32, y: Labels, c: Float32) -> None:
    loss(x, y, c).sum()  # type: ignore[attr-defined]
    loss(x, y, c, reduction="none").hex()  # type: ignore[union-attr]
    value: int = step(x, y, c)[0]  # type: ignore[assignment]
    rows: Float64 = step(x, y, c)[1]  # type: ignore[assignment]
    centers: Float64 = class_sums(x, y, c)[1]  # type: ignore[assignment]
    print(value, rows, centers)


def threads() -> None:
    set_num_threads(0.5)  # type: ignore[arg-type]
    set_num_threads(n=2)  # type: ignore[call-arg]
    get_num_threads(2)  # type: ignore[call-arg]


def objects(x: Float32, y: Labels, state: Any) -> None:
    loss_fn = CenterLoss(10, 2)
    CenterLoss(10, 2, 0.5)  # type: ignore[call-arg]
    CenterLoss(10, "2")  # type: ignore[arg-type]
    CenterLoss(10, 2, reduction="average")  # type: ignore[arg-type]
    CenterLoss(10, 2, init="ones")  # type: ignore[arg-type]
    CenterLoss(10, 2, init=[[1.0, 2.0]])  # type: ignore[arg-type]
    CenterLoss(10, 2, rng="seed")  # type: ignore[arg-type]
    loss_fn.reduction = "average"  # type: ignore[assignment]
    loss_fn.num_classes = 11  # type: ignore[misc]
    loss_fn.momentum = 0.9  # type: ignore[attr-defined]
    loss_fn(x)  # type: ignore[call-arg]
    loss_fn.step(x, y, out=[[0.0]])  # type: ignore[arg-type]
    loss_fn.load_state_dict([state])  # type: ignore[arg-type]
