"""CenterClassifier in scikit-learn's tools: frames, pipelines, searches, copies."""

import copy
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from centerloss.sklearn import CenterClassifier
from tests.helpers.batches import bits
from tests.helpers.error_cases import read_only
from tests.sklearn.samples import blobs, class_means


def iris():
    """Rows and names of three kinds of flowers."""
    data = load_iris(as_frame=True)
    return data.data, data.target_names[data.target]


# --- dtypes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.float16, np.float64),
        (np.int64, np.float64),
        (np.uint8, np.float64),
        (bool, np.float64),
        (object, np.float64),
    ],
)
def test_dtypes(given, kept):
    features = np.array([[0, 1], [1, 1], [0, 0]]).astype(given)
    classifier = CenterClassifier().fit(features, [0, 0, 1])
    assert classifier.centers_.dtype == kept
    assert classifier.centers_.tolist() == [[0.5, 1], [0, 0]]
    assert classifier.transform(features).dtype == kept
    assert classifier.decision_function(features).dtype == kept
    assert classifier.class_count_.dtype == np.float64


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("shrink_threshold", [None, 0.5])
def test_the_dtype_of_the_first_batch_stays(metric, shrink_threshold):
    features, labels = blobs(90, 3, 3)
    classifier = CenterClassifier(metric, shrink_threshold=shrink_threshold)
    for dtype in (np.float32, np.float64, np.int64):
        classifier.partial_fit(features.astype(dtype), labels, [0, 1, 2])
        assert classifier.centers_.dtype == np.float32
    assert classifier.transform(features).dtype == np.float64
    assert classifier.fit(features, labels).centers_.dtype == np.float64


# --- frames -----------------------------------------------------------------------


def test_frames():
    features, labels = iris()
    classifier = CenterClassifier().fit(features, labels)
    assert classifier.feature_names_in_.tolist() == features.columns.tolist()
    assert classifier.n_features_in_ == 4
    expected = CenterClassifier().fit(features.to_numpy(), labels)
    assert bits(classifier.centers_) == bits(expected.centers_)
    assert not hasattr(expected, "feature_names_in_")
    predicted = expected.predict(features.to_numpy())
    assert np.array_equal(classifier.predict(features), predicted)
    for call in (
        classifier.predict,
        classifier.transform,
        classifier.decision_function,
        lambda rows: classifier.partial_fit(rows, labels),
    ):
        with pytest.raises(ValueError, match="feature names should match"):
            call(features.rename(columns={"sepal length (cm)": "length"}))
        with pytest.raises(ValueError, match="must be in the same order"):
            call(features[features.columns[::-1]])
        with pytest.warns(UserWarning, match="X does not have valid feature names"):
            call(features.to_numpy())
    with pytest.warns(UserWarning, match="X has feature names, but CenterClassifier"):
        expected.predict(features)


@pytest.mark.parametrize("kind", ["str", "category", "object"])
def test_series_of_labels(kind):
    features, labels = iris()
    for given in (pd.Series(labels).astype(kind), pd.Series(labels, dtype="category")):
        classifier = CenterClassifier().fit(features, given)
        classifier.partial_fit(features, given, given.unique())
        assert classifier.classes_.tolist() == ["setosa", "versicolor", "virginica"]
        assert classifier.score(features, given) > 0.9
    weights = pd.Series(np.arange(len(labels)))
    classifier = CenterClassifier().fit(features, pd.Categorical(labels), weights)
    means = class_means(features.to_numpy(), labels, weights.to_numpy())
    assert np.allclose(classifier.centers_, means.astype(np.float64), rtol=1e-13)


def test_output_as_frames():
    features, labels = iris()
    classifier = CenterClassifier().set_output(transform="pandas")
    distances = classifier.fit(features, labels).transform(features)
    names = ["centerclassifier0", "centerclassifier1", "centerclassifier2"]
    assert classifier.get_feature_names_out().tolist() == names
    assert distances.columns.tolist() == names
    assert distances.index.equals(features.index)
    expected = CenterClassifier().fit_transform(features, labels)
    assert np.array_equal(distances.to_numpy(), expected)
    two = CenterClassifier().fit([[1.0], [2.0]], [0, 1])
    assert two.get_feature_names_out().tolist() == names[:2]


# --- copies -----------------------------------------------------------------------


def by_joblib(classifier, folder):
    joblib.dump(classifier, folder / "classifier.joblib")
    return joblib.load(folder / "classifier.joblib")


