"""Promise 2, also between versions: the hashes of GOLDEN.

They are the same for every instruction set, processor, compiler, number of threads,
memory layout and label dtype. A version that changes them says so in CHANGELOG.md,
under "Changed". tools/regenerate_golden replaces them by the output of
`python -m tests.promises.test_golden`.
"""

import functools
import hashlib
import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

import centerloss
from centerloss._core import _build_info
from tests.helpers.layouts import every_second_row
from tests.helpers.processes import ROOT

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
# Enough for eight threads even with two bytes per value, and for classes of many rows.
ROWS, COLUMNS, CLASSES = 9600, 440, 200


ISAS = ["baseline", "x86-64-v3", "x86-64-v4"]


def integers(seed, shape, bits):
    """Random integers that do not depend on NumPy's generators (SplitMix64)."""
    start = np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(seed << 32)
    z = (start + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z >> np.uint64(64 - bits)).astype(np.int64).reshape(shape)


@functools.cache
def batch():
    """Features that every dtype represents, labels, 53-bit centers and weights."""
    features = (integers(1, (ROWS, COLUMNS), 9) - 2**8) / 2**7
    centers = (integers(2, (CLASSES, COLUMNS), 53) - 2**52) / 2**51
    labels = integers(3, ROWS, 20) % CLASSES * integers(4, ROWS, 1)
    return features, labels, centers, integers(5, ROWS, 53) / 2**52


def line(*words, arrays):
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(np.ascontiguousarray(array).view(np.uint8))
    return f"{' '.join(words)} {sha.hexdigest()[:16]}\n"


def lines(name, layout=np.copy, labels_dtype=np.int64):
    """Hashes of the results of three steps, of the centers, and of deltas and sums."""
    features, labels, centers, weights = batch()
    dtype, centers_dtype = DTYPES[name]
    features, centers = layout(features.astype(dtype)), centers.astype(centers_dtype)
    labels = layout(labels.astype(labels_dtype))
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


@pytest.mark.thread_unsafe(reason="starts a process with several threads")
@pytest.mark.parametrize("isa", ISAS)
def test_every_instruction_set_and_number_of_threads(isa):
    assert _build_info()["isa"] in ISAS
    threads = ["1", "2", "3", "8"]
    done = subprocess.run(
        [sys.executable, "-m", __name__, *threads],
        env=os.environ | {"CENTERLOSS_ISA": isa},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if "this build or this processor does not have" in done.stderr:
        pytest.skip(f"there is no {isa} here")
    assert done.stderr == ""
    assert done.stdout == GOLDEN * len(threads)


@pytest.mark.kernels
@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize(
    ("layout", "labels_dtype"),
    [(np.copy, "int64"), (np.asfortranarray, "int32"), (every_second_row, "uint8")],
)
def test_every_layout_and_label_dtype(name, layout, labels_dtype):
    golden = [line for line in GOLDEN.splitlines() if line.split()[0] == name]
    assert lines(name, layout, labels_dtype).splitlines() == golden


if __name__ == "__main__":
    for threads in sys.argv[1:] or ["1"]:
        centerloss.set_num_threads(int(threads))
        for name in DTYPES:
            print(lines(name), end="")
