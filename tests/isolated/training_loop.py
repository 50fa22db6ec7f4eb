"""For each line of standard input: train until Ctrl-C, then report on the centers."""

import signal
import sys

import numpy as np

import centerloss

signal.signal(signal.SIGINT, signal.default_int_handler)


def batch():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((4000, 128)).astype(np.float32)
    labels = rng.integers(0, 500, len(features))
    return features, labels, rng.standard_normal((500, 128)).astype(np.float32)


def train(features, labels, centers):
    """Step until interrupted; returns how many steps returned."""
    steps = 0
    try:
        print("training", flush=True)
        while True:
            centerloss.step(features, labels, centers, alpha=0.125)
            steps += 1
    except KeyboardInterrupt:
        return steps


def after(steps):
    features, labels, centers = batch()
    for _ in range(steps):
        centerloss.step(features, labels, centers, alpha=0.125)
    return centers


def whole(centers, steps):
    """Return whether the centers are those after `steps` steps, or one more."""
    expected = after(steps)
    if np.array_equal(centers, expected):
        return True
    features, labels, _ = batch()
    centerloss.step(features, labels, expected, alpha=0.125)
    return np.array_equal(centers, expected)


if __name__ == "__main__":
    centerloss.set_num_threads(2)
    for _ in sys.stdin:
        features, labels, centers = batch()
        steps = train(features, labels, centers)
        finite = bool(np.isfinite(centers).all())
        answers = np.isfinite(centerloss.step(features, labels, centers.copy())[0])
        print(finite, whole(centers, steps), bool(answers), steps, flush=True)
