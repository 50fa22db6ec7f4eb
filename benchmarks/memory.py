"""The peak of extra memory during a step, as the kernel counts it.

``python -m benchmarks.memory CLASSES ...`` measures in a process of its own, in which
malloc gives every block of 4 KiB or more pages of its own and returns them when the
block is freed; free blocks from before, in which one could hide, are filled first. Of
two marks the higher one counts:

- The mark of address space (VmPeak), exact to a page. It cannot be set back; instead
  the process reserves address space up to it, so that the step's first page raises it.
- The mark of resident memory (VmHWM), which is set back before the step and has the
  pages of stacks in it. The kernel batches its counting: it may be 256 KiB off.
"""

import json
import mmap
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import centerloss

ROWS = (4096, 1 << 18)
DIM = 64
THREADS = (1, 2)
REPEATS = 5

MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "4096",
    "MALLOC_TRIM_THRESHOLD_": "4096",
    "MALLOC_TOP_PAD_": "0",
}
RESET = Path("/proc/self/clear_refs")


def measure_memory(classes: Sequence[int]) -> list[dict[str, int]]:
    """Measure in a fresh process; an empty list where there is no /proc to ask."""
    if not RESET.exists():
        return []
    output = subprocess.check_output(
        [sys.executable, "-m", "benchmarks.memory", *map(str, classes)],
        env={**os.environ, **MALLOC},
        cwd=Path(__file__).parents[1],
        text=True,
    )
    return json.loads(output)


def peak_bytes(call: Callable[[], object]) -> int:
    """Return by how much the memory of this process peaks during a call."""
    call()  # code and stacks are there
    sizes = [1 << power for power in range(20, 11, -1)]
    filling = [np.empty(size, np.uint8) for size in sizes for _ in range(64)]
    peak = max(_peak_bytes_once(call) for _ in range(REPEATS))
    del filling
    return peak


def _peak_bytes_once(call: Callable[[], object]) -> int:
    RESET.write_text("5")
    with mmap.mmap(-1, max(1, _status("VmPeak") - _status("VmSize"))):
        space, resident = _status("VmPeak"), _status("VmHWM")
        call()
        return max(_status("VmPeak") - space, _status("VmHWM") - resident)


def _status(name: str) -> int:
    # Through a buffer so small that reading does not raise the marks.
    status = os.open("/proc/self/status", os.O_RDONLY)
    try:
        text = os.read(status, 2048).decode()
    finally:
        os.close(status)
    kilobytes = re.search(rf"^{name}:\s*(\d+) kB$", text, re.MULTILINE)
    if kilobytes is None:
        msg = f"no {name} in /proc/self/status"
        raise RuntimeError(msg)
    return int(kilobytes[1]) * 1024


def _measure_here(classes: int) -> list[dict[str, int]]:
    rng = np.random.default_rng(0)
    centers = np.full((classes, DIM), 0.5, np.float32)
    results = []
    for rows in ROWS:
        features = rng.standard_normal((rows, DIM), dtype=np.float32)
        batch = features, rng.integers(0, classes, rows), centers
        out = np.empty_like(features)
        for threads in THREADS:
            centerloss.set_num_threads(threads)
            peak = peak_bytes(lambda: centerloss.step(*batch, out=out))  # noqa: B023
            results.append(
                {"classes": classes, "rows": rows, "threads": threads, "bytes": peak}
            )
    return results


if __name__ == "__main__":
    measured = [row for K in sys.argv[1:] for row in _measure_here(int(K))]
    print(json.dumps(measured))
