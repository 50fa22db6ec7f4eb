"""Two published formulas, written out in NumPy, are one call each."""

import numpy as np
import pytest

from tests.helpers.batches import batch
from tests.helpers.oracle import Exact


def first_loss(features, labels, centers, lamda, scale):
    """loss = lamda * 0.5 * scale / B * sum (x - c)^2, of features (b, c, h, w)."""
    b, c, h, w = features.shape
    assert c * h * w == centers.shape[1]
    flat = features.reshape(b, c * h * w)
    difference = flat - centers[labels]
    return lamda * 0.5 * scale / b * np.sum(difference**2)


def second_forward(features, labels, centers):
    """Half the sum of the squared distances over the size of the batch."""
    return np.sum((features - centers[labels]) ** 2) / 2.0 / len(features)


def second_backward(features, labels, centers, incoming):
    """Gradients for features and for centers; the counts start from ones."""
    size = len(features)
    difference = centers[labels] - features
    counts = np.ones(len(centers))
    np.add.at(counts, labels, np.ones(size))
    for_centers = np.zeros_like(centers)
    np.add.at(for_centers, labels, difference)
    for_centers = for_centers / counts[:, np.newaxis] / size
    return -incoming * difference / size, for_centers


@pytest.fixture(params=[(1, 1, 1, 1, 1), (5, 2, 3, 4, 3), (64, 3, 4, 4, 10)], ids=str)
def images(request):
    """Features (b, c, h, w), labels and centers, in float64."""
    *shape, classes = request.param
    return batch(tuple(shape), classes, dtype=np.float64)


@pytest.fixture(params=[(1, 1, 1), (4, 3, 9), (256, 33, 10)], ids=str)
def rows(request):
    """Features (B, D), labels and centers, in float64."""
    size, row, classes = request.param
    return batch((size, row), classes, dtype=np.float64)


@pytest.mark.parametrize("lamda", [0.003, 1.0, 2.5])
@pytest.mark.parametrize("scale", [1.0, 64.0])
def test_first_is_a_loss_weight(cl, images, lamda, scale):
    expected = first_loss(*images, lamda, scale)
    value = cl.loss(*images, loss_weight=lamda * scale)
    assert value == pytest.approx(expected, rel=1e-13)


def test_second_forward_is_the_loss(cl, rows):
    assert cl.loss(*rows) == pytest.approx(second_forward(*rows), rel=1e-13)


@pytest.mark.parametrize("incoming", [1.0, 0.01, 3])
def test_second_backward_for_features_is_the_gradient(cl, rows, incoming):
    expected, _ = second_backward(*rows, incoming)
    gradient = cl.gradient(*rows, loss_weight=incoming)
    np.testing.assert_allclose(gradient, expected, rtol=1e-13)


def test_second_backward_for_centers_is_the_delta_over_the_batch(cl, rows):
    features = rows[0]
    _, expected = second_backward(*rows, 1.0)
    delta = cl.center_delta(*rows) / len(features)
    tolerance = 1e-13 * np.abs(features).max()
    np.testing.assert_allclose(delta, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_second_as_a_step(cl, rows, alpha):
    """Its centers under gradient descent at rate alpha."""
    features, labels, centers = rows
    _, for_centers = second_backward(*rows, 1.0)
    moved = centers.copy()
    value, gradient = cl.step(features, labels, moved, alpha=alpha / len(features))
    tolerance = 1e-13 * np.abs(features).max()
    expected = centers - alpha * for_centers
    np.testing.assert_allclose(moved, expected, rtol=0, atol=tolerance)
    assert value == pytest.approx(second_forward(*rows), rel=1e-13)
    expected, _ = second_backward(*rows, 1.0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-13)


def test_formulas_against_exact_arithmetic(images, rows):
    """The expected values of the tests above are correct."""
    features, labels, centers = images
    exact = Exact(features, labels, centers)
    value = first_loss(features, labels, centers, 0.5, 2.0)
    assert value == pytest.approx(exact.loss("mean"), rel=1e-13)
    exact = Exact(*rows)
    gradient, for_centers = second_backward(*rows, 2.0)
    np.testing.assert_allclose(gradient, exact.gradient("mean", 2.0), rtol=1e-13)
    expected = exact.deltas() / len(rows[0])
    np.testing.assert_allclose(for_centers, expected, rtol=1e-9, atol=1e-14)
