"""Python objects cannot be had: allocation 1, 2, 3, ... once, and from then on.

`python no_memory.py` fails the allocations of every call in turn, and prints how many
each call makes. It stops at the first that does not end as it should.
"""

import functools
import gc
import operator
import sys
import sysconfig
from _testcapi import remove_mem_hooks, set_nomemory
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

import centerloss
from centerloss import CenterLoss
from tests.helpers.blocks import blocks
from tests.helpers.cases import CASES, IDS, snapshot

FOREVER = 0
SWEEPS = 5


def outcome(call, first, last):
    """Call it while allocations first+1..last fail; the error, if there was one."""
    gc.collect()  # and no object is at hand from Python's lists of free ones
    try:
        set_nomemory(first, last)
        call()
    except BaseException as error:
        remove_mem_hooks()
        return type(error)
    remove_mem_hooks()
    return None


@functools.cache
def without_room_for_an_error():
    """What comes out where CPython raises an error of its own, instead of it."""
    errors = {outcome(lambda: operator.index(""), i, i + 1) for i in range(20)}
    return tuple(errors - {TypeError})


def fail_each(call, state, ends):
    """Fail each allocation of a call; how many there are.

    `state` returns what may not change by halves, and `ends` is what the call raises
    with all the memory that it asks for, or None.
    """
    total = next(i for i in count() if not fails(call, state, ends, i, FOREVER))
    for i in range(total):
        assert fails(call, state, ends, i, i + 1), f"failure {i} went unnoticed"
    return total


def fails(call, state, ends, first, last):
    """Whether there was not enough memory; all is as before then."""
    before = state()
    error = outcome(call, first, last)
    if error is ends:
        return False
    # CPython's own failure to make an error counts where the call makes one.
    expected = (
        MemoryError if ends is None else (MemoryError, *without_room_for_an_error())
    )
    assert issubclass(error or object, expected), f"{error}: {first}, {last}"
    assert state() == before, f"changed by a failing call: {first}, {last}"
    return True


def report(name, call, state, ends=None):
    outcome(call, 10**9, FOREVER)  # what is made once is made now
    fail_each(call, state, ends)
    before = blocks()
    for _ in range(SWEEPS):  # a block lost in a single place counts as often
        total = fail_each(call, state, ends)
    kept = blocks() - before
    # CPython 3.11 itself loses a block where Python code like that of the class fails.
    lossy = sys.version_info < (3, 12) and name.startswith("CenterLoss")
    assert kept < SWEEPS or lossy, f"{name}: {kept} blocks kept"
    print(name, total)


def functions():
    for (name, kind), case in zip(CASES, IDS, strict=True):
        call = kind(name)
        function = getattr(centerloss, name)
        yield (
            case,
            lambda f=function, call=call: f(**call),
            lambda call=call: snapshot(call),
            IndexError if kind.__name__ == "bad_label" else None,
        )
    yield "get_include", centerloss.get_include, tuple, None
    threads = centerloss.get_num_threads
    yield "get_num_threads", threads, threads, None
    yield (
        "set_num_threads",
        lambda: centerloss.set_num_threads(threads()),
        threads,
        None,
    )


def methods():
    """Those that are this package's own code.

    Not copies, pickles, representations and drawn centers, in which NumPy and CPython
    3.12 themselves crash without memory, nor `init_centers`, `save` and `load`, which
    are NumPy's and Python's own functions one after the other. All but representations
    are short of array memory in tests/test_allocation_failures.py.
    """
    rng = np.random.default_rng(0)
    features = rng.standard_normal((8, 3)).astype(np.float32)
    labels = rng.integers(0, 4, 8)
    made = np.zeros((4, 3))
    ours, other = CenterLoss(4, 3, rng=0), CenterLoss(4, 3, rng=1, alpha=0.25)
    states = [ours.state_dict(), other.state_dict()]

    def state():
        return repr(ours), ours.centers.tobytes()

    def load_the_other_state():
        states.reverse()
        ours.load_state_dict(states[0])

    calls = {
        "CenterLoss": lambda: CenterLoss(4, 3, init=made),
        "__call__": lambda: ours(features, labels),
        "value_and_grad": lambda: ours.value_and_grad(features, labels),
        "update": lambda: ours.update(features, labels),
        "step": lambda: ours.step(features, labels),
        "state_dict": ours.state_dict,
        "load_state_dict": load_the_other_state,
    }
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        # Where a list gets no memory, that CPython crashes: python/cpython#152125.
        del calls["load_state_dict"]
    for name, call in calls.items():
        yield f"CenterLoss.{name}", call, state, None


if __name__ == "__main__":
    without_room_for_an_error()  # while nothing else is being counted
    gc.freeze()  # so that a collection is quick
    for case in (*functions(), *methods()):
        report(*case)
