"""Batches to test with, and what several test files say about them."""

import numpy as np

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


def batch(shape, classes, *, dtype=np.float32, centers_dtype=None, seed=0):
    """Features of `shape`, labels and centers, all of them random."""
    row = int(np.prod(shape[1:]))
    rng = np.random.default_rng([seed, shape[0], row, classes])
    features = rng.standard_normal(shape).astype(dtype)
    labels = rng.integers(0, classes, shape[0])
    centers = rng.standard_normal((classes, row)).astype(centers_dtype or dtype)
    return features, labels, centers


def bits(result):
    """Dtype, shape and bytes of a result, or of each part of it."""
    if isinstance(result, tuple):
        return tuple(bits(part) for part in result)
    array = np.asarray(result)
    return array.dtype.str, array.shape, array.tobytes()
