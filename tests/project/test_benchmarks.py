"""The peers do the same job, and the runner writes what it measured."""

import itertools
import json
import sys

import numpy as np
import pytest

import centerloss
from benchmarks.__main__ import main
from benchmarks.measure import Contestant, measure
from benchmarks.memory import measure_memory, peak_bytes
from benchmarks.peers import Ours, available
from benchmarks.report import markdown
from benchmarks.targets import Target, targets
from benchmarks.workloads import CLASSES, WORKLOADS, Batch, Workload, make_batch

PEERS = available()
RIVALS = [name for name in PEERS if name != Ours.name]
SMALL = {
    "toy": WORKLOADS["toy"],
    "few rows a class": Workload(48, 33, 100),
    "other labels every step": Workload(40, 8, 60),
    "one class": Workload(257, 16, 1),
    "one row": Workload(1, 4, 3),
}


def small_batch(name):
    batch = make_batch(SMALL[name], np.random.default_rng(7))
    if name == "other labels every step":
        batch.label_sets.append(batch.label_sets[0][::-1] // 2)
    return batch


def copy(batch):
    return Batch(batch.features, batch.label_sets, batch.centers.copy())


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("rival", RIVALS)
def test_peers_do_the_same_job(rival, name):
    batch = small_batch(name)
    ours, theirs = Ours(copy(batch)), PEERS[rival](copy(batch))
    for _ in range(3):
        assert theirs.step() == pytest.approx(ours.step(), rel=1e-5)
        np.testing.assert_allclose(
            np.asarray(theirs.gradient), ours.gradient, rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(
            np.asarray(theirs.centers), ours.centers, rtol=1e-5, atol=1e-5
        )
    assert not np.array_equal(ours.centers, batch.centers)


def test_numpy_peers_are_always_there():
    assert list(PEERS)[:3] == ["centerloss", "NumPy add.at", "NumPy reduceat"]


@pytest.mark.parametrize("name", ["toy", "reid", "face"])
def test_batches_have_the_announced_shapes(name):
    workload = WORKLOADS[name]
    batch = make_batch(workload, np.random.default_rng(0))
    assert batch.features.shape == (workload.rows, workload.dim)
    assert batch.centers.shape == (workload.classes, workload.dim)
    assert batch.features.dtype == batch.centers.dtype == np.float32
    (labels,) = batch.label_sets
    assert batch.touched == len(set(labels.tolist()))


def test_cold_batches_outgrow_the_caches():
    batch = make_batch(CLASSES[1000], np.random.default_rng(0))
    assert len(batch.label_sets) * batch.features.nbytes >= 128 << 20


class Clock:
    """In place of a Timer: a call takes what it is told to."""

    def __init__(self, *seconds):
        self.seconds = itertools.cycle(seconds)

    def timeit(self, calls):
        return calls * next(self.seconds)


def test_measure_returns_medians_and_gives_like_shares():
    clocks = {"quick": Clock(1e-4), "slow": Clock(0.2)}
    told = []
    contestants = [
        Contestant(name, 1, clock, lambda name=name: told.append(name))
        for name, clock in clocks.items()
    ]
    quick, slow = measure(contestants, 4.0, np.random.default_rng(0))
    assert quick.median == quick.lower == quick.least == pytest.approx(1e-4)
    assert slow.median == pytest.approx(0.2)
    assert (quick.samples, quick.calls) == (101, 20)
    assert (slow.samples, slow.calls) == (10, 1)
    # Each is told its threads before every sample, the slow one in turns with the rest.
    assert told.count("slow") == slow.samples + 1
    assert told.index("slow", 2) < len(told) / 2


def test_quartiles_are_of_the_samples():
    clock = Clock(0.5, 0.6, 0.7, 0.8)
    contestant = Contestant("varying", 1, clock, lambda: None)
    (timing,) = measure([contestant], 4.0, np.random.default_rng(0))
    assert timing.least <= timing.lower < timing.median < timing.upper <= 0.8


@pytest.mark.parametrize(
    ("measured", "at_least", "met"),
    [(2.0, False, True), (2.1, False, False), (1.9, True, False), (None, True, None)],
)
def test_a_target_is_met_or_not_or_not_run(measured, at_least, met):
    assert Target("what", "where", measured, 2.0, at_least=at_least).met is met


if sys.platform == "linux":  # there is no /proc to ask elsewhere

    def test_the_mark_sees_an_array():
        size = 1 << 26  # more than malloc ever takes from memory that it has by it
        assert size <= peak_bytes(lambda: np.ones(size, np.uint8)) < 1.1 * size

    def test_memory_is_in_proportion_to_the_batch():
        rows = measure_memory([10, 100_000])
        assert [row["classes"] for row in rows] == [10] * 4 + [100_000] * 4
        for row in rows:
            most = 64 * row["rows"] + (64 << 10) * row["threads"]
            assert 8 * row["rows"] <= row["bytes"] <= most


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    sections = ["toy", "face", "classes", "import"]
    threads = centerloss.get_num_threads()
    main(["--quick", "--workloads", *sections, "--out", str(out)])
    assert centerloss.get_num_threads() == threads
    return out


def test_the_runner_writes_json(written):
    results = json.loads((written / "results.json").read_text())
    assert list(results["workloads"]) == ["toy", "face"]
    assert list(results["classes"]) == ["10", "100", "1000"]
    assert results["peers"] == list(PEERS)
    assert results["machine"]["numpy"] == np.__version__
    timings = results["workloads"]["toy"]["timings"]
    assert {"copy", "loss_fn.step(features, labels)", *PEERS} <= {
        timing["name"] for timing in timings
    }
    for timing in timings:
        assert 0 < timing["least"] <= timing["lower"] <= timing["median"]
        assert timing["median"] <= timing["upper"] < 60
    run = {target.where for target in targets(results) if target.met is not None}
    assert {"toy", "face"} <= run <= {"toy", "face", ""}
    assert 0 < results["import"]["median"] < 60


def test_the_runner_writes_markdown(written):
    text = (written / "results.md").read_text()
    assert text == markdown(json.loads((written / "results.json").read_text()))
    tables = [part for part in text.split("\n\n") if part.startswith("|")]
    assert len(tables) == 5
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "| NumPy add.at, 1 thread |" in text
    assert "## Where centerloss loses" in text


def test_the_runner_draws(written):
    for name in ("share-of-the-floor.png", "time-against-classes.png"):
        assert f"]({name})" in (written / "results.md").read_text()
        assert (written / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", SMALL)
def test_ways_to_train_do_the_same_job(name):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from benchmarks.peers_training import Compiled, ways

    batch = small_batch(name)
    centers, gradients, losses = {}, {}, {}
    for way, way_class in ways().items():
        if way != Compiled.name:  # which is the first of them, compiled
            trained = way_class(copy(batch))
            losses[way] = [trained.step().item() for _ in range(3)]
            centers[way], gradients[way] = trained.centers, trained.gradient
    ours, *others = losses
    for way in others:
        assert losses[way] == pytest.approx(losses[ours], rel=1e-5)
        for kept in (centers, gradients):
            np.testing.assert_allclose(
                kept[way].numpy(), kept[ours].numpy(), rtol=1e-5, atol=1e-5
            )
    assert not np.array_equal(centers[ours].numpy(), batch.centers)
