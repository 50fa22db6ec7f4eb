"""Rows of classes, and formulas for what is learned from them."""

import warnings

import numpy as np
from sklearn.neighbors import NearestCentroid

from centerloss.sklearn import CenterClassifier


def blobs(rows, dim, classes, *, dtype=np.float64, offset=0.0):
    """Rows about one random center per class, in random order; each class comes."""
    rng = np.random.default_rng([rows, dim, classes])
    labels = rng.permutation(np.arange(rows) % classes)
    centers = 3 * rng.standard_normal((classes, dim))
    features = offset + centers[labels] + rng.standard_normal((rows, dim))
    return features.astype(dtype), labels


def class_means(features, labels, weights=None):
    """(U, D) means of the classes that come, in extended precision."""
    features = np.asarray(features, np.longdouble)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights)
    weights = weights.astype(np.longdouble)[:, np.newaxis]
    return np.array(
        [
            (weights * features)[rows].sum(axis=0) / weights[rows].sum()
            for rows in (labels == label for label in np.unique(labels))
        ]
    )


def nearest_centroid(features, labels, shrink_threshold=None):
    """A fitted NearestCentroid, which warns of features that are constant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "self.within_class_std_dev_", UserWarning)
        classifier = NearestCentroid(shrink_threshold=shrink_threshold)
        return classifier.fit(features, labels)


def batches(rng, *arrays, most=40):
    """The arrays in parts of random lengths, from 1 to `most`."""
    start, end = 0, len(arrays[0])
    while start < end:
        stop = min(end, start + int(rng.integers(1, most + 1)))
        yield tuple(array[start:stop] for array in arrays)
        start = stop


def learned(parts, labels, **parameters):
    """A classifier after `partial_fit` of each part: X, y and maybe weights."""
    classifier, classes = CenterClassifier(**parameters), np.unique(labels)
    for features, of_rows, *weights in parts:
        classifier.partial_fit(features, of_rows, classes, *weights)
    return classifier


def with_centers(centers, **parameters):
    """A classifier with these centers, of the classes 0 to K - 1: one row of each."""
    classes = np.arange(len(centers))
    return CenterClassifier(**parameters).partial_fit(centers, classes, classes)


def assert_close(centers, expected, tolerance, scale=None):
    """Compare with a tolerance relative to `scale`, or the largest expected number."""
    expected = np.asarray(expected, np.longdouble)
    scale = np.abs(expected).max() if scale is None else scale
    assert centers.shape == expected.shape
    assert np.abs(centers - expected).max() <= tolerance * scale
