"""The stream of docs/drift.py: a rate follows classes that drift, a mean does not."""

import importlib.util
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from centerloss.sklearn import CenterClassifier

DOCS = Path(__file__).parents[2] / "docs"
SPEC = importlib.util.spec_from_file_location("drift", DOCS / "drift.py")
drift = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(drift)


def second_half(model, walk):
    """The mean accuracy in the second half of each of three streams."""
    return [drift.final(drift.accuracies(model, walk, seed)) for seed in range(3)]


def test_a_rate_follows_classes_that_drift():
    assert min(second_half(CenterClassifier(learning_rate=0.5), 0.3)) > 0.8


def test_the_mean_does_not():
    assert np.mean(second_half(CenterClassifier(), 0.3)) < 0.19


def test_classes_move_by_their_part_of_the_usual_distance(monkeypatch):
    """As the means of many rows show."""
    monkeypatch.setattr(drift, "ROWS", 50_000)
    batches = itertools.islice(drift.stream(0.3, 0), 20)
    centers = [NearestCentroid().fit(*batch).centroids_ for batch in batches]
    pairs = [list(itertools.combinations(each, 2)) for each in centers]
    usual = np.sqrt(np.square(np.diff(pairs, axis=2)).sum(-1).mean())
    factor = np.sqrt(1 - 2 * 0.3**2)
    steps = [after - factor * before for before, after in itertools.pairwise(centers)]
    assert np.linalg.norm(steps, axis=-1).mean() / usual == pytest.approx(0.3, rel=0.1)


@pytest.mark.slow
def test_table_of_the_page(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(drift, "__file__", str(tmp_path / "drift.py"))
    drift.main()
    row = r"^\| (\d[\d.]*(?: \| 0\.\d+){4}) \|$"
    page = (DOCS / "scikit-learn.md").read_text("utf-8")
    measured, printed = (
        np.array([line.split(" | ") for line in re.findall(row, text, re.M)], float)
        for text in (capsys.readouterr().out, page)
    )
    assert measured.shape == (4, 5)
    np.testing.assert_allclose(measured, printed, rtol=0, atol=0.003)
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")
