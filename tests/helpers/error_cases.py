"""Wrong calls of the functions, each with the error that it must raise.

A fault breaks arguments of a good call; `faulty_calls` gives the faults that a function
can have. `faults` lists them in the order in which the functions find errors.
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
        call |= {"alpha": 0.5, "skip_nonfinite": True}
    if name in (*MOVES_CENTERS, "center_delta"):
        call |= {"normalize": True}
    if name in OUT_HOLDS:
        call |= {"out": np.ones(OUT_SHAPES[OUT_HOLDS[name]], np.float32)}
    return call


def run(cl, name, call):
    return getattr(cl, name)(**call)


@dataclass(frozen=True)
class Words:
    """Words of messages: names of the arguments, hints for arrays or tensors."""

    names: dict[str, str]
    tensors: bool

    def __getitem__(self, argument):
        return self.names.get(argument, argument)

    def cast(self, argument, dtype):
        method = f"to(torch.{dtype})" if self.tensors else f"astype(np.{dtype})"
        return f"{self[argument]}.{method}"

    def argmax(self, argument, axis):
        keyword = "" if self.tensors else "axis="
        return f"{self[argument]}.argmax({keyword}{axis})"

    def channels_last(self, argument):
        if self.tensors:
            return f"{self[argument]}.movedim(1, -1)"
        return f"np.moveaxis({self[argument]}, 1, -1)"

    def copy(self, argument):
        return f"{self[argument]}.{'clone' if self.tensors else 'copy'}()"


@dataclass(frozen=True)
class Fault:
    """`break_(call)` changes `arguments`; the call must then raise `error(message)`."""

    kind: str
    arguments: tuple[str, ...]
    error: type[Exception]
    message: str
    break_: Callable[[dict], None]
    functions: tuple[str, ...] = CALLS

    def __str__(self):
        return self.kind

    def applies_to(self, name):
        return name in self.functions and set(self.arguments) <= good_call(name).keys()


def replaced(argument, value, error, message, kind="", **more):
    """The fault of an argument with this value."""

    def break_(call):
        call[argument] = value

    return Fault(f"{argument} {kind}", (argument,), error, message, break_, **more)


def changed(argument, change, error, message, kind, **more):
    """The fault of an argument that `change` made from the good value."""

    def break_(call):
        call[argument] = change(call[argument])

    return Fault(f"{argument} {kind}", (argument,), error, message, break_, **more)


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
    """All rows share the memory of one."""
    strides = (0, *array.strides[1:])
    return np.lib.stride_tricks.as_strided(array.copy(), strides=strides)


def one_element_apart(array):
    """Each row begins one element after the row before it."""
    memory = np.ones(array.size, array.dtype)
    strides = (array.itemsize, *array.strides[1:])
    return np.lib.stride_tricks.as_strided(memory, array.shape, strides)


def backwards(array):
    """Each row begins one element before the row before it."""
    return one_element_apart(array)[::-1]


def read_only(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def _dtypes(words):
    for value in ([[0.0] * D] * K, None, np.float32(1), memoryview(b"")):
        name = type(value).__name__
        message = (
            f"{words['centers']} is a {name}, "
            "expected a NumPy array of float32 or float64"
        )
        yield replaced("centers", value, TypeError, message, "type")
    for dtype in ("f2", ml_dtypes.bfloat16, "i4", "?", "c8", "O", swapped("i4")):
        dtype = np.dtype(dtype)
        array = np.zeros((K, D), dtype)
        message = (
            f"{words['centers']} has dtype {dtype}, expected float32 or float64: "
            f"make it with {words.cast('centers', 'float32')}"
        )
        yield replaced("centers", array, TypeError, message, "dtype")
    for native in ("float32", "float64"):
        array = np.zeros((K, D), swapped(native))
        message = (
            f"{words['centers']} has dtype {array.dtype}, expected native byte order: "
            f"make it with {words.cast('centers', native)}"
        )
        yield replaced("centers", array, TypeError, message, "byte order")
    for dtype in ("f8", swapped("f8"), "i4", "?", "c8", "O", "U1"):
        array = np.zeros((B, D), dtype)
        message = (
            f"{words['features']} has dtype {array.dtype}, "
            f"but {words['centers']} has float32"
        )
        if array.dtype.kind in "fib":
            message += f": pass {words.cast('features', 'float32')}"
        yield replaced("features", array, TypeError, message, "dtype")
    yield from _swapped(words)
    cast = f": pass {words.cast('labels', 'int64')}"
    number = (
        ": number all labels y of the data with np.unique(y, return_inverse=True)[1]"
    )
    for hint, values in (
        (cast, [np.zeros(B, dtype) for dtype in ("f4", "f2", swapped("f8"))]),
        (cast, [np.zeros(B, ml_dtypes.bfloat16), np.zeros(0)]),
        (cast, [[0.0, 1.0, 0.0, 1.0], np.array([-1.0, 2**53, -(2.0**62), 0])]),
        ("", [np.zeros(B, dtype) for dtype in ("c16", "m8[s]", "M8[s]", "V3")]),
        ("", [np.array([0, 1, 0.5, 1], dtype) for dtype in ("f4", "f2")]),
        ("", [[0.0, 1.0, 1e-300, 1.0], np.array([0, 0, 0, 2.0**63])]),
        ("", [np.array([0, 1, bad, 1]) for bad in (np.nan, np.inf, 1e300)]),
        (number, [np.zeros(B, dtype) for dtype in ("O", "U1", "S2")]),
        (number, [["cat", "dog", "cat", "cat"], [None] * B, [2**70] * B]),
    ):
        for labels in values:
            dtype = np.asarray(labels).dtype
            message = f"{words['labels']} has dtype {dtype}, expected an integer dtype"
            yield replaced("labels", labels, TypeError, message + hint, "dtype")
    for dtype in ("f4", "f2", "f8", ml_dtypes.bfloat16):
        message = (
            f"{words['labels']} has shape {(B, K)} and dtype {np.dtype(dtype)}, "
            f"expected integers of shape {(B,)}: pass {words.argmax('labels', 1)}"
        )
        labels = np.eye(K)[[4, 0, 2, 0]].astype(dtype)
        yield replaced("labels", labels, TypeError, message, "dtype")


def _swapped(words):
    """The call of many copies of center loss: labels first, then features."""

    def break_(call):
        call["features"], call["labels"] = call["labels"], call["features"]

    message = (
        f"{words['features']} has dtype int64 and shape {(B,)}, "
        f"{words['labels']} has dtype float32 and shape {(B, D)}: they look swapped"
    )
    both = ("features", "labels")
    yield Fault("features dtype", both, TypeError, message, break_)


def _not_numbers(words, name):
    for value in (
        *("0.5", b"1", bytearray(b"1"), None, 1j, np.complex64(1), [0.5], object),
        *(np.array(1j), np.array([0.5, 1.0])),
    ):
        message = f"{words[name]} is {value!r}, expected a number"
        yield replaced(name, value, TypeError, message, "type")


def _bad_rates(words, name):
    infinity = float("inf")
    for value in (
        *(-1, -0.5, float("nan"), infinity, -infinity, np.float32(-1)),
        *(Fraction(-1, 2), Decimal("-1"), 10**400),
    ):
        message = f"{words[name]} is {value!r}, expected a finite number >= 0"
        yield replaced(name, value, ValueError, message, "value")


def _options(words):
    yield from _not_numbers(words, "alpha")
    for name in ("normalize", "skip_nonfinite"):
        for value in (1, 0.0, None, "yes", np.int64(1)):
            message = f"{words[name]} is {value!r}, expected True or False"
            yield replaced(name, value, TypeError, message)
    for value in (None, 1, b"mean", ["mean"]):
        message = f"{words['reduction']} is {value!r}, expected 'none', 'sum' or 'mean'"
        yield replaced("reduction", value, TypeError, message, "type")
    yield from _not_numbers(words, "loss_weight")
    for value in (
        *(np.ones(B, dtype) for dtype in ("c8", "O", "U1", "m8[s]")),
        *([None] * B, [10**400] * B, "abcd"),
    ):
        dtype = np.asarray(value).dtype
        message = (
            f"{words['sample_weight']} has dtype {dtype}, expected a real number dtype"
        )
        yield replaced("sample_weight", value, TypeError, message, "dtype")
    for value in (1.0, "1", np.float32(1), [1]):
        message = f"{words['ignore_index']} is {value!r}, expected an integer or None"
        yield replaced("ignore_index", value, TypeError, message, "type")


def _types_of_out(words):
    for value in ([0.0] * B, np.float32(1), object(), False):
        message = f"{words['out']} is a {type(value).__name__}, expected a NumPy array"
        yield replaced("out", value, TypeError, message, "type")
    for dtype in ("f8", "f2", ml_dtypes.bfloat16, "i4", swapped("f4"), "O"):
        message = f"{words['out']} has dtype {np.dtype(dtype)}, expected float32"
        change = methodcaller("astype", dtype)
        yield changed("out", change, TypeError, message, "dtype")


def _values(words):
    for value in ("median", "", "Mean", "mean "):
        message = f"{words['reduction']} is {value!r}, expected 'none', 'sum' or 'mean'"
        yield replaced("reduction", value, ValueError, message, "value")
    yield from _bad_rates(words, "alpha")
    yield from _bad_rates(words, "loss_weight")
    for value in (2**64, -(2**63) - 1, 10**400):
        message = (
            f"{words['ignore_index']} is {value!r}, expected an integer of 64 bits"
        )
        yield replaced("ignore_index", value, ValueError, message, "value")


def _shapes(words):
    for shape in ((), (D,), (1, K, D), (K, 2, D // 2)):
        message = f"{words['centers']} has shape {shape}, expected (classes, features)"
        array = np.ones(shape, np.float32)
        yield replaced("centers", array, ValueError, message, "axes")
    for value in (np.array(1, np.float32), np.float32(1), 1.0):
        message = f"{words['features']} has shape (), expected (rows, ...)"
        yield replaced("features", value, ValueError, message, "axes")
    for shape in ((B, D - 1), (B, D + 1), (B,), (B, D, 0), (B, 5, 5), (0, 1), (0,)):
        row = int(np.prod(shape[1:]))
        message = (
            f"{words['features']} has {row} values per row, "
            f"but {words['centers']} has {D}: shapes {shape} and {(K, D)}"
        )
        array = np.ones(shape, np.float32)
        yield replaced("features", array, ValueError, message, "row")
    yield from _shapes_of_labels(words)
    for name, one, good in (
        ("labels", "label", np.zeros(12, np.int64)),
        ("sample_weight", "weight", np.ones(12)),
    ):
        for shape in ((), (0,), (B - 1,), (B + 1,), (B, 1), (1, B)):
            message = (
                f"{words[name]} has shape {shape}, expected {(B,)}: "
                f"one {one} per row of {words['features']}"
            )
            if shape in ((B, 1), (1, B)):
                message += f"; pass {words[name]}.ravel()"
            array = good[: int(np.prod(shape))].reshape(shape)
            yield replaced(name, array, ValueError, message, "shape")


def _shapes_of_labels(words):
    """Labels for another shape of features."""
    message = (
        f"{words['features']} has {3 * D} values per row, "
        f"but {words['centers']} has {D}: shapes {(B, 3, D)} and {(K, D)}; "
        f"for rows of length {D}, {words['labels']} needs shape {(B, 3)}"
    )
    tokens = np.ones((B, 3, D), np.float32)
    yield replaced("features", tokens, ValueError, message, "row")

    def break_(call):
        call["features"] = np.ones((2, D, 3, 4), np.float32)
        call["labels"] = np.zeros((2, 3, 4), np.int64)

    message = (
        f"{words['features']} has shape {(2, D, 3, 4)}, expected {(2, 3, 4, D)} for "
        f"{words['labels']} of shape (2, 3, 4): pass {words.channels_last('features')}"
    )
    both = ("features", "labels")
    yield Fault("channels first", both, ValueError, message, break_)
    for dtype in (np.int64, np.uint8, np.bool_):
        message = (
            f"{words['labels']} has shape {(B, K)}, expected {(B,)}: one label per row "
            f"of {words['features']}; pass {words.argmax('labels', 1)}"
        )
        labels = np.eye(K)[[4, 0, 2, 0]].astype(dtype)
        yield replaced("labels", labels, ValueError, message, "shape")


def _shapes_of_out(words):
    for value in ("sum", "mean"):
        reduction = words["reduction"]
        message = (
            f"{words['out']} needs {reduction}='none': "
            f"the loss is a float with {reduction}={value!r}"
        )
        kind = "with out"
        yield replaced(
            "reduction", value, ValueError, message, kind, functions=("loss",)
        )
    for name, holds in OUT_HOLDS.items():
        good = OUT_SHAPES[holds]
        for shape in {(), good[:-1], (*good, 1), (B * D,), (D, B), (B, D - 1), (3, D)}:
            message = f"{words['out']} has shape {shape}, expected {good}"
            array = np.ones(shape, np.float32)
            yield replaced(
                "out", array, ValueError, message, "shape", functions=(name,)
            )


def _memory(words):
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
            *("centers", change, ValueError, message.format(words["centers"]), kind),
            functions=CALLS if read_too else MOVES_CENTERS,
        )
    for kind, change, message in changes:
        in_rows = kind == "strided" or change in (one_element_apart, backwards)
        yield changed(
            *("out", change, ValueError, message.format(words["out"]), kind),
            functions=with_rows if in_rows else tuple(OUT_HOLDS),
        )


def _overlap(words, written, other, functions):
    """Two arguments that share memory, from its first element."""

    def break_(call):
        memory = np.zeros(K * D, np.float32)
        for name in (written, other):
            view = memory.view(np.int32) if name == "labels" else memory
            shape = SHAPES.get(name) or call["out"].shape
            call[name] = view[: int(np.prod(shape))].reshape(shape)

    kind = f"{written} overlaps {other}"
    message = f"{words[written]} overlaps {words[other]} in memory"
    return Fault(kind, (written, other), ValueError, message, break_, functions)


def _overlaps(words):
    for other in ("features", "labels", "sample_weight"):
        yield _overlap(words, "centers", other, MOVES_CENTERS)
    for other in ("features", "labels", "centers", "sample_weight"):
        yield _overlap(words, "out", other, tuple(OUT_HOLDS))


def _contents(words):
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
            f"{words['sample_weight']}[{first}] is {float(weights[first])!r}, "
            "expected a finite number >= 0"
        )
        yield replaced("sample_weight", weights, ValueError, message, "value")
    for labels, first in (
        ([K, 0, -1, 0], 0),
        ([0, 0, 0, K], 3),
        ([0, -1, 0, K], 1),
        (np.array([0, 0, 255, 0], np.uint8), 2),
        (np.array([0, 0, -128, 0], np.int8), 2),
        (np.array([0, 2**64 - 1, 0, 0], np.uint64), 1),
        (np.array([0, 0, 2**63, 0], np.uint64), 2),
        (np.array([0, 0, -(2**63), 0], np.int64), 2),
        (np.array([0, 0, 0, 2**32], np.int64), 3),
        (np.array([0, 0, 2**31, 0], np.uint32), 2),
        (np.array([0, 0, 260, 0], swapped(np.int16)), 2),
    ):
        message = (
            f"{words['labels']}[{first}] is {int(labels[first])}, "
            f"but there are {K} classes (0 to {K - 1})"
        )
        yield replaced("labels", labels, IndexError, message, "value")
    yield _minus_100(words)


def _minus_100(words):
    """The label that PyTorch ignores unless told otherwise."""

    def break_(call):
        call |= {"labels": [2, 0, -100, 0], "ignore_index": None}

    message = (
        f"{words['labels']}[2] is -100, but there are {K} classes (0 to {K - 1}): "
        f"{words['ignore_index']}=-100 leaves such rows out"
    )
    both = ("labels", "ignore_index")
    return Fault("labels value", both, IndexError, message, break_)


def faults(names=None, *, tensors=False):
    """Every fault, with these names of arguments and hints for arrays or tensors."""
    words = Words(names or {}, tensors)
    return [
        *_dtypes(words),
        *_options(words),
        *_types_of_out(words),
        *_values(words),
        *_shapes(words),
        *_shapes_of_out(words),
        *_memory(words),
        *_overlaps(words),
        *_contents(words),
    ]


FAULTS = faults()


def faulty_calls(name, faults=FAULTS):
    """Each fault that function `name` can have, with its arguments."""
    for fault in faults:
        if fault.applies_to(name):
            call = good_call(name)
            fault.break_(call)
            yield fault, call
