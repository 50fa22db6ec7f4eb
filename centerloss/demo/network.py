"""A small multilayer perceptron with a narrow feature layer, in NumPy."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

# A second loss: features and labels to its value and gradient.
FeatureLoss = Callable[[NDArray[Any], NDArray[Any]], tuple[float, NDArray[Any]]]


class Network:
    """Layers input-256-128-features-classes, with PReLU after the two hidden layers.

    The last layer has no bias: the score of a class is the dot product of a feature row
    and a weight vector. The classes therefore differ by direction; in two dimensions
    they are arranged around the origin.

    All parameters are in one vector, weights first, so that a step of gradient descent
    is a line of NumPy.

    Parameters
    ----------
    num_inputs, feat_dim, num_classes : int
        Number of pixels P, dimension of the features D, number of classes K.
    hidden : tuple of int, default (256, 128)
        Widths of the hidden layers.
    dtype : dtype, default float32
        Type of the parameters, and of everything computed from them.
    rng : None, int or numpy.random.Generator, optional
        Source of the initial weights [1]_, passed to `numpy.random.default_rng`.

    Attributes
    ----------
    parameters : ndarray
        Weights, biases and PReLU slopes of all layers.
    num_weights : int
        Number of weights, which are the first of the parameters.

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
        """Return the (N, K) scores; the largest in a row is the predicted class."""
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
            A second loss, such as ``CenterLoss.step``. It is called with features
            (B, D) and labels and returns its value and its gradient with respect to
            the features, which are added to those of the softmax loss.

        Returns
        -------
        loss : float
        gradient : ndarray, shaped like ``parameters``
            An array of the network, overwritten by the next call.
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
        """Return the input of each layer, and the hidden layers' sums before PReLU."""
        weights, biases, slopes = self._layers
        inputs, sums = [images], []
        for i, slope in enumerate(slopes):
            sums.append(inputs[i] @ weights[i] + biases[i])
            inputs.append(np.where(sums[i] <= 0, slope * sums[i], sums[i]))
        inputs.append(inputs[-1] @ weights[-2] + biases[-1])
        return inputs, sums


class _Layers(NamedTuple):
    """Something for each layer that has weights, biases or slopes."""

    weights: list[Any]
    biases: list[Any]
    slopes: list[Any]


def _shapes(widths: tuple[int, ...]) -> _Layers:
    return _Layers(list(pairwise(widths)), list(widths[1:-1]), list(widths[1:-2]))


def _layers(vector: NDArray[Any], shapes: _Layers) -> _Layers:
    """Split a vector into views of these shapes."""
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
