"""The programs of docs/scikit-learn.md that use skorch run; its table is theirs."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytest.importorskip("skorch", reason="it is not installed")
# The training of the page takes some twenty seconds.
pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "scikit-learn.md").read_text("utf-8")
ESTIMATOR, TRAINING, TABLE = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
ROW = r"^\| ([\d.]+) \| (0\.\d+) \| (0\.\d+) \| (0\.\d+) \|$"


def run(block, namespace):
    exec(compile(block, "scikit-learn.md", "exec"), namespace)


def table(text):
    """Accuracy, nearest center and AUC, by loss weight."""
    rows = np.array(re.findall(ROW, text, re.M), float)
    return dict(zip(rows[:, 0], rows[:, 1:], strict=True))


@pytest.fixture(scope="module")
def trained():
    """The variables of the page after the training, and what it printed."""
    namespace, printed = {"__name__": "page"}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        run(ESTIMATOR, namespace)
        run(TRAINING, namespace)
    return namespace | {"printed": printed.getvalue().splitlines()}


def test_the_estimator_takes_25_lines():
    assert sum(bool(line) for line in ESTIMATOR.splitlines()) <= 25


def test_blocks_print_the_output_in_their_comments(trained):
    expected = re.findall(r"^print\(.*\)  # (.*)$", TRAINING, re.M)
    assert len(expected) == 4
    assert trained["printed"] == expected


def test_predictions_are_probabilities(trained):
    probabilities = trained["estimator"].predict_proba(trained["X_test"])
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_the_centers_are_saved_with_the_criterion(trained, tmp_path):
    estimator = trained["estimator"]
    files = {"f_params": tmp_path / "network.pt", "f_criterion": tmp_path / "loss.pt"}
    estimator.save_params(**files)
    loaded = clone(estimator).initialize()
    loaded.load_params(**files)
    centers = [each.criterion_.center_loss.centers for each in (estimator, loaded)]
    assert centers[0].any()
    assert centers[0].equal(centers[1])


def test_search_over_the_loss_weight_in_a_pipeline(trained):
    short = clone(trained["estimator"]).set_params(max_epochs=2)
    pipeline = make_pipeline(StandardScaler(), short)
    name = "neuralnetclassifier__criterion__loss_weight"
    search = GridSearchCV(pipeline, {name: [0.1, 1e6]}, cv=2)
    search.fit(trained["X_train"], trained["y_train"])
    assert search.best_params_ == {name: 0.1}


def test_table_of_loss_weights(trained, capsys):
    """Within a hundredth: training is the same on one machine only."""
    run(TABLE, trained)
    measured, printed = table(capsys.readouterr().out), table(PAGE)
    assert list(measured) == list(printed) == [0, 0.01, 0.1, 1, 10]
    for weight, numbers in measured.items():
        np.testing.assert_allclose(numbers, printed[weight], rtol=0, atol=0.01)
    for numbers in (measured, printed):
        accuracy, nearest, auc = (numbers[1] - numbers[0]).tolist()
        assert accuracy > 0.005
        assert nearest > 0.01
        assert auc > 0.02
        assert abs(numbers[1][0] - numbers[1][1]) < 0.015  # "about as good"
        assert numbers[10][0] < numbers[1][0]  # "costs accuracy"
