"""Threads cannot be had: the caller does their work, and the bits are the same."""

import subprocess
import sys

import numpy as np
import pytest

import centerloss
from tests.helpers.batches import CALLS, batch, bits
from tests.helpers.fault_injection import failing_core
from tests.helpers.paths import TESTS

THREADS = 8
PER_CALL = THREADS - 1  # the caller is one
SCRIPT = TESTS / "isolated" / "no_threads.py"


def large_batch():
    """Worth eight threads, its rows in class order."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((21_000, 100)).astype(np.float32)
    labels = rng.integers(0, 2000, len(features))
    return features, labels, rng.standard_normal((2000, 100)).astype(np.float32)


def results(module, name):
    features, labels, centers = large_batch()
    return bits(getattr(module, name)(features, labels, centers)), bits(centers)


@pytest.fixture(scope="module")
def scarce():
    core, library = failing_core()
    core.set_num_threads(THREADS)
    return core, library


ONE = {f"thread {i + 1}": 1 << i for i in range(PER_CALL)}
FROM = {f"from thread {i + 1} on": -1 << i & 2**64 - 1 for i in range(PER_CALL)}


@pytest.mark.parametrize("denied", [{"none": 0}, ONE, FROM], ids=["all", "one", "from"])
@pytest.mark.parametrize("name", CALLS)
def test_same_bits(scarce, name, denied):
    core, library = scarce
    expected = results(centerloss, name)
    for which, bit_mask in denied.items():
        with library.threads(bit_mask):
            assert results(core, name) == expected, which
            assert library.threads_asked() == PER_CALL


@pytest.mark.parametrize("name", CALLS)
def test_small_calls_ask_for_no_thread(scarce, name):
    core, library = scarce
    features, labels, centers = batch((1000, 8), 10)
    with library.threads(0):
        getattr(core, name)(features, labels, centers)
        assert library.threads_asked() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_limit_of_the_system():
    command = [sys.executable, str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
