"""Random numbers in memory of every layout."""

import math
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np

from tests.fuzz.hostile_objects import Opinionated, Subclass

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
POOL = np.random.default_rng(0).standard_normal(1 << 14)
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 6e4, 1e30)


class ArrayMaker:
    """Makes arrays, and keeps a list of all memory and files that they take."""

    def __init__(self, random, folder):
        self.random = random
        self.folder = folder
        self.memories, self.files = [], []
        self.wild = self.random.random() < 0.55  # may be wrong; else all is in order

    def chance(self, share):
        return self.random.random() < share

    def spoils(self, share=0.07):
        return self.wild and self.chance(share)

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
        self.memories.append(memory)
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
            if shape[0] == 1 and self.chance(0.1):  # never taken, however far it goes
                strides[0] = self.random.choice((-(2**62), 2**62))
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
            path = Path(self.folder) / f"{len(self.files)}"
            self.files.append(path)
            mapped = np.memmap(path, array.dtype, "w+", shape=array.shape)
            mapped[...] = array
            self.memories.append(mapped)
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
