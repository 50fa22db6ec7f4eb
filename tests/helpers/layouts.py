"""The same numbers in other memory layouts."""

import numpy as np
from hypothesis import strategies as st

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
    """For (B, C, H, W): similar to channels last."""
    return np.moveaxis(np.moveaxis(array, -1, 0).copy(), 0, -1)


def one_element_on(array):
    """Aligned for the dtype only."""
    memory = np.empty(array.size + 1, array.dtype)
    memory[1:] = array.ravel()
    return memory[1:].reshape(array.shape)


def on_a_cache_line(array):
    """Aligned for the widest vectors."""
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


@st.composite
def in_memory(draw, array, *, contiguous_rows=False):
    """`array` somewhere in a larger block: any order of axes, steps and direction.

    With `contiguous_rows` only the rows may be apart or backwards.
    """
    axes = range(array.ndim)
    order = list(axes)
    if not contiguous_rows:
        order = draw(st.permutations(order))
    steps, starts, lengths = [], [], []
    for axis in axes:
        free = axis == 0 or not contiguous_rows
        steps.append(draw(st.sampled_from([1, 2, 3, -1, -2])) if free else 1)
        starts.append(draw(st.integers(0, 2)) if free else 0)
        lengths.append(abs(steps[-1]) * array.shape[axis] + starts[-1])
    if contiguous_rows:
        offset = draw(st.integers(0, 16)) * array.itemsize
    else:
        offset = draw(st.integers(0, 64))
    size = int(np.prod(lengths)) * array.itemsize
    memory = np.full(offset + size, 0x5A, np.uint8)
    block = memory[offset : offset + size].view(array.dtype)
    block = block.reshape([lengths[axis] for axis in order])
    block = block.transpose(np.argsort(order))
    cuts = []
    for axis in axes:
        stop = starts[axis] + abs(steps[axis]) * array.shape[axis]
        cut = slice(starts[axis], stop, abs(steps[axis]))
        block = block[(slice(None),) * axis + (cut,)]
        cuts.append(slice(None, None, -1 if steps[axis] < 0 else 1))
    block = block[tuple(cuts)]
    block[...] = array
    return block
