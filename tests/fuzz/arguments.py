"""Random calls of every public function, right and wrong, against the reference.

    python tests/fuzz/arguments.py --calls 100000 --seed 1
    python tests/fuzz/arguments.py --seed 1 --only 4711

A call is made up twice from its seed and number, so that the functions in C and those
of `centerloss.reference` get arguments of the same bytes, layout and overlap. Both have
to return the same, within rounding, or to raise the same; a call that raises may change
no byte, another one none beside its results. The calls are made in a child process:
one that kills it is found too.
"""

import argparse
import faulthandler
import math
import mmap
import os
import random
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.lib.stride_tricks import as_strided

import centerloss
from centerloss import _center_loss, reference

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
TAKES = {
    "loss": ("reduction", "loss_weight", "out"),
    "gradient": ("reduction", "loss_weight", "out"),
    "value_and_grad": ("reduction", "loss_weight", "out"),
    "center_delta": ("normalize", "out"),
    "class_sums": (),
    "update_centers": ("alpha", "normalize"),
    "step": ("alpha", "normalize", "reduction", "loss_weight", "out"),
}
METHODS = ("__call__", "value_and_grad", "update", "step", "init_centers", "load")
SETTINGS = ("alpha", "loss_weight", "reduction", "normalize", "ignore_index")
DTYPES = [np.dtype(code) for code in ("f4", "f8", "f2", "i8", "u1", "?", "c8", "O")]
INTEGERS = [np.dtype(code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")]
POOL = np.random.default_rng(0).standard_normal(1 << 14)
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 6e4, 1e30)
POSITIVE = np.abs(POOL)


class Subclass(np.ndarray):
    """With nothing of its own."""


class Opinionated(np.ndarray):
    """With an answer of its own to functions of NumPy and to its items' users."""

    def __array_function__(self, *_):
        return False

    def __array_ufunc__(self, *_, **__):
        return NotImplemented

    def __getitem__(self, _):
        return 99

    def __setitem__(self, *_):
        raise RuntimeError("set")

    def __len__(self):
        return 1


class Liar:
    """Says one thing here and another there; in its repr, always the same."""

    def __init__(self, kind, answer):
        self.kind, self.answer, self.asked = kind, answer, 0

    def __repr__(self):
        return f"Liar({self.kind})"

    def say(self):
        self.asked += 1
        if self.kind == "raises":
            raise RuntimeError("no")
        if self.kind == "type error":
            raise TypeError("no")
        if self.kind == "overflow":
            raise OverflowError("no")
        return self.answer


class LyingArray(Liar):
    def __array__(self, dtype=None, copy=None):
        answer = self.say()
        if self.kind == "changes" and self.asked > 1:
            return np.zeros(3)
        return answer if dtype is None else np.asarray(answer).astype(dtype)

    def __len__(self):
        return 7


class LyingArrayWithDtype(LyingArray):
    dtype = np.dtype("f8")
    shape = (2, 2)


class LyingSequence(Liar):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        if i >= 5:
            raise IndexError
        return self.say()


class LyingFloat(Liar):
    def __float__(self):
        return self.say()


class LyingIndex(Liar):
    def __index__(self):
        return self.say()


LIES = ("honest", "raises", "type error", "overflow", "changes")


@dataclass
class Call:
    name: str
    arguments: dict = field(default_factory=dict)
    memories: list = field(default_factory=list)  # what must not change, as bytes
    files: list = field(default_factory=list)
    size: float = 1.0  # of the largest finite number and its like, see `close`


class Maker:
    """Makes the call of a seed and a number."""

    def __init__(self, seed, number, folder):
        self.random = random.Random(f"{seed} {number}")
        self.folder = folder
        self.call = Call("")
        self.wild = self.random.random() < 0.55  # may be wrong; else all is in order

    def chance(self, share):
        return self.random.random() < share

    def spoils(self, share=0.07):
        return self.wild and self.chance(share)

    # --- numbers and memory

    def values(self, shape, dtype):
        count = math.prod(shape)
        start = self.random.randrange(len(POOL))
        values = np.take(POOL, np.arange(start, start + count), mode="wrap")
        if self.chance(0.1) and count and dtype.kind in "fV":
            values[self.random.randrange(count)] = self.random.choice(SPECIAL)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return values.reshape(shape).astype(dtype)

    def memory(self, size):
        memory = np.full(size, 0x5A, np.uint8)
        self.call.memories.append(memory)
        return memory

    def strided(self, shape, dtype, strides, offset=0):
        """A new array with these strides, and the memory that it takes."""
        reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
        low = sum(r for r in reach if r < 0) if 0 not in shape else 0
        high = sum(r for r in reach if r > 0) if 0 not in shape else 0
        memory = self.memory(offset + high - low + dtype.itemsize + 8)
        return np.ndarray(shape, dtype, memory, offset - low, strides)

    def laid_out(self, values, in_place):
        """The values in memory of another shape; `in_place`: as is to be taken."""
        dtype, shape = values.dtype, values.shape
        if dtype.kind == "O":
            return values
        strides = list(np.empty(shape, np.uint8).strides)
        strides = [s * dtype.itemsize for s in strides]
        offset = dtype.itemsize * self.random.randrange(3)
        rowwise = self.random.random()
        if strides and 0 not in shape:
            if rowwise < 0.2:
                strides[0] += dtype.itemsize * self.random.randrange(4)
            if 0.1 < rowwise < 0.3:
                strides[0] = -strides[0]
            if len(shape) > 1 and (not in_place or self.spoils()) and rowwise > 0.8:
                strides = [s * 2 for s in strides]
                axis = self.random.randrange(len(shape))
                strides[axis] *= self.random.choice((1, -1, 0, 1))
                if self.chance(0.3):
                    strides[0], strides[-1] = dtype.itemsize, strides[0]
                    n = 2 * dtype.itemsize
                    strides = [n * math.prod(shape[:i]) for i in range(len(shape))]
            elif self.spoils(0.04):
                strides[0] = self.random.choice((0, dtype.itemsize))
        if (not in_place and self.chance(0.05)) or self.spoils(0.03):
            offset += 1
        array = self.strided(shape, dtype, strides, offset)
        if dtype.names is None:
            array[...] = values
        return array

    def dressed(self, array, in_place):
        """The array as a subclass, read-only, byte-swapped or in a file."""
        kind = self.random.random()
        if kind < 0.04:
            return array.view(Subclass)
        if kind < 0.06 and self.wild:
            return array.view(Opinionated)
        if kind < 0.07 and array.dtype.kind != "O":
            return np.ma.masked_array(
                array, mask=np.arange(array.size).reshape(array.shape) % 5 == 4
            )
        if kind < 0.08 and array.size and array.dtype.kind != "O":
            path = Path(self.folder) / f"{len(self.call.files)}"
            self.call.files.append(path)
            mapped = np.memmap(path, array.dtype, "w+", shape=array.shape)
            mapped[...] = array
            self.call.memories.append(mapped)
            return mapped
        if kind < 0.12 and (not in_place or self.spoils(0.5)):
            array.flags.writeable = False
        swappable = array.dtype.kind != "O" and array.dtype != BFLOAT16
        if kind > 0.92 and swappable and (not in_place or self.spoils(0.3)):
            swapped = array.dtype.newbyteorder()
            array = self.laid_out(array.astype(swapped), in_place)
        return array

    def array(self, shape, dtype, values=None, in_place=False):
        if values is None:
            values = self.values(shape, dtype)
        return self.dressed(self.laid_out(values, in_place), in_place)

    def junk(self):
        return self.random.choice(
            (None, 3, 2.5, "mean", b"x", [], [[]], [1.0, 2.0], np.float32(1), (), {},
             [[1.0], [2.0, 3.0]], np.zeros(0), np.array(1.0), 1j, True)
        )  # fmt: skip

    def liar(self, answer):
        kind = self.random.choice((LyingArray, LyingArrayWithDtype, LyingSequence))
        return kind(self.random.choice(LIES), answer)

    def other(self, size):
        return max(0, size + self.random.choice((-1, 1, 2)))

    # --- arguments

    def sizes(self):
        self.B = self.random.choice((0, 1, 2, 3, 5, 8, 17, 40, 130))
        self.D = self.random.choice((0, 1, 2, 3, 4, 7, 8, 9, 16, 17, 33))
        self.K = self.random.choice((1, 2, 3, 5, 10, 60, 0))
        if self.K == 0 and not self.wild:
            self.B = 0
        self.c = np.dtype(self.random.choice(("f4", "f4", "f8")))
        self.x = self.c
        if self.c == np.float32 and self.chance(0.3):
            self.x = self.random.choice((np.dtype("f2"), BFLOAT16))

    def features(self):
        shape = (self.B, self.D)
        if self.D % 2 == 0 and self.chance(0.1):
            shape = (self.B, 2, self.D // 2)
        if self.D == 1 and self.chance(0.3):
            shape = (self.B,)
        if self.spoils():
            shape = self.random.choice(
                ((), (self.other(self.B), self.D), (self.B, self.other(self.D)))
            )
        dtype = self.random.choice(DTYPES) if self.spoils(0.04) else self.x
        self.shape, self.x = shape, dtype
        if self.spoils(0.03):
            return self.junk()
        if self.spoils(0.02):
            huge = self.random.choice(((1 << 40, self.D), (self.B, 1 << 40)))
            return as_strided(np.ones(1, dtype), huge, (0, 0))
        if self.spoils(0.04):
            return self.liar(self.values(shape, dtype))
        if self.chance(0.05):
            self.x = self.c
            return self.values(shape, np.dtype("f4")).tolist()
        return self.array(shape, dtype)

    def labels(self):
        dtype = self.random.choice(INTEGERS)
        most = min(self.K, np.iinfo(dtype).max + 1) or 1
        few = self.random.choice((1, 2, most, most))
        values = [self.random.randrange(min(few, most)) for _ in range(self.B)]
        if self.ignore_value is not None:
            fits = np.iinfo(dtype).min <= self.ignore_value <= np.iinfo(dtype).max
            for i in range(0, self.B if fits else 0, 3):
                values[i] = self.ignore_value
        info = np.iinfo(dtype)
        if values and self.spoils():
            bad = self.random.choice((info.min, info.max, self.K, -1, -100))
            at = self.random.randrange(len(values))
            values[at] = bad if info.min <= bad <= info.max else info.max
        if self.spoils(0.05):
            values = values[1:] if self.chance(0.5) else [*values, 0]
        if self.spoils(0.03):
            return self.junk()
        if self.spoils(0.03):
            return self.liar(np.array(values, dtype))
        if self.chance(0.1):
            return values
        if self.spoils(0.04):
            dtype = self.random.choice(DTYPES)
        with np.errstate(all="ignore"):
            values = np.array(values).astype(dtype)
        return self.array(values.shape, dtype, values)

    def weights(self):
        if self.chance(0.5):
            return None
        start = self.random.randrange(1 << 13)
        count = self.other(self.B) if self.spoils(0.05) else self.B
        dtype = np.dtype(self.random.choice(("f8", "f4", "f2", "i4", "u1", "?", "g")))
        if self.spoils(0.03):
            dtype = self.random.choice(DTYPES)
        values = POSITIVE[start : start + count] * self.random.choice((1, 1, 0, 1e-3))
        if count and self.spoils(0.06):
            values[self.random.randrange(count)] = self.random.choice(
                (np.nan, np.inf, -1.0, -1e-300)
            )
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = values.astype(dtype)
        if self.spoils(0.03):
            return self.junk()
        if self.spoils(0.03):
            return self.liar(values)
        return values.tolist() if self.chance(0.1) else self.array((), dtype, values)

    def centers(self):
        shape = (self.K, self.D)
        dtype = self.random.choice(DTYPES) if self.spoils(0.03) else self.c
        if self.spoils(0.04):
            shape = ((), (self.K,), (self.K, self.other(self.D)), (1, *shape))[
                self.random.randrange(4)
            ]
        if self.spoils(0.02):
            return self.junk()
        if self.spoils(0.02):
            return self.liar(self.values(shape, dtype))
        huge = self.call.name in ("loss", "gradient", "value_and_grad", "class_sums")
        if huge and self.chance(0.03):
            row = self.values((self.D,), self.c)
            return np.broadcast_to(row, (1 << 33, self.D))
        return self.array(shape, dtype, in_place=True)

    def number(self):
        if not self.wild or self.chance(0.9):
            return self.random.choice(
                (0.5, 1, 0, 0.0, 2.5, 1e-3, np.float32(0.3), True)
            )
        answer = self.random.choice((0.5, 1, -1.0, math.nan, "x", None, 10**400))
        return self.random.choice(
            (-1, math.nan, math.inf, 1e308, 5e-324, "0.5", b"1", None, 1j, 10**400,
             np.array(0.5), np.array([0.5]), np.array([0.5, 1]), np.complex64(1), [1],
             np.float64(-0.0), LyingFloat(self.random.choice(LIES), answer),
             LyingIndex(self.random.choice(LIES), answer))
        )  # fmt: skip

    def ignore_index(self):
        self.ignore_value = None
        if self.chance(0.6):
            return None
        if self.spoils(0.1):
            answer = self.random.choice((0, -1, 2**70, 0.5, "x", None))
            return self.random.choice(
                (1.0, "1", 2**63, -(2**63) - 1, 10**400, [1], np.float32(1),
                 LyingIndex(self.random.choice(LIES), answer))
            )  # fmt: skip
        value = self.random.choice((-1, 0, 1, 255, -100, 2**63 - 1, -(2**63)))
        self.ignore_value = value
        return self.random.choice((value, np.int64(value)))

    def reduction(self):
        if self.spoils():
            return self.random.choice(
                ("", "Mean", "mean\0", "\ud800", None, 1, b"mean", np.str_("sum"))
            )
        return self.random.choice(("mean", "sum", "none"))

    def normalize(self):
        if self.spoils(0.05):
            return self.random.choice((None, 1, 0.0, "y", np.int64(1), np.array(True)))
        return self.random.choice((True, False, np.True_))

    def out(self):
        if self.chance(0.4):
            return None
        name, arguments = self.call.name, self.call.arguments
        shape, dtype = self.shape, self.x
        if name == "loss":
            shape, dtype = (self.B,), self.c
            if not self.wild:
                arguments["reduction"] = "none"
        if name == "center_delta":
            shape, dtype = (self.K, self.D), self.c
        if self.spoils():
            shape = ((), (*shape, 1), shape[1:], (self.other(self.B), self.D))[
                self.random.randrange(4)
            ]
        if self.spoils(0.04):
            dtype = self.random.choice(DTYPES)
        if self.spoils(0.03):
            return self.junk()
        return self.array(shape, dtype, in_place=True)

    def overlap(self):
        """Lay an argument into the memory of another one, or take it for both."""
        arguments = self.call.arguments
        names = ("features", "labels", "centers", "sample_weight", "out")
        arrays = [n for n in names if isinstance(arguments.get(n), np.ndarray)]
        if len(arrays) < 2:
            return
        one, two = self.random.sample(arrays, 2)
        a, b = arguments[one], arguments[two]
        if self.chance(0.3):
            arguments[one] = b
            return
        if type(a) is not np.ndarray or not b.dtype.isnative:
            return
        if any(v.dtype.char in "Og" or not 0 < v.nbytes < 1 << 20 for v in (a, b)):
            return  # the padding of a long double holds anything
        unit = max(a.itemsize, b.itemsize)
        gap = unit * self.random.randrange(0, b.nbytes // unit + 2)
        memory = self.memory(gap + a.nbytes + b.nbytes)
        step = -1 if self.chance(0.2) else 1
        first = np.ndarray(b.shape, b.dtype, memory)
        second = np.ndarray(a.shape, a.dtype, memory, gap)
        first[...], second[...] = b, a
        if step < 0 and a.ndim:
            second = second[::-1]
        arguments[one], arguments[two] = second, first

    def make(self):
        call = self.call
        names = [*TAKES, *(f"CenterLoss.{name}" for name in METHODS)]
        call.name = self.random.choice(names)
        self.sizes()
        arguments = call.arguments
        arguments["ignore_index"] = self.ignore_index()
        arguments["features"] = self.features()
        arguments["labels"] = self.labels()
        arguments["centers"] = self.centers()
        if "." not in call.name:
            takes = ("sample_weight", *TAKES[call.name])
        else:
            takes = ("sample_weight", *SETTINGS[:-1], "out")
        for name in takes:
            if name == "sample_weight":
                arguments[name] = self.weights()
            elif name in ("alpha", "loss_weight"):
                arguments[name] = self.number()
            else:
                arguments[name] = getattr(self, name)()
        if self.spoils(0.12):
            self.overlap()
        if self.spoils(0.02):
            del arguments[self.random.choice(list(arguments))]
        if self.spoils(0.01):
            arguments["bogus"] = 1
        return call


# --- what a call does


def invoke(call, module):
    """Call the function, or the method with the functions of that module behind it."""
    arguments = dict(call.arguments)
    kind, _, method = call.name.rpartition(".")
    if not kind:
        return getattr(module, method)(**arguments)
    names = ("class_sums", "loss", "step", "update_centers", "value_and_grad")
    before = {name: getattr(_center_loss, name) for name in names}
    try:
        for name in names:
            setattr(_center_loss, name, getattr(module, name))
        return invoke_method(method, arguments)
    finally:
        for name in names:
            setattr(_center_loss, name, before[name])


def invoke_method(method, arguments):
    centers = arguments.pop("centers", None)
    shape = centers.shape if isinstance(centers, np.ndarray) else (2, 2)
    settings = {n: arguments.pop(n) for n in SETTINGS if n in arguments}
    features, labels = arguments.pop("features", None), arguments.pop("labels", None)
    if method == "load":
        state = {"centers": centers, **settings}
        loss_fn = centerloss.CenterLoss(*(*shape, 2, 2)[:2], init="zeros")
        before = repr(loss_fn.state_dict())
        try:
            loss_fn.load_state_dict(state)
        except Exception:
            if repr(loss_fn.state_dict()) != before:
                raise AssertionError("a state was taken over by halves") from None
            raise
        return loss_fn.centers
    loss_fn = centerloss.CenterLoss(*(*shape, 2, 2)[:2], init=centers, **settings)
    if method in ("init_centers",):
        arguments = {}
    elif method in ("__call__", "update"):
        arguments.pop("out", None)
    return getattr(loss_fn, method)(features, labels, **arguments)


def written(call):
    """The arrays that a call that succeeds writes."""
    name, arguments = call.name, call.arguments
    arrays = []
    if name.endswith(("step", "update_centers", "update", "init_centers")):
        arrays.append(arguments["centers"])
    takes_out = "out" in TAKES.get(name, ()) or name.endswith(
        (".value_and_grad", ".step")
    )
    if takes_out and arguments.get("out") is not None:
        arrays.append(arguments["out"])
    return [np.asarray(array) for array in arrays]


@dataclass
class Outcome:
    error: Exception | None
    values: list
    changed: bool


def outcome(call, module):
    before = [memory.tobytes() for memory in call.memories]
    olds = [
        a.copy() if isinstance(a, np.ndarray) and a.size < 1 << 20 else None
        for a in (call.arguments.get("centers"), call.arguments.get("out"))
    ]
    try:
        # Warnings of casts are for the errstate of the caller to say.
        with np.errstate(all="ignore"):
            result = invoke(call, module)
    except Exception as error:
        changed = [memory.tobytes() for memory in call.memories] != before
        return Outcome(error, [], changed)
    values = list(result) if isinstance(result, tuple) else [result]
    arrays = written(call)
    values = [np.array(value) for value in (*values, *arrays)]
    for name, old in zip(("centers", "out"), olds, strict=True):
        array = call.arguments.get(name)
        if isinstance(array, np.ndarray) and any(
            np.shares_memory(np.asarray(array), a) for a in arrays
        ):
            np.asarray(array)[...] = old
    changed = [memory.tobytes() for memory in call.memories] != before
    return Outcome(None, values, changed)


def finite_size(array):
    if not isinstance(array, np.ndarray) or array.size > 1 << 20:
        return 1.0 if not isinstance(array, (list, tuple)) else 10.0
    if array.dtype.kind not in "fViub" or not array.size:
        return 1.0
    with np.errstate(all="ignore"):
        values = np.abs(np.asarray(array).astype(np.float64))
    return float(np.max(values[np.isfinite(values)], initial=1.0))


def magnitude(call):
    """How large what is added up may be."""
    a = call.arguments
    size = finite_size(a.get("features")) + finite_size(a.get("centers"))
    size = 200 * size * size * finite_size(a.get("sample_weight"))
    for name in ("alpha", "loss_weight"):
        try:
            size *= max(1.0, abs(float(a.get(name, 1.0))))
        except (TypeError, ValueError, RuntimeError, OverflowError):
            size *= 1.0
    return size


def close(got, expected, size):
    """The same but for rounding: NaN where there is NaN, infinite where infinite."""
    if got.dtype != expected.dtype or got.shape != expected.shape:
        return False
    if got.dtype.kind not in "fV":
        return bool(np.array_equal(got, expected))
    info = ml_dtypes.finfo(got.dtype)
    a, b = got.astype(np.float64), expected.astype(np.float64)
    with np.errstate(all="ignore"):
        slack = 4 * float(info.eps) * np.abs(b) + 1e-13 * size
        slack += 4 * float(info.smallest_subnormal)
        edge = float(info.max) * 0.99
        huge = (np.abs(a) > edge) & (np.abs(b) > edge) & (np.sign(a) == np.sign(b))
        good = (np.abs(a - b) <= slack) | (a == b) | huge
        good |= np.isnan(a) & np.isnan(b)
    return bool(good.all())


def difference(call, got, expected):
    """What is wrong, or None."""
    if got.changed or expected.changed:
        who = "C" if got.changed else "the reference"
        return f"{who} changed memory ({got.error!r})"
    if (got.error is None) != (expected.error is None):
        return f"C: {got.error!r}, reference: {expected.error!r}"
    if got.error is not None:
        if type(got.error) is not type(expected.error):
            return f"C: {got.error!r}, reference: {expected.error!r}"
        signature = isinstance(got.error, TypeError) and "argument" in str(got.error)
        if str(got.error) != str(expected.error) and not signature:
            return f"C: {got.error!r}, reference: {expected.error!r}"
        return None
    size = magnitude(call)
    for a, b in zip(got.values, expected.values, strict=True):
        if not close(a, b, size):
            return f"C: {a!r}, reference: {b!r}"
    return None


def describe(value):
    if isinstance(value, np.ndarray):
        text = f"{type(value).__name__} {value.dtype.str} {value.shape} {value.strides}"
        return text + ("" if value.flags.writeable else " read-only")
    return f"{value!r:.200}"


def check(seed, number, folder, verbose=False):
    """Make the call; returns how it ended, or raises AssertionError."""
    calls = [Maker(seed, number, f"{folder}/{side}").make() for side in "cr"]
    if verbose:
        print(calls[0].name)
        for name, value in calls[0].arguments.items():
            print(f"    {name}: {describe(value)}")
    outcomes = [
        outcome(call, module)
        for call, module in zip(calls, (centerloss, reference), strict=True)
    ]
    problem = difference(calls[0], *outcomes)
    for path in (*calls[0].files, *calls[1].files):
        path.unlink()
    if problem is not None:
        raise AssertionError(f"{calls[0].name}: {problem}")
    return "accepted" if outcomes[0].error is None else type(outcomes[0].error).__name__


# --- the run


def run(seed, numbers, progress, most_findings=20):
    """Check calls in this process; returns the number of findings."""
    counts, findings = Counter(), 0
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    with tempfile.TemporaryDirectory() as folder:
        for side in "cr":
            (Path(folder) / side).mkdir()
        for number in numbers:
            progress[:8] = number.to_bytes(8, "little")
            try:
                counts[check(seed, number, folder, verbose=len(numbers) == 1)] += 1
            except Exception as error:
                findings += 1
                if not isinstance(error, AssertionError) or len(numbers) == 1:
                    traceback.print_exc()
                print(f"--seed {seed} --only {number}: {error}", flush=True)
                if findings >= most_findings:
                    break
    total = sum(counts.values()) + findings
    share = counts["accepted"] / max(1, total)
    listed = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    print(f"{total} calls: {listed}; {share:.0%} accepted; {findings} findings")
    return findings


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of the one call to make")
    options = parser.parse_args(arguments)
    numbers = range(options.calls)
    if options.only is not None:
        numbers = [options.only]
    progress = mmap.mmap(-1, 8)
    faulthandler.enable()
    child = os.fork()
    if child == 0:
        findings = run(options.seed, numbers, progress)
        sys.stdout.flush()
        os._exit(findings > 0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        number = int.from_bytes(progress[:8], "little")
        print(f"--seed {options.seed} --only {number}: signal {os.WTERMSIG(status)}")
    return status != 0


if __name__ == "__main__":
    sys.exit(main())
