"""What the ranks of MPI find, each one a process.

`mpiexec -n 2 python -m mpi4py -m tests.distributed.isolated_mpi all FILE` writes the
results of short batches and of faults to FILE, as JSON: a list with an element per
rank, by scenario. `every` has more batches and more faults. `killed`, `exception`,
`late` and `fewer` have a fault that MPI itself has to deal with: see `END`.
"""

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

import centerloss.distributed
from centerloss import CenterLoss
from centerloss.distributed import ShardedCenterLoss
from tests.distributed.cases import (
    DTYPES,
    Case,
    differences,
    new_shard,
    on_rank,
    split,
    whole_batch,
)
from tests.distributed.faults import (
    CALLS,
    FAULTY,
    METHODS,
    OTHER_SETTINGS,
    WRONG_BATCHES,
    outcome,
)
from tests.helpers.batches import bits

EVERYTHING = {"weighted": True, "ignored": True, "bad": True}


def sizes_of(ranks, first, then):
    """Ranks with many rows, with few, and with none."""
    return (first, then, 0, 7)[:ranks]


def short_cases(ranks):
    sizes = sizes_of(ranks, 20, 33)
    yield Case(sizes)
    yield Case(sizes, dtypes=DTYPES[2], **EVERYTHING)
    yield Case(sizes, dtypes=DTYPES[1], settings={"reduction": "none"}, **EVERYTHING)
    yield Case(sizes_of(ranks, 20_000, 25_000), 3, 2, DTYPES[1], weighted=True)
    yield Case((0,) * ranks)
    yield Case((0, 3, 1, 1)[:ranks], classes=1)


def more_cases(ranks):
    yield from short_cases(ranks)
    many = itertools.product(
        [sizes_of(ranks, 9, 50), sizes_of(ranks, 700, 1500)],
        DTYPES,
        ("none", "sum", "mean"),
        [{}, EVERYTHING],
        [{}, {"normalize": False}, {"skip_nonfinite": False}],
    )
    for sizes, dtypes, reduction, extras, settings in many:
        settings = {"reduction": reduction, **settings}
        yield Case(sizes, dtypes=dtypes, settings=settings, **extras)
    for extras in ({}, {"weighted": True, "ignored": True}):
        yield Case(sizes_of(ranks, 9000, 33_000), 300, 3, DTYPES[1], **extras)


def different_bits(comm, cases):
    """The number of cases, and those that differ from one process, on rank 0."""
    count, different = 0, []
    for case, over in itertools.product(cases, ("rank", "all")):
        found = comm.gather(on_rank(case, over, comm))
        count += 1
        if found and (names := differences(case, over, found)):
            different.append(f"{case} {over}: {names}")
    return count, different


# --- faults that are an error on all ranks --------------------------------------------


def faulty_case(comm):
    return Case((4, 9, 6, 0)[: comm.Get_size()], weighted=True)


def is_as_in_one_process(comm, loss_fn, case):
    """Whether a step has the bits of one process with all rows."""
    one = CenterLoss(30, 5, init=whole_batch(case)[-1].copy())
    expected, _ = one.step(*whole_batch(case)[:3])
    loss, _ = loss_fn.step(*split(case)[comm.Get_rank()])
    own = one.centers[loss_fn.class_range.start : loss_fn.class_range.stop]
    return loss == expected and bits(loss_fn.shard) == bits(own)


def fault(comm, call):
    """What is raised by call(loss_fn, batch, is_faulty), and whether all is well then.

    No center has moved, and the next step works.
    """
    case, rank = faulty_case(comm), comm.Get_rank()
    loss_fn, batch = new_shard(case, comm), split(case)[rank]
    before, settings = loss_fn.shard.copy(), vars(loss_fn).copy()
    text = outcome(call, loss_fn, batch, rank == FAULTY)
    same = bits(loss_fn.shard) == bits(before)
    vars(loss_fn).update(settings)
    return text, same and is_as_in_one_process(comm, loss_fn, case)


def wrong_batch(comm, name, method):
    def call(loss_fn, batch, is_faulty):
        METHODS[method](
            loss_fn, *(WRONG_BATCHES[name][0](*batch) if is_faulty else batch)
        )

    return fault(comm, call)


def other_setting(comm, name):
    def call(loss_fn, batch, is_faulty):
        if is_faulty:
            setattr(loss_fn, name, OTHER_SETTINGS[name])
        loss_fn.step(*batch)

    return fault(comm, call)


