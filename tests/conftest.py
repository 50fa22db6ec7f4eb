"""Fixtures. Every test that takes `cl` runs on both implementations."""

import importlib
import sys

import numpy as np
import pytest
from hypothesis import settings

# The examples vary in cost a hundredfold, so a deadline would only measure noise.
settings.register_profile("centerloss", deadline=None, database=None)
settings.load_profile("centerloss")

if sys.platform == "win32":
    # They use what POSIX has: gcc's options, its threads, sh, getrusage.
    collect_ignore = [
        "test_allocation_failures.py",
        "test_c_example.py",
        "test_c_harness.py",
        "test_fuzz.py",
        "test_proportion.py",
        "test_thread_failures.py",
    ]

MODULES = {"c": "centerloss", "reference": "centerloss.reference"}


# Where pytest-run-parallel runs tests on several threads at once, one has to do for
# these: by file, by test, by fixture.
ONE_THREAD = {
    "test_allocation_failures.py": "memory runs out for all threads",
    "test_c_example.py": "compiles",
    "test_c_harness.py": "compiles, and starts threads itself",
    "test_fuzz.py": "compiles, and starts processes",
    "test_golden.py": "starts processes, for every number of threads",
    "test_instruction_sets.py": "starts processes",
    "test_leaks.py": "starts a process",
    "test_nothing_hidden.py": "counts threads and references, and forks",
    "test_processes.py": "starts processes, and kills them",
    "test_proportion.py": "starts processes, to measure their memory",
    "test_thread_failures.py": "threads cannot be had by any thread",
    "test_threads.py": "sets the number of threads of the process",
    "test_examples": "doctest replaces sys.stdout",
    "test_examples_in_c_docstrings": "doctest replaces sys.stdout",
    "small": "its arrays are one for all threads, and centers move in place",
    "tmp_path": "files of one name",
}


def pytest_collection_modifyitems(items):
    for item in items:
        for name in (
            item.path.name,
            getattr(item, "originalname", None),
            *getattr(item, "fixturenames", ()),
        ):
            if name in ONE_THREAD:
                item.add_marker(pytest.mark.thread_unsafe(reason=ONE_THREAD[name]))


@pytest.fixture(params=MODULES, scope="session")
def cl(request):
    """The functions in C, then their twins in plain NumPy."""
    return importlib.import_module(MODULES[request.param])


@pytest.fixture
def small():
    """A batch to follow by hand: every sum and product in it is exact."""
    x = np.array([[1, 0], [3, 4], [0, 4], [0, 2]], np.float32)
    y = np.array([0, 2, 2, 0])
    c = np.array([[2, 2], [9, 9], [0, 0]], np.float32)
    return x, y, c
