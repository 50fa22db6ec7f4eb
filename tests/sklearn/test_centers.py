"""The centers: means, rates, weights and shrinking, in any batches."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

import centerloss
from centerloss._running import RunningCenters
from centerloss.sklearn import CenterClassifier
from tests.helpers.batches import bits
from tests.sklearn.samples import (
    assert_close,
    batches,
    blobs,
    class_means,
    learned,
    nearest_centroid,
    with_centers,
)

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
TOLERANCE = {np.float32: 1e-6, np.float64: 1e-12}
SETTINGS = [
    {},
    {"metric": "cosine"},
    {"learning_rate": 0.5},
    {"shrink_threshold": 0.5},
    {"metric": "cosine", "shrink_threshold": 0.1},
]
every_parameters = pytest.mark.parametrize("parameters", SETTINGS)


# --- means ------------------------------------------------------------------------


def pixels(rows):
    """Whole numbers from 0 to 255 in the shape of MNIST, and labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, rows)
    templates = rng.integers(0, 256, (10, 784))
    features = templates[labels] * rng.random((rows, 784))
    return np.rint(features), labels


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda: load_digits(return_X_y=True), id="digits"),
        pytest.param(lambda: pixels(3000), id="pixels"),
        pytest.param(lambda: pixels(60000), id="MNIST", marks=pytest.mark.slow),
    ],
)
def test_centers_and_predictions_of_nearest_centroid(data):
    features, labels = data()
    theirs = nearest_centroid(features, labels)
    for dtype in (np.float64, np.float32):
        ours = CenterClassifier().fit(features.astype(dtype), labels)
        assert ours.centers_.dtype == dtype
        assert_close(ours.centers_, theirs.centroids_, TOLERANCE[dtype])
        predicted = ours.predict(features.astype(dtype))
        assert np.array_equal(predicted, theirs.predict(features))


@dtypes
@pytest.mark.parametrize("offset", [0, 1e4])
def test_means_are_rounded_once_more_than_sums(dtype, offset):
    features, labels = blobs(500, 6, 4, dtype=dtype, offset=offset)
    centers = CenterClassifier().fit(features, labels).centers_
    tolerance = 1e-7 if dtype == np.float32 else 1e-14
    assert_close(centers, class_means(features, labels), tolerance)


@dtypes
@pytest.mark.parametrize("offset", [0, 1e4])
@pytest.mark.parametrize("most", [1, 7, 60])
@pytest.mark.parametrize("shrink_threshold", [None, 0.5])
def test_partial_fit_in_any_batches_equals_fit(dtype, offset, most, shrink_threshold):
    features, labels = blobs(60 if most == 1 else 300, 5, 4, dtype=dtype, offset=offset)
    parameters = {"shrink_threshold": shrink_threshold}
    whole = CenterClassifier(**parameters).fit(features, labels)
    parts = batches(np.random.default_rng(most), features, labels, most=most)
    classifier = learned(parts, labels, **parameters)
    assert classifier.centers_.dtype == dtype
    assert_close(classifier.centers_, whole.centers_, TOLERANCE[dtype])
    assert classifier.class_count_.tolist() == whole.class_count_.tolist()


def ten_thousand_batches(dtype):
    """Three rows in each, far from zero."""
    features, labels = blobs(30000, 2, 3, dtype=dtype, offset=1e4)
    parts = features.reshape(-1, 3, 2), labels.reshape(-1, 3)
    return zip(*parts, strict=True), class_means(features, labels), labels


@dtypes
def test_ten_thousand_batches(dtype):
    parts, means, _ = ten_thousand_batches(dtype)
    running = RunningCenters(3, 2, dtype, with_squares=False)
    for features, labels in parts:
        running.add(features, labels, None, None)
    assert_close(running.centers, means, TOLERANCE[dtype])
    if dtype == np.float32:  # rounded once, from means that are more exact
        half = np.spacing(means.astype(dtype)) / 2
        assert (np.abs(running.centers - means) <= 1.01 * half).all()


