"""Batches, and what several test files need to run functions on them."""

import numpy as np
import pytest

from tests.helpers.oracle import BFLOAT16

# Parameters of the fixture `cl`, which imports the module.
C = pytest.param("centerloss", id="c", marks=pytest.mark.kernels)


def reference(*marks):
    marks = [pytest.mark.reference, *marks]
    return pytest.param("centerloss.reference", id="reference", marks=marks)


# Dtypes of features and of centers.
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


def small():
    """A batch to follow by hand: every sum and product in it is exact."""
    x = np.array([[1, 0], [3, 4], [0, 4], [0, 2]], np.float32)
    y = np.array([0, 2, 2, 0])
    c = np.array([[2, 2], [9, 9], [0, 0]], np.float32)
    return x, y, c


def whole_numbers(rows, row, classes):
    """A random batch of float64 in which every sum and product is exact."""
    rng = np.random.default_rng([rows, row, classes])
    x = rng.integers(-8, 9, (rows, row)).astype(np.float64)
    c = rng.integers(-8, 9, (classes, row)).astype(np.float64)
    return x, rng.integers(0, classes, rows), c


def bits(result):
    """Return dtype, shape and bytes of a result, or of each part of a tuple."""
    if isinstance(result, tuple):
        return tuple(bits(part) for part in result)
    array = np.asarray(result)
    return array.dtype.str, array.shape, array.tobytes()


def is_array(array, shape, dtype):
    """Whether it is a plain, native, C-contiguous, writable array like that."""
    flags = array.flags
    good = flags.c_contiguous and flags.writeable and flags.aligned
    plain = type(array) is np.ndarray and array.dtype == dtype
    return good and plain and array.shape == shape
