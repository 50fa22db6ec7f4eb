"""Batches to test with, and what several test files say about them."""

import numpy as np
import pytest

from tests.helpers.oracle import BFLOAT16

# Of the features and of the centers.
DTYPES = [
    (np.dtype(np.float32), np.dtype(np.float32)),
    (np.dtype(np.float64), np.dtype(np.float64)),
    (np.dtype(np.float16), np.dtype(np.float32)),
    (BFLOAT16, np.dtype(np.float32)),
]
dtypes = pytest.mark.parametrize(
    ("dtype", "centers_dtype"), DTYPES, ids=[dtype.name for dtype, _ in DTYPES]
)

CALLS = (
    "loss",
    "gradient",
    "value_and_grad",
    "center_delta",
    "class_sums",
    "update_centers",
    "step",
)
OUT_HOLDS = {
    "loss": "loss",
    "gradient": "gradient",
    "value_and_grad": "gradient",
    "center_delta": "delta",
    "step": "gradient",
}
MOVES_CENTERS = ("update_centers", "step")
HAS_REDUCTION = ("loss", "gradient", "value_and_grad", "step")


def batch(shape, classes, *, dtype=np.float32, centers_dtype=None):
    """Features of `shape`, labels and centers, all of them random."""
    row = int(np.prod(shape[1:]))
    rng = np.random.default_rng([shape[0], row, classes])
    features = rng.standard_normal(shape).astype(dtype)
    labels = rng.integers(0, classes, shape[0])
    centers = rng.standard_normal((classes, row)).astype(centers_dtype or dtype)
    return features, labels, centers


def whole_numbers(rows, row, classes):
    """A random batch of float64 in which every sum and product is exact."""
    rng = np.random.default_rng([rows, row, classes])
    x = rng.integers(-8, 9, (rows, row)).astype(np.float64)
    c = rng.integers(-8, 9, (classes, row)).astype(np.float64)
    return x, rng.integers(0, classes, rows), c


def bits(result):
    """Dtype, shape and bytes of a result, or of each part of it."""
    if isinstance(result, tuple):
        return tuple(bits(part) for part in result)
    array = np.asarray(result)
    return array.dtype.str, array.shape, array.tobytes()


def is_array(array, shape, dtype):
    """Of that shape and dtype, plain, native, C-contiguous and writable."""
    flags = array.flags
    good = flags.c_contiguous and flags.writeable and flags.aligned
    plain = type(array) is np.ndarray and array.dtype == dtype
    return good and plain and array.shape == shape
