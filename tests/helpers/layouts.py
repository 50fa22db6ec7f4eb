"""The same numbers in memory of another shape."""

import numpy as np

from tests.helpers.error_cases import misaligned, read_only
from tests.helpers.oracle import BFLOAT16


def swapped(array):
    if array.dtype == BFLOAT16:  # which has no other byte order
        return array
    return array.astype(array.dtype.newbyteorder())


def every_second_row(array):
    return np.repeat(array, 2, axis=0)[::2]


def every_second_value(array):
    return np.repeat(array, 2, axis=-1)[..., ::2]


def backwards(array):
    """Row strides that are negative."""
    return array[::-1].copy()[::-1]


def mirrored(array):
    """Strides of the values of a row that are negative."""
    return array[..., ::-1].copy()[..., ::-1]


def axes_reversed(array):
    return np.asfortranarray(array)


def last_axis_first(array):
    """For (B, C, H, W) what is called channels last, or nearly."""
    return np.moveaxis(np.moveaxis(array, -1, 0).copy(), 0, -1)


def one_element_on(array):
    """Aligned for the dtype, and for nothing wider."""
    memory = np.empty(array.size + 1, array.dtype)
    memory[1:] = array.ravel()
    return memory[1:].reshape(array.shape)


def on_a_cache_line(array):
    """Aligned for the widest vectors there are."""
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def subclass(array):
    class Subclass(np.ndarray):
        pass

    return array.copy().view(Subclass)


def with_gaps(array):
    """Contiguous rows, a row and a half apart."""
    row = array.shape[-1]
    memory = np.full((*array.shape[:-1], row + row // 2 + 1), 7, array.dtype)
    memory[..., :row] = array
    return memory[..., :row]


def with_gaps_backwards(array):
    return with_gaps(array[::-1])[::-1]


IN_PLACE = [
    *(one_element_on, on_a_cache_line, subclass),
    *(every_second_row, with_gaps, with_gaps_backwards),
]
READ = [
    *(swapped, every_second_value, backwards, mirrored, axes_reversed),
    *(last_axis_first, misaligned, read_only, *IN_PLACE),
]
