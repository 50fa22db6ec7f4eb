"""The number of threads: its default, the setting, and changes during calls."""

import itertools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import centerloss
from centerloss import _threads

pytestmark = pytest.mark.thread_unsafe(reason="sets the number of threads")
REPORT = "import centerloss; print(centerloss.get_num_threads())"


def reported(**variables):
    """Run an interpreter with only these variables about threads."""
    names = ("CENTERLOSS_NUM_THREADS", "OMP_NUM_THREADS")
    environment = {k: v for k, v in os.environ.items() if k not in names}
    return subprocess.run(
        [sys.executable, "-c", REPORT],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({"CENTERLOSS_NUM_THREADS": "3"}, 3),
        ({"CENTERLOSS_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3),
        ({"OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": "100000"}, 256),
    ],
)
def test_variables(variables, threads):
    assert int(reported(**variables).stdout) == threads


@pytest.mark.parametrize(
    "omp",
    [{}, {"OMP_NUM_THREADS": "many"}, {"OMP_NUM_THREADS": "9" * 5000}],
    ids=["none", "a word", "long"],
)
def test_processors_otherwise(omp):
    threads = int(reported(**omp).stdout)
    assert 1 <= threads <= min(os.cpu_count(), 256)


@pytest.mark.parametrize("value", ["0", "257", "two", "-1", "1.5", "9" * 5000])
def test_wrong_variable(value):
    done = reported(CENTERLOSS_NUM_THREADS=value)
    assert done.returncode == 1
    message = f"ImportError: CENTERLOSS_NUM_THREADS is {value!r}, expected 1 to 256"
    assert done.stderr.splitlines()[-1] == message


@pytest.mark.parametrize(
    ("files", "processors"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, np.inf),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, np.inf),
        ({}, np.inf),
    ],
)
def test_quota_of_a_container(tmp_path, files, processors):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _threads._cgroup_quota(str(tmp_path)) == processors


@pytest.mark.parametrize(("counted", "processors"), [(6, 6), (None, 1)])
def test_processors_without_affinity(monkeypatch, counted, processors):
    """As on macOS and Windows."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: counted)
    monkeypatch.setattr(_threads, "_cgroup_quota", lambda: np.inf)
    assert _threads._processors() == processors


def test_setting():
    before = centerloss.get_num_threads()
    try:
        for n in (1, 256, np.int8(2)):
            assert centerloss.set_num_threads(n) is None
            assert centerloss.get_num_threads() == n
    finally:
        centerloss.set_num_threads(before)


@pytest.mark.kernels
def test_setting_during_calls():
    """A call keeps the number of threads that it started with."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4096, 256)).astype(np.float32)
    labels = rng.integers(0, 500, len(features))
    centers = rng.normal(size=(500, 256)).astype(np.float32)
    loss, gradient = centerloss.value_and_grad(features, labels, centers)
    before, calls_are_done = centerloss.get_num_threads(), threading.Event()

    def set_over_and_over():
        for n in itertools.cycle((1, 2, 3)):
            centerloss.set_num_threads(n)
            if calls_are_done.is_set():
                return

    setter = threading.Thread(target=set_over_and_over)
    setter.start()
    try:
        for _ in range(20):
            again = centerloss.value_and_grad(features, labels, centers)
            assert again[0] == loss
            assert again[1].tobytes() == gradient.tobytes()
            assert centerloss.get_num_threads() in (before, 1, 2, 3)
    finally:
        calls_are_done.set()
        setter.join()
        centerloss.set_num_threads(before)


@pytest.mark.parametrize("n", [0, -1, 257, 2**70])
def test_wrong_value(n):
    before = centerloss.get_num_threads()
    with pytest.raises(ValueError, match=f"^n is {n}, expected 1 to 256$"):
        centerloss.set_num_threads(n)
    assert centerloss.get_num_threads() == before


@pytest.mark.parametrize("n", [1.0, "2", None])
def test_wrong_type(n):
    with pytest.raises(TypeError, match=f"^n is {n!r}, expected an integer$"):
        centerloss.set_num_threads(n)


class Interrupted:
    def __index__(self):
        raise KeyboardInterrupt


def test_interrupt_in_an_argument():
    with pytest.raises(KeyboardInterrupt):
        centerloss.set_num_threads(Interrupted())
