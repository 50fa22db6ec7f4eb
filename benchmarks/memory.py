"""Peak of additional memory during a step, as counted by Linux.

``python -m benchmarks.memory CLASSES ...`` measures in its own process, with malloc
set to map blocks of 4 KiB or more separately and to unmap them when freed. Blocks that
were freed earlier are filled first, so that no allocation can reuse them. The result is
the larger of two measures:

- Peak virtual memory (VmPeak), exact to a page. It cannot be reset, so address space is
  reserved up to the peak before the step: any page the step maps then raises it.
- Peak resident memory (VmHWM), which is reset before the step and includes stacks.
  The kernel updates it in batches; it may be off by 256 KiB.
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
    """Measure in a fresh process; return an empty list where there is no /proc."""
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
    """Return how much the memory of this process grows during a call, at most."""
    call()  # pages in code and stacks
    sizes = [1 << power for power in range(20, 11, -1)]
    filling = [np.empty(size, np.uint8) for size in sizes for _ in range(64)]
    peak = max(_peak_bytes_once(call) for _ in range(REPEATS))
    del filling
    return peak


def _peak_bytes_once(call: Callable[[], object]) -> int:
    RESET.write_text("5")
    with mmap.mmap(-1, max(1, status("VmPeak") - status("VmSize"))):
        space, resident = status("VmPeak"), status("VmHWM")
        call()
        return max(status("VmPeak") - space, status("VmHWM") - resident)


def status(name: str) -> int:
    # A small buffer, so that reading does not raise the peaks.
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
