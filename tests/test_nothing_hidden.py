"""Promise 6: no hidden threads, copies, state or locks; nothing leaked."""

import os
import sys
import threading
import time

import numpy as np
import pytest

import centerloss


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


def longest_pause_during(call):
    """Run `call` on a thread; how long this one stood still meanwhile, as a share."""
    thread = threading.Thread(target=call)
    started = last = time.perf_counter()
    pause = 0.0
    thread.start()
    while thread.is_alive():
        now = time.perf_counter()
        pause, last = max(pause, now - last), now
    return pause / (time.perf_counter() - started)


def test_other_python_threads_run_meanwhile():
    features, labels, centers = large_batch()
    # Ten steps are ten chances to be scheduled; with the lock held there is none.
    shares = [
        longest_pause_during(lambda: centerloss.step(features, labels, centers))
        for _ in range(10)
    ]
    assert min(shares) < 0.5


def number_of_threads():
    """Count all threads of the process where /proc tells, else those of Python."""
    tasks = "/proc/self/task"
    return len(os.listdir(tasks)) if os.path.exists(tasks) else threading.active_count()


@pytest.mark.usefixtures("two_threads")
def test_no_thread_outlives_its_call():
    before = number_of_threads()
    centerloss.step(*large_batch())
    # The kernel may list a thread for a moment after it has been joined.
    deadline = time.perf_counter() + 5
    while number_of_threads() > before and time.perf_counter() < deadline:
        time.sleep(0.01)
    assert number_of_threads() <= before


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


def test_settings_are_the_only_state():
    features, labels, centers = (array[:300] for array in large_batch())
    first = centerloss.loss(features, labels % 300, centers)
    centerloss.step(features, labels % 300, centers.copy(), alpha=1, loss_weight=9)
    assert centerloss.loss(features, labels % 300, centers) == first
