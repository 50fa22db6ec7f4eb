"""What CenterClassifier refuses, in scikit-learn's words, and that nothing changes."""

import pickle
import re
from numbers import Real

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
)

from centerloss.sklearn import CenterClassifier
from tests.sklearn.samples import blobs

FEATURES, LABELS = blobs(12, 3, 3)
POSITIVE = [Interval(Real, 0, None, closed="neither"), None]
CONSTRAINTS = {
    "metric": [StrOptions({"euclidean", "cosine"})],
    "learning_rate": [StrOptions({"mean"}), Interval(Real, 0, None, closed="left")],
    "shrink_threshold": POSITIVE,
    "working_memory": POSITIVE,
}


def fresh(**parameters):
    return CenterClassifier(**parameters)


def fitted(**parameters):
    return CenterClassifier(**parameters).partial_fit(FEATURES, LABELS, [0, 1, 2])


def assert_refused(classifier, call, error, message):
    """The call fails, and every attribute and array is as it was."""
    before, names = pickle.dumps(classifier), list(vars(classifier))
    with pytest.raises(error, match=message):
        call(classifier)
    assert list(vars(classifier)) == names
    assert pickle.dumps(classifier) == before


# --- parameters -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("metric", value)
            for value in ("manhattan", "", None, 1, ["cosine"], b"cosine")
        ),
        *(
            ("learning_rate", value)
            for value in ("auto", None, -0.5, np.nan, 1j, [0.5])
        ),
        *(("shrink_threshold", value) for value in (0, -1.0, "mean", np.nan, [1])),
        *(("working_memory", value) for value in (0, -1, "1", np.nan, np.ones(2))),
    ],
)
def test_parameters_are_refused_in_the_words_of_scikit_learn(name, value):
    classifier = CenterClassifier(**{name: value})
    with pytest.raises(InvalidParameterError) as theirs:
        validate_parameter_constraints(
            CONSTRAINTS, classifier.get_params(), "CenterClassifier"
        )
    for call in (classifier.fit, classifier.partial_fit):
        with pytest.raises(ValueError, match=f"^The '{name}' parameter of") as ours:
            call(FEATURES, LABELS)
        # The order of options in braces varies.
        words = [
            sorted(re.split(r"[ {},]+", str(error.value))) for error in (ours, theirs)
        ]
        assert words[0] == words[1]
    assert vars(classifier) == classifier.get_params()


@pytest.mark.parametrize(
    "name", ["learning_rate", "shrink_threshold", "working_memory"]
)
def test_infinite_parameters(name):
    message = f"The '{name}' parameter .* Got inf instead"
    for classifier in (fresh(), fitted()):
        classifier.set_params(**{name: np.inf})
        assert_refused(
            classifier, lambda c: c.partial_fit(FEATURES, LABELS), ValueError, message
        )


@pytest.mark.parametrize(
    "parameters",
    [
        {"metric": np.str_("cosine")},
        {"learning_rate": np.float32(0.5)},
        {"learning_rate": 1},
        {"learning_rate": np.int64(0)},
        {"shrink_threshold": np.float64(2)},
        {"shrink_threshold": 3},
        {"working_memory": np.int8(1)},
    ],
)
def test_parameters_of_other_types(parameters):
    validate_parameter_constraints(CONSTRAINTS, parameters, "CenterClassifier")
    classifier = fitted(**parameters).fit(FEATURES, LABELS)
    assert classifier.score(FEATURES, LABELS) > 0.8


def test_subclasses_are_named():
    class Nearest(CenterClassifier):
        pass

    with pytest.raises(ValueError, match="parameter of Nearest must be"):
        Nearest("manhattan").fit(FEATURES, LABELS)
    with pytest.raises(NotFittedError, match="This Nearest instance"):
        Nearest().predict(FEATURES)


def test_shrinking_needs_means():
    message = r"^shrink_threshold=0.5 needs learning_rate='mean'. Got 0.25 instead.$"
    for classifier in (fresh(), fitted()):
        classifier.set_params(shrink_threshold=0.5, learning_rate=0.25)
        for call in (
            lambda c: c.fit(FEATURES, LABELS),
            lambda c: c.partial_fit(FEATURES, LABELS, [0, 1, 2]),
        ):
            assert_refused(classifier, call, ValueError, message)


def test_shrinking_needs_the_squares_of_the_first_batch():
    classifier = fitted().set_params(shrink_threshold=0.5)
    message = (
        "^shrink_threshold was None when the first batch was learned. Call fit, or"
    )
    assert_refused(
        classifier, lambda c: c.partial_fit(FEATURES, LABELS), ValueError, message
    )
    expected = CenterClassifier(shrink_threshold=0.5).fit(FEATURES, LABELS)
    assert np.array_equal(classifier.fit(FEATURES, LABELS).centers_, expected.centers_)


# --- rows, labels and weights -----------------------------------------------------


def with_value(value):
    features = FEATURES.copy()
    features[4, 1] = value
    return features