@pytest.mark.slow
@dtypes
def test_ten_thousand_calls(dtype):
    parts, means, labels = ten_thousand_batches(dtype)
    assert_close(learned(parts, labels).centers_, means, TOLERANCE[dtype])


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.integers(-(2**20), 2**20).map(lambda n: n / 64),
            st.integers(0, 5),
        ),
        min_size=1,
        max_size=12,
    ),
    st.data(),
)
def test_any_stream(rows, data):
    """Against fractions: any order, batches, empty classes and weights of zero."""
    labels, values, weights = map(np.array, zip(*rows, strict=True))
    if not weights.any():
        weights[0] = 1
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    classifier = CenterClassifier()
    used = 0
    for x, y, w in batches(rng, values[:, np.newaxis], labels, weights, most=5):
        used += w.sum()
        if used:  # all weights of zero are refused in the first batch
            classifier.partial_fit(x, y, list("abcd"), w)
    for label, center, count in zip(
        "abcd", classifier.centers_[:, 0], classifier.class_count_, strict=True
    ):
        terms = [
            (int(w), Fraction(x))
            for x, y, w in zip(values, labels, weights, strict=True)
            if y == label
        ]
        total = sum(w for w, _ in terms)
        assert count == total
        if total == 0:
            assert np.isnan(center)
        else:
            mean = sum(w * x for w, x in terms) / total
            assert abs(Fraction(center) - mean) <= Fraction(1e-12) * 2**14


# --- a rate -----------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize("alpha", [0, 0.25, 1, 1.5])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_rate_is_that_of_eq_4(dtype, alpha, weighted):
    features, labels = blobs(400, 6, 5, dtype=dtype)
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 4, len(labels)) / 2 if weighted else None
    ones = np.ones(len(labels)) if weights is None else weights
    classifier = CenterClassifier(learning_rate=alpha)
    centers = by_function = None
    for start in range(0, len(labels), 50):
        part = slice(start, start + 50)
        x, y, w = features[part].astype(np.longdouble), labels[part], ones[part]
        given = None if weights is None else weights[part]
        classifier.partial_fit(features[part], y, np.arange(5), given)
        if start == 0:
            centers = class_means(x, y, w)
            by_function = centers.astype(np.float64)
            continue
        for k in range(5):
            pull = (w[y == k, np.newaxis] * (centers[k] - x[y == k])).sum(axis=0)
            centers[k] -= alpha * pull / (1 + w[y == k].sum())
        rows = features[part].astype(np.float64)
        centerloss.update_centers(
            rows, y, by_function, alpha=float(alpha), sample_weight=given
        )
        assert_close(classifier.centers_, centers, TOLERANCE[dtype])
        assert_close(classifier.centers_, by_function, TOLERANCE[dtype])
    assert classifier.class_count_.tolist() == np.bincount(labels, weights).tolist()


@pytest.mark.parametrize("alpha", [0, 0.5, 7])
def test_the_first_rows_of_a_class_set_its_center_to_their_mean(alpha):
    classifier = CenterClassifier(learning_rate=alpha)
    classifier.partial_fit([[1.0], [3.0]], ["a", "a"], ["a", "b"])
    assert classifier.centers_[0] == 2
    assert np.isnan(classifier.centers_[1])
    classifier.partial_fit([[5.0], [6.0]], ["b", "b"], sample_weight=[1, 3])
    assert classifier.centers_.tolist() == [[2], [5.75]]
    classifier.partial_fit([[9.0]], ["a"])
    assert classifier.centers_.tolist() == [[2 + alpha * 7 / 2], [5.75]]


def test_a_rate_does_not_change_fit():
    features, labels = blobs(100, 3, 4)
    one = CenterClassifier(learning_rate=0.1).fit(features, labels)
    assert bits(one.centers_) == bits(CenterClassifier().fit(features, labels).centers_)


def test_parameters_may_change_between_batches():
    classifier = CenterClassifier().fit([[0.0], [2.0], [5.0]], [0, 0, 1])
    classifier.set_params(learning_rate=0.5).partial_fit([[4.0]], [0])
    assert classifier.centers_.tolist() == [[1.75], [5]]
    classifier.set_params(learning_rate="mean").partial_fit([[3.75]], [0])
    assert classifier.centers_.tolist() == [[2.25], [5]]
    assert classifier.class_count_.tolist() == [4, 1]


# --- weights ----------------------------------------------------------------------


