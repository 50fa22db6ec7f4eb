"""Time of the import, beyond NumPy's own."""

import subprocess
import sys
from pathlib import Path

import numpy as np

IMPORT = """
import numpy, time
start = time.perf_counter()
import centerloss
print(time.perf_counter() - start)
"""


def measure_import(repeats: int) -> dict[str, float]:
    """Time the import in fresh interpreters; return median and quartiles in seconds."""
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", IMPORT]
    seconds = [
        float(subprocess.check_output(command, cwd=root, text=True))
        for _ in range(1 + repeats)
    ]
    # The first import may compile bytecode and read from disk.
    lower, median, upper = np.quantile(seconds[1:], [0.25, 0.5, 0.75]).tolist()
    return {"median": median, "lower": lower, "upper": upper, "samples": repeats}
