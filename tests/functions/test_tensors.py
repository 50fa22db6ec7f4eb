"""Tensors of PyTorch given to the NumPy functions, where PyTorch is imported.

A class of the same name stands for them: PyTorch is not needed.
"""

import sys
from types import ModuleType

import numpy as np
import pytest

from centerloss import CenterLoss
from tests.helpers.batches import CALLS, OUT_HOLDS, batch, bits

every_call = pytest.mark.parametrize("name", CALLS)

NEEDS_GRADIENT = RuntimeError("Can't call numpy() on Tensor that requires grad.")
ON_A_GPU = TypeError("can't convert cuda:0 device type tensor to numpy.")


class Tensor:
    """An array, or the error that NumPy gets instead."""

    def __init__(self, content):
        self.content = content
        self.dtype = "torch.float32"

    def __array__(self, dtype=None, copy=None):
        if isinstance(self.content, Exception):
            raise self.content
        return self.content


class Parameter(Tensor):
    """A subclass."""


@pytest.fixture(autouse=True)
def torch(monkeypatch):
    module = ModuleType("torch")
    module.Tensor = Tensor
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


@every_call
@pytest.mark.parametrize("error", [NEEDS_GRADIENT, ON_A_GPU], ids=["grad", "gpu"])
@pytest.mark.parametrize("kind", [Tensor, Parameter])
def test_tensors_that_numpy_cannot_read(cl, name, error, kind):
    x, y, c = batch((4, 3), 2)
    arguments = {"features": x, "labels": y, "sample_weight": np.ones(4), "centers": c}
    for argument in ("features", "labels", "sample_weight"):
        message = (
            f"^{argument} is a tensor that NumPy cannot read: "
            "centerloss.torch.CenterLoss takes tensors$"
        )
        with pytest.raises(TypeError, match=message) as raised:
            getattr(cl, name)(**{**arguments, argument: kind(error)})
        assert raised.value.__cause__ is error


@every_call
def test_tensors_that_cannot_be_written_in_place(cl, name):
    x, y, c = batch((4, 3), 2)
    message = (
        "^centers is a tensor, expected a NumPy array of float32 or float64: "
        "centerloss.torch.CenterLoss takes tensors$"
    )
    with pytest.raises(TypeError, match=message):
        getattr(cl, name)(x, y, Tensor(c))
    if name in OUT_HOLDS:
        message = (
            "^out is a tensor, expected a NumPy array: "
            "centerloss.torch.CenterLoss takes tensors$"
        )
        with pytest.raises(TypeError, match=message):
            getattr(cl, name)(x, y, c, out=Tensor(x))


@every_call
def test_tensors_that_numpy_can_read(cl, name):
    x, y, c = batch((4, 3), 2)
    function, moved = getattr(cl, name), c.copy()
    expected = function(x, y, moved, sample_weight=np.ones(4))
    result = function(Tensor(x), Tensor(y), c, sample_weight=Tensor(np.ones(4)))
    assert bits(result) == bits(expected)
    assert bits(c) == bits(moved)


def test_the_class():
    x, y, c = batch((4, 3), 2)
    loss_fn = CenterLoss(2, 3, init=c)
    with pytest.raises(TypeError, match=r"centerloss\.torch\.CenterLoss takes tensors"):
        loss_fn.step(Tensor(NEEDS_GRADIENT), y)
    loss_fn.centers = Tensor(c)
    with pytest.raises(TypeError, match=r"centerloss\.torch\.CenterLoss takes tensors"):
        loss_fn(x, y)


def test_other_objects_while_torch_is_imported(cl, torch):
    x, y, c = batch((4, 3), 2)

    class Other:
        dtype = None

        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("no array")

    for module in (torch, ModuleType("torch"), None):
        sys.modules["torch"] = module
        with pytest.raises(TypeError, match="^features cannot be an array: no array$"):
            cl.loss(Other(), y, c)
        with pytest.raises(TypeError, match="^centers is a list, expected a NumPy "):
            cl.loss(x, y, [[1.0]])


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (RuntimeError("no"), TypeError),
        (LookupError("no"), TypeError),
        (OverflowError("no"), ValueError),
        (UnicodeError("no"), ValueError),
        (MemoryError("no"), MemoryError),
        (RecursionError("no"), RecursionError),
        (KeyboardInterrupt("no"), KeyboardInterrupt),
    ],
    ids=repr,
)
def test_errors_of_a_conversion(cl, error, becomes):
    class Other:
        dtype = None

        def __array__(self, dtype=None, copy=None):
            raise error

    x, y, c = batch((4, 3), 2)
    for argument in ("features", "labels", "sample_weight"):
        arguments = {"features": x, "labels": y, "centers": c, argument: Other()}
        with pytest.raises(becomes) as raised:
            cl.loss(**arguments)
        if becomes is type(error):
            assert raised.value is error
        else:
            assert str(raised.value) == f"{argument} cannot be an array: no"
            assert raised.value.__cause__ is error