COPIES = {
    "pickle": lambda classifier, _: pickle.loads(pickle.dumps(classifier)),
    "deepcopy": lambda classifier, _: copy.deepcopy(classifier),
    "joblib": by_joblib,
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize(
    "parameters",
    [{}, {"metric": "cosine"}, {"learning_rate": 0.3}, {"shrink_threshold": 0.2}],
)
def test_copies_learn_on_their_own(duplicate, parameters, tmp_path):
    features, labels = blobs(80, 3, 4, dtype=np.float32)
    classes = np.arange(5)  # one never comes
    classifier = CenterClassifier(**parameters)
    classifier.partial_fit(features[:50], labels[:50], classes)
    other = duplicate(classifier, tmp_path)
    before = bits(classifier.centers_), bits(classifier.class_count_)
    assert other.get_params() == classifier.get_params()
    assert bits(other.predict(features)) == bits(classifier.predict(features))
    other.partial_fit(features[50:], labels[50:], classes)
    assert (bits(classifier.centers_), bits(classifier.class_count_)) == before
    classifier.partial_fit(features[50:], labels[50:], classes)
    assert bits(other.centers_) == bits(classifier.centers_)
    assert bits(other.class_count_) == bits(classifier.class_count_)


def test_clone_has_the_parameters_alone():
    parameters = {
        "metric": "cosine",
        "learning_rate": 0.5,
        "shrink_threshold": None,
        "working_memory": 3.5,
    }
    classifier = CenterClassifier(**parameters).fit([[1.0]], [0])
    other = clone(classifier)
    assert other.get_params() == parameters
    assert vars(other) == parameters


def test_read_only_centers_and_data():
    """As joblib gives them to its processes."""
    features, labels = blobs(60, 3, 3)
    expected = CenterClassifier().fit(features, labels)
    rows = read_only(features), read_only(labels), read_only(np.ones(60))
    classifier = CenterClassifier().fit(*rows)
    assert bits(classifier.centers_) == bits(expected.centers_)
    classifier.centers_ = read_only(classifier.centers_)
    assert np.array_equal(classifier.predict(rows[0]), expected.predict(features))


# --- tools ------------------------------------------------------------------------


def test_pipeline():
    features, labels = iris()
    pipeline = make_pipeline(StandardScaler(), CenterClassifier())
    pipeline.fit(features, labels)
    scaled = (features - features.mean()) / features.std(ddof=0)
    means = class_means(scaled.to_numpy(), labels).astype(np.float64)
    assert np.allclose(pipeline[-1].centers_, means, atol=1e-12)
    assert pipeline.score(features, labels) > 0.8
    before = make_pipeline(StandardScaler(), CenterClassifier(), CenterClassifier())
    assert before.fit(features, labels)[-1].n_features_in_ == 3


def test_grid_search():
    features, labels = iris()
    grid = [
        {"metric": ["euclidean", "cosine"], "shrink_threshold": [None, 0.1, 1]},
        {"learning_rate": ["mean", 0.5]},
    ]
    search = GridSearchCV(CenterClassifier(), grid, error_score="raise")
    search.fit(features, labels)
    assert len(search.cv_results_["params"]) == 8
    assert search.best_params_["metric"] == "cosine"
    assert search.best_score_ > 0.9


@pytest.mark.parametrize("classes", [2, 3])
def test_calibration(classes):
    features, labels = blobs(200, 4, classes)
    calibrated = CalibratedClassifierCV(CenterClassifier(), cv=3)
    chances = calibrated.fit(features, labels).predict_proba(features)
    assert chances.shape == (200, classes)
    assert (chances.argmax(axis=1) == labels).mean() > 0.9
    assert np.allclose(chances.sum(axis=1), 1)


def test_cross_val_score():
    features, labels = iris()
    scores = cross_val_score(CenterClassifier("cosine"), features, labels, cv=5)
    assert scores.shape == (5,)
    assert scores.min() > 0.8


def test_routing_of_sample_weight():
    features, labels = iris()
    weights = (labels != "setosa") * 1.0
    with config_context(enable_metadata_routing=True):
        classifier = CenterClassifier()
        classifier.set_fit_request(sample_weight=True)
        classifier.set_score_request(sample_weight=False)
        pipeline = make_pipeline(StandardScaler(), classifier)
        pipeline[0].set_fit_request(sample_weight=False)
        pipeline.fit(features, labels, sample_weight=weights)
        cross_val_score(classifier, features, labels, params={"sample_weight": weights})
        requests = CenterClassifier().set_partial_fit_request(
            classes=True, sample_weight=True
        )
        assert requests.get_metadata_routing().partial_fit.requests == {
            "classes": True,
            "sample_weight": True,
        }
    assert pipeline[-1].class_count_.tolist() == [0, 50, 50]
    assert "setosa" not in pipeline.predict(features)
