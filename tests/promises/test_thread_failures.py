"""If threads cannot be created, the caller does their work, with the same bits."""

import sys

import pytest

import centerloss
from tests.helpers.batches import CALLS, batch, bits
from tests.helpers.fault_injection import failing_core
from tests.helpers.processes import posix, run_module

pytestmark = [
    posix,
    pytest.mark.compiles,
    pytest.mark.thread_unsafe(reason="threads fail in all threads"),
]
THREADS = 4
PER_CALL = THREADS - 1  # the caller is one of them

# Masks of the threads that fail.
MASKS = {
    "none": [0],
    "one": [1 << i for i in range(PER_CALL)],
    "from one on": [-1 << i & 2**64 - 1 for i in range(PER_CALL)],
}


@pytest.fixture(scope="module")
def failing():
    core, library = failing_core()
    core.set_num_threads(THREADS)
    return core, library


@pytest.fixture(scope="module")
def large_batch():
    """Large enough for four threads; its rows are processed in class order."""
    return batch((10_600, 100), 2000)


def results(module, name, arguments):
    features, labels, centers = arguments
    centers = centers.copy()
    return bits(getattr(module, name)(features, labels, centers)), bits(centers)


@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("name", CALLS)
def test_same_bits(failing, large_batch, name, masks):
    core, library = failing
    expected = results(centerloss, name, large_batch)
    for mask in masks:
        with library.threads(mask):
            assert results(core, name, large_batch) == expected, bin(mask)
            assert library.thread_calls() == PER_CALL


@pytest.mark.parametrize("name", CALLS)
def test_small_calls_create_no_thread(failing, name):
    core, library = failing
    with library.threads(0):
        getattr(core, name)(*batch((1000, 8), 10))
        assert library.thread_calls() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_limit_of_the_system():
    run_module("tests.isolated.no_threads")
