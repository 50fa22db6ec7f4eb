"""Allocations of Python objects fail: number 1, 2, 3, ..., alone and with all after it.

`python -m tests.isolated.no_memory` does so with every call, and prints how many
allocations each call makes. It stops at the first call that ends in another way than
with a MemoryError and unchanged arrays.
"""

import functools
import gc
import operator
import sys
import sysconfig
from _testcapi import remove_mem_hooks, set_nomemory
from itertools import count

import numpy as np

import centerloss
from centerloss import CenterLoss, _core
from tests.helpers.cases import CASES, IDS, allocated_blocks, private_calls, snapshot

FOREVER = 0
SWEEPS = 5


def outcome(call, first, last):
    """Call it while allocations first+1..last fail; returns the type of the error."""
    gc.collect()  # this empties Python's free lists, too
    try:
        set_nomemory(first, last)
        call()
    except BaseException as error:
        remove_mem_hooks()
        return type(error)
    remove_mem_hooks()
    return None


@functools.cache
def errors_of_failing_errors():
    """The errors that replace a TypeError of CPython's that cannot be allocated."""
    errors = {outcome(lambda: operator.index(""), i, i + 1) for i in range(20)}
    return tuple(errors - {TypeError})


def fail_each(call, state, ends):
    """Fail each allocation of a call in turn; returns their number.

    `state` returns what a failing call must not change. `ends` is the error of the
    call if no allocation fails, or None.
    """
    total = next(i for i in count() if not fails(call, state, ends, i, FOREVER))
    for i in range(total):
        assert fails(call, state, ends, i, i + 1), f"failure {i} went unnoticed"
    return total


def fails(call, state, ends, first, last):
    """Return whether the call failed; check that it changed nothing if so."""
    before = state()
    error = outcome(call, first, last)
    if error is ends:
        return False
    # A call that ends in an error may fail to allocate that error.
    expected = (
        MemoryError if ends is None else (MemoryError, *errors_of_failing_errors())
    )
    assert issubclass(error or object, expected), f"{error}: {first}, {last}"
    assert state() == before, f"changed by a failing call: {first}, {last}"
    return True


def report(name, call, state, ends=None):
    outcome(call, 10**9, FOREVER)  # create what is created only once
    fail_each(call, state, ends)
    before = allocated_blocks()
    for _ in range(SWEEPS):  # each block lost by one call counts SWEEPS times
        total = fail_each(call, state, ends)
    kept = allocated_blocks() - before
    # CPython 3.11 itself loses a block when Python code like the class fails.
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
    for name, call in private_calls().items():
        function = getattr(_core, name)
        yield (
            name,
            lambda f=function, call=call: f(**call),
            lambda call=call: snapshot(call),
            None,
        )
    numbers = np.ones(3000)
    yield "ordered_sum", lambda: _core.ordered_sum(numbers), tuple, None
    yield (
        "ordered_sum_of_runs",
        lambda: _core.ordered_sum_of_runs(numbers, 3000 * 1024),
        tuple,
        None,
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
    """Methods that consist of this package's code.

    NumPy and CPython 3.12 themselves crash without memory in copies, pickles,
    representations and drawn centers; `init_centers`, `save` and `load` consist of
    calls of NumPy and Python. test_allocation_failures.py lets the array memory of all
    but representations fail.
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
        # That CPython crashes when a list gets no memory: python/cpython#152125.
        del calls["load_state_dict"]
    for name, call in calls.items():
        yield f"CenterLoss.{name}", call, state, None


if __name__ == "__main__":
    errors_of_failing_errors()  # before anything is counted
    gc.freeze()  # so that a collection is quick
    for case in (*functions(), *methods()):
        report(*case)
