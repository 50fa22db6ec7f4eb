"""The C API for any number of threads, and for plans without what is needed."""

import signal
import subprocess

import pytest

from tests.helpers.c_builds import TESTS_C, kernel_objects, link
from tests.helpers.processes import posix, run

pytestmark = [
    posix,
    pytest.mark.compiles,
    pytest.mark.thread_unsafe(reason="compiles"),
]
LOSSES, GROUPS = 1, 2
NEEDS = {
    "value_and_grad": LOSSES,
    "step": LOSSES | GROUPS,
    "update_centers": GROUPS,
    "center_delta": GROUPS,
    "class_sums": GROUPS,
}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    objects = kernel_objects("-DCL_BASELINE_ONLY")
    return link(tmp_path_factory.mktemp("api") / "api", [TESTS_C / "api.c", *objects])


def test_any_number_of_threads(program):
    """Including 0, negative numbers, and more than CL_MAX_THREADS."""
    run(program)


@pytest.mark.parametrize(
    ("rows", "dim", "classes", "requested", "expected"),
    [
        # One thread per MiB of features, from 2 MiB on.
        (4095, 128, 2000, 8, "1 class order"),
        (4096, 128, 2000, 8, "2 class order"),
        (4096, 128, 2000, 1, "1 class order"),
        (32768, 64, 20000, 8, "8 class order"),
        # In batch order the sums of all classes take at most 40 bytes per row.
        (160, 7, 100, 1, "1 batch order"),
        (160, 7, 101, 1, "1 class order"),
        # A class may have more rows than a chunk of 512.
        (5121, 7, 10, 1, "1 batch order"),
        # Threads cannot share a segment of 32768 rows.
        (32768, 64, 100, 2, "2 batch order"),
        (32768, 64, 100, 3, "3 class order"),
        (32769, 64, 100, 3, "3 batch order"),
        (40000, 64, 10, 5, "5 batch order"),
        (40000, 64, 10, 6, "6 class order"),
    ],
)
def test_threads_and_order(program, rows, dim, classes, requested, expected):
    assert run(program, rows, dim, classes, requested) == expected


def test_sums_of_runs(program):
    run(program, "sums")


@pytest.mark.parametrize("needs", [LOSSES, GROUPS, LOSSES | GROUPS])
@pytest.mark.parametrize("name", NEEDS)
def test_operations_assert_what_they_need(program, name, needs):
    command = [program, name, str(needs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if needs & NEEDS[name] == NEEDS[name]:
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert done.returncode == -signal.SIGABRT
        assert "plan->needs" in done.stderr
