"""The comparison of losses with a margin: its losses, its metrics, and a quick run."""

import json
import math
from concurrent.futures import Future

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

import centerloss
from benchmarks import margin, margin_training, pages
from centerloss.demo.data import load_digits_split

LABELS = [0, 2, 2, 3, 0, 1]  # no row of class 4


def push_by_loops(features, centers, limit):
    total = 0.0
    for row, own in zip(features, LABELS, strict=True):
        for other in {*LABELS} - {own}:
            distance = math.dist(row, centers[other])
            total += max(0.0, limit - distance) ** 2 / 2
    return total / len(features)


def triplet_by_loops(features, centers, limit):
    total = 0.0
    for row, own in zip(features, LABELS, strict=True):
        distances = [math.dist(row, center) for center in centers]
        other = min(r for label, r in enumerate(distances) if label != own)
        total += max(0.0, distances[own] + limit - other)
    return total / len(features)


def slopes(function, features, *arguments):
    """Central differences."""
    found = np.empty_like(features)
    for place in np.ndindex(features.shape):
        ends = []
        for step in (1e-6, -1e-6):
            moved = features.copy()
            moved[place] += step
            ends.append(function(moved, *arguments))
        found[place] = (ends[0] - ends[1]) / 2e-6
    return found


@pytest.mark.parametrize("name", ["push", "triplet"])
def test_losses(name):
    by_loops = {"push": push_by_loops, "triplet": triplet_by_loops}[name]
    rng = np.random.default_rng(3)
    features, centers = rng.standard_normal((6, 3)), rng.standard_normal((5, 3))
    rows = torch.tensor(features, requires_grad=True)
    loss = getattr(margin_training, name)(
        rows, torch.tensor(LABELS), torch.tensor(centers), 2.0
    )
    loss.backward()
    assert loss.item() == pytest.approx(by_loops(features, centers, 2.0), rel=1e-12)
    expected = slopes(by_loops, features, centers, 2.0)
    np.testing.assert_allclose(rows.grad, expected, rtol=0, atol=1e-8)
    assert np.count_nonzero(expected) > 6


def test_push_on_a_center_has_no_direction():
    centers = torch.eye(4)
    rows = centers[[1, 0]].clone().requires_grad_()  # each on the other's center
    margin_training.push(rows, torch.tensor([0, 1]), centers, 0.5).backward()
    assert rows.grad.count_nonzero() == 0


def test_loss_takes_the_centers_before_they_move():
    rng = np.random.default_rng(4)
    features, centers = rng.standard_normal((6, 3)), rng.standard_normal((5, 3))
    loss_fn = margin_training.CenterLoss(5, 3, init=torch.tensor(centers.copy()))
    method = margin.Method("", "push", margin=2.0)
    rows = torch.tensor(features, requires_grad=True)
    loss = margin_training.center_term(method, rows, torch.tensor(LABELS), loss_fn)
    pull = ((features - centers[LABELS]) ** 2).sum() / 2 / len(LABELS)
    expected = pull + push_by_loops(features, centers, 2.0)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert not np.array_equal(loss_fn.centers, centers)


def test_metrics_by_hand():
    places = np.array([[0.0], [1.0], [3.0], [7.0], [8.5], [20.0], [21.0]])
    labels = np.array([0, 1, 0, 0, 1, 2, 2])
    # Class 0: of the two nearest rows, the second is of the class, 1/2 of 1/2. Class 1:
    # the nearest row is of another class. Class 2: it is of the class.
    expected = np.mean([1 / 4, 0, 1 / 4, 1 / 4, 0, 1, 1])
    assert margin_training.map_at_r(pdist(places), labels) == pytest.approx(expected)

    # Distances 3, 7, 4, 7.5 and 1 within classes, 16 others between them.
    within, between = [3, 7, 4, 7.5, 1], []
    for i, j in zip(*np.triu_indices(7, 1), strict=True):
        if labels[i] != labels[j]:
            between.append(abs(places[i, 0] - places[j, 0]))
    nearer = [(a < b) + (a == b) / 2 for a in within for b in between]
    found = margin_training.same_or_different(pdist(places), labels)
    assert found == pytest.approx(np.mean(nearer))

    pairs = np.array([[0.0, 0], [2, 0], [7, 3], [7, 5]])
    separation = margin_training.separation(pairs, np.array([0, 0, 1, 1]))
    assert separation == pytest.approx(math.hypot(6, 4))  # the radius is 1


