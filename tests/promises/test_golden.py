"""Promise 2, now and later: the hashes of GOLDEN.

They are the same for every instruction set, processor, compiler, number of threads,
memory layout and label dtype, and for every later version: one that changes them says
so in CHANGELOG.md, under "Changed". `python tests/c/regenerate.py` writes them anew.
"""

import hashlib
import os
import re
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

import centerloss
from tests.helpers.layouts import every_second_row

GOLDEN = """\
float32 losses 3ca3f6a700ef9aa6
float32 gradients cac9e18e2ae6ffbb
float32 centers 34f54b06c15a8bb9
float32 classes e22e48bc186340e4
float64 losses 1ddd58c7024afe80
float64 gradients de66dce3ce032248
float64 centers 96540decc510143a
float64 classes 4f9f82330733fdc7
float16 losses 3ca3f6a700ef9aa6
float16 gradients a2b39f9f07dadfe9
float16 centers 34f54b06c15a8bb9
float16 classes e22e48bc186340e4
bfloat16 losses 3ca3f6a700ef9aa6
bfloat16 gradients 73ac952992011fe5
bfloat16 centers 34f54b06c15a8bb9
bfloat16 classes e22e48bc186340e4
"""
DTYPES = {
    "float32": (np.float32, np.float32),
    "float64": (np.float64, np.float64),
    "float16": (np.float16, np.float32),
    "bfloat16": (ml_dtypes.bfloat16, np.float32),
}
# Enough for eight threads even of two bytes a value, and for classes of many rows.
ROWS, COLUMNS, CLASSES = 9600, 440, 200


def integers(seed, shape, bits):
    """Random integers that no version of NumPy makes otherwise (SplitMix64)."""
    start = np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(seed << 32)
    z = (start + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z >> np.uint64(64 - bits)).astype(np.int64).reshape(shape)


def batch(dtype, centers_dtype):
    """Features that every dtype holds, labels, and centers and weights of all bits."""
    features = (integers(1, (ROWS, COLUMNS), 9) - 2**8) / 2**7
    centers = (integers(2, (CLASSES, COLUMNS), 53) - 2**52) / 2**51
    labels = integers(3, ROWS, 20) % CLASSES * integers(4, ROWS, 1)
    weights = integers(5, ROWS, 53) / 2**52
    return features.astype(dtype), labels, centers.astype(centers_dtype), weights


def line(*words, arrays):
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(np.asarray(array).tobytes())
    return f"{' '.join(words)} {sha.hexdigest()[:16]}\n"


def lines(name, layout=np.copy, labels_dtype=np.int64):
    """Of what three steps give and leave behind, and of the classes after that."""
    features, labels, centers, weights = batch(*DTYPES[name])
    features, labels = layout(features), layout(labels.astype(labels_dtype))
    arguments = (features, labels, centers)
    options = [
        {"sample_weight": weights},
        {"sample_weight": weights, "reduction": "sum", "ignore_index": 0},
        {"loss_weight": 0.003, "reduction": "none", "normalize": False, "alpha": 0.001},
    ]
    steps = [centerloss.step(*arguments, **given) for given in options]
    losses, gradients = zip(*steps, strict=True)
    delta = centerloss.center_delta(*arguments, sample_weight=weights)
    classes = centerloss.class_sums(*arguments, sample_weight=weights)
    return (
        line(name, "losses", arrays=losses)
        + line(name, "gradients", arrays=gradients)
        + line(name, "centers", arrays=[centers])
        + line(name, "classes", arrays=[delta, *classes])
    )


def run(**environment):
    command = [sys.executable, __file__]
    environment = os.environ | {name: str(environment[name]) for name in environment}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )


def isa_names():
    """What this build and this processor have, as the error says that lists them."""
    error = run(CENTERLOSS_ISA="?").stderr
    return re.search("ImportError: .* expected one of (.*)", error)[1].split(", ")


@pytest.mark.parametrize("isa", isa_names())
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_every_instruction_set_and_number_of_threads(isa, threads):
    result = run(CENTERLOSS_ISA=isa, CENTERLOSS_NUM_THREADS=threads)
    assert result.stderr == ""
    assert result.stdout == GOLDEN


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize(
    ("layout", "labels_dtype"),
    [(np.copy, "int64"), (np.asfortranarray, "int32"), (every_second_row, "uint8")],
)
def test_every_layout_and_label_dtype(name, layout, labels_dtype):
    golden = [line for line in GOLDEN.splitlines() if line.split()[0] == name]
    assert lines(name, layout, labels_dtype).splitlines() == golden


if __name__ == "__main__":
    for name in DTYPES:
        print(lines(name), end="")
