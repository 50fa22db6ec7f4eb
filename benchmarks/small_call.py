"""Where the time of a small call goes.

``python -m benchmarks.small_call`` counts the instructions of a step on the batch
"toy", function by function, with Valgrind's callgrind on x86-64. It also times the
call, and the same call on one row: what is left without the rows. csrc/README.md has
the results.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from timeit import repeat

import numpy as np

import centerloss

from .peers.base import ALPHA
from .workloads import WORKLOADS, Batch, make_batch

CALLS = 1000

# Functions of the C, each with what it calls.
FUNCTIONS = (
    "core_step",
    "py_parse",
    "py_check_types",
    "py_check_values",
    "check_overlaps",
    "py_call_read",
    "cl_plan_make",
    "cl_read_labels",
    "cl_step",
    "segments_float32",
    "finalize_segments_float32",
    "cl_sum",
    "cl_plan_free",
)


def main() -> None:
    batch = make_batch(WORKLOADS["toy"], np.random.default_rng(0))
    if sys.argv[1:] == ["--run"]:
        step(batch, CALLS)
        return
    row = Batch(batch.features[:1], [batch.label_sets[0][:1]], batch.centers)
    for name, each in (("toy", batch), ("one row", row)):
        seconds = min(repeat(lambda each=each: step(each, CALLS), repeat=200, number=1))
        print(f"{name}: {1e9 * seconds / CALLS:.0f} ns")
    for function, count in instructions().items():
        print(f"{function:28} {count:6}")


def step(batch: Batch, calls: int) -> None:
    """Call `centerloss.step` so often on one thread, as the benchmarks do."""
    centerloss.set_num_threads(1)
    function, features, centers = centerloss.step, batch.features, batch.centers
    labels, gradient = batch.label_sets[0], np.empty_like(features)
    for _ in range(calls):
        function(features, labels, centers, alpha=ALPHA, out=gradient)


def instructions() -> dict[str, int]:
    """Return the instructions of a call by function."""
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder, "callgrind.out")
        valgrind = ["valgrind", "-q", "--tool=callgrind", "--toggle-collect=core_step"]
        valgrind.append(f"--callgrind-out-file={counts}")
        python = [sys.executable, "-m", "benchmarks.small_call", "--run"]
        subprocess.run([*valgrind, *python], check=True)
        annotate = ["callgrind_annotate", "--inclusive=yes", "--threshold=100", counts]
        text = subprocess.check_output(annotate, text=True)
    found = {}
    for function in FUNCTIONS:
        rows = re.findall(rf"^ *([\d,]+) .*:{function}(?: \[|$)", text, re.MULTILINE)
        found[function] = max(int(row.replace(",", "")) for row in rows) // CALLS
    return found


if __name__ == "__main__":
    main()
