"""Every way to call a function wrongly, with the error that it has to give.

`FAULTS` is in the order in which the errors are found. A fault spoils a good call in
the arguments it names; `faulty_calls` pairs every function with the faults it can have.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from operator import methodcaller

import ml_dtypes
import numpy as np

from tests.helpers.batches import CALLS, HAS_REDUCTION, MOVES_CENTERS, OUT_HOLDS

# Rows, values per row and classes of a good call: all different.
B, D, K = 4, 6, 5
SHAPES = {
    "features": (B, D),
    "labels": (B,),
    "centers": (K, D),
    "sample_weight": (B,),
}
OUT_SHAPES = {"loss": (B,), "gradient": (B, D), "delta": (K, D)}


def good_call(name):
    """Arguments of a call of function `name` with nothing wrong, every one given."""
    rng = np.random.default_rng(0)
    call = {
        "features": rng.standard_normal((B, D)).astype(np.float32),
        "labels": np.array([4, 0, 2, 0]),
        "centers": rng.standard_normal((K, D)).astype(np.float32),
        "sample_weight": np.array([1.0, 2.0, 0.5, 0.25]),
        "ignore_index": 2,
    }
    if name in HAS_REDUCTION:
        call |= {"reduction": "none", "loss_weight": 2.0}
    if name in MOVES_CENTERS:
        call |= {"alpha": 0.5}
    if name in (*MOVES_CENTERS, "center_delta"):
        call |= {"normalize": True}
    if name in OUT_HOLDS:
        call |= {"out": np.ones(OUT_SHAPES[OUT_HOLDS[name]], np.float32)}
    return call


def run(cl, name, call):
    return getattr(cl, name)(**call)


@dataclass(frozen=True)
class Fault:
    """`spoil` changes the arguments called `spoils`, and so earns `error(message)`."""

    kind: str
    spoils: tuple[str, ...]
    error: type[Exception]
    message: str
    spoil: Callable[[dict], None]
    functions: tuple[str, ...] = CALLS

    def __str__(self):
        return self.kind

    def applies_to(self, name):
        return name in self.functions and set(self.spoils) <= good_call(name).keys()


def replaced(argument, value, error, message, kind="", **more):
    """The fault of giving this value."""

    def spoil(call):
        call[argument] = value

    return Fault(f"{argument} {kind}", (argument,), error, message, spoil, **more)


def changed(argument, change, error, message, kind, **more):
    """The fault of giving what `change` makes of the good value."""

    def spoil(call):
        call[argument] = change(call[argument])

    return Fault(f"{argument} {kind}", (argument,), error, message, spoil, **more)


def swapped(dtype):
    return np.dtype(dtype).newbyteorder()


def misaligned(array):
    memory = bytearray(array.nbytes + 1)
    copy = np.frombuffer(memory, array.dtype, array.size, offset=1)
    copy = copy.reshape(array.shape)
    copy[...] = array
    return copy


def with_strided_rows(array):
    return np.repeat(array, 2, axis=1)[:, ::2]


def on_one_row(array):
    """All rows in the memory of one."""
    strides = (0, *array.strides[1:])
    return np.lib.stride_tricks.as_strided(array.copy(), strides=strides)


def one_element_apart(array):
    """Rows that begin one element after each other."""
    memory = np.ones(array.size, array.dtype)
    strides = (array.itemsize, *array.strides[1:])
    return np.lib.stride_tricks.as_strided(memory, array.shape, strides)


def backwards(array):
    """The same from the last row to the first."""
    return one_element_apart(array)[::-1]


def read_only(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def _dtypes():
    for value in ([[0.0] * D] * K, None, np.float32(1), memoryview(b"")):
        name = type(value).__name__
        message = f"centers is a {name}, expected a NumPy array of float32 or float64"
        yield replaced("centers", value, TypeError, message, "type")
    centers = "centers has dtype {}, expected float32 or float64: make it with "
    centers += "centers.astype(np.float32)"
    for dtype in ("f2", ml_dtypes.bfloat16, "i4", "?", "c8", "O", swapped("i4")):
        dtype = np.dtype(dtype)
        array = np.zeros((K, D), dtype)
        yield replaced("centers", array, TypeError, centers.format(dtype), "dtype")
    for native in ("float32", "float64"):
        array = np.zeros((K, D), swapped(native))
        message = (
            f"centers has dtype {array.dtype}, expected native byte order: "
            f"make it with centers.astype(np.{native})"
        )
        yield replaced("centers", array, TypeError, message, "byte order")
    for dtype in ("f8", swapped("f8"), "i4", "?", "c8", "O", "U1"):
        array = np.zeros((B, D), dtype)
        message = (
            f"features has dtype {array.dtype}, but centers has float32"
            f"{': pass features.astype(np.float32)' * (array.dtype.kind in 'fib')}"
        )
        yield replaced("features", array, TypeError, message, "dtype")
    for labels in (
        *(np.zeros(B, dtype) for dtype in ("f4", "?", "O", "c16", "U1", "m8[s]")),
        *(np.zeros(0), [0.0, 1.0, 0.0, 1.0], [True] * B, [2**70] * B),
    ):
        dtype = np.asarray(labels).dtype
        message = (
            f"labels has dtype {dtype}, expected an integer dtype"
            f"{': pass labels.astype(np.int64)' * (dtype.kind in 'fb')}"
        )
        yield replaced("labels", labels, TypeError, message, "dtype")


def _not_numbers(name):
    for value in (
        *("0.5", b"1", bytearray(b"1"), None, 1j, np.complex64(1), [0.5], object),
        *(np.array(1j), np.array([0.5, 1.0])),
    ):
        message = f"{name} is {value!r}, expected a number"
        yield replaced(name, value, TypeError, message, "type")


def _bad_rates(name):
    infinity = float("inf")
    for value in (
        *(-1, -0.5, float("nan"), infinity, -infinity, np.float32(-1)),
        *(Fraction(-1, 2), Decimal("-1"), 10**400),
    ):
        message = f"{name} is {value!r}, expected a finite number >= 0"
        yield replaced(name, value, ValueError, message, "value")


def _options():
    yield from _not_numbers("alpha")
    for value in (1, 0.0, None, "yes", np.int64(1)):
        message = f"normalize is {value!r}, expected True or False"
        yield replaced("normalize", value, TypeError, message)
    for value in (None, 1, b"mean", ["mean"]):
        message = f"reduction is {value!r}, expected 'none', 'sum' or 'mean'"
        yield replaced("reduction", value, TypeError, message, "type")
    yield from _not_numbers("loss_weight")
    for value in (
        *(np.ones(B, dtype) for dtype in ("c8", "O", "U1", "m8[s]")),
        *([None] * B, [10**400] * B, "abcd"),
    ):
        dtype = np.asarray(value).dtype
        message = f"sample_weight has dtype {dtype}, expected a real number dtype"
        yield replaced("sample_weight", value, TypeError, message, "dtype")
    for value in (1.0, "1", np.float32(1), [1]):
        message = f"ignore_index is {value!r}, expected an integer or None"
        yield replaced("ignore_index", value, TypeError, message, "type")


def _types_of_out():
    for value in ([0.0] * B, np.float32(1), object(), False):
        message = f"out is a {type(value).__name__}, expected a NumPy array"
        yield replaced("out", value, TypeError, message, "type")
    for dtype in ("f8", "f2", ml_dtypes.bfloat16, "i4", swapped("f4"), "O"):
        message = f"out has dtype {np.dtype(dtype)}, expected float32"
        change = methodcaller("astype", dtype)
        yield changed("out", change, TypeError, message, "dtype")


def _values():
    for value in ("median", "", "Mean", "mean "):
        message = f"reduction is {value!r}, expected 'none', 'sum' or 'mean'"
        yield replaced("reduction", value, ValueError, message, "value")
    yield from _bad_rates("alpha")
    yield from _bad_rates("loss_weight")
    for value in (2**64, -(2**63) - 1, 10**400):
        message = f"ignore_index is {value!r}, expected an integer of 64 bits"
        yield replaced("ignore_index", value, ValueError, message, "value")


def _shapes():
    for shape in ((), (D,), (1, K, D), (K, 2, D // 2)):
        message = f"centers has shape {shape}, expected (classes, features)"
        array = np.ones(shape, np.float32)
        yield replaced("centers", array, ValueError, message, "axes")
    for value in (np.array(1, np.float32), np.float32(1), 1.0):
        message = "features has shape (), expected (rows, ...)"
        yield replaced("features", value, ValueError, message, "axes")
    for shape in ((B, D - 1), (B, D + 1), (B,), (B, D, 0), (B, 5, 5), (0, 1), (0,)):
        row = int(np.prod(shape[1:]))
        message = (
            f"features has {row} values per row, but centers has {D}: "
            f"shapes {shape} and {(K, D)}"
        )
        array = np.ones(shape, np.float32)
        yield replaced("features", array, ValueError, message, "row")
    for name, one, good in (
        ("labels", "label", np.zeros(12, np.int64)),
        ("sample_weight", "weight", np.ones(12)),
    ):
        for shape in ((), (0,), (B - 1,), (B + 1,), (B, 1), (1, B)):
            message = (
                f"{name} has shape {shape}, expected {(B,)}: "
                f"one {one} per row of features"
            )
            array = good[: int(np.prod(shape))].reshape(shape)
            yield replaced(name, array, ValueError, message, "shape")


def _shapes_of_out():
    for value in ("sum", "mean"):
        message = (
            f"out needs reduction='none': the loss is a float with reduction={value!r}"
        )
        kind = "with out"
        yield replaced(
            "reduction", value, ValueError, message, kind, functions=("loss",)
        )
    for name, holds in OUT_HOLDS.items():
        good = OUT_SHAPES[holds]
        for shape in {(), good[:-1], (*good, 1), (B * D,), (D, B), (B, D - 1), (3, D)}:
            message = f"out has shape {shape}, expected {good}"
            array = np.ones(shape, np.float32)
            yield replaced(
                "out", array, ValueError, message, "shape", functions=(name,)
            )


def _memory():
    strided = "{} has strided rows: each row must be contiguous in memory"
    changes = (
        ("read-only", read_only, "{} is read-only"),
        ("aligned", misaligned, "{} is not aligned"),
        ("strided", with_strided_rows, strided),
        ("strided", np.asfortranarray, strided),
        ("on itself", on_one_row, "{} overlaps itself"),
        ("on itself", one_element_apart, "{} overlaps itself"),
        ("on itself", backwards, "{} overlaps itself"),
    )
    with_rows = tuple(name for name in OUT_HOLDS if name != "loss")
    for kind, change, message in changes:
        read_too = kind in ("aligned", "strided")
        yield changed(
            *("centers", change, ValueError, message.format("centers"), kind),
            functions=CALLS if read_too else MOVES_CENTERS,
        )
    for kind, change, message in changes:
        in_rows = kind == "strided" or change in (one_element_apart, backwards)
        yield changed(
            *("out", change, ValueError, message.format("out"), kind),
            functions=with_rows if in_rows else tuple(OUT_HOLDS),
        )


def _overlap(written, other, functions):
    """Both arguments in the same memory; the first element of it is in both."""

    def spoil(call):
        memory = np.zeros(K * D, np.float32)
        for name in (written, other):
            view = memory.view(np.int32) if name == "labels" else memory
            shape = SHAPES.get(name) or call["out"].shape
            call[name] = view[: int(np.prod(shape))].reshape(shape)

    message = f"{written} overlaps {other} in memory"
    return Fault(message, (written, other), ValueError, message, spoil, functions)


def _overlaps():
    for other in ("features", "labels", "sample_weight"):
        yield _overlap("centers", other, MOVES_CENTERS)
    for other in ("features", "labels", "centers", "sample_weight"):
        yield _overlap("out", other, tuple(OUT_HOLDS))


def _contents():
    infinity, nan = float("inf"), float("nan")
    for weights, first in (
        ([-1.0, 1.0, -2.0, 1.0], 0),
        ([1.0, 1.0, 1.0, nan], 3),
        ([1.0, infinity, nan, -1.0], 1),
        ([0.0, 1.0, -infinity, 1.0], 2),
        (np.array([0.0, -0.1, 0.0, -1.0], np.float32), 1),
        (np.array([0, 1, 2, -3], np.int8), 3),
    ):
        message = (
            f"sample_weight[{first}] is {float(weights[first])!r}, "
            "expected a finite number >= 0"
        )
        yield replaced("sample_weight", weights, ValueError, message, "value")
    for labels, first in (
        ([K, 0, -1, 0], 0),
        ([0, 0, 0, K], 3),
        ([0, -1, 0, K], 1),
        ([2, 0, -100, 0], 2),
        (np.array([0, 0, 255, 0], np.uint8), 2),
        (np.array([0, 0, -128, 0], np.int8), 2),
        (np.array([0, 2**64 - 1, 0, 0], np.uint64), 1),
        (np.array([0, 0, 2**63, 0], np.uint64), 2),
        (np.array([0, 0, -(2**63), 0], np.int64), 2),
        (np.array([0, 0, 0, 2**32], np.int64), 3),
        (np.array([0, 0, 2**31, 0], np.uint32), 2),
        (np.array([0, 0, 260, 0], swapped(np.int16)), 2),
    ):
        message = f"labels[{first}] is {int(labels[first])}, but there are {K} classes"
        yield replaced("labels", labels, IndexError, message, "value")


FAULTS = [
    *_dtypes(),
    *_options(),
    *_types_of_out(),
    *_values(),
    *_shapes(),
    *_shapes_of_out(),
    *_memory(),
    *_overlaps(),
    *_contents(),
]


def faulty_calls(name):
    """Each fault that function `name` can have, with its arguments."""
    for fault in FAULTS:
        if fault.applies_to(name):
            call = good_call(name)
            fault.spoil(call)
            yield fault, call
