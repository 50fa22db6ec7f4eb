"""The comparison in docs/scikit-learn.md is true."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import NearestCentroid

from centerloss.sklearn import CenterClassifier

PAGE = Path(__file__).parents[2] / "docs" / "scikit-learn.md"
CELLS = {
    name: cells.split(" | ")
    for name, cells in re.findall(
        r"^\| ([^|]+) \| ([^|]+ \| [^|]+ \|[^|]*)\|$", PAGE.read_text("utf-8"), re.M
    )
}
MODELS = dict(enumerate((CenterClassifier, NearestCentroid, GaussianNB)))
X, Y = np.array([[0.0, 1], [1, 3], [4, 0], [6, 1]]), [0, 0, 1, 1]


def takes_sparse_rows(model):
    try:
        model().fit(csr_array(X), Y)
    except TypeError:
        return False
    return True


HAS = {
    "`partial_fit`": lambda model: hasattr(model, "partial_fit"),
    "`sample_weight`": lambda model: "sample_weight" in arguments(model.fit),
    "classes that drift": lambda model: "learning_rate" in arguments(model),
    "`shrink_threshold`": lambda model: "shrink_threshold" in arguments(model),
    "`transform`": lambda model: hasattr(model, "transform"),
    "`predict_proba`": lambda model: hasattr(model, "predict_proba"),
    "class priors": lambda model: "priors" in arguments(model),
    "sparse rows": takes_sparse_rows,
}


def arguments(function):
    return inspect.signature(function).parameters


@pytest.mark.parametrize("column", MODELS)
@pytest.mark.parametrize("row", HAS)
def test_what_a_model_has(row, column):
    cell = CELLS[row][column].strip()
    assert HAS[row](MODELS[column]) != cell.startswith("no")


@pytest.mark.parametrize("column", [0, 1])
def test_metrics(column):
    quoted = re.findall(r'"(\w+)"', CELLS["distance"][column])
    assert len(quoted) == 2
    for metric in ("euclidean", "manhattan", "cosine"):
        model = MODELS[column](metric=metric)
        if metric in quoted:
            assert model.fit(X, Y).predict(X).tolist() == Y
        else:
            with pytest.raises(ValueError, match="metric"):
                model.fit(X, Y)


def test_dtype_of_centers():
    ours, theirs = (MODELS[column]().fit(X.astype(np.float32), Y) for column in (0, 1))
    dtypes = [ours.centers_.dtype.name, theirs.centroids_.dtype.name]
    assert CELLS["centers of float32 rows"][:2] == dtypes


def test_every_row_is_tested():
    rows = [name for name in CELLS if not re.match(r"speed|[-\d]|loss", name)]
    assert sorted(rows) == sorted([*HAS, "distance", "centers of float32 rows"])
