"""Centers in shards: time, bytes and memory, against all centers on every rank.

``python -m benchmarks.shards`` compares ``centerloss.torch.ShardedCenterLoss`` with
``CenterLoss(process_group=...)`` on gloo, and ``centerloss.distributed`` with the same
scheme in mpi4py. It writes JSON, a page and a plot to results/. All ranks run on this
machine.
"""

import argparse
import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from .lookup import Results
from .machine import describe, stem
from .plots import BLUE, DPI, GREEN, ORANGE, RED
from .report import describe_machine, duration, number, spread, table
from .shards_rank import REPLICATED, SHARDED, Job

OUT = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]
END = "-shards"  # of the names of the files
CLASSES = [10**5, 10**6, 10**7, 10**8]
FLOAT = 4  # bytes
# Part of the available memory that the centers of a run may take.
PART = 0.6
# The name in the plot, its color, and its marker.
STYLES = {
    ("gloo", True): ("gloo, in shards", BLUE, "o"),
    ("gloo", False): ("gloo, all on every rank", ORANGE, "s"),
    ("MPI", True): ("MPI, in shards", GREEN, "D"),
    ("MPI", False): ("MPI, all on every rank", RED, "^"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    start = time.perf_counter()
    options = _parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    machine = describe()
    runs = [
        run(engine, ranks, quick=options.quick)
        for engine in options.engines
        for ranks in options.ranks
    ]
    results = {"machine": machine, "threads": [1], "runs": runs}
    page = options.out / page_name(results)
    page.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    text = markdown(results)
    page.write_text(text)
    draw(results, options.out)
    print(f"\n{text}\n{time.perf_counter() - start:.0f} s; written to {options.out}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.shards", description=__doc__)
    engines = _engines()
    parser.add_argument(
        "--engines", nargs="+", choices=engines, default=engines, metavar="NAME",
        help=f"of those installed: {', '.join(engines)} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--ranks", nargs="+", type=int, default=[2, 4], metavar="P",
        help="numbers of ranks (default: 2 4)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=OUT, help="output folder (default: %(default)s)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="take few samples, to see that it runs"
    )
    return parser.parse_args(arguments)


def _engines() -> list[str]:
    found = ["gloo"] if importlib.util.find_spec("torch") else []
    if importlib.util.find_spec("mpi4py") and shutil.which("mpiexec"):
        found.append("MPI")
    return found


def run(engine: str, ranks: int, *, quick: bool) -> Results:
    """Run a job on all ranks; return its results."""
    start = time.perf_counter()
    print(f"{engine}, {ranks} ranks", end=" ", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if quick:
            sizes: dict[str, int] = {"rows": 32, "dim": 8, "samples": 2, "calls": 1}
            job = Job(engine, ranks, folder, [1000, 2000], [4000], [1000], **sizes)
        else:
            job = _job(engine, ranks, folder)
        _launch(job)
        results: Results = json.loads(Path(folder, "results.json").read_text())
    print(f"{time.perf_counter() - start:.0f} s")
    return results


def _job(engine: str, ranks: int, folder: str) -> Job:
    """With two ranks, all numbers of classes; those that are too many are mapped."""
    if ranks > 2:
        return Job(engine, ranks, folder, CLASSES[:2], [], CLASSES[:2], samples=30)
    free = _available_memory()
    bytes_of = {K: K * Job.dim * FLOAT for K in CLASSES}
    in_memory = [K for K in CLASSES if bytes_of[K] < PART * free]
    mapped = [
        K
        for K in CLASSES
        if K not in in_memory and _can_map(folder, bytes_of[K] // ranks)
    ]
    return Job(engine, ranks, folder, in_memory, mapped, CLASSES[:2], samples=60)


def _available_memory() -> int:
    """Return the free memory with that of cached files, in bytes."""
    found = re.search(r"MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text())
    assert found is not None
    return 1024 * int(found[1])


def _can_map(folder: str, size: int) -> bool:
    """Return whether the file system takes a sparse file of this size."""
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            file.truncate(size)
        except OSError:
            return False
    return True


def _launch(job: Job) -> None:
    """Start all ranks, and wait for them."""
    own = ["-m", "benchmarks.shards_rank", json.dumps(asdict(job))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if job.engine == "MPI":
        environment |= dict.fromkeys(
            ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"), "1"
        )
        mpiexec = ["mpiexec", "--oversubscribe", "--bind-to", "none"]
        command = [*mpiexec, "-n", str(job.ranks), sys.executable, "-m", "mpi4py", *own]
        subprocess.run(command, env=environment, cwd=ROOT, check=True)
        return
    processes = [
        subprocess.Popen(
            [sys.executable, *own], env={**environment, "RANK": str(rank)}, cwd=ROOT
        )
        for rank in range(job.ranks)
    ]
    # If one fails, the others lose the connection to it, and fail too.
    codes = [process.wait() for process in processes]
    if any(codes):
        msg = f"the ranks ended with {codes}"
        raise RuntimeError(msg)


# --- the page -------------------------------------------------------------------------


def markdown(results: Results) -> str:
    """Return the page: all tables, and a link to the plot."""
    runs = results["runs"]
    first = runs[0]
    engines = {run["engine"] for run in runs}
    missing = [f"{name} is not installed." for name in SHARDED if name not in engines]
    notes = [
        f"{first['rows']} rows a rank, {first['dim']} values a row, float32, one "
        "thread a rank. A sample is the mean of the steps after a barrier, of the "
        f"slowest rank; {first['calls']} steps, each with other labels. Ranks are "
        "not pinned to processors.",
        *missing,
    ]
    parts = [
        "# Centers in shards",
        describe_machine(results),
        " ".join(notes),
        "## Time of a step",
        _times(runs),
        "## Over all centers on every rank",
        _ratios(runs),
        "## Over the fewest classes",
        _flatness(runs),
        "## Exchanges and bytes",
        "Of a step, received by a rank from others, the mean of all ranks. The bound "
        "is (P-1)/P (8 U + 4 D U + (4 D + 16) B) + 72 (P-1) for U distinct classes in "
        "B rows. On every rank, it is (P-1) (4 D + 8) B.",
        _traffic(runs),
        "## Memory",
        "Of the rank that takes most: growth of the resident memory at its peak while "
        "the object is made, over the size of its centers; and in a step, in units of "
        "(4 D + 16) B bytes, as Linux counts it and as NumPy does. Centers marked * "
        "are in a memory-mapped file.",
        _memory(runs),
        f"![Time and memory against the number of classes]({_plot_name(results)})",
    ]
    return "\n\n".join(parts) + "\n"


def page_name(results: Results) -> str:
    return f"{stem(results['machine'])}{END}.md"


def _plot_name(results: Results) -> str:
    return f"{stem(results['machine'])}{END}.png"


def entry_of(run: Results, name: str, classes: int) -> Results | None:
    for entry in run["entries"]:
        if (entry["name"], entry["classes"]) == (name, classes):
            return entry
    return None


def ratio(run: Results, name: str, classes: int) -> float | None:
    """Return the time of a step over that with all centers on every rank."""
    own, other = entry_of(run, name, classes), entry_of(run, REPLICATED, classes)
    return own["median"] / other["median"] if own and other else None


def _label(run: Results, name: str) -> str:
    return f"{run['engine']}, {run['ranks']} ranks, {name}"


def _names(run: Results) -> list[str]:
    return list(dict.fromkeys(entry["name"] for entry in run["entries"]))


def _classes(runs: Sequence[Results]) -> list[int]:
    return sorted({entry["classes"] for run in runs for entry in run["entries"]})


def _by_classes(
    runs: Sequence[Results], names_of: Any, cell: Any, *, last: bool = True
) -> str:
    columns = _classes(runs)
    rows = [
        [_label(run, name), *(cell(run, name, K) for K in columns)]
        for run in runs
        for name in names_of(run)
    ]
    kept = [k for k in range(len(columns)) if last or any(row[k + 1] for row in rows)]
    head = ["", *(f"K={columns[k]}" for k in kept)]
    return table(head, [[row[0], *(row[k + 1] for k in kept)] for row in rows])


def _times(runs: Sequence[Results]) -> str:
    return _by_classes(runs, _names, lambda *key: spread(entry_of(*key)))


def _ratios(runs: Sequence[Results]) -> str:
    def cell(*key: Any) -> str:
        found = ratio(*key)
        return "" if found is None else f"{found:.2f}"

    return _by_classes(runs, lambda run: SHARDED[run["engine"]], cell, last=False)


def _flatness(runs: Sequence[Results]) -> str:
    fewest = _classes(runs)[0]

    def cell(run: Results, name: str, classes: int) -> str:
        entry, base = entry_of(run, name, classes), entry_of(run, name, fewest)
        return f"{entry['median'] / base['median']:.2f}" if entry and base else ""

    return _by_classes(runs, _names, cell)


def bound(run: Results, entry: Results) -> float:
    """Return the bound of the bytes that a rank receives in a step."""
    P, B, D = run["ranks"], run["rows"], run["dim"]
    if entry["name"] == REPLICATED:
        return (P - 1) * (FLOAT * D + 8) * B
    U = entry["distinct classes"]
    each = 8 * U + FLOAT * D * U + (FLOAT * D + 16) * B
    return (P - 1) / P * each + 72 * (P - 1)


def _traffic(runs: Sequence[Results]) -> str:
    rows = [
        [
            f"{_label(run, entry['name'])}, K={entry['classes']}",
            f"{entry['exchanges']:.0f}",
            f"{entry['bytes received'] / 1e6:.3f} MB",
            f"{bound(run, entry) / 1e6:.3f} MB",
        ]
        for run in runs
        for entry in run["entries"]
        if entry["classes"] <= CLASSES[1]
    ]
    return table(["", "exchanges", "received", "bound"], rows)


def centers_bytes(run: Results, entry: Results) -> int:
    """Return the bytes of a rank's centers."""
    parts = 1 if entry["name"] == REPLICATED else run["ranks"]
    return math.ceil(entry["classes"] / parts) * run["dim"] * FLOAT


def _memory(runs: Sequence[Results]) -> str:
    rows = []
    for run in runs:
        unit = (FLOAT * run["dim"] + 16) * run["rows"]
        for entry in run["entries"]:
            memory, size = entry["memory"], centers_bytes(run, entry)
            # Variants share their centers: the first one makes them.
            made = memory["construction"] / size
            if entry["name"] in (REPLICATED, SHARDED[run["engine"]][0]):
                cells = [f"{size / 1e6:.0f} MB", f"{made:.3f}"]
            else:
                cells = ["", ""]
            mark = "*" if entry["mapped"] else ""
            rows.append(
                [
                    f"{_label(run, entry['name'])}, K={entry['classes']}{mark}",
                    *cells,
                    number(memory["step"] / unit),
                    number(memory["step, of NumPy"] / unit),
                ]
            )
    return table(["", "centers", "made", "step", "step, of NumPy"], rows)


def summary(results: Results, folder: str) -> str:
    """Return a table of what a step costs, for another page."""
    runs, machine = results["runs"], results["machine"]
    rows = [_summary_row(run, name) for run in runs for name in SHARDED[run["engine"]]]
    head = [
        "engine, ranks, `over`", "step", "over all centers on every rank",
        "the most classes", "step with them over the first", "received",
    ]  # fmt: skip
    first = runs[0]
    note = (
        f"A step on {first['rows']} x {first['dim']} float32 values a rank, one thread "
        f"a rank, with {_classes(runs)[0]:,} classes unless stated; all ranks on one "
        f"machine with {machine['processors']} processors; {machine['processor']}, "
        f"{machine['date']}. `benchmarks/results/{page_name(results)}` has the "
        "quartiles, bytes and memory; `python -m benchmarks.shards` measures your "
        "machine."
    )
    plot = f"![Time and memory of a step]({folder}/{_plot_name(results)})"
    lines = fill(note.replace(",000", "\xa0000"), 88, break_on_hyphens=False)
    return f"{table(head, rows)}\n\n{lines}\n\n{plot}\n".replace("\xa0", " ")


def _summary_row(run: Results, name: str) -> list[str]:
    first, *_, last = (entry for entry in run["entries"] if entry["name"] == name)
    over_replicated = ratio(run, name, first["classes"])
    return [
        f'{run["engine"]}, {run["ranks"]}, "{name.split()[-1]}"',
        duration(first["median"]),
        f"{over_replicated:.2f} times" if over_replicated else "",
        f"{last['classes']:,}".replace(",", " "),
        f"{last['median'] / first['median']:.2f} times",
        f"{first['bytes received'] / 1e6:.2f} MB",
    ]


# --- the plot -------------------------------------------------------------------------


def draw(results: Results, folder: Path) -> Path:
    """Draw time and memory of two ranks against the number of classes."""
    path = folder / _plot_name(results)
    fewest = min(run["ranks"] for run in results["runs"])
    runs = [run for run in results["runs"] if run["ranks"] == fewest]
    with plt.rc_context({"font.size": 11, "axes.spines.top": False}):
        figure, (times, memory) = plt.subplots(
            1, 2, figsize=(10, 4.8), layout="constrained"
        )
        for run in runs:
            for sharded in (True, False):
                _draw_variant(times, memory, run, sharded=sharded)
        for axes in (times, memory):
            axes.spines["right"].set_visible(False)
            axes.set_xlabel("classes K")
            axes.grid(visible=True, which="major", color="0.9")
        times.set_ylim(bottom=0)
        times.set_ylabel("time of a step [ms]")
        memory.set_ylabel("memory of a rank [GB]")
        first = runs[0]
        figure.suptitle(
            f"{fewest} ranks, {first['rows']} x {first['dim']} float32 features each"
        )
        handles, labels = times.get_legend_handles_labels()
        figure.legend(
            handles, labels, frameon=False, loc="outside lower center", ncols=2,
            title="hollow: memory-mapped; only the pages in use take memory\n"
            "the lines of memory are those of both engines",
            title_fontsize=9,
        )  # fmt: skip
        figure.savefig(path, dpi=DPI)
        plt.close(figure)
    return path


def _draw_variant(times: Axes, memory: Axes, run: Results, *, sharded: bool) -> None:
    name = SHARDED[run["engine"]][0] if sharded else REPLICATED
    entries = [entry for entry in run["entries"] if entry["name"] == name]
    label, color, marker = STYLES[run["engine"], sharded]
    classes = [entry["classes"] for entry in entries]
    medians = [1e3 * entry["median"] for entry in entries]
    grown = [
        (entry["memory"]["construction"] + entry["memory"]["step"]) / 1e9
        for entry in entries
    ]
    in_memory = sum(not entry["mapped"] for entry in entries)
    times.semilogx(classes, medians, color=color, label=label)
    memory.loglog(classes[:in_memory], grown[:in_memory], color=color)
    for K, median, size, entry in zip(classes, medians, grown, entries, strict=True):
        face = "white" if entry["mapped"] else color
        times.plot(K, median, marker, color=color, markerfacecolor=face)
        memory.plot(K, size, marker, color=color, markerfacecolor=face)
    lower = [1e3 * entry["lower"] for entry in entries]
    upper = [1e3 * entry["upper"] for entry in entries]
    times.fill_between(classes, lower, upper, color=color, alpha=0.15, linewidth=0)


if __name__ == "__main__":
    main()
