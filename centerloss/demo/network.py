"""A small multilayer perceptron with a narrow feature layer, in NumPy."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

# What a second loss on the features returns: its value and its gradient.
FeatureLoss = Callable[[NDArray[Any], NDArray[Any]], tuple[float, NDArray[Any]]]


class Network:
    """Input-256-128-features-classes, with PReLU after the two hidden layers.

    The last layer has no bias, so the score of a class is the product of a feature row
    and a weight vector: classes differ by direction, and in two dimensions lie on a
    circle around the origin.

    All parameters lie in one vector, weights first: a step of gradient descent is then
    a line of NumPy, as in `centerloss.demo.training`.

    Parameters
    ----------
    num_inputs, feat_dim, num_classes : int
        Pixels of an image, values D of a feature row, and classes K.
    hidden : tuple of int, default (256, 128)
        Widths of the hidden layers.
    dtype : dtype, default float32
        Type of the parameters and of everything computed with them.
    rng : None, int or numpy.random.Generator, optional
        Where the weights are drawn from [1]_, as taken by `numpy.random.default_rng`.

    Attributes
    ----------
    parameters : ndarray
        Weights, biases and PReLU slopes of all layers.
    num_weights : int
        How many of the first parameters are weights.

    References
    ----------
    .. [1] He, Zhang, Ren and Sun, "Delving Deep into Rectifiers", ICCV 2015.

    Examples
    --------
    >>> network = Network(num_inputs=64, feat_dim=2, num_classes=10, rng=0)
    >>> features = network.features(np.zeros((5, 64), np.float32))
    >>> features.shape, network.scores(features).shape
    ((5, 2), (5, 10))
    """

    def __init__(
        self,
        num_inputs: int,
        feat_dim: int,
        num_classes: int,
        *,
        hidden: tuple[int, ...] = (256, 128),
        dtype: DTypeLike = np.float32,
        rng: int | np.random.Generator | None = None,
    ) -> None:
        self._widths = (num_inputs, *hidden, feat_dim, num_classes)
        shapes = _shapes(self._widths)
        self.num_weights = sum(rows * columns for rows, columns in shapes.weights)
        size = self.num_weights + sum(shapes.biases) + sum(shapes.slopes)
        self.parameters = np.zeros(size, dtype)
        self._layers = _layers(self.parameters, shapes)
        self._gradient = np.zeros(size, dtype)
        self._layer_gradients = _layers(self._gradient, shapes)
        rng = np.random.default_rng(rng)
        for weights in self._layers.weights:
            weights[:] = rng.normal(0, np.sqrt(2 / len(weights)), weights.shape)
        for slopes in self._layers.slopes:
            slopes[:] = 0.25

    def features(self, images: NDArray[Any]) -> NDArray[Any]:
        """Return the (N, D) features of (N, P) images."""
        return self._forward(images)[0][-1]

    def scores(self, features: NDArray[Any]) -> NDArray[Any]:
        """Return the (N, K) scores of the classes; the largest is the guess."""
        return features @ self._layers.weights[-1]

    def loss_and_gradient(
        self,
        images: NDArray[Any],
        labels: NDArray[np.integer[Any]],
        feature_loss: FeatureLoss | None = None,
    ) -> tuple[float, NDArray[Any]]:
        """Return the mean softmax loss of a batch and its gradient.

        Parameters
        ----------
        images : ndarray of shape (B, P)
        labels : ndarray of shape (B,), integers
        feature_loss : callable, optional
            Called with features (B, D) and labels, for a second loss and its gradient
            with respect to the features: ``CenterLoss.step``, for example. Both are
            added to those of the softmax loss.

        Returns
        -------
        loss : float
        gradient : ndarray, shaped like ``parameters``
            The network's own array, which the next call overwrites.
        """
        inputs, sums = self._forward(images)
        features = inputs[-1]
        loss, pull = _softmax_loss(self.scores(features), labels)
        layers, gradients = self._layers, self._layer_gradients
        np.matmul(features.T, pull, out=gradients.weights[-1])
        pull = pull @ layers.weights[-1].T
        if feature_loss is not None:
            second, feature_gradient = feature_loss(features, labels)
            loss += second
            pull += feature_gradient
        for i in reversed(range(len(layers.biases))):
            if i < len(sums):
                slopes, negative = layers.slopes[i], sums[i] <= 0
                gradients.slopes[i][:] = (pull * sums[i]).sum(axis=0, where=negative)
                pull = np.where(negative, slopes * pull, pull)
            np.matmul(inputs[i].T, pull, out=gradients.weights[i])
            pull.sum(axis=0, out=gradients.biases[i])
            if i:
                pull = pull @ layers.weights[i].T
        return loss, self._gradient

    def _forward(
        self, images: NDArray[Any]
    ) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """Return what enters each layer, and the hidden layers' sums before PReLU."""
        weights, biases, slopes = self._layers
        inputs, sums = [images], []
        for i, slope in enumerate(slopes):
            sums.append(inputs[i] @ weights[i] + biases[i])
            inputs.append(np.where(sums[i] <= 0, slope * sums[i], sums[i]))
        inputs.append(inputs[-1] @ weights[-2] + biases[-1])
        return inputs, sums


class _Layers(NamedTuple):
    """Something for each layer that has it, in the order of the layers."""

    weights: list[Any]
    biases: list[Any]
    slopes: list[Any]


def _shapes(widths: tuple[int, ...]) -> _Layers:
    return _Layers(list(pairwise(widths)), list(widths[1:-1]), list(widths[1:-2]))


def _layers(vector: NDArray[Any], shapes: _Layers) -> _Layers:
    """Cut a vector into views of these shapes."""
    views = _Layers([], [], [])
    start = 0
    for of_layers, of_shapes in zip(views, shapes, strict=True):
        for shape in of_shapes:
            stop = start + int(np.prod(shape))
            of_layers.append(vector[start:stop].reshape(shape))
            start = stop
    return views


def _softmax_loss(
    scores: NDArray[Any], labels: NDArray[np.integer[Any]]
) -> tuple[float, NDArray[Any]]:
    """Return the mean cross-entropy and its gradient with respect to the scores."""
    rows = np.arange(len(labels))
    shifted = scores - scores.max(axis=1, keepdims=True)
    probabilities = np.exp(shifted)
    totals = probabilities.sum(axis=1, keepdims=True)
    loss = float(np.mean(np.log(totals[:, 0]) - shifted[rows, labels]))
    probabilities /= totals
    probabilities[rows, labels] -= 1
    probabilities /= len(labels)
    return loss, probabilities