def test_images_are_composed_of_their_kinds():
    images = np.arange(12, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), "f4")
    kinds = np.arange(12) % 3
    classes = np.array([[2, 0], [1, 1]])
    found = margin.compose(images, kinds, classes, 50, np.random.default_rng(0))
    assert found.pixels.shape == (100, 1, 2, 6)
    for image, label in zip(found.pixels[:, 0], found.labels, strict=True):
        for half, kind in zip(
            (image[:, :3], image[:, 3:]), classes[label], strict=True
        ):
            assert np.all(half == half[0, 0])
            assert half[0, 0] % 3 == kind
    assert len(np.unique(found.pixels[found.labels == 0, 0, 0, 0])) == 4


def test_classes_are_seen_or_not_and_settings_are_chosen_without_test_images():
    split = load_digits_split()
    task = margin.make_task(split, margin.QUICK, seed=1)
    assert len(np.unique(task.train.labels)) == len(np.unique(task.seen.labels)) == 70
    assert len(np.unique(task.unseen.labels)) == 30
    triples = margin.replace(margin.QUICK, things=3, seen=800)
    task = margin.make_task(split, triples, seed=1)
    assert len(np.unique(task.train.labels)) == 800
    assert len(np.unique(task.unseen.labels)) == 200
    assert task.train.pixels.shape[1:] == (1, 8, 24)
    other = margin.without_test(split)
    together = np.concatenate([other.train_images, other.test_images])
    assert np.array_equal(together, split.train_images)
    assert len(other.test_images) > 200


class Here:
    """Runs the calls in this process, where a pool would have some of its own."""

    def __init__(self, jobs, _context):
        assert jobs == 1
        self.threads = torch.get_num_threads(), centerloss.get_num_threads()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        torch.set_num_threads(self.threads[0])
        centerloss.set_num_threads(self.threads[1])

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


@pytest.mark.parametrize(
    "network", ["lenet", pytest.param("resnet", marks=pytest.mark.slow)]
)
def test_quick_run_continues(tmp_path, monkeypatch, network):
    few = {name: methods[:1] for name, methods in margin.METHODS.items()}
    few[margin.CENTER] = margin.METHODS[margin.CENTER][:2]
    monkeypatch.setattr(margin, "METHODS", few)
    monkeypatch.setattr(margin, "ProcessPoolExecutor", Here)
    arguments = ["--quick", "--network", network, "--out", str(tmp_path)]
    margin.main(arguments)
    (results,) = pages.load_results(tmp_path, margin.END)
    assert pages.load_results(tmp_path) == []
    assert len(results["runs"]) == 2 + 5  # for tuning, and one seed
    for run in results["runs"]:
        assert (run["accuracy"] is None) == (run["method"]["name"] == margin.ALONE)
        shares = [run[name] for name in margin.SHARES if run[name] is not None]
        assert all(0 <= share <= 1 for share in shares)
        assert run["distance / radius"] > 0
    page = tmp_path / margin.page_name(results)
    assert page.read_text() == margin.markdown(results)

    (file,) = tmp_path.glob("*.json")
    cut = results | {"runs": results["runs"][:-1]}
    file.write_text(json.dumps(cut))
    margin.main(arguments)
    again = json.loads(file.read_text())
    assert again["runs"][:-1] == cut["runs"]
    last, before = again["runs"][-1], results["runs"][-1]
    assert last | {"seconds": 0} == before | {"seconds": 0}

    file.write_text(json.dumps(results | {"data": "other"}))
    with pytest.raises(SystemExit, match="other data or settings"):
        margin.main(arguments)


def made_up(name, values):
    """The results of a method without settings to choose."""
    (method,) = margin.METHODS[name]
    return [
        {"method": margin.asdict(method), "seed": seed, "accuracy": None, "seconds": 1}
        | {"nearest mean": 0.9, "AUC": 0.9, "distance / radius": 1.0, "mAP@R": value}
        for seed, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("center", "own", "better"),
    [([0.5, 0.6], [0.5, 0.621], True), ([0.5, 0.6], [0.5, 0.619], False)],
)
def test_verdict_and_summary(monkeypatch, center, own, better):
    methods = {name: [margin.Method(name)] for name in (margin.CENTER, margin.MARGIN)}
    monkeypatch.setattr(margin, "METHODS", methods)
    runs = made_up(margin.CENTER, center) + made_up(margin.MARGIN, own)
    results = {"runs": runs, "settings": {"seeds": 2}}
    text = margin.verdict(results, margin.MARGIN)
    assert ("not better" not in text) == better
    assert f"{margin.MAP}: +0.000, {own[1] - 0.6:+.3f})" in text
    assert f"| 0.550 | {np.mean(own):.3f} |" in margin.summary([results])
    for run in runs[2:]:
        run["AUC"] -= 0.02  # a loss elsewhere
    assert "not better" in margin.verdict(results, margin.MARGIN)
