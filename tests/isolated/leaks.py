"""Call every function many times, and check that nothing leaks.

`python -m tests.isolated.leaks --calls 100000` makes 100000 calls of each kind. The
second half of them may add no block of memory, no reference and no page.
"""

import argparse
import contextlib
import copy
import gc
import os
import pickle
import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path

import numpy as np

import centerloss
from centerloss import CenterLoss, _core
from tests.helpers.cases import CASES, IDS, B, allocated_blocks, private_calls
from tests.helpers.error_cases import CALLS, faulty_calls

STATM = "/proc/self/statm"
# What the system and Python may allocate for themselves.
SPARE_BLOCKS, SPARE_BYTES = 8, 512 * 1024
# Shared objects: a leaked reference to one leaks no block of memory.
DTYPES = [np.dtype(name) for name in ("f2", "f4", "f8", "i8")]


def resident():
    """Return the bytes of memory in use, or 0 where the system does not tell."""
    if not os.path.exists(STATM):
        return 0
    with open(STATM, encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def quietly(function, arguments, error):
    with contextlib.suppress(error):
        function(**arguments)


def functions():
    """Yield a name, a function, and arguments with the errors expected of them."""
    for (name, kind), case in zip(CASES, IDS, strict=True):
        yield case, getattr(centerloss, name), [(kind(name), IndexError)]
    for name in CALLS:
        faulty = [(call, fault.error) for fault, call in faulty_calls(name)]
        yield f"{name}-every_error", getattr(centerloss, name), faulty
        nothing = {"features": [], "labels": [], "centers": np.ones((2, 1), np.float32)}
        # Its __index__ creates a new integer in every call.
        nothing["ignore_index"] = np.int64(10**12)
        yield f"{name}-nothing", getattr(centerloss, name), [(nothing, ())]
    for name, call in private_calls().items():
        wrong = call | {"labels": np.full(call["labels"].shape, 10**6)}
        short = call | {"sample_weight": [1.0]}
        errors = [(call, ()), (wrong, IndexError), (short, ValueError)]
        if "places" in call:
            bad = (call["places"][::-1], call["places"][1:], [1], np.ones(B))
            errors += [
                (call | {"places": places}, (TypeError, ValueError)) for places in bad
            ]
        yield name, getattr(_core, name), errors
    sums = [np.ones(3000), np.ones((3, 1)), np.ones(3, "f4"), [1.0]]
    yield (
        "ordered_sum",
        lambda values: _core.ordered_sum(values),
        [({"values": values}, (TypeError, ValueError)) for values in sums],
    )
    yield (
        "ordered_sum_of_runs",
        lambda values: _core.ordered_sum_of_runs(values, 3000 * 1024),
        [({"values": values}, (TypeError, ValueError)) for values in sums],
    )
    for n in (2, 0, None):
        yield (
            f"set_num_threads-{n}",
            lambda n: centerloss.set_num_threads(n),
            [({"n": n}, (TypeError, ValueError))],
        )
    yield "get_num_threads", centerloss.get_num_threads, [({}, ())]
    yield "get_include", centerloss.get_include, [({}, ())]


def methods(path):
    loss_fn = CenterLoss(40, 3, rng=0)
    batch = {"features": np.ones((64, 3), np.float32), "labels": np.arange(64) % 40}
    wrong = batch | {"labels": np.arange(64)}
    Path(path + " broken").write_bytes(b"PK\x03\x04")
    calls = {
        "init": [({"num_classes": 3, "feat_dim": 2}, ()), ({}, TypeError)],
        "call": [(batch, ()), (wrong, IndexError)],
        "value_and_grad": [(batch, ()), (wrong, IndexError)],
        "update": [(batch, ()), (wrong, IndexError)],
        "step": [(batch, ()), (wrong, IndexError)],
        "init_centers": [(batch, ()), (wrong, IndexError)],
        "state_dict": [({}, ())],
        "load_state_dict": [
            ({"state": loss_fn.state_dict()}, ()),
            ({"state": {}}, ValueError),
        ],
        "save": [({"path": path}, ()), ({"path": "/"}, ValueError)],
        "load": [({"path": path}, ()), ({"path": path + " broken"}, ValueError)],
        "copy": [({}, ())],
        "pickle": [({}, ())],
        "repr": [({}, ())],
    }
    others = {
        "init": CenterLoss,
        "call": loss_fn,
        "copy": lambda: copy.deepcopy(copy.copy(loss_fn)),
        "pickle": lambda: pickle.loads(pickle.dumps(loss_fn)),
        "repr": loss_fn.__repr__,
    }
    for name, arguments in calls.items():
        function = others.get(name) or getattr(loss_fn, name)
        yield f"CenterLoss.{name}", function, arguments


def check(name, function, arguments, calls):
    """Check what the second half of the calls adds: blocks, references, bytes."""

    def run(count):
        for call, error in islice(cycle(arguments), count):
            quietly(function, call, error)

    values = [value for call, _ in arguments for value in call.values()]
    counted = [value for value in values if isinstance(value, np.ndarray)] + DTYPES
    run(max(calls // 2, len(arguments)))
    references = [sys.getrefcount(value) for value in counted]
    before, pages = allocated_blocks(), resident()
    run(calls - calls // 2)
    kept, more = allocated_blocks() - before, resident() - pages
    same = references == [sys.getrefcount(value) for value in counted]
    print(f"{name}: {calls} calls, {kept} blocks, {more} bytes", flush=True)
    assert kept <= SPARE_BLOCKS, f"{name} keeps {kept} blocks"
    assert more <= SPARE_BYTES, f"{name} keeps {more} bytes"
    assert same, f"{name} keeps references"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    calls = parser.parse_args().calls
    gc.freeze()  # so that a collection is quick
    start = resident()
    # Files in memory where possible: writing to a disk takes minutes.
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        for case in (*functions(), *methods(os.path.join(folder, "state"))):
            check(*case, calls)
    print(f"resident: {start} bytes before, {resident()} after")


if __name__ == "__main__":
    main()
