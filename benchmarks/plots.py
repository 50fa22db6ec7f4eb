"""The results as pictures."""

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from .report import CLASSES_PLOT, SHARE_PLOT
from .results_view import Results, fastest, ours, seconds
from .runner import FLOOR, SAME_LABELS

# Okabe and Ito's colours, which the colour-blind tell apart.
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
WIDTH = 8  # inches, with text of 11 points: legible at 800 pixels
DPI = 200


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw what was measured into the folder; return the pictures."""
    pictures = []
    with plt.rc_context({"font.size": 11, "axes.spines.top": False}):
        if results["classes"]:
            pictures.append(_save(folder / CLASSES_PLOT, _draw_classes, results, 5))
        if results["workloads"]:
            pictures.append(_save(folder / SHARE_PLOT, _draw_shares, results, 8))
    return pictures


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
        points = [(int(K), seconds(entry, name)) for K, entry in classes.items()]
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
    entry = next(iter(classes.values()))
    axes.set_xlabel("classes K")
    axes.set_ylabel("time of a step [ms]")
    axes.set_title(
        f"A step on {entry['rows']} x {entry['dim']} float32 features, one thread"
    )
    axes.grid(visible=True, which="major", color="0.9")


def _draw_shares(axes: Axes, results: Results) -> None:
    workloads = results["workloads"]
    bars = {
        "centerloss, 1 thread": (BLUE, ours, 1),
        "centerloss, 2 threads": (SKY, ours, 2),
        "numba": (PURPLE, lambda entry, _: seconds(entry, "numba"), 1),
        "fastest PyTorch, 1 thread": (ORANGE, _fastest("PyTorch"), 1),
        "fastest PyTorch, 2 threads": (RED, _fastest("PyTorch"), 2),
        "fastest NumPy": (GREEN, _fastest("NumPy"), 1),
    }
    height = 0.8 / len(bars)
    for i, (label, (color, find, threads)) in enumerate(bars.items()):
        for j, entry in enumerate(workloads.values()):
            time, floor = find(entry, threads), seconds(entry, FLOOR)
            if time is None or floor is None:
                continue
            share = 100 * floor / time
            place = j - 0.4 + (i + 0.5) * height
            name = label if j == 0 else None
            axes.barh(place, share, 0.9 * height, color=color, label=name)
            axes.text(
                share + 1, place, f"{share:.0f}" if share >= 9.5 else f"{share:.2g}",
                va="center", fontsize=8,
            )  # fmt: skip
    axes.axvline(100, color="0.4", linewidth=1, zorder=0)
    axes.set_title("Speed of a step, as a share of its floor")
    axes.set_yticks(range(len(workloads)), list(workloads))
    axes.invert_yaxis()
    axes.set_xlabel("% of the speed of a copy of the same bytes")


def _fastest(library: str) -> Callable[[Results, int], float | None]:
    return lambda entry, threads: fastest(entry, library, threads)
