"""Every function with every way through it that asks for memory of its own."""

import numpy as np

from tests.helpers.batches import CALLS, MOVES_CENTERS, OUT_HOLDS
from tests.helpers.oracle import BFLOAT16

# Class 0 has more rows than fit into one chunk, so that a plan has all its parts; and
# more classes are present than Python has small numbers at hand.
B, D, K = 1300, 3, 500


def plain(_name):
    rng = np.random.default_rng(0)
    return {
        "features": rng.standard_normal((B, D)).astype(np.float32),
        "labels": np.where(np.arange(B) % 2, 0, rng.integers(0, K, B)),
        "centers": rng.standard_normal((K, D)).astype(np.float32),
    }


def every_option(name):
    """Weights to convert, an array of losses, and room for the result."""
    call = plain(name)
    call |= {"sample_weight": np.arange(B, dtype=np.int16), "ignore_index": 3}
    shapes = {"loss": (B,), "gradient": (B, D), "delta": (K, D)}
    if name in OUT_HOLDS:
        call["out"] = np.ones(shapes[OUT_HOLDS[name]], np.float32)
        if OUT_HOLDS[name] != "delta":
            call |= {"reduction": "none", "loss_weight": 1.5}
    if name in MOVES_CENTERS:
        call |= {"alpha": 0.25, "normalize": False}
    return call


def to_copy(name):
    """Features and labels that cannot be read where they lie."""
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


def entwined(name):
    """What is written lies between the rows of the features: NumPy has to decide."""
    call = plain(name)
    memory = np.stack([call["features"], np.ones((B, D), np.float32)], axis=1)
    call["features"] = memory[:, 0]
    if name in MOVES_CENTERS:
        call["centers"] = memory[:K, 1]
    elif OUT_HOLDS.get(name) == "gradient":
        call["out"] = memory[:, 1]
    return call


def bad_label(name):
    call = every_option(name)
    call["labels"][-1] = K
    return call


KINDS = (plain, every_option, to_copy, sequences, bfloat16, entwined, bad_label)
CASES = [(name, kind) for name in CALLS for kind in KINDS]
IDS = [f"{name}-{kind.__name__}" for name, kind in CASES]


def snapshot(call):
    """Bytes of every array of a call, and of the memory it is a part of."""
    result = []
    for value in call.values():
        while isinstance(value, np.ndarray):
            result.append(value.tobytes())
            value = value.base
    return result