@every_parameters
def test_whole_weights_repeat_rows(parameters):
    features, labels = blobs(120, 4, 3)
    rng = np.random.default_rng(1)
    weights = rng.integers(0, 4, len(labels))
    repeated = np.repeat(np.arange(len(labels)), weights)
    whole = CenterClassifier(**parameters).fit(features, labels, weights)
    expected = CenterClassifier(**parameters).fit(features[repeated], labels[repeated])
    assert_close(whole.centers_, expected.centers_, 1e-13)
    assert whole.class_count_.tolist() == np.bincount(labels, weights).tolist()

    parts = list(batches(rng, features, labels, weights))
    classifier = learned(parts, labels, **parameters)
    repeats = [(np.repeat(x, w, axis=0), np.repeat(y, w)) for x, y, w in parts]
    expected = learned([(x, y) for x, y in repeats if len(y)], labels, **parameters)
    assert_close(classifier.centers_, expected.centers_, 1e-13)


@every_parameters
def test_rows_of_weight_zero_are_as_if_absent(parameters):
    features, labels = blobs(60, 4, 3)
    weights = np.tile([0.0, 1.0, 2.5], 20)
    features[weights == 0] = 1e6
    classifiers = []
    for rows in (slice(None), weights > 0):
        part = features[rows], labels[rows], weights[rows]
        classifiers.append(learned([part, part], labels, **parameters))
    one, other = classifiers
    assert_close(one.centers_, other.centers_, 1e-13)
    assert one.class_count_.tolist() == other.class_count_.tolist()


@every_parameters
def test_a_batch_of_weight_zero_moves_nothing(parameters):
    features, labels = blobs(40, 3, 2)
    classifier = CenterClassifier(**parameters).fit(features, labels)
    before = classifier.centers_.copy(), classifier.class_count_.copy()
    classifier.partial_fit(features + 5, labels, sample_weight=np.zeros(40))
    assert bits((classifier.centers_, classifier.class_count_)) == bits(before)


def test_a_class_of_weight_zero_is_never_predicted():
    x, y = [[0.0], [1.0], [9.0]], ["a", "b", "c"]
    classifier = CenterClassifier().fit(x, y, [1, 0, 2])
    assert classifier.predict([[1.0]]).tolist() == ["a"]
    assert np.isnan(classifier.centers_).tolist() == [[False], [True], [False]]
    assert classifier.decision_function([[1.0]]).tolist() == [[-0.5, -np.inf, -32]]
    assert classifier.transform([[1.0]]).tolist() == [[1, np.inf, 8]]
    classifier.partial_fit([[1.0]], ["b"])
    assert classifier.predict([[1.0]]).tolist() == ["b"]


# --- cosine -----------------------------------------------------------------------


@dtypes
def test_cosine_centers_are_means_of_unit_rows(dtype):
    features, labels = blobs(2500, 5, 4, dtype=dtype)
    features[7] = 0  # has no direction, but counts
    exact = features.astype(np.longdouble)
    lengths = np.sqrt((exact**2).sum(axis=1, keepdims=True))
    lengths[7] = 1
    classifier = CenterClassifier("cosine").fit(features, labels)
    means = class_means(exact / lengths, labels)
    assert_close(classifier.centers_, means, 1e-7 if dtype == np.float32 else 1e-14)


@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-200, 1e-141, 1e141, 1e200, 1e307])
def test_the_length_of_rows_does_not_matter_to_cosine(scale):
    features = scale * np.array([[1, 0], [2, 0], [3, 4], [0, 5], [9, 9]]).astype(float)
    classifier = CenterClassifier("cosine").fit(features, [0, 0, 1, 2, 3])
    expected = [[1, 0], [0.6, 0.8], [0, 1], [np.sqrt(0.5)] * 2]
    assert_close(classifier.centers_, expected, 1e-15)
    cosines = np.array([[1, 0.6, 0, np.sqrt(0.5)]])
    assert_close(classifier.transform(features[:1]), 1 - cosines, 1e-15)
    assert classifier.predict(features).tolist() == [0, 0, 1, 2, 3]


