"""A fault on one rank is an error on all ranks; nothing moves, and the next call works.

The exception is a move of centers that fails on one rank: then the next call says so on
all ranks, until `load` repairs the centers. The ranks are threads.
"""

import numpy as np
import pytest

import centerloss.distributed
from centerloss import CenterLoss
from centerloss.distributed import ShardedCenterLoss
from tests.distributed.cases import Case, new_shard, split, whole_batch
from tests.distributed.faults import (
    CALLS,
    FAULTY,
    METHODS,
    OTHER_SETTINGS,
    WRONG_BATCHES,
    different_calls,
    different_settings,
    incomplete,
    on_faulty_rank,
    outcome,
    refused,
)
from tests.helpers.batches import bits
from tests.helpers.thread_ranks import run_ranks, this_rank

CASE = Case((7, 9, 4), weighted=True)
RANKS = CASE.ranks


def faulty_calls(call):
    """The outcome on each rank of call(loss_fn, batch, is_faulty).

    Afterwards, no center has moved, and the next step has the bits of one process.
    """
    one = CenterLoss(30, 5, init=whole_batch(CASE)[-1].copy())
    loss, _ = one.step(*whole_batch(CASE)[:3])

    def on_rank(comm):
        rank = comm.Get_rank()
        loss_fn, batch = new_shard(CASE, comm, over="all"), split(CASE)[rank]
        before, settings = loss_fn.shard.copy(), repr(loss_fn)
        found = outcome(call, loss_fn, batch, rank == FAULTY)
        assert bits(loss_fn.shard) == bits(before)
        assert loss_fn.num_updated == 0
        for name in ("alpha", "loss_weight", "reduction", "normalize"):
            setattr(loss_fn, name, getattr(one, name))
        loss_fn.ignore_index, loss_fn.skip_nonfinite = None, True
        loss_fn.over = "all"
        assert repr(loss_fn) == settings
        value, _ = loss_fn.step(*batch)
        assert value == loss
        return found, loss_fn.shard

    outcomes, shards = zip(*run_ranks(RANKS, on_rank), strict=True)
    assert bits(np.concatenate(shards)) == bits(one.centers)
    return list(outcomes)


def on_others(text):
    """The outcomes, where the faulty rank has its own text."""
    return on_faulty_rank(text, refused(RANKS), RANKS)


# --- batches --------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", WRONG_BATCHES)
def test_wrong_batch(name, method):
    wrong, text = WRONG_BATCHES[name]

    def call(loss_fn, batch, is_faulty):
        METHODS[method](loss_fn, *(wrong(*batch) if is_faulty else batch))

    assert faulty_calls(call) == on_others(text)


@pytest.mark.parametrize("method", ["value_and_grad", "step"])
def test_wrong_out(method):
    def call(loss_fn, batch, is_faulty, wrong):
        out = wrong(loss_fn) if is_faulty else np.empty_like(batch[0])
        getattr(loss_fn, method)(*batch, out=out)

    def wrong_shape(*arguments):
        call(*arguments, lambda _: np.empty((2, 5), np.float32))

    def overlap(*arguments):
        call(*arguments, lambda loss_fn: loss_fn.shard[:9])

    text = "ValueError: out has shape (2, 5), expected (9, 5)"
    assert faulty_calls(wrong_shape) == on_others(text)
    text = "ValueError: out overlaps shard in memory"
    assert faulty_calls(overlap) == on_others(text)


def test_weights_on_some_ranks():
    def call(loss_fn, batch, is_faulty):
        loss_fn.step(*batch[: 2 if is_faulty else 3])

    text = (
        "ValueError: sample_weight is given on ranks [0, 2] of 3, expected on all or "
        "none"
    )
    assert faulty_calls(call) == [text] * RANKS


def test_features_of_different_dtypes():
    def call(loss_fn, batch, is_faulty):
        x, y, w = batch
        loss_fn.step(x.astype(np.float16) if is_faulty else x, y, w)

    text = (
        "ValueError: the batches have dtypes ['float32', 'float16', 'float32'] on the "
        "ranks, expected one"
    )
    assert faulty_calls(call) == [text] * RANKS


