"""Processes of MPI have the bits of one process, and errors of one rank on all.

Each test looks at what `isolated_mpi.py` has written. The tests of `test_shards.py` and
`test_faults.py` say more, with ranks that are threads.
"""

import json
import subprocess
import sys
import time

import pytest

from tests.distributed.faults import (
    CALLS,
    METHODS,
    OTHER_SETTINGS,
    WRONG_BATCHES,
    different_calls,
    different_settings,
    incomplete,
    on_faulty_rank,
    refused,
)
from tests.helpers.mpi import ENVIRONMENT, MPIEXEC, needs_mpi
from tests.helpers.processes import ROOT, run

pytestmark = needs_mpi


def command(ranks, what, path, *, mpi4py=True):
    return [
        *(MPIEXEC, "-n", str(ranks), sys.executable),
        *(["-m", "mpi4py"] if mpi4py else []),
        *("-m", "tests.distributed.isolated_mpi", what, str(path)),
    ]


every = [
    pytest.param((ranks, "every"), marks=pytest.mark.slow, id=f"{ranks} ranks")
    for ranks in (1, 2, 4)
]


@pytest.fixture(
    scope="module", params=[pytest.param((2, "all"), id="2 ranks, short"), *every]
)
def results(request, tmp_path_factory):
    """The number of ranks, what was asked for, and what the ranks have found."""
    ranks, what = request.param
    path = tmp_path_factory.mktemp("mpi") / "results"
    run(*command(ranks, what, path), env=ENVIRONMENT, timeout=600)
    return ranks, what, json.loads(path.read_text())


def test_same_bits_as_one_process(results):
    ranks, what, found = results
    count, different = found["bits"][0]
    assert different == []
    assert count >= (280 if what == "every" else 12)
    assert found["bits"][1:] == [[count, []]] * (ranks - 1)


def test_checkpoint(results):
    ranks, _, found = results
    assert found["checkpoint"] == [[True, True]] * ranks


def test_memory_of_a_step(results):
    _, _, found = results
    assert max(found["memory"]) < 32 * 2**20


def expected_of(name, ranks):
    """What is raised on each rank in a scenario."""
    first, _, last = name.partition(" ")
    if first == "other":
        return [different_settings(last)] * ranks
    if first == "calls":
        return [different_calls(last, ranks)] * ranks
    return on_faulty_rank(WRONG_BATCHES[name.split(", ")[0]][1], refused(ranks), ranks)


def test_faults(results):
    """An error on all ranks; nothing has moved, and the next step works."""
    ranks, what, found = results
    others = ("bits", "checkpoint", "memory", "failed move")
    faults = {name: found[name] for name in found if name not in others}
    if ranks > 1:
        many = len(WRONG_BATCHES) * len(METHODS) + len(OTHER_SETTINGS) + len(CALLS)
        assert len(faults) == (many if what == "every" else 4)
    for name, of_ranks in faults.items():
        expected = [[text, True] for text in expected_of(name, ranks)]
        assert of_ranks == expected, name


def test_failed_move(results):
    ranks, _, found = results
    for rank, (texts, works) in enumerate(found.get("failed move", [])):
        first = on_faulty_rank("MemoryError: no memory", None, ranks)[rank]
        assert texts == [first, incomplete(ranks), None]
        assert works


# --- faults that end the program ------------------------------------------------------


def seconds_until_the_end(ranks, what, path, *, wait, **options):
    """Return how long after the fault mpiexec ends, and its exit status.

    Both are None if it does not end within `wait` seconds.
    """
    process = subprocess.Popen(
        command(ranks, what, path, **options),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        status = process.wait(wait)
        return time.time() - float(path.read_text()), status
    except subprocess.TimeoutExpired:
        return None, None
    finally:
        with process:
            if process.poll() is None:
                process.terminate()  # mpiexec ends its processes
                process.wait(30)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("what", ["killed", "exception"])
def test_a_rank_that_ends_by_a_fault_ends_all(what, ranks, tmp_path):
    seconds, status = seconds_until_the_end(ranks, what, tmp_path / "time", wait=60)
    print(f"{what}, {ranks} ranks: all end after {seconds:.1f} s")
    assert status != 0
    assert seconds < 30


@pytest.mark.slow
def test_a_rank_that_is_late(tmp_path):
    """The others wait for it: MPI has no timeouts."""
    seconds, status = seconds_until_the_end(2, "late", tmp_path / "time", wait=60)
    assert status == 0
    assert seconds > 3


@pytest.mark.slow
@pytest.mark.parametrize(("what", "mpi4py"), [("exception", False), ("fewer", True)])
def test_what_lets_the_other_ranks_wait(what, mpi4py, tmp_path):
    """An exception without `python -m mpi4py`; fewer calls than the others make.

    The documentation says so: nothing here can tell it from a rank that is late.
    """
    path = tmp_path / "time"
    seconds, _ = seconds_until_the_end(2, what, path, wait=15, mpi4py=mpi4py)
    assert path.exists()
    assert seconds is None
