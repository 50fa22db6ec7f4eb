"""The results as a table, a picture and JSON."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from .data import Split
from .training import Result, Run

# M. Petroff, "Accessible Color Sequences for Data Visualization", 2021: ten colors that
# are distinguishable with each kind of color blindness.
COLORS = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
# Classes with the same color have different markers.
MARKERS = "os^Dv"

_COLUMNS = {
    "loss weight": "{0.loss_weight:g}",
    "accuracy": "{0.test_accuracy:.2%}",
    "nearest center": "{0.nearest_center_accuracy:.2%}",
    "ratio": "{0.ratio:.4f}",
    "within": "{0.within:.4g}",
    "between": "{0.between:.4g}",
    "seconds": "{0.seconds:.2f}",
    "in centerloss": "{0.seconds_centerloss:.3f}",
}


def table(results: Sequence[Result]) -> str:
    """Return the results as text: the names of the columns, then one line per run."""
    rows = [list(_COLUMNS)]
    rows += [[cell.format(result) for cell in _COLUMNS.values()] for result in results]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def notes(results: Sequence[Result], num_images: int) -> str:
    """Return an explanation of the `table` of results on this many test images."""
    share = results[0].test_accuracy
    error = math.sqrt(share * (1 - share) / num_images)
    return (
        "ratio: within / between; the smaller it is, the more compact are the classes\n"
        "nearest center: accuracy if an image gets the class of the nearest center\n"
        f"accuracy: of the class with the highest score, standard error {error:.1%}; "
        "a large loss weight can lower it, see --help"
    )


def to_json(results: Sequence[Result]) -> str:
    """Return the results as JSON: ``{"runs": [{"loss_weight": ..., ...}, ...]}``."""
    runs = [asdict(result) for result in results]
    return json.dumps({"runs": runs}, indent=2, allow_nan=False) + "\n"


def picture(runs: Sequence[Run], results: Sequence[Result], split: Split) -> Figure:
    """Draw the test features and the centers, one panel per run.

    All panels have the same axes limits, unless the features of a run would fill less
    than half of its panel. Then each panel has its own limits, and its title gives the
    magnification. Features of more than two dimensions are projected to their first two
    principal axes.

    Parameters
    ----------
    runs : sequence of Run
    results : sequence of Result
        Numbers for the titles.
    split : Split
        The test images to show.

    Returns
    -------
    Figure
        A figure that pyplot does not know; use its ``savefig``.
    """
    figure, panels = make_panels(len(runs), split.classes, dpi=150)
    points = [_in_plane(run, split) for run in runs]
    name = "feature" if runs[0].settings.feat_dim == 2 else "principal axis"
    for axes, (features, centers), window, result in zip(
        panels, points, windows(points), results, strict=True
    ):
        draw(axes, features, centers, split.test_labels)
        window.apply(axes, name)
        title = (
            f"loss weight {result.loss_weight:g}: ratio {result.ratio:.3f}\n"
            f"accuracy {result.test_accuracy:.1%}, "
            f"nearest center {result.nearest_center_accuracy:.1%}"
        )
        axes.set_title(title + window.note, fontsize=8 if len(runs) > 2 else 9)
    return figure


def make_panels(
    count: int, classes: Sequence[str], dpi: float
) -> tuple[Figure, list[Axes]]:
    """Return a figure with empty panels and a legend below them."""
    columns = count if count < 4 else 2 + (count > 4)
    rows = math.ceil(count / columns)
    width = 8 if columns > 1 else 6
    legend_rows = math.ceil((len(classes) + 1) / 11)
    height = rows * (width / columns + 0.5) + 0.25 * legend_rows
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in panels[count:]:
        unused.remove()
    figure.legend(
        handles=_legend(classes),
        loc="outside lower center",
        ncols=11,
        fontsize=9,
        frameon=False,
        handletextpad=0.1,
        columnspacing=1.2,
    )
    return figure, list(panels[:count])


def _in_plane(run: Run, split: Split) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return test features and centers in two dimensions."""
    features = run.network.features(split.test_images)
    middle, axes = plane(features)
    return (features - middle) @ axes, (run.center_loss.centers - middle) @ axes


