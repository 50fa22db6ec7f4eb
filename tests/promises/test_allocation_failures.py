"""If an allocation fails: MemoryError, no array changed, no memory kept.

Every call is repeated with its first, second, third ... allocation failing, alone and
with all that follow, until it succeeds.
"""

import copy
import functools
import importlib.util
import pickle
import sys
from itertools import count

import numpy as np
import pytest

import centerloss
from centerloss import CenterLoss
from tests.helpers.batches import CALLS, bits
from tests.helpers.c_builds import KERNELS, TESTS_C, link
from tests.helpers.cases import CASES, IDS, bad_label, private_calls, snapshot
from tests.helpers.fault_injection import ALWAYS, FAILING_MALLOC, failing_core
from tests.helpers.processes import posix, run, run_module

pytestmark = [
    posix,
    pytest.mark.compiles,
    pytest.mark.thread_unsafe(reason="allocations fail in all threads"),
]
ways = pytest.mark.parametrize("onwards", [False, True], ids=["once", "from then on"])


@pytest.fixture(scope="module")
def failing():
    """The module, with allocations of csrc/ and of NumPy's arrays counted together."""
    core, library = failing_core()
    with library.arrays():
        yield core, library


def fail_each(library, run, state, onwards):
    """Fail each allocation of `run` in turn; returns their number and the result."""
    before, held = state(), library.held.value
    for i in count():
        try:
            with library.memory(i, ALWAYS if onwards else i + 1):
                result = run()
            break
        except MemoryError:
            assert state() == before
        assert library.held.value == held, f"failure {i} left something behind"
    assert library.asked.value == i, "a failure went unnoticed"
    return i, result


@ways
@pytest.mark.parametrize(("name", "kind"), CASES, ids=IDS)
def test_memory_of_arrays_and_plans(failing, name, kind, onwards):
    core, library = failing
    call, same_call = kind(name), kind(name)

    def run():
        if kind is not bad_label:
            return getattr(core, name)(**call)
        with pytest.raises(IndexError):
            getattr(core, name)(**call)
        return None

    asked, result = fail_each(library, run, lambda: snapshot(call), onwards)
    assert asked >= 1
    if kind is not bad_label:
        assert bits(result) == bits(getattr(centerloss, name)(**same_call))
    assert snapshot(call) == snapshot(same_call)


@ways
@pytest.mark.parametrize("name", private_calls())
def test_memory_of_private_functions(failing, name, onwards):
    core, library = failing
    call, same_call = private_calls()[name], private_calls()[name]
    function = functools.partial(getattr(core, name), **call)
    asked, result = fail_each(library, function, lambda: snapshot(call), onwards)
    assert asked >= 1
    assert bits(result) == bits(getattr(centerloss._core, name)(**same_call))
    assert snapshot(call) == snapshot(same_call)


@pytest.mark.parametrize("name", CALLS)
def test_the_memory_of_a_result_is_freed_with_it(failing, name):
    core, library = failing
    call = next(kind for kind_name, kind in CASES if kind_name == name)(name)
    held = library.held.value
    result = getattr(core, name)(**call)
    del result
    assert library.held.value == held


@ways
def test_memory_of_arrays_in_the_class(failing, onwards):
    _, library = failing
    loss_fn, other = CenterLoss(40, 3, rng=0), CenterLoss(40, 3, rng=1, alpha=0.125)
    features, labels = np.ones((64, 3), np.float32), np.arange(64) % 40
    state = other.state_dict()

    def now():
        return repr(loss_fn), loss_fn.centers.tobytes()

    for call in (
        lambda: CenterLoss(40, 3, rng=0),
        lambda: copy.deepcopy(loss_fn),
        lambda: pickle.loads(pickle.dumps(loss_fn)),
        lambda: loss_fn.value_and_grad(features, labels),
        lambda: loss_fn.step(features, labels),
        lambda: loss_fn.init_centers(features, labels),
        lambda: loss_fn.state_dict(),
        lambda: loss_fn.load_state_dict(state),
    ):
        held = library.held.value
        assert fail_each(library, call, now, onwards)[0] >= 1
        assert library.held.value == held
    assert now() == (repr(other), other.centers.tobytes())


@ways
def test_memory_of_arrays_in_files(failing, tmp_path, onwards):
    _, library = failing
    path = tmp_path / "state"
    CenterLoss(40, 3, rng=0).save(path)
    other = CenterLoss(40, 3, rng=1)

    def now():
        return path.read_bytes(), len(list(tmp_path.iterdir()))

    assert fail_each(library, lambda: other.save(path), now, onwards)[0] >= 1
    asked, loaded = fail_each(library, lambda: CenterLoss.load(path), now, onwards)
    assert asked >= 1
    assert bits(loaded.centers) == bits(other.centers)


def test_plans_in_c(tmp_path):
    """Every kind of plan, without Python."""
    sources = [TESTS_C / "failing_plans.c", TESTS_C / "failing_malloc.c"]
    sources += [KERNELS / name for name in ("plan.c", "group_rows.c", "sum.c")]
    output = run(link(tmp_path / "plans", sources, *FAILING_MALLOC))
    assert dict(line.split(": ") for line in output.splitlines()) == {
        "no rows": "1",
        "losses": "1",
        "batch order": "1",
        "segments": "1",
        "chunks in batch order": "2",
        "class order": "1",
        "class order without losses": "1",
        "chunks in class order": "2",
    }


@pytest.mark.skipif(
    importlib.util.find_spec("_testcapi") is None,
    reason="this Python has no _testcapi",
)
@pytest.mark.skipif(
    hasattr(sys, "gettotalrefcount"),
    reason="a debug build stops where Python itself fails without an exception",
)
def test_python_objects():
    """In a process of its own: all of Python's allocations fail."""
    lines = run_module("tests.isolated.no_memory").splitlines()
    asked = {line.split()[0]: int(line.split()[1]) for line in lines}
    assert set(IDS) < set(asked)
    assert all(asked[case] > 0 for case in IDS)
