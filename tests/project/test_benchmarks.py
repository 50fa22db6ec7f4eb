"""All peers of the benchmarks compute the same; the runner and the report work."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import centerloss
from benchmarks import classifier, machine, pages, shards
from benchmarks.__main__ import main
from benchmarks.compare import load
from benchmarks.memory import RESET, measure_memory
from benchmarks.peers import by_hand
from benchmarks.peers.base import Centerloss
from benchmarks.registry import step_peers, training_peers
from benchmarks.report import markdown
from benchmarks.workloads import WORKLOADS, Batch, Workload, make_batch

PEERS = step_peers()
# Rows of whole vectors, which the loops in C are for.
SMALL = {
    "few rows per class": Workload(48, 48, 100),
    "other labels in every step": Workload(40, 16, 60),
    "one class": Workload(257, 16, 1),
}
# Those of the benchmarks, with less memory.
BY_HAND = {
    "reid": WORKLOADS["reid"],
    "face": WORKLOADS["face"],
    "face4k": WORKLOADS["face4k"],
    "many": replace(WORKLOADS["many"], classes=20_000),
    "long": WORKLOADS["long"],
    "one class": replace(WORKLOADS["one class"], rows=16_384),
}
needs_compiler = pytest.mark.skipif(
    by_hand.ByHand.name not in PEERS, reason="there is no C compiler"
)


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


@needs_compiler
@pytest.mark.compiles
@pytest.mark.parametrize("offset", [0, 16])
@pytest.mark.parametrize("name", BY_HAND)
def test_c_by_hand_is_a_step(name, offset):
    batch = make_batch(BY_HAND[name], np.random.default_rng(7)).at_offset(offset)
    before = batch.centers.copy()
    by_hand.check(batch)
    np.testing.assert_array_equal(batch.centers, before)


WRONG_LOOP = """
#define step right_step
#include "{right}"
#undef step
double step(const float *x, const int64_t *y, float *centers, float *gradient)
{{
    double loss = right_step(x, y, centers, gradient);
    {wrong}
    return loss;
}}
"""


@needs_compiler
@pytest.mark.compiles
@pytest.mark.parametrize(
    "wrong",
    [
        "loss *= 1.0001;",
        "gradient[(ROWS - 1) * DIM] *= 1.001F;",
        "centers[y[0] * DIM + 1] += 0.01F;",
        "centers[(CLASSES - 1) * DIM] += 1e-6F;  /* not in the batch */",
    ],
)
def test_a_wrong_loop_is_not_timed(monkeypatch, tmp_path, wrong):
    code = WRONG_LOOP.format(right=by_hand.SOURCE, wrong=wrong)
    (tmp_path / "wrong.c").write_text(code)
    monkeypatch.setattr(by_hand, "SOURCE", tmp_path / "wrong.c")
    batch = small_batch("few rows per class")
    batch.label_sets[0] %= 99
    by_hand._compile.cache_clear()
    try:
        with pytest.raises(AssertionError):
            by_hand.check(batch)
    finally:
        by_hand._compile.cache_clear()


@pytest.mark.parametrize("offset", [0, 16])
def test_offset_of_the_arrays(offset):
    batch = small_batch("few rows per class").at_offset(offset)
    peer = Centerloss(batch)
    for array in (batch.features, batch.centers, peer.centers, peer.gradient):
        assert array.ctypes.data % 64 == offset


def test_runner(tmp_path):
    threads = centerloss.get_num_threads()
    main(["--quick", "--workloads", "toy", "reid", "import", "--out", str(tmp_path)])
    assert centerloss.get_num_threads() == threads
    (file,) = tmp_path.glob("*.json")
    results = json.loads(file.read_text())
    assert file.stem == machine.stem(results["machine"])
    for name, left_out in (("toy", {by_hand.ByHand.name}), ("reid", set())):
        timings = results["workloads"][name]["timings"]
        names = {timing["name"] for timing in timings}
        assert {"copy", *PEERS} - names == left_out & PEERS.keys()
        assert {"copy, offset 0", "centerloss, offset 0"} <= names
        for timing in timings:
            assert 0 < timing["min"] <= timing["lower"] <= timing["median"]
    page = file.with_suffix(".md").read_text()
    assert page == markdown(results)
    (plot,) = re.findall(r"!\[.*\]\((.*)\)", page)
    assert (tmp_path / plot).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_shards(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    options = ["--quick", "--engines", "gloo", "--ranks", "2", "--out", str(tmp_path)]
    shards.main(options)
    (results,) = pages.load_results(tmp_path, shards.END)
    assert pages.load_results(tmp_path) == []
    (run,) = results["runs"]
    found = [(entry["name"], entry["classes"]) for entry in run["entries"]]
    sharded = shards.SHARDED["gloo"][0]
    assert found == [
        (sharded, 1000), (sharded, 2000), (sharded, 4000), (shards.REPLICATED, 1000),
    ]  # fmt: skip
    for entry in run["entries"]:
        assert 0 < entry["lower"] <= entry["median"] <= entry["upper"]
        assert entry["exchanges"] == (3 if entry["name"] == shards.REPLICATED else 4)
        # The header of `process_group` is not in the bound: four words.
        assert entry["bytes received"] <= shards.bound(run, entry) + 32
    page = tmp_path / shards.page_name(results)
    assert page.read_text() == shards.markdown(results)
    (plot,) = re.findall(r"!\[.*\]\((.*)\)", page.read_text())
    assert (tmp_path / plot).read_bytes().startswith(b"\x89PNG")
    filled = pages.fill_in(
        "<!-- by benchmarks.pages: shards -->\n<!-- end -->",
        {"shards": shards.summary(results, "..")},
    )
    assert '| gloo, 2, "rank" |' in filled
    assert f"(../{plot})" in filled


def test_classifier(tmp_path):
    threads = centerloss.get_num_threads()
    classifier.main(["--quick", "--threads", "1", "--out", str(tmp_path)])
    assert centerloss.get_num_threads() == threads
    (results,) = pages.load_results(tmp_path, classifier.END)
    assert pages.load_results(tmp_path) == []
    assert pages.load_results(tmp_path, shards.END) == []
    found = results["comparisons"]
    assert [(each["task"], each["dtype"]) for each in found] == [
        (task, dtype)
        for _ in classifier.QUICK
        for dtype in ("float32", "float64")
        for task in ("fit", "predict", "partial_fit", "means")
    ]
    for timing in (timing for each in found for timing in each["timings"]):
        assert 0 < timing["min"] <= timing["lower"] <= timing["median"]
    page = tmp_path / classifier.page_name(results)
    assert page.read_text() == classifier.markdown(results)


@pytest.mark.parametrize("wrong", ["fit", "predict", "partial_fit", "means"])
def test_a_wrong_classifier_is_not_timed(monkeypatch, wrong):
    if wrong == "means":
        right = classifier.by_transposed
        monkeypatch.setattr(
            classifier, "by_transposed", lambda data: 1.001 * right(data)
        )
    else:
        estimator = classifier.CenterClassifier
        right = getattr(estimator, wrong)

        def call(self, X, *arguments):
            return right(self, X + 0.01, *arguments)

        monkeypatch.setattr(estimator, wrong, call)
    with pytest.raises(AssertionError):
        list(classifier._tasks(classifier.QUICK[1], "float32"))


# --- the pages, from made-up results --------------------------------------------------


def made_up(medians, **sizes):
    """The result of a workload; a name may end in the number of threads."""
    timings = []
    for entry, median in medians.items():
        name, _, threads = entry.partition(" | ")
        times = dict.fromkeys(("median", "lower", "upper"), median)
        timings.append({"name": name, "threads": int(threads or 1)} | times)
    return sizes | {"timings": timings}


@pytest.fixture
def results():
    small = {"copy": 1.0, "centerloss": 6.0, "centerloss | 2": 6.0, "numba": 4.0}
    large = {
        "copy": 2.0,
        "copy, offset 0": 1.0,
        "centerloss": 3.0,
        "centerloss, offset 0": 2.5,
        "centerloss | 2": 2.4,
        "numba": 5.0,
        "C by hand": 4.0,
        "C by hand, offset 0": 2.0,
        "PyTorch dense": 30.0,
        "centerloss float16": 2.7,
    }
    trained = {"centerloss.torch": 0.5, "PyTorch dense, trained": 100.0}
    slower = {"centerloss.torch": 0.5, "PyTorch dense, trained": 20.0}
    return {
        "machine": {
            "date": "2026-02-01", "processor": "Some CPU, New", "compiler": "GCC 1",
        },
        "threads": [1, 2],
        "peers": ["centerloss", "C by hand", "numba", "PyTorch dense"],
        "workloads": {
            "small": made_up(small, rows=128, dim=2, classes=10),
            "large": made_up(large, rows=65_536, dim=64, classes=10_000),
        },
        "training": {
            "face": made_up(slower, rows=256, dim=512, classes=10_575),
            "many": made_up(trained, rows=4096, dim=32, classes=300_000),
        },
        "classes": {},
        "memory": [],
        "import": None,
    }  # fmt: skip


def section(page, title):
    """The lines of a section that are not empty."""
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.M | re.S)
    return [line for line in found.splitlines() if line]


def test_report(results):
    page = markdown(results)
    assert "- date: 2026-02-01" in page
    assert section(page, "Step over C by hand")[1:] == [
        "|  | large |",
        "| --- | ---: |",
        "| offset 16 | 0.75 |",
        "| offset 0 | 1.25 |",
    ]
    assert section(page, "Several threads over one")[2:] == [
        "| centerloss, 2 threads | 1 | 0.8 |"
    ]
    relative = section(page, "Time of a step relative to a copy")
    assert relative[2:8] == [
        "| copy, 1 thread | 1 | 1 |",
        "| copy, offset 0, 1 thread |  | 1 |",
        "| centerloss, 1 thread | 6 | 1.5 |",
        "| centerloss, 2 threads | 6 | 1.2 |",
        "| centerloss, offset 0, 1 thread |  | 2.5 |",
        "| C by hand, 1 thread |  | 2 |",
    ]
    assert section(page, "Where centerloss loses") == [
        "- numba, 1 thread is faster than centerloss: small 1.5 times.",
        "- C by hand, offset 0, 1 thread is faster than centerloss, offset 0: "
        "large 1.25 times.",
    ]
    assert section(page, "Half precision, and whole calls")[-1] == (
        "| large: centerloss float16, 1 thread | 2.7 s (2.7 s - 2.7 s) | 0.9 |"
    )


def test_pages_show_the_newest_results(results, tmp_path):
    older = results | {"machine": results["machine"] | {"date": "2026-01-31"}}
    older["machine"]["processor"] = "Other CPU"
    for name, found in (("a", older), ("b", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
    newest, *others = pages.load_results(tmp_path)
    assert (newest, others) == (results, [older])

    lines = pages.speed(newest, others).splitlines()
    start = lines.index("| batch, classes | centerloss | C by hand | numba "
                        "| fastest PyTorch |")  # fmt: skip
    assert lines[start + 2 : start + 4] == [
        "| 128 x 2, 10 | 6.0 |  | **4.0** |  |",
        "| 65 536 x 64, 10 000 | **1.5** | 2.0 | 2.5 | 15 |",
    ]
    words = " ".join(lines)
    assert "Some CPU, New, GCC 1, 2026-02-01." in words
    faster = "Faster than centerloss: numba on 1 of 2 batches (up to 1.50 times). On"
    assert faster in words
    link = "[2026-01-31](benchmarks/results/other-cpu.md)"
    assert f"On Other CPU ({link}), centerloss takes 6.0, 1.5." in words


def test_pages_fill_in_the_marked_parts(results):
    training = pages.training(results)
    start, end = "<!-- by benchmarks.pages: training -->", "<!-- end -->"
    page = f"one {start}\nold\nold{end} two\n{start}\n{end}"
    assert pages.fill_in(page, {"training": training}) == (
        f"one {start}\n{training}{end} two\n{start}\n{training}{end}"
    )
    words = " ".join(training.split())
    assert words.startswith(
        "For 4096 x 32 embeddings and 300 000 classes, the loss takes 500.0 ms of a "
    )
    assert "[200 times](benchmarks/results/some-cpu-new.md) as long" in words
    assert words.endswith("and 40 times for 256 x 512 embeddings and 10 575 classes.")


def test_pages_show_the_ends_of_the_figure(results):
    """PyTorch's largest array did not fit into memory."""
    both = {
        10: {"centerloss": 1e-4, "PyTorch dense": 5e-4},
        1000: {"centerloss": 2e-4, "PyTorch dense": 6e-4},
        100_000: {"centerloss": 3e-4, "PyTorch dense": 0.7},
        10**7: {"centerloss": 4e-4},
    }
    results["classes"] = {
        str(K): made_up(medians, rows=9, dim=4, classes=K)
        for K, medians in both.items()
    }
    words = " ".join(pages.plot(results).split())
    start = (
        "On 9 x 4 features, a step takes 100 us with 10 classes and 300 us with "
        "100 000 classes: "
    )
    assert "](benchmarks/results/some-cpu-new-time-against-classes.png)" in words
    assert start in words
    assert words.endswith("PyTorch dense, takes 500 us and 700 ms.")


