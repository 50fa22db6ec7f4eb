"""All peers of the benchmarks compute the same; the runner and the report work."""

import json
from pathlib import Path

import numpy as np
import pytest

import centerloss
from benchmarks.__main__ import main
from benchmarks.compare import load
from benchmarks.memory import RESET, measure_memory
from benchmarks.peers.base import Centerloss
from benchmarks.plots import draw
from benchmarks.registry import step_peers, training_peers
from benchmarks.report import markdown
from benchmarks.workloads import Batch, Workload, make_batch

RESULTS = Path(__file__).parents[2] / "benchmarks/results"
PEERS = step_peers()
SMALL = {
    "few rows per class": Workload(48, 33, 100),
    "other labels in every step": Workload(40, 8, 60),
    "one class": Workload(257, 16, 1),
}


def small_batch(name):
    batch = make_batch(SMALL[name], np.random.default_rng(7))
    if name == "other labels in every step":
        batch.label_sets.append(batch.label_sets[0][::-1] // 2)
    return batch


def copy(batch):
    return Batch(batch.features, batch.label_sets, batch.centers.copy())


def assert_close(actual, expected):
    np.testing.assert_allclose(
        np.asarray(actual), np.asarray(expected), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("peer", [peer for peer in PEERS if peer != Centerloss.name])
def test_peers_compute_the_same(peer, name):
    batch = small_batch(name)
    expected, actual = Centerloss(copy(batch)), PEERS[peer](copy(batch))
    for _ in range(3):
        assert actual.step() == pytest.approx(expected.step(), rel=1e-5)
        assert_close(actual.gradient, expected.gradient)
        assert_close(actual.centers, expected.centers)
    assert not np.array_equal(expected.centers, batch.centers)


@pytest.mark.parametrize("name", SMALL)
def test_training_peers_compute_the_same(name):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    batch = small_batch(name)
    expected = Centerloss(copy(batch))
    losses = [expected.step() for _ in range(3)]
    for peer, peer_class in training_peers().items():
        if not peer.endswith("compiled"):  # takes long to compile
            actual = peer_class(copy(batch))
            found = [actual.step().item() for _ in range(3)]
            assert found == pytest.approx(losses, rel=1e-5)
            assert_close(actual.gradient, expected.gradient)
            assert_close(actual.centers, expected.centers)


def test_runner(tmp_path):
    threads = centerloss.get_num_threads()
    main(["--quick", "--workloads", "toy", "import", "--out", str(tmp_path)])
    assert centerloss.get_num_threads() == threads
    results = json.loads((tmp_path / "results.json").read_text())
    timings = results["workloads"]["toy"]["timings"]
    assert {"copy", *PEERS} <= {timing["name"] for timing in timings}
    for timing in timings:
        assert 0 < timing["min"] <= timing["lower"] <= timing["median"]
    assert (tmp_path / "results.md").read_text() == markdown(results)


def test_committed_report_is_up_to_date(tmp_path):
    results = json.loads((RESULTS / "results.json").read_text("utf-8"))
    assert (RESULTS / "results.md").read_text("utf-8") == markdown(results)
    for plot in draw(results, tmp_path):
        assert plot.read_bytes().startswith(b"\x89PNG")
        assert (RESULTS / plot.name).exists()


def test_compare_loads_a_build():
    batch = small_batch("few rows per class")
    arguments = batch.features, batch.label_sets[0], batch.centers
    build = load(centerloss._core.__file__)
    assert build is not centerloss._core
    assert build.loss(*arguments) == centerloss.loss(*arguments)


@pytest.mark.skipif(not RESET.exists(), reason="needs Linux's /proc")
def test_memory_in_proportion_to_the_batch():
    for row in measure_memory([100_000]):
        limit = 64 * row["rows"] + (64 << 10) * row["threads"]
        assert 8 * row["rows"] <= row["bytes"] <= limit
