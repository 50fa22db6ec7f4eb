"""An animation of the training: the features at several steps."""

import math
from collections.abc import Sequence
from os import PathLike
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from . import report
from .data import Split
from .training import Run, Settings, scatter

FRAMES = 48
# A frame shows the positions of a center in this many frames, the last one its own.
TRAIL = 7
# More points would hide each other; more values would take too much memory.
MAX_IMAGES = 2000
MAX_VALUES = 2**18

_DPI = 100
_MILLISECONDS, _MILLISECONDS_OF_LAST = 120, 3000


class Moment(NamedTuple):
    """Features and centers of a run after some step.

    Attributes
    ----------
    features : ndarray of shape (N, D)
        Features of the images shown.
    centers : ndarray of shape (K, D)
    """

    features: NDArray[Any]
    centers: NDArray[Any]


class Film(NamedTuple):
    """The recorded moments of a run; the first is before any step.

    Attributes
    ----------
    name : str
        Title of its panel.
    epochs : sequence of float
        Time of each moment in epochs.
    moments : sequence of Moment
    """

    name: str
    epochs: Sequence[float]
    moments: Sequence[Moment]


def times(steps: int, frames: int = FRAMES) -> list[int]:
    """Return the steps at which to record: 0, the last, and some between.

    They are dense at the beginning, where the features change most.

    Parameters
    ----------
    steps : int
        Steps of the whole training.
    frames : int
        Maximum number of them, at least 2.

    Returns
    -------
    list of int, ascending

    Examples
    --------
    >>> times(100, frames=6)
    [0, 4, 16, 36, 64, 100]
    """
    spaced = steps * np.linspace(0, 1, frames) ** 2
    return np.unique(np.rint(spaced).astype(int)).tolist()