def plane(features: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the plane to project features to: a point (D,) and two axes (D, 2).

    The axes are the first two principal ones. Two-dimensional features are not changed.
    """
    dim = features.shape[1]
    if dim == 2:
        return np.zeros(dim, features.dtype), np.eye(dim, dtype=features.dtype)
    middle = features.mean(axis=0)
    return middle, np.linalg.svd(features - middle, full_matrices=False)[2][:2].T


class Window(NamedTuple):
    """The square that a panel shows.

    Attributes
    ----------
    middle : ndarray of shape (2,)
    half : float
        Half its width.
    note : str
        The magnification, to be appended to the title; empty if it is the same in all
        panels.
    """

    middle: NDArray[Any]
    half: float
    note: str = ""

    def apply(self, axes: Axes, name: str) -> None:
        """Set the limits and labels of the axes."""
        (x, y), half = self.middle, self.half
        axes.set_xlim(x - half, x + half)
        axes.set_ylim(y - half, y + half)
        axes.set_xlabel(f"{name} 1", fontsize=9)
        axes.set_ylabel(f"{name} 2", fontsize=9)


def windows(points: Sequence[Sequence[NDArray[Any]]]) -> list[Window]:
    """Return for each panel a window that shows all its points.

    The window is the same for all panels, unless the points of one would fill less than
    half of it.
    """
    own = [_window(np.concatenate(arrays)) for arrays in points]
    widest = max(window.half for window in own)
    if all(window.half > widest / 2 for window in own):
        return [_window(np.concatenate([a for each in points for a in each]))] * len(
            own
        )
    note = "\nmagnified {:.1f}\N{MULTIPLICATION SIGN}"
    return [each._replace(note=note.format(widest / each.half)) for each in own]


def _window(points: NDArray[Any]) -> Window:
    """Return a square around the points, with a margin."""
    low, high = points.min(axis=0), points.max(axis=0)
    return Window((low + high) / 2, float(np.max(high - low)) * 0.53)


def style(label: int) -> dict[str, Any]:
    """Return color and marker of a class, unique for the first 50 classes."""
    marker = MARKERS[label // len(COLORS) % len(MARKERS)]
    return {"color": COLORS[label % len(COLORS)], "marker": marker}


def draw(
    axes: Axes,
    features: NDArray[Any],
    centers: NDArray[Any],
    labels: NDArray[np.integer[Any]],
) -> list[tuple[PathCollection, PathCollection]]:
    """Draw points and centers of a run; return the artists of each class."""
    drawn = []
    size = float(np.clip(6000 / len(features), 2, 12))
    for label, center in enumerate(centers):
        look = style(label)
        rows = features[labels == label]
        points = axes.scatter(
            rows[:, 0], rows[:, 1], s=size, alpha=0.6, linewidths=0, **look
        )
        look["marker"] = "X"
        cross = axes.scatter(
            center[0],
            center[1],
            s=55,
            edgecolors="black",
            linewidths=1,
            zorder=3,
            **look,
        )
        drawn.append((points, cross))
    axes.set_aspect("equal")
    axes.locator_params(nbins=6)
    axes.tick_params(labelsize=8)
    axes.grid(color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    return drawn


def draw_trail(axes: Axes, centers: NDArray[Any]) -> Line2D:
    """Draw the path of a center, positions (T, 2); return the line."""
    look: dict[str, Any] = {
        "color": "black",
        "linewidth": 0.8,
        "alpha": 0.55,
        "zorder": 2.5,
    }
    return axes.plot(*centers.T, **look)[0]


def _legend(classes: Sequence[str]) -> list[Line2D]:
    handles = [
        Line2D([], [], linestyle="", markersize=6, label=name, **style(label))
        for label, name in enumerate(classes)
    ]
    center = Line2D([], [], linestyle="", marker="X", markersize=8, label="center")
    center.set(markerfacecolor="white", markeredgecolor="black")
    return [*handles, center]
