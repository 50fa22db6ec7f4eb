"""A call of a public function, or of a method, made up from a seed and a number."""

import math
import random
import warnings
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tests.fuzz.arrays import BFLOAT16, POOL, ArrayMaker
from tests.fuzz.hostile_objects import (
    LIES,
    LyingArray,
    LyingArrayWithDtype,
    LyingFloat,
    LyingIndex,
    LyingSequence,
)

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
POSITIVE = np.abs(POOL)


@dataclass
class Call:
    name: str
    arguments: dict = field(default_factory=dict)
    memories: list = field(default_factory=list)  # what must not change, as bytes
    files: list = field(default_factory=list)


class Maker(ArrayMaker):
    """Makes the call of a seed and a number."""

    def __init__(self, seed, number, folder):
        super().__init__(random.Random(f"{seed} {number}"), folder)
        self.call = Call("", memories=self.memories, files=self.files)

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