# --- settings -------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", OTHER_SETTINGS)
def test_settings_that_differ(name, method):
    def call(loss_fn, batch, is_faulty):
        if is_faulty:
            setattr(loss_fn, name, OTHER_SETTINGS[name])
        METHODS[method](loss_fn, *batch)

    assert faulty_calls(call) == [different_settings(name)] * RANKS


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("alpha", -1.0, "ValueError: alpha is -1.0, expected a finite number >= 0"),
        (
            "reduction",
            "max",
            "ValueError: reduction is 'max', expected 'none', 'sum' or 'mean'",
        ),
        ("over", "some", "ValueError: over is 'some', expected 'rank' or 'all'"),
    ],
)
def test_wrong_settings(name, value, text):
    def call(loss_fn, batch, is_faulty):
        if is_faulty:
            setattr(loss_fn, name, value)
        loss_fn.step(*batch)

    assert faulty_calls(call) == on_others(text)


@pytest.mark.parametrize("shape", [(31, 5), (30, 6)])
def test_sizes_that_differ(shape):
    def on_rank(comm):
        own = shape if comm.Get_rank() == FAULTY else (30, 5)
        loss_fn = ShardedCenterLoss(*own, comm, init="zeros")
        x = np.ones((3, own[1]), np.float32)
        found = outcome(loss_fn.step, x, [0, 1, 2])
        assert not loss_fn.shard.any()
        return found

    text = (
        f"ValueError: (num_classes, feat_dim) is [(30, 5), {shape}, (30, 5)] on the "
        "ranks, expected the same on all"
    )
    assert run_ranks(RANKS, on_rank) == [text] * RANKS


def test_centers_of_different_dtypes():
    """Which the batches follow."""

    def on_rank(comm):
        dtype = "float64" if comm.Get_rank() == FAULTY else "float32"
        loss_fn = ShardedCenterLoss(30, 5, comm, init="zeros", dtype=dtype)
        return outcome(loss_fn.step, np.ones((2, 5), dtype), [0, 29])

    text = (
        "ValueError: the batches have dtypes ['float32', 'float64', 'float32'] on the "
        "ranks, expected one"
    )
    assert run_ranks(RANKS, on_rank) == [text] * RANKS


@pytest.mark.parametrize(
    ("shard", "text"),
    [
        (
            np.zeros((9, 5), np.float32),
            "ValueError: shard has shape (9, 5), expected (10, 5)",
        ),
        (
            [0.5],
            "TypeError: shard is a list, expected a NumPy array of float32 or float64",
        ),
    ],
)
def test_a_wrong_shard_is_assigned(shard, text):
    def call(loss_fn, batch, is_faulty):
        own = loss_fn.shard
        try:
            if is_faulty:
                loss_fn.shard = shard
            loss_fn.step(*batch)
        finally:
            loss_fn.shard = own

    assert faulty_calls(call) == on_others(text)


# --- different calls ------------------------------------------------------------------


@pytest.mark.parametrize("name", CALLS)
def test_different_calls(name, tmp_path):
    """While the others step."""
    saved = tmp_path / "saved"
    ShardedCenterLoss(30, 5, None).save(saved)

    def call(loss_fn, batch, is_faulty):
        if is_faulty:
            CALLS[name](loss_fn, batch, saved if name == "load" else tmp_path / "new")
        else:
            loss_fn.step(*batch)

    assert faulty_calls(call) == [different_calls(name, RANKS)] * RANKS
    assert not (tmp_path / "new").exists()


# --- failures after the agreement -----------------------------------------------------


class Failing:
    """A function that fails on the faulty rank, once."""

    def __init__(self, monkeypatch, name, error):
        self.function = getattr(centerloss.distributed, name)
        self.error, self.has_failed = error, False
        monkeypatch.setattr(centerloss.distributed, name, self)

    def __call__(self, *arguments, **options):
        if this_rank() == FAULTY and not self.has_failed:
            self.has_failed = True
            raise self.error
        return self.function(*arguments, **options)