@pytest.mark.parametrize(
    ("vendor", "name", "family", "model", "stem"),
    [
        ("AuthenticAMD", "AMD EPYC", 25, 1, "amd-epyc-zen-3"),
        ("AuthenticAMD", "AMD EPYC", 25, 17, "amd-epyc-zen-4"),
        ("AuthenticAMD", "AMD EPYC", 99, 1, "amd-epyc-family-99-model-1"),
        (
            "GenuineIntel", "Intel(R) Xeon(R) Processor @ 2.00GHz", 6, 143,
            "intel-xeon-sapphire-rapids",
        ),
    ],
)  # fmt: skip
def test_files_are_named_after_the_processor(
    monkeypatch, tmp_path, vendor, name, family, model, stem
):
    fields = {
        "processor": 0, "vendor_id": vendor, "cpu family": family, "model": model,
        "model name": name,
    }  # fmt: skip
    lines = [f"{field}\t: {value}\n" for field, value in fields.items()]
    (tmp_path / "cpuinfo").write_text("".join(lines) + "\nprocessor\t: 1\n")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    described = machine.describe()
    assert machine.stem(described) == stem
    assert described["family and model"] == f"{family}, {model}"


def test_ratios_of_the_classifier():
    own, other = classifier.PREDICT, "NearestCentroid.predict"
    sizes = {"dim": 784, "dtype": "float32"}
    few = sizes | {"rows": 60_000, "classes": 10}
    fits = {
        classifier.FIT: 1.0,
        f"{classifier.FIT} | 2": 0.5,
        "NearestCentroid.fit": 6.0,
    }
    predicted = {own: 2.0, f"{own} | 2": 1.0, other: 3.0, f"{other} | 2": 0.9}
    streamed = {classifier.PARTIAL_FIT: 1.0, f"{classifier.PARTIAL_FIT} | 2": 1.0}
    streamed["GaussianNB.partial_fit"] = 7.0
    versions = {"numpy": "2", "scipy": "1", "scikit-learn": "1.9"}
    results = {
        "machine": {"date": "2026-02-01", "processor": "Some CPU, New"} | versions,
        "threads": [1, 2],
        "comparisons": [
            {"task": task} | made_up(medians, **few)
            for task, medians in (
                ("fit", fits), ("predict", predicted), ("partial_fit", streamed),
            )
        ],
    }  # fmt: skip
    page = classifier.markdown(results)
    assert section(page, "Over centerloss")[3:7] == [
        f"| NearestCentroid.fit | {classifier.FIT}, 1 thread | 6 |",
        f"| NearestCentroid.fit | {classifier.FIT}, 2 threads | 12 |",
        f"| {other} | {own}, 1 thread | 1.5 |",
        f"| {other} | {own}, 2 threads | 0.9 |",
    ]
    assert section(page, "Where centerloss is slower") == [
        f"- {other} takes 0.90 times as long as {own}, 2 threads: "
        "60 000 x 784, 10 classes, float32."
    ]
    lines = classifier.summary(results).splitlines()
    assert lines[2:4] == [
        f"| NearestCentroid.fit | {classifier.FIT} | 6 |",
        f"| {other} | {own} | 1.5 |",
    ]
    assert "benchmarks/results/some-cpu-new-classifier.md" in " ".join(lines)


# --- the rest -------------------------------------------------------------------------


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