# --- shrinking --------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize("threshold", [1e-3, 0.1, 0.5, 2, 100])
def test_shrinking_equals_nearest_centroid(dtype, threshold):
    """Also for rows in batches, classes of several sizes, and constant features."""
    features, labels = blobs(400, 6, 5, dtype=dtype)
    labels = np.where(labels == 3, 4, labels)
    features[:, 2] = 7
    theirs = nearest_centroid(features.astype(np.float64), labels, threshold)
    expected = theirs.centroids_
    whole = CenterClassifier(shrink_threshold=threshold).fit(features, labels)
    assert_close(whole.centers_, expected, TOLERANCE[dtype])
    parts = list(batches(np.random.default_rng(0), features, labels))
    classifier = learned(parts, labels, shrink_threshold=threshold)
    assert_close(classifier.centers_, expected, TOLERANCE[dtype])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda: load_digits(return_X_y=True), id="digits"),
        pytest.param(lambda: pixels(1500), id="pixels"),  # more than a block of 4 MiB
    ],
)
def test_shrinking_of_many_rows(data):
    features, labels = data()
    expected = nearest_centroid(features, labels, 0.3).centroids_
    for weights in (None, np.full(len(labels), 1.0)):
        classifier = CenterClassifier(shrink_threshold=0.3)
        classifier.fit(features, labels, weights)
        assert_close(classifier.centers_, expected, 1e-12)


def test_classes_that_never_came_do_not_count_in_shrinking():
    features, labels = blobs(60, 3, 3)
    expected = CenterClassifier(shrink_threshold=0.5).fit(features, labels).centers_
    classifier = CenterClassifier(shrink_threshold=0.5)
    classifier.partial_fit(features, labels, [-1, 0, 1, 2, 3])
    assert_close(classifier.centers_[1:4], expected, 1e-13)
    assert np.isnan(classifier.centers_[[0, 4]]).all()


def test_shrinking_waits_for_more_rows_than_classes():
    classifier = CenterClassifier(shrink_threshold=0.5)
    classifier.partial_fit([[0.0], [4.0]], [0, 1], [0, 1, 2])
    assert classifier.centers_[:2].tolist() == [[0], [4]]
    classifier.partial_fit([[2.0], [9.0]], [0, 2])
    rows, labels = [[0.0], [4.0], [2.0], [9.0]], [0, 1, 0, 2]
    theirs = nearest_centroid(rows, labels, 0.5)
    assert_close(classifier.centers_, theirs.centroids_, 1e-14)


def test_shrinking_of_one_class_or_equal_rows_moves_nothing():
    one = CenterClassifier(shrink_threshold=0.5).fit([[1.0], [3.0], [4.0]], [1, 1, 1])
    assert_close(one.centers_, [[8 / 3]], 1e-15)
    features = np.array([[1.0, 5.0], [1, 5], [2, 5], [2, 5]])
    equal = CenterClassifier(shrink_threshold=0.5).fit(features, [0, 0, 1, 1])
    assert equal.centers_.tolist() == [[1, 5], [2, 5]]


def test_shrinking_may_end_between_batches():
    features, labels = blobs(60, 3, 3)
    classifier = CenterClassifier(shrink_threshold=0.5).fit(features, labels)
    classifier.set_params(shrink_threshold=None)
    classifier.partial_fit(features[labels == 0], labels[labels == 0])
    assert_close(classifier.centers_, class_means(features, labels), 1e-13)


# --- shapes and labels ------------------------------------------------------------


def test_one_row():
    classifier = CenterClassifier().fit([[3.0, 4.0]], ["only"])
    assert classifier.centers_.tolist() == [[3, 4]]
    assert classifier.predict([[0.0, 0.0], [9.0, 9.0]]).tolist() == ["only", "only"]
    assert classifier.decision_function([[0.0, 0.0]]).tolist() == [[-12.5]]
    assert classifier.transform([[0.0, 0.0]]).tolist() == [[5]]


@every_parameters
def test_two_classes(parameters):
    features, labels = blobs(200, 3, 2)
    labels = np.array(["no", "yes"])[labels]
    classifier = CenterClassifier(**parameters).fit(features, labels)
    scores = classifier.decision_function(features)
    assert scores.shape == (200,)
    predicted = classifier.predict(features)
    assert np.array_equal(predicted, np.where(scores > 0, "yes", "no"))
    distances = classifier.transform(features)
    halves = distances if classifier.metric == "cosine" else distances**2 / 2
    assert_close(scores, halves[:, 0] - halves[:, 1], 1e-13)