def other_call(comm, name, folder):
    def call(loss_fn, batch, is_faulty):
        if is_faulty:
            CALLS[name](loss_fn, batch, folder)
        else:
            loss_fn.step(*batch)

    return fault(comm, call)


def failed_move(comm, folder):
    """The outcomes of a step without memory for the move, of a step, and of `load`."""
    case, rank = faulty_case(comm), comm.Get_rank()
    loss_fn, batch = new_shard(case, comm), split(case)[rank]
    loss_fn.save(folder)
    move = centerloss.distributed.update_centers_at

    def without_memory(*_, **__):
        raise MemoryError("no memory")

    if rank == FAULTY:
        centerloss.distributed.update_centers_at = without_memory
    texts = [outcome(loss_fn.step, *batch)]
    centerloss.distributed.update_centers_at = move
    texts += [outcome(loss_fn.step, *batch), outcome(loss_fn.load, folder)]
    return texts, is_as_in_one_process(comm, loss_fn, case)


def checkpoint(comm, folder):
    """Whether what is saved is loaded, by all ranks and by one process."""
    case = faulty_case(comm)
    loss_fn, other = new_shard(case, comm, alpha=0.3), new_shard(case, comm)
    loss_fn.save(folder)
    other.shard[...] = 0
    other.load(folder)
    same = bits(other.shard) == bits(loss_fn.shard) and other.alpha == 0.3
    return same, bits(CenterLoss.load(folder).centers) == bits(whole_batch(case)[-1])


# --- memory ---------------------------------------------------------------------------


def peak():
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def memory_of_a_step(comm):
    """What steps add to the peak, with 1 GiB of centers that are not touched."""
    loss_fn = ShardedCenterLoss(4_000_000, 64, comm, init="zeros")
    rng = np.random.default_rng(comm.Get_rank())
    x = rng.standard_normal((1000, 64), np.float32)
    y = np.where(np.arange(1000) < 999, np.arange(1000) % 100, 3_999_999)
    before = peak()
    for _ in range(3):
        loss_fn.step(x, y)
    return peak() - before


def scenarios(comm, folder, *, every):
    """The names of scenarios, and functions for them."""
    cases = more_cases if every else short_cases
    yield "bits", lambda: different_bits(comm, cases(comm.Get_size()))
    yield "checkpoint", lambda: checkpoint(comm, folder / "saved")
    yield "memory", lambda: memory_of_a_step(comm)
    if comm.Get_size() == 1:
        return
    batches, methods = (WRONG_BATCHES, METHODS) if every else (["label"], ["step"])
    for name, method in itertools.product(batches, methods):
        yield f"{name}, {method}", lambda n=name, m=method: wrong_batch(comm, n, m)
    for name in OTHER_SETTINGS if every else ["alpha"]:
        yield f"other {name}", lambda n=name: other_setting(comm, n)
    for name in CALLS if every else ["loss", "load"]:
        yield f"calls {name}", lambda n=name: other_call(comm, n, folder / "saved")
    yield "failed move", lambda: failed_move(comm, folder / "repair")


def write_results(comm, path, *, every):
    folder = path.parent / f"{path.name}.folder"
    if comm.Get_rank() == 0:
        folder.mkdir()
    comm.Barrier()
    results = {}
    for name, scenario in scenarios(comm, folder, every=every):
        results[name] = comm.gather(scenario())
    if comm.Get_rank() == 0:
        path.write_text(json.dumps(results))


# --- faults that end the program ------------------------------------------------------


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def exception():
    raise ZeroDivisionError("outside of our calls")


def late():
    time.sleep(3)


def fewer():
    """The faulty rank has no more batches, and ends."""
    sys.exit()


END = {f.__name__: f for f in (killed, exception, late, fewer)}


def train_until(comm, name, path):
    """A fault in the sixth step, of which the time is written."""
    case = faulty_case(comm)
    loss_fn, rank = new_shard(case, comm), comm.Get_rank()
    for step in range(10):
        if step == 5 and rank == FAULTY:
            path.write_text(str(time.time()))
            END[name]()
        loss_fn.step(*split(case)[rank])


def main():
    from mpi4py import MPI

    what, path = sys.argv[1], Path(sys.argv[2])
    if what in END:
        train_until(MPI.COMM_WORLD, what, path)
    else:
        write_results(MPI.COMM_WORLD, path, every=what == "every")


if __name__ == "__main__":
    main()
