"""Predictions, scores and distances: exact in near ties, within the memory allowed."""

import itertools
import tracemalloc

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn import config_context
from sklearn.metrics.pairwise import cosine_distances, euclidean_distances
from threadpoolctl import threadpool_limits

import centerloss
from centerloss.sklearn import CenterClassifier
from tests.helpers.batches import bits
from tests.helpers.layouts import READ, swapped
from tests.sklearn.samples import assert_close, blobs, with_centers

FLOATS = [np.float32, np.float64]
every_dtypes = pytest.mark.parametrize(
    ("dtype", "centers_dtype"),
    list(itertools.product(FLOATS, FLOATS)),
    ids=lambda dtype: dtype.__name__,
)
ULPS = 8 * np.finfo(np.float64).eps


def unit(rows):
    """The rows divided by their lengths, in extended precision; zeros stay."""
    rows = rows.astype(np.longdouble)
    lengths = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    return np.divide(rows, lengths, where=lengths > 0, out=np.zeros_like(rows))


def exact_halves(features, centers):
    """Half the squared distances, rounded to float64 from extended precision."""
    differences = features[:, np.newaxis].astype(np.longdouble) - centers
    with np.errstate(over="ignore", under="ignore"):
        return ((differences**2).sum(axis=2) / 2).astype(np.float64)


def assert_nearest(classifier, features):
    """No center is nearer than the one predicted, by more than rounding."""
    predicted = classifier.predict(features)
    halves = exact_halves(features, classifier.centers_.astype(np.longdouble))
    chosen = np.take_along_axis(halves, predicted[:, np.newaxis], axis=1)[:, 0]
    assert (chosen <= halves.min(axis=1) * (1 + ULPS)).all()
    with np.errstate(over="ignore"):
        scores = classifier.decision_function(features.astype(np.float64))
    if scores.ndim == 2:
        assert np.array_equal(predicted, scores.argmax(axis=1))
    else:
        assert np.array_equal(predicted, scores > 0)


def near_ties(rng, centers, noise):
    """Rows about half way between two centers, and the centers themselves."""
    count, dim = centers.shape
    one, other = rng.integers(0, count, (2, 200))
    middles = centers[one] / 2 + centers[other] / 2
    shift = noise * np.abs(middles - centers[one]).max()
    middles += shift * rng.standard_normal((200, dim))
    return np.concatenate([middles, centers])


@every_dtypes
@pytest.mark.parametrize(("dim", "count"), [(1, 2), (2, 30), (7, 5), (64, 10)])
@pytest.mark.parametrize("offset", [0, 1, 30, 1e4, 1e8])
def test_near_ties(dtype, centers_dtype, dim, count, offset):
    rng = np.random.default_rng([dim, count])
    for noise in (0, 1e-15, 1e-9, 1e-6):
        centers = offset + rng.standard_normal((count, dim))
        centers[-1] = centers[0]
        classifier = with_centers(centers.astype(centers_dtype))
        exact = classifier.centers_.astype(np.float64)
        assert_nearest(classifier, near_ties(rng, exact, noise).astype(dtype))


@pytest.mark.parametrize("memory", [1e-6, 0.01, 0.1, None])
def test_near_ties_in_small_blocks(memory):
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((40, 8)).astype(np.float32)
    rows = near_ties(rng, centers.astype(np.float64), 1e-9)
    whole = with_centers(centers)
    classifier = with_centers(centers, working_memory=memory)
    assert_nearest(classifier, rows)
    for name in ("predict", "decision_function", "transform"):
        expected = bits(getattr(whole, name)(rows))
        assert bits(getattr(classifier, name)(rows)) == expected
        with config_context(working_memory=0.02):
            assert bits(getattr(whole, name)(rows)) == expected


