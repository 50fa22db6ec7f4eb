"""The results as plots."""

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from .lookup import COPY, SAME_LABELS, Results, fastest, seconds
from .report import CLASSES_PLOT, COPY_PLOT, plot_name

# Okabe and Ito's palette for color-blind readers.
BLUE, SKY, GREEN, ORANGE, RED, PURPLE, BLACK = (
    "#0072B2",
    "#56B4E9",
    "#009E73",
    "#E69F00",
    "#D55E00",
    "#CC79A7",
    "#000000",
)
STYLES = {
    "centerloss": (BLUE, "o", "-"),
    SAME_LABELS: (SKY, "o", ":"),
    "numba": (PURPLE, "s", "--"),
    "PyTorch sparse": (ORANGE, "^", "-."),
    "PyTorch dense": (RED, "v", "-"),
    "NumPy reduceat": (GREEN, "D", ":"),
    "NumPy add.at": (BLACK, "x", "--"),
}
WIDTH = 8  # inches
DPI = 200


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw what was measured; return the files written."""
    files = []
    with plt.rc_context({"font.size": 11, "axes.spines.top": False}):
        if results["classes"]:
            path = folder / plot_name(results, CLASSES_PLOT)
            files.append(_save(path, _draw_classes, results, 5))
        if results["workloads"]:
            path = folder / plot_name(results, COPY_PLOT)
            files.append(_save(path, _draw_relative_to_copy, results, 9))
    return files


def _save(
    path: Path,
    draw_on: Callable[[Axes, Results], None],
    results: Results,
    height: float,
) -> Path:
    figure, axes = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    axes.spines["right"].set_visible(False)
    draw_on(axes, results)
    figure.legend(frameon=False, loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
    return path


def _draw_classes(axes: Axes, results: Results) -> None:
    classes = results["classes"]
    for name, (color, marker, line) in STYLES.items():
        points = [(int(K), seconds(result, name)) for K, result in classes.items()]
        points = [(K, 1e3 * time) for K, time in points if time is not None]
        if not points:
            continue
        width = 3 if name == "centerloss" else 1.8
        axes.loglog(
            *zip(*points, strict=True),
            color=color,
            marker=marker,
            linestyle=line,
            linewidth=width,
            label=name,
        )
    result = next(iter(classes.values()))
    axes.set_xlabel("classes K")
    axes.set_ylabel("time of a step [ms]")
    axes.set_title(
        f"A step on {result['rows']} x {result['dim']} float32 features, one thread"
    )
    axes.grid(visible=True, which="major", color="0.9")


def _draw_relative_to_copy(axes: Axes, results: Results) -> None:
    workloads = results["workloads"]
    bars = {
        "centerloss, 1 thread": (BLUE, _shares(results, "centerloss")),
        "centerloss, 2 threads": (SKY, _shares(results, "centerloss", 2)),
        "C by hand": (BLACK, _shares(results, "C by hand")),
        "numba": (PURPLE, _shares(results, "numba")),
        "fastest PyTorch, 1 thread": (ORANGE, _shares(results, "fastest PyTorch")),
        "fastest PyTorch, 2 threads": (RED, _shares(results, "fastest PyTorch", 2)),
        "fastest NumPy": (GREEN, _shares(results, "fastest NumPy")),
    }
    bars = {label: bar for label, bar in bars.items() if bar[1]}
    height = 0.8 / len(bars)
    for i, (label, (color, shares)) in enumerate(bars.items()):
        positions = [j - 0.4 + (i + 0.5) * height for j in shares]
        axes.barh(
            positions, list(shares.values()), 0.9 * height, color=color, label=label
        )
        for position, share in zip(positions, shares.values(), strict=True):
            axes.text(
                share + 1, position, f"{share:.0f}" if share >= 9.5 else f"{share:.2g}",
                va="center", fontsize=8,
            )  # fmt: skip
    axes.axvline(100, color="0.4", linewidth=1, zorder=0)
    axes.set_title("Speed of a step relative to a copy")
    axes.set_yticks(range(len(workloads)), list(workloads))
    axes.invert_yaxis()
    axes.set_xlabel("% of the speed of np.copyto on the same number of bytes")


def _shares(results: Results, library: str, threads: int = 1) -> dict[int, float]:
    """Return the speed of a library in percent of a copy, by number of the workload."""
    shares = {}
    for j, result in enumerate(results["workloads"].values()):
        time, copy = fastest(result, library, threads), seconds(result, COPY)
        if time is not None and copy is not None:
            shares[j] = 100 * copy / time
    return shares