def weights_with(value):
    return np.where(np.arange(12) == 7, value, 1.0)


# For X, y and sample_weight of fit and of partial_fit.
WRONG = {
    "NaN": ((with_value(np.nan), LABELS), ValueError, "Input X contains NaN"),
    "inf": ((with_value(np.inf), LABELS), ValueError, "Input X contains infinity"),
    "complex": ((FEATURES * 1j, LABELS), ValueError, "Complex data not supported"),
    "sparse": ((csr_matrix(FEATURES), LABELS), TypeError, "Sparse data was passed"),
    "words": ((np.full((12, 3), "a"), LABELS), ValueError, "could not convert string"),
    "1-D": ((FEATURES[0], LABELS), ValueError, "Expected 2D array, got 1D array"),
    "3-D": ((FEATURES[..., None], LABELS), ValueError, "Found array with dim 3"),
    "no rows": ((FEATURES[:0], LABELS[:0]), ValueError, "Found array with 0 sample"),
    "no features": (
        (FEATURES[:, :0], LABELS),
        ValueError,
        "Found array with 0 feature",
    ),
    "lengths": ((FEATURES, LABELS[:5]), ValueError, "inconsistent numbers of samples"),
    "no y": ((FEATURES, None), ValueError, "requires y to be passed"),
    "2-D y": ((FEATURES, FEATURES), ValueError, "y should be a 1d array"),
    "NaN y": ((FEATURES, LABELS + np.nan), ValueError, "Input y contains NaN"),
    "unknown": (
        (FEATURES, LABELS + 0.5),
        ValueError,
        "Unknown label|previously unseen",
    ),
    "weights": (
        (FEATURES, LABELS, np.ones(5)),
        ValueError,
        r"== \(5,\), expected \(12,\)",
    ),
    "2-D weights": (
        (FEATURES, LABELS, np.ones((12, 1))),
        ValueError,
        r"^sample_weight.shape == \(12, 1\), expected \(12,\)!$",
    ),
    "negative weight": (
        (FEATURES, LABELS, weights_with(-1.0)),
        ValueError,
        "Negative values in data passed to sample_weight",
    ),
    "NaN weight": (
        (FEATURES, LABELS, weights_with(np.nan)),
        ValueError,
        "Input sample_weight contains NaN",
    ),
    "inf weight": (
        (FEATURES, LABELS, weights_with(np.inf)),
        ValueError,
        "Input sample_weight contains infinity",
    ),
    "overflow": (
        (np.full((12, 3), 1.7e308), LABELS),
        ValueError,
        "^the sum of the rows of a class is too large for float64$",
    ),
    "overflow of weights": (
        (FEATURES * 1e100, LABELS, weights_with(1e250)),
        ValueError,
        "^the sum of the rows of a class is too large for float64$",
    ),
}


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("shrink_threshold", [None, 0.5])
def test_wrong_batches(arguments, error, message, shrink_threshold):
    X, y, weights = (*arguments, None)[:3]
    for make in (fresh, fitted):
        for call in (
            lambda c: c.fit(X, y, weights),
            lambda c: c.partial_fit(X, y, [0, 1, 2], weights),
        ):
            classifier = make(shrink_threshold=shrink_threshold)
            assert_refused(classifier, call, error, message)


def test_weights_of_zero_alone():
    message = "^Sample weights must contain at least one non-zero number.$"
    for call in (
        lambda c: c.fit(FEATURES, LABELS, np.zeros(12)),
        lambda c: c.partial_fit(FEATURES, LABELS, [0, 1, 2], np.zeros(12)),
    ):
        assert_refused(fresh(), call, ValueError, message)
    assert_refused(
        fitted(), lambda c: c.fit(FEATURES, LABELS, np.zeros(12)), ValueError, message
    )


def test_sums_too_large_for_float32():
    rows = np.full((12, 3), 3e38, np.float32)
    classifier = CenterClassifier()
    classifier.partial_fit(FEATURES.astype(np.float32), LABELS, [0, 1, 2])
    for call in (lambda c: c.fit(rows, LABELS), lambda c: c.partial_fit(rows, LABELS)):
        message = "^the sum of the rows of a class is too large for float32$"
        assert_refused(classifier, call, ValueError, message)


def test_rows_too_large_for_the_dtype_of_the_first_batch():
    classifier = CenterClassifier().fit(FEATURES.astype(np.float32), LABELS)
    message = r"Input X contains infinity or a value too large for dtype\('float32'\)"
    with np.errstate(all="ignore"):  # NumPy warns of the cast
        assert_refused(
            classifier, lambda c: c.partial_fit(FEATURES * 1e50, LABELS), ValueError,
            message,
        )  # fmt: skip


def test_squares_too_large():
    rows = np.where(np.arange(12)[:, np.newaxis] < 6, 1e160, -1e160) * np.ones(3)
    message = "^the squares of the rows are too large for float64$"
    for make in (fresh, fitted):
        for call in (
            lambda c: c.fit(rows, LABELS),
            lambda c: c.partial_fit(rows, LABELS, [0, 1, 2]),
        ):
            classifier = make(shrink_threshold=0.5)
            assert_refused(classifier, call, ValueError, message)
    assert np.isfinite(CenterClassifier().fit(rows, LABELS).centers_).all()