@pytest.mark.parametrize("came", ["no", "yes"])
def test_one_of_two_classes(came):
    classifier = CenterClassifier().partial_fit([[1.0]], [came], ["no", "yes"])
    score = np.inf if came == "yes" else -np.inf
    assert classifier.decision_function([[0.0], [5.0]]).tolist() == [score, score]
    assert classifier.predict([[0.0], [5.0]]).tolist() == [came, came]


def test_one_class_of_many_came():
    classifier = CenterClassifier().partial_fit([[1.0]], [5], np.arange(1000))
    assert classifier.predict([[7.0]]).tolist() == [5]
    scores = classifier.decision_function([[7.0]])
    assert scores.shape == (1, 1000)
    assert np.flatnonzero(np.isfinite(scores)).tolist() == [5]


def test_one_feature():
    x = [[1.0], [2.0], [10.0], [12.0], [30.0]]
    classifier = CenterClassifier().fit(x, [0, 0, 1, 1, 2])
    assert classifier.centers_.tolist() == [[1.5], [11], [30]]
    predicted = classifier.predict([[-99.0], [6.25], [6.26], [20.5], [20.6]])
    assert predicted.tolist() == [0, 0, 1, 1, 2]


def test_constant_features():
    features, labels = blobs(100, 4, 3)
    features[:, [0, 2]] = 0, 1e6
    expected = nearest_centroid(features, labels).predict(features)
    for parameters in SETTINGS[:1] + SETTINGS[2:4]:
        classifier = CenterClassifier(**parameters).fit(features, labels)
        assert (classifier.predict(features) == expected).mean() > 0.95
        assert_close(classifier.centers_[:, [0, 2]], [[0, 1e6]] * 3, 1e-15)


LABELS = {
    "strings": ["b", "a", "c"],
    "integers": [7, 0, 3],
    "negative": [-1, -5, 2**40],
    "unsigned": np.array([3, 0, 255], np.uint8),
    "floats": [1.0, -2.0, 5.0],
    "objects": np.array(["b", "a", "long label"], object),
    "bool": [True, False, True],
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_labels(labels):
    labels = np.asarray(labels)
    x = np.array([[0.0], [5.0], [0.5 if labels.dtype == bool else 50.0]])
    whole = CenterClassifier().fit(x, labels)
    assert np.array_equal(whole.classes_, np.unique(labels))
    assert whole.classes_.dtype == labels.dtype
    parts = CenterClassifier()
    for row in range(3):
        one = slice(row, row + 1)
        parts.partial_fit(x[one], labels[one], labels[::-1])
    for classifier in (whole, parts):
        predicted = classifier.predict(x)
        assert predicted.dtype == classifier.classes_.dtype
        assert np.array_equal(predicted, labels)
        assert classifier.score(x, labels) == 1


def test_fit_forgets():
    classifier = CenterClassifier().fit([[1.0, 2.0]], ["a"])
    classifier.fit(np.float32([[3.0], [5.0]]), [1, 0])
    assert classifier.classes_.tolist() == [0, 1]
    assert bits(classifier.centers_) == bits(np.float32([[5], [3]]))
    assert classifier.class_count_.tolist() == [1, 1]
    assert classifier.n_features_in_ == 1


def test_partial_fit_goes_on_after_fit():
    classifier = with_centers([[0.0], [8.0]])
    classifier.partial_fit([[2.0], [4.0]], [0, 0])
    assert classifier.centers_.tolist() == [[2], [8]]
    assert classifier.class_count_.tolist() == [3, 1]


def test_arguments_stay_as_they_are():
    features, labels = blobs(30, 3, 2)
    weights = np.ones(30)
    before = bits((features, labels, weights))
    for parameters in SETTINGS:
        classifier = CenterClassifier(**parameters).fit(features, labels, weights)
        classifier.partial_fit(features, labels, [0, 1], weights).predict(features)
        classifier.transform(features)
        classifier.decision_function(features)
    assert bits((features, labels, weights)) == before