SCALES = [
    (np.float32, [1e-45, 1e-40, 1e-30, 1e-22, 1e-21, 1e-20, 1e18, 1e19, 1e30, 1e37]),
    (np.float64, [5e-324, 1e-310, 1e-200, 1e-160, 1e-40, 1e30, 1e100, 1e153, 1e200]),
]


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(dtype, scale) for dtype, scales in SCALES for scale in scales],
)
@pytest.mark.parametrize("classes", [2, 6])
def test_tiny_and_huge_numbers(dtype, scale, classes):
    rng = np.random.default_rng(0)
    centers = (scale * rng.uniform(-3, 3, (classes, 5))).astype(dtype)
    classifier = with_centers(centers)
    rows = near_ties(rng, centers.astype(np.float64), 1e-9).astype(dtype)
    assert_nearest(classifier, rows)
    other = np.float32 if dtype == np.float64 and 1e-30 < scale < 1e30 else np.float64
    assert_nearest(classifier, rows.astype(other))


@pytest.mark.parametrize("dtype", FLOATS)
def test_scores_that_overflow_in_float32(dtype):
    """The nearest center would have the score minus infinity, others a finite one."""
    for centers, row in (
        ([[3e19], [-1e19]], [[1.2e19]]),
        ([[-1e18, 1.01e18], [0, 0]], [[1e21, 1e21]]),
        ([[1.01e18, -1e18], [0, 0]], [[1e21, 1e21]]),
    ):
        classifier = with_centers(np.array(centers, dtype))
        assert classifier.predict(np.array(row, dtype)).tolist() == [0]


def test_numbers_of_all_sizes():
    """Some centers are near, others so far that squares overflow in float32."""
    rng = np.random.default_rng(0)
    for dtype, most in ((np.float32, 38), (np.float64, 150)):
        centers = 10.0 ** rng.uniform(-most, most, (50, 3))
        centers = (centers * rng.choice([-1, 1], (50, 3))).astype(dtype)
        rows = near_ties(rng, centers.astype(np.float64), 1e-9).astype(dtype)
        assert_nearest(with_centers(centers), rows)
        small = with_centers(rng.standard_normal((9, 3)).astype(dtype))
        assert_nearest(small, rows)


