"""What each mechanism of the kernels gains.

``python -m benchmarks.mechanisms`` builds the extension as it is and, per mechanism,
with a change of the source that switches it off. It times a step with both, in turns,
in one process and on one thread, and prints the time without the mechanism divided by
the time with it. Building takes some minutes.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from .compare import compare, load
from .workloads import WORKLOADS, make_batch

ROOT = Path(__file__).parents[1]
NAMES = ("toy", "reid", "face", "face4k", "many", "long", "one class")

# The file in csrc/kernels, what stands there, and what switches the mechanism off.
SWITCHES = {
    "stores past the caches": (
        "ops.c",
        "MIN_BYTES_NONTEMPORAL = 4 << 20",
        "MIN_BYTES_NONTEMPORAL = 1e300",
    ),
    "batch order": ("plan.c", "MAX_SUM_BYTES = 2 << 20", "MAX_SUM_BYTES = -1"),
    "loops for classes of one row": (
        "kernels_template.h",
        "stop - start == 1 &&",
        "stop - start == 0 &&",
    ),
    "fused update of their centers": (
        "kernels_for_isa.h",
        "return f == v && (bits",
        "return f != v && (bits",
    ),
    "loop for rows of three values": (
        "kernels_template.h",
        "batch->D <= SHORT_ROW_VALUES",
        "batch->D < 0",
    ),
    "prefetching": ("ops.c", "return rows > 1 ? (int64_t)rows : 1;", "return 0;"),
}


def main() -> None:
    rng = np.random.default_rng(0)
    batches = {name: make_batch(WORKLOADS[name], rng) for name in NAMES}
    with tempfile.TemporaryDirectory() as folder:
        best = build(Path(folder, "best"))
        print("| without | " + " | ".join(NAMES) + " |")
        print("| --- |" + " ---: |" * len(NAMES))
        for mechanism, switch in SWITCHES.items():
            other = build(Path(folder, mechanism), *switch)
            print(row(mechanism, load_as(best), load_as(other), batches), flush=True)
        with_best = load_as(best)
        isa = with_best._build_info()["isa"]
        lower = {"x86-64-v4": "x86-64-v3", "x86-64-v3": "baseline"}
        while isa in lower:
            with_isa, without = load_as(best, isa), load_as(best, lower[isa])
            print(row(isa, with_isa, without, batches), flush=True)
            isa = lower[isa]
        one, two = load_as(best), load_as(best)
        print(row("two threads", two, one, batches, threads=(2, 1)), flush=True)


def build(folder: Path, file: str = "", old: str = "", new: str = "") -> Path:
    """Build the extension in a copy of its source with one text replaced."""
    for part in ("csrc", "centerloss"):
        ignore = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / part, folder / part, ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    if file:
        source = folder / "csrc" / "kernels" / file
        text = source.read_text()
        assert text.count(old) == 1, (file, old)
        source.write_text(text.replace(old, new))
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=folder, check=True)
    (built,) = (folder / "centerloss").glob("_core*.so")
    return built


def load_as(path: Path, isa: str = "") -> Any:
    """Load a build with an instruction set, apart from other modules of the file."""
    copy = path.with_name(f"{len(list(path.parent.iterdir()))}-{path.name}")
    shutil.copy(path, copy)
    before = os.environ.get("CENTERLOSS_ISA", "")
    os.environ["CENTERLOSS_ISA"] = isa
    try:
        return load(str(copy))
    finally:
        os.environ["CENTERLOSS_ISA"] = before


def row(
    mechanism: str,
    best: Any,
    other: Any,
    batches: dict[str, Any],
    threads: tuple[int, int] = (1, 1),
) -> str:
    ratios = []
    for batch in batches.values():
        rng = np.random.default_rng(0)
        times = compare([best, other], batch, threads, rng)
        ratios.append(f"{np.median(times[:, 1] / times[:, 0]):.2f}")
    return f"| {mechanism} | " + " | ".join(ratios) + " |"


if __name__ == "__main__":
    main()
