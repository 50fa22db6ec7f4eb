"""The training of the demo: network, runs, evaluation."""

import numpy as np
import pytest

from centerloss.demo import (
    Divergence,
    Network,
    Settings,
    evaluate,
    load_idx,
    nearest_center,
    scatter,
    train,
)


def distance_loss(features, labels):
    """A second loss on the features."""
    difference = features - labels[:, np.newaxis]
    return 0.5 * float(np.sum(difference**2)), difference


@pytest.mark.parametrize("feature_loss", [None, distance_loss])
@pytest.mark.parametrize("hidden", [(), (7,), (7, 5)])
def test_gradient_against_finite_differences(feature_loss, hidden):
    rng = np.random.default_rng(1)
    network = Network(4, 3, 5, hidden=hidden, dtype=np.float64, rng=rng)
    network.parameters += 0.1 * rng.standard_normal(network.parameters.shape)
    images, labels = rng.standard_normal((6, 4)), np.array([0, 1, 2, 3, 4, 1])

    def loss():
        return network.loss_and_gradient(images, labels, feature_loss)[0]

    gradient = network.loss_and_gradient(images, labels, feature_loss)[1].copy()
    numeric = np.empty_like(gradient)
    for i in range(len(gradient)):
        kept, h = network.parameters[i], 1e-6
        network.parameters[i] = kept + h
        above = loss()
        network.parameters[i] = kept - h
        numeric[i] = (above - loss()) / (2 * h)
        network.parameters[i] = kept
    assert np.abs(numeric - gradient).max() < 1e-7 * max(1, np.abs(gradient).max())


def test_number_of_parameters():
    network = Network(64, 2, 10, rng=0)
    weights = 64 * 256 + 256 * 128 + 128 * 2 + 2 * 10
    assert network.num_weights == weights
    assert len(network.parameters) == weights + (256 + 128 + 2) + (256 + 128)
    assert network.parameters.dtype == np.float32
    assert np.array_equal(network.parameters, Network(64, 2, 10, rng=0).parameters)


def test_runs_are_independent(folder):
    split = load_idx(folder).standardized()
    together = train(split, Settings(loss_weights=(0.0, 0.2), epochs=2))
    for run in together:
        (alone,) = train(split, Settings(loss_weights=(run.loss_weight,), epochs=2))
        assert np.array_equal(alone.network.parameters, run.network.parameters)
        assert np.array_equal(alone.center_loss.centers, run.center_loss.centers)


def test_on_step_is_called_after_every_batch(folder):
    losses = []
    settings = Settings(epochs=3, batch_size=40)
    train(load_idx(folder).standardized(), settings, losses.append)
    assert settings.steps_per_epoch(90) == 3
    assert np.array(losses).shape == (3 * 3, 2)
    assert np.all(losses[-1] < losses[0])


def test_watch_is_called_before_the_first_step_and_after_each(folder):
    split, seen = load_idx(folder).standardized(), []

    def watch(runs, steps):
        seen.append((steps, [run.network.parameters.copy() for run in runs]))

    runs = train(split, Settings(epochs=2, batch_size=50), watch=watch)
    assert [steps for steps, _ in seen] == [0, 1, 2, 3, 4]
    start, last = seen[0][1], seen[-1][1]
    assert np.array_equal(*start)
    for run, parameters in zip(runs, last, strict=True):
        assert np.array_equal(run.network.parameters, parameters)


def test_scatter_by_hand():
    features = np.array([[1, 0], [-1, 0], [10, 2], [10, -2], [0, 5]], np.float32)
    # The means are (0, 0), (10, 0) and (0, 5); class 2 is empty.
    within, between = scatter(features, np.array([0, 0, 1, 1, 3]))
    assert within == pytest.approx((1 + 1 + 4 + 4 + 0) / 5)
    assert between == pytest.approx((100 + 25 + 125) / 3)


def test_nearest_center_by_hand():
    centers = np.array([[0, 0], [4, 0], [0, 4]], np.float32)
    features = np.array([[1, 1], [3, 1], [-1, 9]], np.float32)
    assert nearest_center(features, centers).tolist() == [0, 1, 2]


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_equal_or_nan_features_are_a_divergence(folder, value):
    split = load_idx(folder).standardized()
    (run,) = train(split, Settings(loss_weights=(0.1,), epochs=1))
    run.network.parameters[:] = value
    with pytest.raises(Divergence, match="loss weight 0.1 and learning rate"):
        evaluate(run, split)