ERRORS = [MemoryError("no memory"), RuntimeError("a fault")]
errors = pytest.mark.parametrize(
    "error", ERRORS, ids=lambda error: type(error).__name__
)


@errors
@pytest.mark.parametrize("method", ["step", "update", "init_centers"])
@pytest.mark.parametrize("over", ["rank", "all"])
def test_a_move_that_fails(method, over, error, monkeypatch, tmp_path):
    """All later calls say so, on all ranks; a checkpoint repairs the centers."""
    folder = tmp_path / "saved"
    name = "class_sums_at" if method == "init_centers" else "update_centers_at"
    Failing(monkeypatch, name, error)

    def on_rank(comm):
        loss_fn = new_shard(CASE, comm, over=over)
        x, y, w = split(CASE)[comm.Get_rank()]
        loss_fn.save(folder)
        before = loss_fn.shard.copy()
        arguments = (x, y) if method == "init_centers" else (x, y, w)
        found = [outcome(getattr(loss_fn, method), *arguments)]
        assert (bits(loss_fn.shard) == bits(before)) == (comm.Get_rank() == FAULTY)
        found += [outcome(loss_fn, x, y, w), outcome(loss_fn.step, x, y, w)]
        found += [
            outcome(loss_fn.save, folder),
            outcome(loss_fn.load, tmp_path / "none"),
        ]
        found += [outcome(loss_fn.update, x, y, w), outcome(loss_fn.load, folder)]
        assert bits(loss_fn.shard) == bits(before)
        loss_fn.step(x, y, w)
        return found, loss_fn.shard

    found, shards = zip(*run_ranks(RANKS, on_rank), strict=True)
    for rank, (first, *later, unloaded, update, loaded) in enumerate(found):
        own = f"{type(error).__name__}: {error}"
        assert first == (own if rank == FAULTY else None)
        assert later == [incomplete(RANKS)] * 3
        assert unloaded.startswith("FileNotFoundError: ")
        assert (update, loaded) == (incomplete(RANKS), None)
    one = CenterLoss(30, 5, init=whole_batch(CASE)[-1].copy())
    one.step(*whole_batch(CASE)[:3])
    assert bits(np.concatenate(shards)) == bits(one.centers)


@errors
@pytest.mark.parametrize("over", ["rank", "all"])
@pytest.mark.parametrize("method", ["value_and_grad", "step"])
def test_a_loss_that_cannot_be_computed(method, over, error, monkeypatch):
    """The rank raises, the others go on, and all centers move."""
    name = "terms_and_grad" if over == "all" else "value_and_grad"
    Failing(monkeypatch, name, error)

    def on_rank(comm):
        loss_fn, batch = new_shard(CASE, comm, over=over), split(CASE)[comm.Get_rank()]
        found = outcome(getattr(loss_fn, method), *batch)
        loss_fn.update(*batch)  # works
        return found, loss_fn.shard

    found, shards = zip(*run_ranks(RANKS, on_rank), strict=True)
    text = f"{type(error).__name__}: {error}"
    assert list(found) == on_faulty_rank(text, None, RANKS)
    one = CenterLoss(30, 5, init=whole_batch(CASE)[-1].copy())
    for _ in range(2 if method == "step" else 1):
        one.update(*whole_batch(CASE)[:3])
    assert bits(np.concatenate(shards)) == bits(one.centers)


def test_the_loss_of_all_without_the_terms_of_a_rank(monkeypatch):
    """It is not a number."""
    Failing(monkeypatch, "terms_and_grad", ERRORS[0])

    def on_rank(comm):
        loss_fn, batch = new_shard(CASE, comm), split(CASE)[comm.Get_rank()]
        if comm.Get_rank() != FAULTY:
            return loss_fn(*batch)
        assert outcome(loss_fn, *batch) == "MemoryError: no memory"
        return None

    first, _, last = run_ranks(RANKS, on_rank)
    assert np.isnan(first)
    assert np.isnan(last)
