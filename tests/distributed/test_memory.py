"""A rank has its centers and no more: while they are made, used, saved and loaded.

`test_mpi.py` looks at the peak of whole processes.
"""

import contextlib
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from centerloss.distributed import ShardedCenterLoss
from tests.distributed.cases import DTYPES
from tests.helpers.oracle import BFLOAT16
from tests.helpers.thread_ranks import run_ranks

pytestmark = pytest.mark.thread_unsafe(reason="counts the memory of all threads")

MIB = 2**20
RANKS = 4
CLASSES, COLUMNS = 160_000, 64  # 39 MiB of centers in float32


@contextlib.contextmanager
def peak():
    """The most bytes that Python and NumPy allocate at a time, of all ranks."""
    counted = SimpleNamespace()
    tracemalloc.start()
    try:
        yield counted
        counted.bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("init", ["normal", "zeros"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_construction(init, dtype):
    with peak() as counted:
        shards = run_ranks(
            RANKS,
            lambda comm: ShardedCenterLoss(
                CLASSES, COLUMNS, comm, init=init, dtype=dtype
            ),
        )
    centers = sum(one.shard.nbytes for one in shards)
    row = COLUMNS * np.dtype(dtype).itemsize
    assert centers == CLASSES * row
    # 256 rows are drawn at a time.
    assert counted.bytes <= centers + RANKS * (2 * 256 * row + MIB // 4)


def test_a_shard_that_is_given_is_not_copied():
    with peak() as counted:
        shards = run_ranks(
            RANKS,
            lambda comm: ShardedCenterLoss(
                CLASSES,
                COLUMNS,
                comm,
                init=lambda first, last: np.ones((last - first, COLUMNS), np.float32),
            ),
        )
    assert counted.bytes <= sum(one.shard.nbytes for one in shards) + MIB


def test_save_and_load(tmp_path):
    """By another number of ranks, too."""

    def save(comm):
        return ShardedCenterLoss(CLASSES, COLUMNS, comm, init="zeros").save(tmp_path)

    def load(comm):
        loss_fn = ShardedCenterLoss(CLASSES, COLUMNS, comm, init="zeros")
        loss_fn.load(tmp_path)
        return loss_fn

    centers = CLASSES * COLUMNS * 4
    with peak() as counted:
        run_ranks(RANKS, save)
    assert counted.bytes <= centers + RANKS * 3 * MIB
    for ranks in (3, RANKS):
        with peak() as counted:
            run_ranks(ranks, load)
        assert counted.bytes <= centers + ranks * 4 * MIB


@pytest.mark.parametrize("dtypes", DTYPES, ids=str)
@pytest.mark.parametrize("over", ["rank", "all"])
def test_a_step(dtypes, over):
    """Five times the batch of the rank, with rows in the dtype of the centers."""
    rows, x_dtype = 4096, np.dtype(BFLOAT16 if dtypes[0] == "bfloat16" else dtypes[0])

    def on_rank(comm):
        rng = np.random.default_rng(comm.Get_rank())
        loss_fn = ShardedCenterLoss(
            CLASSES, COLUMNS, comm, init="zeros", over=over, dtype=dtypes[1]
        )
        x = rng.standard_normal((rows, COLUMNS), np.float32).astype(x_dtype)
        y, w = rng.integers(0, CLASSES, rows), rng.random(rows)
        comm.Alltoall(np.zeros(RANKS, np.int64), np.zeros(RANKS, np.int64))
        if comm.Get_rank() == 0:
            tracemalloc.reset_peak()
            before.append(tracemalloc.get_traced_memory()[0])
        comm.Alltoall(np.zeros(RANKS, np.int64), np.zeros(RANKS, np.int64))
        loss_fn.step(x, y, w)

    before = []
    with peak() as counted:
        run_ranks(RANKS, on_rank)
    step = (counted.bytes - before[0]) / RANKS
    batch = (np.dtype(dtypes[1]).itemsize * COLUMNS + 16) * rows
    print(f"{dtypes}, over={over!r}: {step / batch:.2f} times the batch")
    assert step <= 5 * batch
