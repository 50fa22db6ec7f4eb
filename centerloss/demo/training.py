"""Training under softmax + loss_weight x center loss, and what came of it."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centerloss import CenterLoss

from .data import Split
from .network import Network

MOMENTUM = 0.9
WEIGHT_DECAY = 3e-3
# A longer gradient is shortened to this length: a learning rate this large diverges
# without.
MAX_GRADIENT_NORM = 2.0


class Divergence(ArithmeticError):
    """A run has left the finite numbers; the message says which, and what to try."""


@dataclass(frozen=True)
class Settings:
    """What a training run can be told.

    Attributes
    ----------
    loss_weights : tuple of float, default (0.0, 0.1)
        One run for each: the factor of the center loss, the paper's lambda. It is
        approached in equal parts from 0 at the first step: the classes have to find
        their directions before they are pulled together, else one may end up behind
        others, where a last layer without bias cannot tell it from them.
    epochs : int, default 60
        How often every training image is seen.
    batch_size : int, default 64
        How many images make a step, at most.
    learning_rate : float, default 0.2
        Of the first step; it falls to 0 along half a cosine.
    feat_dim : int, default 2
        Values of a feature row, at least 2: along a line, a last layer without bias
        can tell only two classes apart.
    alpha : float, default 0.5
        Rate of the centers, from 0 to 1.
    seed : int, default 0
        Of initial weights, initial centers and the order of the images.
    """

    loss_weights: tuple[float, ...] = (0.0, 0.1)
    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 0.2
    feat_dim: int = 2
    alpha: float = 0.5
    seed: int = 0

    def steps_per_epoch(self, num_images: int) -> int:
        """Return how many batches it takes to see each image once."""
        return math.ceil(num_images / self.batch_size)


class Run:
    """The training of one network under one loss weight.

    Attributes
    ----------
    loss_weight : float
    settings : Settings
    network : Network
    center_loss : CenterLoss
        Its own ``loss_weight`` is that of the last step.
    seconds, seconds_centerloss : float
        Time spent in all steps, and the part of it inside ``CenterLoss.step``.
    """

    def __init__(self, split: Split, loss_weight: float, settings: Settings) -> None:
        num_classes, dim = len(split.classes), settings.feat_dim
        num_inputs = split.train_images.shape[1]
        seed = settings.seed
        self.network = Network(
            num_inputs, dim, num_classes, rng=np.random.default_rng([seed, 0])
        )
        self.center_loss = CenterLoss(
            num_classes,
            dim,
            alpha=settings.alpha,
            rng=np.random.default_rng([seed, 1]),
        )
        self.loss_weight, self.settings = loss_weight, settings
        self.seconds = self.seconds_centerloss = 0.0
        self._velocity = np.zeros_like(self.network.parameters)
        most_rows = min(settings.batch_size, len(split.train_images))
        self._feature_gradient = np.empty((most_rows, dim), np.float32)

    def step(
        self, images: NDArray[Any], labels: NDArray[np.integer[Any]], progress: float
    ) -> float:
        """Take one step of gradient descent and return the loss before it.

        Parameters
        ----------
        images : ndarray of shape (B, P), float32
        labels : ndarray of shape (B,), integers
        progress : float
            From 0 at the first step to 1: what learning rate and loss weight go by.

        Raises
        ------
        Divergence
            The loss or the gradient is not finite. Nothing was done to the network.
        """
        start = time.perf_counter()
        network = self.network
        self.center_loss.loss_weight = self.loss_weight * progress
        with np.errstate(over="ignore", invalid="ignore"):
            loss, gradient = network.loss_and_gradient(
                images, labels, self._center_step
            )
            norm = float(np.linalg.norm(gradient))
        if not math.isfinite(loss + norm):
            raise self.divergence()
        gradient *= min(1.0, MAX_GRADIENT_NORM / max(norm, 1e-12))
        gradient[: network.num_weights] += (
            WEIGHT_DECAY * network.parameters[: network.num_weights]
        )
        rate = self.settings.learning_rate * (1 + math.cos(math.pi * progress)) / 2
        gradient *= rate
        self._velocity *= MOMENTUM
        self._velocity -= gradient
        network.parameters += self._velocity
        self.seconds += time.perf_counter() - start
        return loss

    def _center_step(
        self, features: NDArray[Any], labels: NDArray[np.integer[Any]]
    ) -> tuple[float, NDArray[Any]]:
        """Return the center loss and its gradient, and move the centers."""
        start = time.perf_counter()
        out = self._feature_gradient[: len(features)]
        loss, gradient = self.center_loss.step(features, labels, out=out)
        self.seconds_centerloss += time.perf_counter() - start
        return loss, gradient

    def divergence(self) -> Divergence:
        """Return the error that says that this run has gone astray."""
        weight = self.loss_weight
        rate = self.settings.learning_rate
        advice = f"--learning-rate {rate / 4:g}"
        if weight:
            advice += f" or --loss-weight {weight / 4:g}"
        return Divergence(
            f"training diverged at loss weight {weight:g} and learning rate {rate:g}: "
            f"try {advice}"
        )


def train(
    split: Split,
    settings: Settings | None = None,
    on_step: Callable[[list[float]], object] | None = None,
    watch: Callable[[list[Run], int], object] | None = None,
) -> list[Run]:
    """Train one network for each loss weight, side by side from the same start.

    All begin with the same weights and centers and see the same batches.

    Parameters
    ----------
    split : Split
        Images, best `standardized`, and their labels.
    settings : Settings, optional
    on_step : callable, optional
        Called after each batch with the losses of the runs, for a progress bar.
    watch : callable, optional
        Called with the runs and the number of steps that they have taken, before the
        first and after each; `centerloss.demo.animation.Recorder` is one.

    Returns
    -------
    list of Run, in the order of the loss weights

    Raises
    ------
    Divergence
        A loss is not finite.

    Examples
    --------
    >>> from centerloss.demo import Settings, evaluate, load_digits_split, train
    >>> split = load_digits_split().standardized()
    >>> runs = train(split, Settings(epochs=5))
    >>> softmax, center = (evaluate(run, split) for run in runs)
    >>> center.ratio < softmax.ratio
    True
    """
    from threadpoolctl import threadpool_limits

    settings = settings or Settings()
    runs = [Run(split, weight, settings) for weight in settings.loss_weights]
    batches = _batches(len(split.train_images), settings)
    steps = settings.epochs * settings.steps_per_epoch(len(split.train_images))
    # Products this small gain nothing from threads, and lose much on a busy machine.
    with threadpool_limits(1, user_api="blas"):
        if watch is not None:
            watch(runs, 0)
        for i, batch in enumerate(batches):
            images, labels = split.train_images[batch], split.train_labels[batch]
            losses = [run.step(images, labels, i / steps) for run in runs]
            if on_step is not None:
                on_step(losses)
            if watch is not None:
                watch(runs, i + 1)
    return runs


def _batches(num_images: int, settings: Settings) -> Iterator[NDArray[np.intp]]:
    """Yield the rows of each batch, shuffled anew in each epoch."""
    rng = np.random.default_rng([settings.seed, 2])
    for _ in range(settings.epochs):
        order = rng.permutation(num_images)
        yield from np.array_split(order, settings.steps_per_epoch(num_images))


@dataclass(frozen=True)
class Result:
    """What a run has come to, measured on the test images.

    Attributes
    ----------
    loss_weight, alpha, epochs
        As it was trained.
    test_accuracy : float
        Share of the images whose highest score is that of their class.
    nearest_center_accuracy : float
        Share of the images whose feature row is nearest to the center of their class.
    within : float
        Mean squared distance of a feature row to the mean of its class.
    between : float
        Mean squared distance between the means of two classes.
    ratio : float
        within / between
    seconds, seconds_centerloss : float
        Time of training, and the part of it inside ``CenterLoss.step``.
    """

    loss_weight: float
    alpha: float
    epochs: int
    test_accuracy: float
    nearest_center_accuracy: float
    within: float
    between: float
    ratio: float
    seconds: float
    seconds_centerloss: float


def evaluate(run: Run, split: Split) -> Result:
    """Measure a trained run on the test images.

    Parameters
    ----------
    run : Run
    split : Split
        The one it was trained with.

    Returns
    -------
    Result

    Raises
    ------
    Divergence
        The features are not finite, or all on one point.
    """
    labels = split.test_labels
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        features = run.network.features(split.test_images)
        scores = run.network.scores(features)
        within, between = scatter(features, labels)
        nearest = nearest_center(features, run.center_loss.centers)
    if not (math.isfinite(within + between) and between > 0):
        raise run.divergence()
    return Result(
        loss_weight=run.loss_weight,
        alpha=run.center_loss.alpha,
        epochs=run.settings.epochs,
        test_accuracy=float(np.mean(scores.argmax(axis=1) == labels)),
        nearest_center_accuracy=float(np.mean(nearest == labels)),
        within=within,
        between=between,
        ratio=within / between,
        seconds=run.seconds,
        seconds_centerloss=run.seconds_centerloss,
    )


def scatter(
    features: NDArray[Any], labels: NDArray[np.integer[Any]]
) -> tuple[float, float]:
    """Return the mean squared distances within classes and between class means.

    Parameters
    ----------
    features : ndarray of shape (N, D)
    labels : ndarray of shape (N,), integers
        At least two classes.

    Returns
    -------
    within : float
        Over the rows: squared distance to the mean of the row's class.
    between : float
        Over the pairs of classes: squared distance of their means.

    Examples
    --------
    >>> scatter(np.array([[0.0, 1.0], [0.0, -1.0], [3.0, 0.0]]), np.array([0, 0, 1]))
    (0.6666666666666666, 9.0)
    """
    features = features.astype(np.float64)
    classes, rows = np.unique(labels, return_inverse=True)
    means = np.array([features[rows == k].mean(axis=0) for k in range(len(classes))])
    within = np.mean(np.sum((features - means[rows]) ** 2, axis=1))
    first, second = np.triu_indices(len(classes), k=1)
    between = np.mean(np.sum((means[first] - means[second]) ** 2, axis=1))
    return float(within), float(between)


def nearest_center(features: NDArray[Any], centers: NDArray[Any]) -> NDArray[np.intp]:
    """Return for each of the (N, D) features the index of the nearest (K, D) center."""
    differences = features[:, np.newaxis] - centers
    return np.argmin(np.sum(differences**2, axis=2), axis=1)
