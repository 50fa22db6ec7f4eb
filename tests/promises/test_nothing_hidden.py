"""Promise 6: no hidden threads, references, state or locks."""

import contextlib
import ctypes
import os
import re
import signal
import sys
import sysconfig
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import centerloss
from tests.helpers.batches import CALLS
from tests.helpers.processes import posix

pytestmark = [
    pytest.mark.kernels,
    pytest.mark.thread_unsafe(reason="counts threads and references, and forks"),
]


@pytest.fixture
def two_threads():
    before = centerloss.get_num_threads()
    centerloss.set_num_threads(2)
    yield
    centerloss.set_num_threads(before)


def large_batch():
    """Return features, labels and centers large enough for several threads."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20_000, 256)).astype(np.float32)
    labels = rng.integers(0, 500, len(features))
    return features, labels, rng.normal(size=(500, 256)).astype(np.float32)


def turns_during(call):
    """Run `call` on a thread; returns how often this thread ran meanwhile.

    The switch interval is so long that each turn means that the GIL was released.
    """
    turns, had = 0, []

    def work():
        before = turns
        call()
        had.append(turns - before)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        while not had:
            turns += 1
            time.sleep(0)
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    return had[0]


@pytest.mark.parametrize("name", CALLS)
def test_other_python_threads_run_meanwhile(name):
    function = getattr(centerloss, name)
    # With so few rows, planning takes no time: turns are during the operation. If it
    # kept the GIL, there would be one turn at most, between planning and operation.
    features = np.ones((4, 4_000_000), np.float32)
    batch = (features, np.arange(4), np.zeros((4, 4_000_000), np.float32))
    assert any(turns_during(lambda: function(*batch)) > 2 for _ in range(10))


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="there is no GIL"
)
@posix
def test_a_call_that_keeps_the_gil_is_noticed():
    """A call through ctypes.PyDLL does."""
    usleep = ctypes.PyDLL(None).usleep
    assert not any(turns_during(lambda: usleep(20_000)) for _ in range(10))


def number_of_threads():
    """Count the threads of the process; without /proc, those of Python."""
    tasks = "/proc/self/task"
    return len(os.listdir(tasks)) if os.path.exists(tasks) else threading.active_count()


@pytest.mark.usefixtures("two_threads")
def test_no_thread_outlives_its_call():
    before = number_of_threads()
    centerloss.step(*large_batch())
    # The system may list a thread for a moment after it has been joined.
    deadline = time.perf_counter() + 5
    while number_of_threads() > before and time.perf_counter() < deadline:
        time.sleep(0.01)
    assert number_of_threads() <= before


@posix
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("name", CALLS)
def test_signal_mask_after_a_call(name):
    """The caller blocks signals only while it creates threads."""
    batch = large_batch()
    for own in (set(), {signal.SIGUSR1}):
        before = signal.pthread_sigmask(signal.SIG_SETMASK, own)
        try:
            getattr(centerloss, name)(*batch)
            after = signal.pthread_sigmask(signal.SIG_SETMASK, before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        assert after == own


TASKS = "/proc/self/task"


@pytest.mark.skipif(not os.path.exists(TASKS), reason="needs Linux's /proc")
@pytest.mark.usefixtures("two_threads")
def test_worker_threads_block_signals_for_the_program():
    """Signals of a crash are in test_crash_reports.py."""
    batch, done = large_batch(), threading.Event()

    def work():
        while not done.is_set():
            centerloss.loss(*batch)

    others, masks = set(os.listdir(TASKS)), {}
    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.perf_counter() + 30
    while len(masks) < 20 and time.perf_counter() < deadline:
        for task in set(os.listdir(TASKS)) - others - {str(thread.native_id)}:
            with contextlib.suppress(OSError):  # it has ended meanwhile
                status = Path(TASKS, task, "status").read_text()
                masks[task] = int(re.search(r"SigBlk:\s+(\w+)", status)[1], 16)
    done.set()
    thread.join()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        blocking = sum(mask >> number - 1 & 1 for mask in masks.values())
        assert blocking > len(masks) / 2  # a thread that is ending shows none


@posix
@pytest.mark.usefixtures("two_threads")
def test_a_forked_child_computes_the_same():
    batch = large_batch()
    expected = centerloss.value_and_grad(*batch)[0]
    for _ in range(10):
        child = os.fork()
        if child == 0:
            os._exit(0 if centerloss.value_and_grad(*batch)[0] == expected else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def calls():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(40, 3)).astype(np.float32)
    labels = rng.integers(0, 5, 40)
    centers = rng.normal(size=(5, 3)).astype(np.float32)
    out = np.empty_like(features)
    weight = rng.uniform(size=40)
    bad_labels = np.where(np.arange(40) == 39, 5, labels)
    arrays = (features, labels, centers, out, weight, bad_labels)
    return arrays, {
        "loss": lambda: centerloss.loss(features, labels, centers),
        "none": lambda: centerloss.loss(features, labels, centers, reduction="none"),
        "gradient": lambda: centerloss.gradient(features, labels, centers, out=out),
        "strided": lambda: centerloss.loss(features[:, ::2], labels, centers[:, :2]),
        "weighted": lambda: centerloss.step(
            features, labels, centers, sample_weight=weight, out=out
        ),
        "delta": lambda: centerloss.center_delta(features, labels, centers),
        "sums": lambda: centerloss.class_sums(features, labels, centers),
        "update": lambda: centerloss.update_centers(features, labels, centers),
        "bad label": lambda: centerloss.step(features, bad_labels, centers, out=out),
        "bad dtype": lambda: centerloss.step(features, labels, centers, out=labels),
        "bad shape": lambda: centerloss.step(features, labels[1:], centers),
        "bad weight": lambda: centerloss.step(
            features, labels, centers, sample_weight=-weight
        ),
        "bad name": lambda: centerloss.step(features, labels, centers, outt=out),
    }


@pytest.mark.parametrize("name", calls()[1])
def test_no_reference_is_kept(name):
    arrays, by_name = calls()
    call = by_name[name]

    def run():
        if name.startswith("bad"):
            with pytest.raises((TypeError, ValueError, IndexError)):
                call()
        else:
            call()

    run()
    before = [sys.getrefcount(array) for array in arrays]
    for _ in range(5):
        run()
    assert [sys.getrefcount(array) for array in arrays] == before


def test_overlap_check_keeps_no_reference():
    memory = np.ones((80, 3), np.float32)
    used = (np, np.exceptions, np.exceptions.TooHardError, np.shares_memory)

    def run():
        centerloss.update_centers(memory[::2], np.arange(40), memory[1::2])

    run()
    before = [sys.getrefcount(value) for value in used]
    for _ in range(100):
        run()
    after = [sys.getrefcount(value) for value in used]
    assert max(a - b for a, b in zip(after, before, strict=True)) < 50


def test_settings_are_the_only_state():
    features, labels, centers = (array[:300] for array in large_batch())
    first = centerloss.loss(features, labels % 300, centers)
    centerloss.step(features, labels % 300, centers.copy(), alpha=1, loss_weight=9)
    assert centerloss.loss(features, labels % 300, centers) == first
