"""The outcome of training as a table, as a picture and as JSON."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from .data import Split
from .training import Result, Run

# M. Petroff, "Accessible Color Sequences for Data Visualization", 2021: ten colors that
# stay apart in the three kinds of color blindness.
COLORS = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
# The shape changes where the colors start again.
MARKERS = "os^Dv"

_COLUMNS = {
    "loss weight": "{0.loss_weight:g}",
    "accuracy": "{0.test_accuracy:.2%}",
    "nearest center": "{0.nearest_center_accuracy:.2%}",
    "within": "{0.within:.4g}",
    "between": "{0.between:.4g}",
    "ratio": "{0.ratio:.4f}",
    "seconds": "{0.seconds:.2f}",
    "in centerloss": "{0.seconds_centerloss:.3f}",
}


def table(results: Sequence[Result]) -> str:
    """Return the results as lines of text, one a run below the names of the columns."""
    rows = [list(_COLUMNS)]
    rows += [[cell.format(result) for cell in _COLUMNS.values()] for result in results]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def to_json(results: Sequence[Result]) -> str:
    """Return the results as JSON: ``{"runs": [{"loss_weight": ..., ...}, ...]}``."""
    runs = [asdict(result) for result in results]
    return json.dumps({"runs": runs}, indent=2, allow_nan=False) + "\n"


def picture(runs: Sequence[Run], results: Sequence[Result], split: Split) -> Figure:
    """Draw the test features and the centers, one panel a run.

    All panels have the same axes, unless the features of one would fill less than half
    the width of its panel: then each has its own, and its title says how much it is
    magnified. Features of more than two values are seen along their first two
    principal axes.

    Parameters
    ----------
    runs : sequence of Run
    results : sequence of Result
        What the titles say about each.
    split : Split
        Whose test images to show.

    Returns
    -------
    Figure
        Made without pyplot; ``savefig`` writes it.
    """
    columns = len(runs) if len(runs) < 4 else 2 + (len(runs) > 4)
    rows = math.ceil(len(runs) / columns)
    legend_rows = math.ceil((len(split.classes) + 1) / 11)
    width = 8 if columns > 1 else 6
    height = rows * (width / columns + 0.5) + 0.25 * legend_rows
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in panels[len(runs) :]:
        unused.remove()

    points = [_in_plane(run, split) for run in runs]
    extents = [_extent(np.concatenate(both)) for both in points]
    widest = max(half for _, half in extents)
    same_axes = all(half > widest / 2 for _, half in extents)
    if same_axes:
        together = np.concatenate([array for both in points for array in both])
        extents = [_extent(together)] * len(runs)
    name = "feature" if runs[0].settings.feat_dim == 2 else "principal axis"
    for axes, (features, centers), (middle, half), result in zip(
        panels, points, extents, results, strict=False
    ):
        _draw(axes, features, centers, split.test_labels)
        axes.set_xlim(middle[0] - half, middle[0] + half)
        axes.set_ylim(middle[1] - half, middle[1] + half)
        title = (
            f"loss weight {result.loss_weight:g}\n"
            f"accuracy {result.test_accuracy:.1%}, ratio {result.ratio:.3f}"
        )
        if not same_axes:
            title += f"\nmagnified {widest / half:.1f}\N{MULTIPLICATION SIGN}"
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(f"{name} 1", fontsize=9)
        axes.set_ylabel(f"{name} 2", fontsize=9)
    figure.legend(
        handles=_legend(split.classes),
        loc="outside lower center",
        ncols=11,
        fontsize=9,
        frameon=False,
        handletextpad=0.1,
        columnspacing=1.2,
    )
    return figure


def _in_plane(run: Run, split: Split) -> tuple[NDArray, NDArray]:
    """Return test features and centers in two dimensions."""
    features = run.network.features(split.test_images)
    centers = run.center_loss.centers
    if features.shape[1] == 2:
        return features, centers
    mean = features.mean(axis=0)
    axes = np.linalg.svd(features - mean, full_matrices=False)[2][:2]
    return (features - mean) @ axes.T, (centers - mean) @ axes.T


def _extent(points: NDArray) -> tuple[NDArray, float]:
    """Return middle and half width of a square around the points, with a margin."""
    low, high = points.min(axis=0), points.max(axis=0)
    return (low + high) / 2, float(np.max(high - low)) * 0.53


def style(label: int) -> dict[str, str]:
    """Return color and marker of a class, different ones for the first 50."""
    marker = MARKERS[label // len(COLORS) % len(MARKERS)]
    return {"color": COLORS[label % len(COLORS)], "marker": marker}


def _draw(
    axes: Axes, features: NDArray, centers: NDArray, labels: NDArray[np.integer]
) -> None:
    """Draw points and centers of one run."""
    size = float(np.clip(6000 / len(features), 2, 12))
    for label, center in enumerate(centers):
        look = style(label)
        rows = features[labels == label]
        axes.scatter(*rows.T, s=size, alpha=0.6, linewidths=0, **look)
        look["marker"] = "X"
        axes.scatter(*center, s=55, edgecolors="black", linewidths=1, zorder=3, **look)
    axes.set_aspect("equal")
    axes.locator_params(nbins=6)
    axes.tick_params(labelsize=8)
    axes.grid(color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)


def _legend(classes: Sequence[str]) -> list[Line2D]:
    handles = [
        Line2D([], [], linestyle="", markersize=6, label=name, **style(label))
        for label, name in enumerate(classes)
    ]
    center = Line2D([], [], linestyle="", marker="X", markersize=8, label="center")
    center.set(markerfacecolor="white", markeredgecolor="black")
    return [*handles, center]