def test_the_first_of_equally_near_classes():
    centers = np.random.default_rng(0).standard_normal((30, 4))
    order = np.arange(90) % 30
    first = with_centers(centers[order])
    assert first.predict(centers).tolist() == list(range(30))
    square = with_centers([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    assert square.predict([[0, 0], [1, 1], [-1, 1], [-1, -1], [1, -1]]).tolist() == [
        *(0, 0, 1, 2, 0)
    ]
    # All distances overflow in float64.
    far = with_centers([[1e200], [-1e200]])
    assert far.predict([[5e199], [-5e199]]).tolist() == [0, 0]
    assert far.decision_function([[5e199], [-5e199]]).tolist() == [0, 0]


@every_dtypes
def test_the_mean_of_centers_may_be_exactly_at_the_limit_of_their_reach(
    dtype, centers_dtype
):
    """There, the way in which scores are computed changes."""
    rng = np.random.default_rng(0)
    circle = np.stack([np.cos(np.arange(8)), np.sin(np.arange(8))], axis=1)
    for distance in (3.9, 3.999, 4, 4.001, 4.1):
        centers = (circle + np.array([distance, 0])).astype(centers_dtype)
        rows = near_ties(rng, centers.astype(np.float64), 1e-9)
        assert_nearest(with_centers(centers), rows.astype(dtype))


def test_rows_about_as_far_from_all_centers():
    """Rows near the middle of a circle of centers, where products are small."""
    rng = np.random.default_rng(0)
    angles = 2 * np.pi * np.arange(32) / 32
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    centers = circle * (1 + 1e-8 * rng.standard_normal((32, 1)))
    assert_nearest(with_centers(centers), 1e-8 * rng.standard_normal((500, 2)))


# --- cosine -----------------------------------------------------------------------


@every_dtypes
def test_cosine_near_ties(dtype, centers_dtype):
    rng = np.random.default_rng(0)
    for noise in (0, 1e-15, 1e-9):
        centers = rng.standard_normal((12, 6))
        centers[-1] = centers[0]
        centers[5] = 0
        classifier = with_centers(centers.astype(centers_dtype), metric="cosine")
        ends = unit(classifier.centers_)
        rows = near_ties(rng, classifier.centers_.astype(np.float64), noise)
        rows = (rows * 10.0 ** rng.integers(-9, 9, (len(rows), 1))).astype(dtype)
        rows[3] = 0
        predicted = classifier.predict(rows)
        scores = classifier.decision_function(rows.astype(np.float64))
        assert np.array_equal(predicted, scores.argmax(axis=1))
        assert predicted[3] == 0
        cosines = unit(rows) @ ends.T
        chosen = np.take_along_axis(cosines, predicted[:, np.newaxis], axis=1)[:, 0]
        # Relative to the lengths, since differences of unit rows are rounded.
        assert (chosen >= cosines.max(axis=1) - ULPS).all()


def test_cosine_near_ties_with_a_center_of_zeros():
    classifier = with_centers([[0.0, 0.0], [1.0, 0.0]], metric="cosine")
    assert classifier.predict([[1e-8, 1.0], [-1e-8, 1.0]]).tolist() == [1, 0]


@pytest.mark.parametrize("dtype", FLOATS)
def test_cosine_of_zeros_is_zero(dtype):
    centers = np.array([[3, 4], [0, 0], [-1, 7]], dtype)
    classifier = with_centers(centers, metric="cosine")
    rows = np.array([[0, 0], [6, 8], [-4, 3], [-3, -4]], dtype)
    distances = classifier.transform(rows)
    assert distances[0].tolist() == [1, 1, 1]
    assert_close(distances, cosine_distances(rows, centers), 1e-7)
    assert_close(distances[:, 1], np.ones(4), np.finfo(dtype).eps)
    assert classifier.predict(rows).tolist() == [0, 0, 2, 1]
    unseen = CenterClassifier("cosine").partial_fit(rows[1:2], [1], [0, 1, 2])
    assert unseen.transform(rows[:1]).tolist() == [[np.inf, 1, np.inf]]
    assert unseen.predict(rows[:1]).tolist() == [1]


# --- scores and distances -----------------------------------------------------------


@every_dtypes
@pytest.mark.parametrize(("rows", "count"), [(1, 3), (3, 40), (200, 7), (50, 50)])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_distances(dtype, centers_dtype, rows, count, metric):
    rng = np.random.default_rng([rows, count])
    features = rng.standard_normal((rows, 9)).astype(dtype)
    classifier = with_centers(
        rng.standard_normal((count, 9)).astype(centers_dtype), metric=metric
    )
    distances = classifier.transform(features)
    scores = classifier.decision_function(features)
    both = np.result_type(dtype, centers_dtype)
    assert distances.dtype == scores.dtype == both
    expected = cdist(
        features.astype(np.float64), classifier.centers_.astype(np.float64), metric
    )
    assert_close(distances, expected, 4 * np.finfo(both).eps)
    theirs = euclidean_distances if metric == "euclidean" else cosine_distances
    assert_close(distances, theirs(features, classifier.centers_), 1e-5)
    halves = expected**2 / 2 if metric == "euclidean" else expected
    assert_close(scores, -halves, 4 * np.finfo(both).eps)


def test_distances_are_those_of_differences():
    """Where x^2 + c^2 - 2 x c has no correct digit."""
    centers = 1e8 + np.array([[0.0, 0.25], [0.5, 0.0], [2.0, 1.0]])
    rows = 1e8 + np.array([[0.25, 0.25], [0.5, 0.125]])
    classifier = with_centers(centers)
    halves = exact_halves(rows, centers)
    assert np.array_equal(classifier.decision_function(rows), -halves)
    assert np.array_equal(classifier.transform(rows), np.sqrt(2 * halves))


def test_scores_of_two_classes():
    rng = np.random.default_rng(0)
    for dtype in FLOATS:
        centers = rng.standard_normal((2, 5)).astype(dtype)
        rows = near_ties(rng, centers.astype(np.float64), 1e-9).astype(dtype)
        classifier = with_centers(centers)
        halves = exact_halves(rows, centers)
        scores = classifier.decision_function(rows)
        assert scores.shape == (len(rows),)
        assert scores.dtype == dtype
        expected = halves[:, 0] - halves[:, 1]
        assert_close(scores, expected, 2 * np.finfo(dtype).eps, scale=halves.max())
        # They are subtracted before they are rounded.
        assert np.array_equal(classifier.predict(rows), scores > 0)


# --- layouts, threads, memory -------------------------------------------------------


@pytest.mark.parametrize("layout", READ)
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_layouts(layout, metric):
    # scikit-learn makes float64 of numbers in another byte order.
    dtype = np.float64 if layout is swapped else np.float32
    features, labels = blobs(70, 5, 4, dtype=dtype)
    weights = np.arange(70) / 8
    expected = CenterClassifier(metric).fit(features, labels, weights)
    given = layout(features), labels, layout(weights)
    classifier = CenterClassifier(metric).fit(*given)
    classifier.partial_fit(*given[:2], [0, 1, 2, 3], given[2])
    expected.partial_fit(features, labels, sample_weight=weights)
    assert bits(classifier.centers_) == bits(expected.centers_)
    for name in ("predict", "decision_function", "transform"):
        result = getattr(classifier, name)(layout(features))
        assert bits(result) == bits(getattr(expected, name)(features))
        assert type(result) is np.ndarray


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_any_number_of_threads(metric):
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((60, 32)).astype(np.float32)
    rows = np.tile(near_ties(rng, centers.astype(np.float64), 1e-9), (4, 1))
    results = []
    before = centerloss.get_num_threads()
    try:
        for threads in (1, 2):
            centerloss.set_num_threads(threads)
            with threadpool_limits(threads):
                classifier = with_centers(centers, metric=metric)
                classifier.partial_fit(rows, np.arange(len(rows)) % 60)
                results.append(
                    [
                        bits(getattr(classifier, name)(rows))
                        for name in ("predict", "decision_function", "transform")
                    ]
                )
    finally:
        centerloss.set_num_threads(before)
    assert results[0] == results[1]


def peak(function, *arguments):
    """Bytes allocated at most during a call, beside its result."""
    function(*arguments)
    tracemalloc.start()
    try:
        result = function(*arguments)
        return tracemalloc.get_traced_memory()[1] - result.nbytes
    finally:
        tracemalloc.stop()


MIB = 2**20


@pytest.mark.parametrize("name", ["predict", "transform"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("memory", "rows", "dim", "count"),
    [
        (1, 20000, 4, 10),
        (1, 3000, 64, 100),
        (1, 6000, 100, 2),
        (1, 300, 4, 2000),
        (16, 4000, 400, 30),
    ],
)
def test_working_memory(name, metric, dtype, memory, rows, dim, count):
    """Within it, beside the result and copies of the centers."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((count, dim)).astype(dtype)
    features = rng.standard_normal((rows, dim)).astype(dtype)
    classifier = with_centers(centers, metric=metric, working_memory=memory)
    copies = 5 * 8 * centers.size + 16 * 1024
    codes = 8 * rows if name == "predict" else 0
    assert peak(getattr(classifier, name), features) <= memory * MIB + copies + codes
    # Equal centers: all of them are candidates, for every row.
    classifier = with_centers(0 * centers + 1, metric=metric, working_memory=memory)
    assert peak(getattr(classifier, name), features) <= memory * MIB + copies + codes


def test_working_memory_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((20000, 20))
    classifier = with_centers(features[:50])
    peaks = {}
    for memory in (1, 4, 12):
        with config_context(working_memory=memory):
            peaks[memory] = peak(classifier.transform, features)
        assert memory / 2 * MIB < peaks[memory] < memory * MIB
