"""Accuracy on a stream whose classes drift.

``python docs/drift.py`` prints a table and draws drift.png.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import NearestCentroid

from centerloss.sklearn import CenterClassifier

CLASSES, FEATURES, ROWS, BATCHES = 10, 16, 200, 300
WALKS = (0.0, 0.03, 0.1, 0.3)
SEEDS = range(3)


def stream(walk: float, seed: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield batches of rows and labels, and move the centers after each.

    Rows and centers are normal, so the usual distance of two centers is the root of
    ``2 * FEATURES``. A center moves `walk` times as far in a random direction. It is
    multiplied by a factor first, so that the centers do not spread out.
    """
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((CLASSES, FEATURES))
    for _ in range(BATCHES):
        labels = rng.integers(CLASSES, size=ROWS)
        yield centers[labels] + rng.standard_normal((ROWS, FEATURES)), labels
        steps = rng.standard_normal((CLASSES, FEATURES))
        steps *= walk * np.sqrt(2 * FEATURES) / np.linalg.norm(steps, axis=1)[:, None]
        centers = np.sqrt(1 - 2 * walk**2) * centers + steps


class Refitted(NearestCentroid):
    """NearestCentroid, fitted to all rows so far after batches 1, 11, 21 and so on."""

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> None:
        """Keep the batch, and fit if it is time to; `classes` is not needed."""
        if classes is not None:
            self.batches_: list[Any] = []
        self.batches_.append((X, y))
        if len(self.batches_) % 10 == 1:
            self.fit(*map(np.concatenate, zip(*self.batches_, strict=True)))


MODELS = {
    "CenterClassifier, learning_rate=0.5": CenterClassifier(learning_rate=0.5),
    "CenterClassifier, the mean": CenterClassifier(),
    "NearestCentroid, fitted again": Refitted(),
    "GaussianNB": GaussianNB(),
}


def accuracies(model: BaseEstimator, walk: float, seed: int) -> NDArray[np.float64]:
    """Return the accuracy on each batch but the first, before the batch is learned."""
    model, batches = clone(model), stream(walk, seed)
    model.partial_fit(*next(batches), classes=np.arange(CLASSES))
    result = []
    for X, y in batches:
        result.append(model.score(X, y))
        model.partial_fit(X, y)
    return np.array(result)


def final(accuracy: NDArray[np.float64]) -> float:
    """Return the mean accuracy in the second half of the stream."""
    return float(accuracy[..., -BATCHES // 2 :].mean())


# Colors of Okabe and Ito, for color-blind readers.
STYLES = [("#0072B2", "-", 3), ("#E69F00", "-", 1.8), ("#009E73", ":", 1.8)]
STYLES += [("#D55E00", "--", 1.8)]


def draw(results: dict[str, NDArray[np.float64]], path: Path) -> None:
    """Draw accuracies, the mean over the streams and ten batches, against batches."""
    settings = {"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}
    with plt.rc_context(settings):
        figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
        for (name, accuracy), style in zip(results.items(), STYLES, strict=True):
            smooth = np.convolve(accuracy.mean(axis=0), np.full(10, 0.1), "valid")
            batches = np.arange(len(smooth)) + 6.5  # of the middle of ten, from 2
            color, line, width = style
            axes.plot(
                batches,
                smooth,
                color=color,
                linestyle=line,
                linewidth=width,
                label=name,
            )
        axes.axhline(1 / CLASSES, color="0.6", linewidth=1)
        axes.text(BATCHES, 1 / CLASSES - 0.05, "guessing", ha="right", color="0.4")
        axes.set(
            xlabel="batch", ylabel="accuracy on it, before it is learned", ylim=(0, 1)
        )
        axes.grid(visible=True, axis="y", color="0.9")
        figure.legend(frameon=False, loc="outside lower center", ncols=2)
        figure.savefig(path, dpi=150)
        plt.close(figure)


def main() -> None:
    """Print a row of the table for each speed, and draw the last one."""
    for walk in WALKS:
        results = {
            name: np.array([accuracies(model, walk, seed) for seed in SEEDS])
            for name, model in MODELS.items()
        }
        cells = [f"{final(accuracy):.3f}" for accuracy in results.values()]
        print("|", " | ".join([f"{walk:g}", *cells]), "|")
    draw(results, Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