def choose(split: Split, feat_dim: int) -> NDArray[np.intp]:
    """Return the rows of the test images to show: all of them or a random sample.

    Parameters
    ----------
    split : Split
    feat_dim : int
        Values of a feature row; the longer it is, the fewer images are shown.

    Returns
    -------
    ndarray of integers, ascending
        They include an image of every class that has test images.
    """
    num_images = len(split.test_images)
    count = min(num_images, MAX_IMAGES, 1 + MAX_VALUES // feat_dim)
    drawn = np.random.default_rng(0).choice(num_images, count, replace=False)
    _, firsts = np.unique(split.test_labels, return_index=True)
    return np.union1d(drawn, firsts)


class Recorder:
    """Record the moments of all runs; pass it to `train` as ``watch``.

    Parameters
    ----------
    split : Split
    settings : Settings
        Settings of the training.
    frames : int
        Maximum number of moments.

    Attributes
    ----------
    labels : ndarray of shape (N,)
        Labels of the images shown.
    """

    def __init__(self, split: Split, settings: Settings, frames: int = FRAMES) -> None:
        shown = choose(split, settings.feat_dim)
        self.labels = split.test_labels[shown]
        self._images = split.test_images[shown]
        self._steps_per_epoch = settings.steps_per_epoch(len(split.train_images))
        self._times = times(settings.epochs * self._steps_per_epoch, frames)
        self._weights = settings.loss_weights
        self._moments: list[list[Moment]] = [[] for _ in settings.loss_weights]

    def __call__(self, runs: Sequence[Run], steps: int) -> None:
        """Record the runs after this step, if it is one of the `times`."""
        if steps not in self._times:
            return
        for run, moments in zip(runs, self._moments, strict=True):
            # Run.step raises Divergence.
            with np.errstate(over="ignore", invalid="ignore"):
                features = run.network.features(self._images)
            moments.append(Moment(features, run.center_loss.centers.copy()))

    def films(self) -> list[Film]:
        """Return the recorded moments of each run."""
        epochs = [steps / self._steps_per_epoch for steps in self._times]
        return [
            Film(f"loss weight {weight:g}", epochs, moments)
            for weight, moments in zip(self._weights, self._moments, strict=True)
        ]


def draw(
    films: Sequence[Film], labels: NDArray[np.integer[Any]], classes: Sequence[str]
) -> list[Image.Image]:
    """Draw the frames: for each run a panel with features, centers and their trails.

    A panel shows the same window in every frame. Windows and principal axes are those
    of `report.picture`; the axes are computed at the last moment.

    Parameters
    ----------
    films : sequence of Film
        One for each run, all with the same times.
    labels : ndarray of shape (N,), integers
        Classes of the features.
    classes : sequence of str
        Names of the classes.

    Returns
    -------
    list of Image
        All with the same size and palette.
    """
    figure, panels = report.make_panels(len(films), classes, _DPI)
    canvas = FigureCanvasAgg(figure)
    views = [_in_plane(film) for film in films]
    points = [[array for moment in view for array in moment] for view in views]
    drawn = [
        _Panel(axes, film, view, window, labels)
        for axes, film, view, window in zip(
            panels, films, views, report.windows(points), strict=True
        )
    ]
    # Draw everything that does not move once.
    canvas.draw()
    background = canvas.copy_from_bbox(figure.bbox)
    palette = _palette()
    frames = []
    for i in range(len(films[0].moments)):
        canvas.restore_region(background)
        for panel in drawn:
            panel.show(i)
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
        frames.append(picture.quantize(palette=palette, dither=Image.Dither.NONE))
    return frames


def _palette() -> Image.Image:
    """Return an image with a palette of the class colors, with tints and shades."""
    grays = [(gray,) * 3 for gray in np.linspace(0, 1, 18)]
    colors = [to_rgb(color) for color in report.COLORS]
    lighter = [
        1 - share * (1 - np.array(color))
        for color in colors
        for share in np.linspace(1 / 12, 1, 12)
    ]
    darker = [share * np.array(c) for c in colors for share in (0.2, 0.4, 0.6, 0.8)]
    values = np.rint(255 * np.array([*grays, *lighter, *darker])).astype(np.uint8)
    image = Image.new("P", (1, 1))
    image.putpalette(values.tobytes())
    return image


class _Panel:
    """One run in its axes."""

    def __init__(
        self,
        axes: Axes,
        film: Film,
        view: list[Moment],
        window: report.Window,
        labels: NDArray[np.integer[Any]],
    ) -> None:
        self._axes, self._film, self._view = axes, film, view
        self._note, self._labels = window.note, labels
        self._drawn = report.draw(axes, *view[0], labels)
        self._trails = [report.draw_trail(axes, center[None]) for center in view[0][1]]
        dim = film.moments[0].features.shape[1]
        window.apply(axes, "feature" if dim == 2 else "principal axis")
        axes.set_title(self._title(0), fontsize=10)
        points, crosses = zip(*self._drawn, strict=True)
        self._moving = [*points, *self._trails, *crosses, axes.title]
        for artist in self._moving:
            artist.set_animated(True)

    def show(self, i: int) -> None:
        """Draw everything that moves at its position in frame i."""
        features, centers = self._view[i]
        past = np.array([centers for _, centers in self._view[: i + 1][-TRAIL:]])
        for label, (points, cross) in enumerate(self._drawn):
            points.set_offsets(features[self._labels == label])
            cross.set_offsets(centers[label])
            self._trails[label].set_data(*past[:, label].T)
        self._axes.title.set_text(self._title(i))
        for artist in self._moving:
            self._axes.draw_artist(artist)

    def _title(self, i: int) -> str:
        within, between = scatter(self._film.moments[i].features, self._labels)
        ratio = within / between if between else math.inf
        return (
            f"{self._film.name}, epoch {self._film.epochs[i]:.1f}\n"
            f"ratio {ratio:.3f}{self._note}"
        )


def _in_plane(film: Film) -> list[Moment]:
    """Return the moments projected to the plane of the last one."""
    middle, axes = report.plane(film.moments[-1].features)
    return [
        Moment(*((array - middle) @ axes for array in moment))
        for moment in film.moments
    ]


def save(frames: Sequence[Image.Image], file: str | PathLike[str] | BinaryIO) -> None:
    """Write frames as a GIF that loops; the last frame is shown longer.

    Parameters
    ----------
    frames : sequence of Image
    file : path or binary file
    """
    durations = [_MILLISECONDS] * (len(frames) - 1) + [_MILLISECONDS_OF_LAST]
    frames[0].save(
        file,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=durations,
        loop=0,
    )
