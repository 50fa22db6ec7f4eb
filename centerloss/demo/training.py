"""Training with softmax loss + loss_weight x center loss, and its evaluation."""

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
# Gradients are clipped to this norm; otherwise the large learning rate diverges.
MAX_GRADIENT_NORM = 2.0


class Divergence(ArithmeticError):
    """The loss of a run is not finite; the message suggests other settings."""


@dataclass(frozen=True)
class Settings:
    """Settings of the training.

    Attributes
    ----------
    loss_weights : tuple of float, default (0.0, 1.0)
        Weights of the center loss (the paper's lambda), one run for each. The weight
        is increased linearly from 0 at the first step, so that the classes separate
        before they contract. Otherwise two classes may end up in the same direction,
        where a last layer without bias cannot separate them.
    epochs : int, default 60
        Number of passes over the training images.
    batch_size : int, default 64
        Maximum number of images per step.
    learning_rate : float, default 0.2
        Initial learning rate; it decays to 0 along half a cosine.
    feat_dim : int, default 2
        Dimension of the features, at least 2: in one dimension, a last layer without
        bias can separate only two classes.
    alpha : float, default 0.5
        Update rate of the centers, from 0 to 1.
    seed : int, default 0
        Seed of initial weights, initial centers and the order of the images.
    """

    loss_weights: tuple[float, ...] = (0.0, 1.0)
    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 0.2
    feat_dim: int = 2
    alpha: float = 0.5
    seed: int = 0

    def steps_per_epoch(self, num_images: int) -> int:
        """Return the number of batches in an epoch."""
        return math.ceil(num_images / self.batch_size)


class Run:
    """The training of one network with one loss weight.

    Attributes
    ----------
    loss_weight : float
    settings : Settings
    network : Network
    center_loss : CenterLoss
        Its ``loss_weight`` is the weight of the last step.
    seconds, seconds_centerloss : float
        Time of all steps, and the part spent in ``CenterLoss.step``.
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
        max_rows = min(settings.batch_size, len(split.train_images))
        self._feature_gradient = np.empty((max_rows, dim), np.float32)

    def step(
        self, images: NDArray[Any], labels: NDArray[np.integer[Any]], progress: float
    ) -> float:
        """Take one step of gradient descent and return the loss before it.

        Parameters
        ----------
        images : ndarray of shape (B, P), float32
        labels : ndarray of shape (B,), integers
        progress : float
            Fraction of the training done, which determines learning rate and loss
            weight.

        Raises
        ------
        Divergence
            The loss or the gradient is not finite. The network is unchanged.
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
        """Return the center loss and its gradient; update the centers."""
        start = time.perf_counter()
        out = self._feature_gradient[: len(features)]
        loss, gradient = self.center_loss.step(features, labels, out=out)
        self.seconds_centerloss += time.perf_counter() - start
        return loss, gradient

    def divergence(self) -> Divergence:
        """Return the error to raise if this run diverges."""
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
    """Train one network for each loss weight.

    All have the same initial weights and centers and are trained on the same batches.

    Parameters
    ----------
    split : Split
        Images and labels; call `standardized` first.
    settings : Settings, optional
    on_step : callable, optional
        Called after each batch with the losses of the runs.
    watch : callable, optional
        Called with the runs and the number of steps done, before the first step and
        after each, such as a `centerloss.demo.animation.Recorder`.

    Returns
    -------
    list of Run
        In the order of the loss weights.

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
    # Matrix products this small are not faster with threads, and slower on a busy
    # machine.
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
    """Yield the rows of each batch, shuffled in each epoch."""
    rng = np.random.default_rng([settings.seed, 2])
    for _ in range(settings.epochs):
        order = rng.permutation(num_images)
        yield from np.array_split(order, settings.steps_per_epoch(num_images))


@dataclass(frozen=True)
class Result:
    """Measures of a run on the test images.

    Attributes
    ----------
    loss_weight, alpha, epochs
        Settings of the run.
    test_accuracy : float
        Fraction of the images whose class has the highest score.
    nearest_center_accuracy : float
        Fraction of the images whose features are nearest to the center of their class.
    within : float
        Mean squared distance between a feature row and the mean of its class.
    between : float
        Mean squared distance between the means of two classes.
    ratio : float
        within / between
    seconds, seconds_centerloss : float
        Time of the training, and the part spent in ``CenterLoss.step``.
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
    """Evaluate a trained run on the test images.

    Parameters
    ----------
    run : Run
    split : Split
        The split that it was trained on.

    Returns
    -------
    Result

    Raises
    ------
    Divergence
        The features are not finite, or all are equal.
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
        Mean over the rows of the squared distance to the mean of their class.
    between : float
        Mean over the pairs of classes of the squared distance between their means.

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
    """Return the index of the nearest of the (K, D) centers for each of (N, D) rows."""
    differences = features[:, np.newaxis] - centers
    return np.argmin(np.sum(differences**2, axis=2), axis=1)