# --- classes and features ---------------------------------------------------------


def test_continuous_labels():
    assert_refused(
        fresh(), lambda c: c.fit(FEATURES, LABELS + 0.5), ValueError,
        "Unknown label type: continuous",
    )  # fmt: skip


def test_labels_that_are_not_among_the_classes():
    message = "y contains previously unseen labels: .*7"
    labels = np.where(np.arange(12) == 3, 7, LABELS)
    for call in (
        lambda c: c.partial_fit(FEATURES, labels, [0, 1, 2]),
        lambda c: c.partial_fit(FEATURES[3:4], labels[3:4], [0, 1, 2]),
    ):
        assert_refused(fresh(), call, ValueError, message)
        assert_refused(fitted(), call, ValueError, message)


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        ([0, 1], [0.5, 1]),
        ([0, 1], [2, 1]),
        ([0, 1], [-1, 1]),
        ([0, 1], ["0", "1"]),
        (["a", "b"], ["a", "bc"]),  # a dtype that would cut off the last letter
        (["a", "b"], np.array(["b", "bc"], object)),
        (["a", "b"], [1, 2]),
        ([False, True], [2, 1]),
        ([], [1, 2]),
    ],
)
def test_labels_are_not_cast_to_those_of_the_classes(classes, labels):
    message = "^y contains previously unseen labels: "
    rows, known = FEATURES[:2], np.array(classes)
    assert_refused(
        fresh(), lambda c: c.partial_fit(rows, labels, classes), ValueError, message
    )
    if len(known):
        classifier = fresh().partial_fit(rows, known, known)
        assert_refused(
            classifier, lambda c: c.partial_fit(rows, labels), ValueError, message
        )


def test_equal_labels_of_other_types():
    classifier = fresh().partial_fit([[1.0], [2.0]], [0, 1], [0, 1])
    for labels in ([0.0, 1.0], [False, True], np.array([0, 1], object)):
        classifier.partial_fit([[1.0], [2.0]], labels)
    assert classifier.class_count_.tolist() == [4, 4]
    classifier = fresh().partial_fit([[1.0]], ["a"], ["a", "longer"])
    classifier.partial_fit([[1.0]], np.array(["longer"], object))
    assert classifier.class_count_.tolist() == [1, 1]


def test_classes_of_partial_fit():
    assert_refused(
        fresh(), lambda c: c.partial_fit(FEATURES, LABELS), ValueError,
        r"^classes must be passed on the first call to partial_fit\.$",
    )  # fmt: skip
    for classes in ([0, 1], [0, 1, 2, 3], [0, 1, 3], ["a", "b", "c"]):
        assert_refused(
            fitted(), lambda c, k=classes: c.partial_fit(FEATURES, LABELS, k),
            ValueError, "is not the same as on last call to partial_fit, was: array",
        )  # fmt: skip
    assert_refused(
        fresh(), lambda c: c.partial_fit(FEATURES, LABELS, 3), ValueError,
        "Expected array-like",
    )  # fmt: skip
    assert_refused(
        fresh(), lambda c: c.partial_fit(FEATURES, LABELS, [0, 1, "b"]), ValueError,
        "previously unseen labels|Mix of label input types",
    )  # fmt: skip
    any_order = fitted().partial_fit(FEATURES, LABELS, [2, 0, 1, 1])
    assert any_order.class_count_.tolist() == [8, 8, 8]


METHODS = ("predict", "decision_function", "transform")


@pytest.mark.parametrize("name", METHODS)
def test_wrong_rows_of_other_methods(name):
    def call(rows):
        return lambda classifier: getattr(classifier, name)(rows)

    message = "This CenterClassifier instance is not fitted yet"
    assert_refused(fresh(), call(FEATURES), NotFittedError, message)
    for rows, error, message in (
        (FEATURES[:, :2], ValueError, "X has 2 features, but CenterClassifier is exp"),
        (with_value(np.nan), ValueError, "Input X contains NaN"),
        (with_value(-np.inf), ValueError, "Input X contains infinity"),
        (FEATURES * 1j, ValueError, "Complex data not supported"),
        (csr_matrix(FEATURES), TypeError, "Sparse data was passed"),
        (FEATURES[0], ValueError, "Expected 2D array, got 1D array"),
        (FEATURES[:0], ValueError, "Found array with 0 sample"),
    ):
        assert_refused(fitted(), call(rows), error, message)


def test_names_need_a_fit():
    with pytest.raises(NotFittedError):
        CenterClassifier().get_feature_names_out()


def test_the_number_of_features():
    message = "X has 2 features, but CenterClassifier is expecting 3 features as input"
    assert_refused(
        fitted(), lambda c: c.partial_fit(FEATURES[:, :2], LABELS), ValueError, message
    )
