"""Calls of every function that cover the different ways in which it allocates."""

import gc
import sys

import numpy as np

from tests.helpers.batches import CALLS, MOVES_CENTERS, OUT_HOLDS
from tests.helpers.oracle import BFLOAT16

# Class 0 has more rows than a chunk, so a plan has all its parts. There are more
# classes than Python has cached integers.
B, D, K = 1300, 3, 500


def plain(_name):
    rng = np.random.default_rng(0)
    return {
        "features": rng.standard_normal((B, D)).astype(np.float32),
        "labels": np.where(np.arange(B) % 2, 0, rng.integers(0, K, B)),
        "centers": rng.standard_normal((K, D)).astype(np.float32),
    }


def every_option(name):
    """Weights to convert, an array of losses, and `out`."""
    call = plain(name)
    call |= {"sample_weight": np.arange(B, dtype=np.int16), "ignore_index": 3}
    shapes = {"loss": (B,), "gradient": (B, D), "delta": (K, D)}
    if name in OUT_HOLDS:
        call["out"] = np.ones(shapes[OUT_HOLDS[name]], np.float32)
        if OUT_HOLDS[name] != "delta":
            call |= {"reduction": "none", "loss_weight": 1.5}
    if name in MOVES_CENTERS:
        call |= {"alpha": 0.25, "normalize": False, "skip_nonfinite": False}
    return call


def to_copy(name):
    """Features and labels that have to be copied."""
    call = plain(name)
    swapped = [call["features"].astype(">f4"), call["labels"].astype(">i8")]
    return call | dict(zip(("features", "labels"), swapped, strict=True))


def sequences(name):
    call = plain(name)
    rows = {key: call[key][:8].tolist() for key in ("features", "labels")}
    return call | rows | {"sample_weight": [1.0] * 8}


def bfloat16(name):
    call = plain(name)
    return call | {"features": call["features"].astype(BFLOAT16)}


def interleaved(name):
    """Output rows alternate with feature rows: the general overlap check decides."""
    call = plain(name)
    memory = np.stack([call["features"], np.ones((B, D), np.float32)], axis=1)
    call["features"] = memory[:, 0]
    if name in MOVES_CENTERS:
        call["centers"] = memory[:K, 1]
    elif OUT_HOLDS.get(name) == "gradient":
        call["out"] = memory[:, 1]
    return call


def bad_rows(name):
    """Rows that are not finite: one of a large class, and one of a small class."""
    call = plain(name)
    call["labels"][-2:] = call["labels"][-4:-2]
    call["features"][-1], call["features"][-2, 1] = np.nan, np.inf
    return call


def tokens(name):
    """Labels of two axes, which have to be copied as the features have."""
    call = plain(name)
    call["features"] = call["features"].reshape(13, 100, D)[:, ::2][::2]
    call["labels"] = call["labels"].reshape(13, 100)[:, ::2][::2]
    return call


def bad_label(name):
    call = every_option(name)
    call["labels"][-1] = K
    return call


KINDS = (
    *(plain, every_option, to_copy, sequences, bfloat16, interleaved),
    *(bad_rows, tokens, bad_label),
)
CASES = [(name, kind) for name in CALLS for kind in KINDS]
IDS = [f"{name}-{kind.__name__}" for name, kind in CASES]


def private_calls():
    """Names of functions of `centerloss._core` alone, and a call of each."""
    places = np.repeat(np.arange(0, 40 * B, 40), 2)[::2]  # to be copied
    loss = every_option("value_and_grad") | {"reduction": "sum", "total_weight": 3}
    return {
        "step_and_count": every_option("step"),
        "terms_and_grad": loss,
        "class_sums_at": every_option("class_sums") | {"places": places},
        "update_centers_at": every_option("update_centers") | {"places": places},
    }


def snapshot(call):
    """Bytes of every array of a call and of its bases."""
    result = []
    for value in call.values():
        while isinstance(value, np.ndarray):
            result.append(value.tobytes())
            value = value.base
    return result


def allocated_blocks():
    """Count the blocks of memory in use, apart from Python's own caches."""
    gc.collect()
    getattr(sys, "_clear_internal_caches", sys._clear_type_cache)()
    return sys.getallocatedblocks()
