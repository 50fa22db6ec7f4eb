"""Centers saved by P ranks, and loaded by Q of them or by one process, are the same.

A save or a load that fails on one rank is an error on all, and nothing has changed. The
files themselves are those of `tests/center_loss`. The ranks are threads.
"""

import json
import os

import numpy as np
import pytest

from centerloss import CenterLoss, _folders
from centerloss.distributed import ShardedCenterLoss
from tests.distributed.cases import Case, new_shard, split, whole_batch
from tests.distributed.faults import (
    FAULTY,
    different_settings,
    failed,
    incomplete,
    on_faulty_rank,
    outcome,
    refused,
)
from tests.helpers.batches import bits
from tests.helpers.states import SETTINGS, every_settings
from tests.helpers.thread_ranks import run_ranks, this_rank


def save(ranks, folder, centers, **settings):
    def on_rank(comm):
        loss_fn = ShardedCenterLoss(
            *centers.shape,
            comm,
            init=lambda first, last: centers[first:last].copy(),
            **settings,
        )
        loss_fn.save(folder)

    run_ranks(ranks, on_rank)


def load(ranks, folder, shape, dtype="float32", **settings):
    """The objects of all ranks, after they have loaded the folder."""

    def on_rank(comm):
        loss_fn = ShardedCenterLoss(*shape, comm, init="zeros", dtype=dtype, **settings)
        loss_fn.load(folder)
        return loss_fn

    return run_ranks(ranks, on_rank)


def joined(loaded):
    return np.concatenate([one.shard for one in loaded])


def centers_of(classes, columns=3, dtype="float32"):
    return np.random.default_rng(classes).standard_normal((classes, columns), dtype)


# --- any number of ranks --------------------------------------------------------------


@pytest.mark.parametrize("saved_by", [1, 2, 3, 4])
@pytest.mark.parametrize("loaded_by", [1, 2, 3, 5])
def test_another_number_of_ranks(saved_by, loaded_by, tmp_path):
    """Fewer classes than ranks, and none, are among them."""
    for classes in (17, 2, 0):
        centers, folder = centers_of(classes), tmp_path / str(classes)
        save(saved_by, folder, centers)
        assert bits(joined(load(loaded_by, folder, centers.shape))) == bits(centers)
        assert bits(CenterLoss.load(folder).centers) == bits(centers)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", [0, 1, 6])
def test_dtypes_and_rows(dtype, columns, tmp_path):
    centers = centers_of(11, columns, dtype)
    save(3, tmp_path, centers)
    assert bits(joined(load(2, tmp_path, (11, columns), dtype))) == bits(centers)


def test_blocks_of_checksums(tmp_path, monkeypatch):
    """A rank reads parts of the blocks of others."""
    monkeypatch.setattr(_folders, "BLOCK_ROWS", 4)
    centers = centers_of(50)
    save(3, tmp_path, centers)
    assert bits(joined(load(4, tmp_path, centers.shape))) == bits(centers)


@every_settings
def test_settings_are_saved(settings, tmp_path):
    """`over` is not saved: it says nothing about the centers."""
    centers = centers_of(5)
    save(2, tmp_path, centers, over="rank", **settings)
    one = CenterLoss.load(tmp_path)
    for loaded in load(3, tmp_path, centers.shape, alpha=0.9):
        assert loaded.over == "all"
        for name in SETTINGS:
            assert getattr(loaded, name) == getattr(one, name)
            assert type(getattr(loaded, name)) is type(getattr(one, name))
            if name in settings:
                assert getattr(one, name) == settings[name]


def test_training_goes_on_with_another_number_of_ranks(tmp_path):
    two, three = Case((8, 12)), Case((5, 0, 11), seed=1)

    def first(comm):
        loss_fn = new_shard(two, comm)
        loss_fn.step(*split(two)[comm.Get_rank()])
        loss_fn.save(tmp_path)

    def then(comm):
        loss_fn = ShardedCenterLoss(30, 5, comm)
        loss_fn.load(tmp_path)
        loss_fn.step(*split(three)[comm.Get_rank()])
        return loss_fn

    run_ranks(2, first)
    one = CenterLoss(30, 5, init=whole_batch(two)[-1])
    for case in (two, three):
        one.step(*whole_batch(case)[:3])
    assert bits(joined(run_ranks(3, then))) == bits(one.centers)


def test_a_checkpoint_of_centers_of_one_process(tmp_path):
    one = CenterLoss(9, 4, init=centers_of(9, 4), alpha=0.25)
    save(2, tmp_path, one.centers, alpha=one.alpha)
    assert repr(CenterLoss.load(tmp_path)) == repr(one)
    assert bits(CenterLoss.load(tmp_path).centers) == bits(one.centers)


def test_each_save_replaces_the_one_before(tmp_path):
    old, new = centers_of(9), centers_of(9) + 1
    save(4, tmp_path, old)
    save(2, tmp_path, new)
    assert bits(CenterLoss.load(tmp_path).centers) == bits(new)
    assert len(os.listdir(tmp_path)) == 3  # two parts and the index


def test_number_of_collectives(tmp_path):
    """Four to save and two to load, and no centers in them."""

    def on_rank(comm):
        loss_fn = ShardedCenterLoss(1000, 50, comm)
        loss_fn.save(tmp_path)
        saved = comm.collectives
        loss_fn.load(tmp_path)
        return saved, comm.collectives - saved, comm.bytes_received

    for saved, loaded, received in run_ranks(3, on_rank):
        assert (saved, loaded) == (4, 2)
        assert received <= 5 * 72 * 2 + 8 * 2


# --- failures -------------------------------------------------------------------------


class Disk:
    """A function of `_folders` that fails on a rank."""

    def __init__(self, monkeypatch, name, rank):
        self.function, self.rank = getattr(_folders, name), rank
        monkeypatch.setattr(_folders, name, self)

    def __call__(self, *arguments):
        if this_rank() == self.rank:
            raise OSError("the disk is full")
        return self.function(*arguments)


def on_three_ranks(tmp_path, centers, method, folder):
    """The outcome of a method on each rank, with centers at zero and alpha 0.75."""

    def on_rank(comm):
        loss_fn = ShardedCenterLoss(*centers.shape, comm, init="zeros", alpha=0.75)
        found = outcome(getattr(loss_fn, method), folder)
        assert loss_fn.alpha == 0.75
        assert not loss_fn.shard.any()
        loss_fn.save(tmp_path / "next")  # works
        return found

    return run_ranks(3, on_rank)


@pytest.fixture
def saved(tmp_path):
    """A folder with a checkpoint, and its centers."""
    centers = centers_of(12)
    save(3, tmp_path / "saved", centers)
    return tmp_path / "saved", centers


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("name", "rank"),
    [("write_part", 0), ("write_part", 1), ("write_part", 2), ("write_index", 0)],
)
def test_a_file_that_cannot_be_written(saved, name, rank, monkeypatch):
    """The old checkpoint stays, and the next save works."""
    folder, centers = saved
    before = files(folder)

    def on_rank(comm):
        loss_fn = ShardedCenterLoss(12, 3, comm, init="zeros")
        return outcome(loss_fn.save, folder)

    with monkeypatch.context() as patch:
        Disk(patch, name, rank)
        found = run_ranks(3, on_rank)
    expected = [failed(3, rank)] * 3
    expected[rank] = "OSError: the disk is full"
    assert found == expected
    # Parts stay if the index may name them already.
    assert len(files(folder)) == len(before) + (3 if name == "write_index" else 0)
    assert bits(CenterLoss.load(folder).centers) == bits(centers)
    save(3, folder, centers + 1)
    assert bits(CenterLoss.load(folder).centers) == bits(centers + 1)
    assert len(files(folder)) == len(before)


def test_saving_to_a_folder_that_the_ranks_do_not_share(tmp_path):
    def on_rank(comm):
        loss_fn = ShardedCenterLoss(12, 3, comm)
        return outcome(loss_fn.save, tmp_path / str(comm.Get_rank()))

    first, *others = run_ranks(3, on_rank)
    (name,) = files(tmp_path / "1")
    assert first == (
        f"FileNotFoundError: {tmp_path / '0'} has no {name}, which another rank wrote: "
        "save to a folder that all ranks share"
    )
    assert others == [failed(3, rank=0)] * 2


def test_saving_to_what_is_no_folder(saved, tmp_path):
    """All ranks find that."""
    _, centers = saved
    (tmp_path / "file").touch()
    found = on_three_ranks(tmp_path, centers, "save", tmp_path / "file")
    assert all("file" in text for text in found)


@pytest.mark.parametrize("name", ["alpha", "ignore_index"])
def test_saving_with_settings_that_differ(name, tmp_path):
    def on_rank(comm):
        loss_fn = ShardedCenterLoss(12, 3, comm)
        if comm.Get_rank() == FAULTY:
            setattr(loss_fn, name, 3)
        return outcome(loss_fn.save, tmp_path / "new")

    assert run_ranks(3, on_rank) == [different_settings(name)] * 3
    assert not (tmp_path / "new").exists()


def damage(folder, number):
    """Change a value in one part."""
    path = sorted(folder.glob("*.npy"))[number]
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    return path.name


def test_loading_a_damaged_part(saved, tmp_path):
    """The error is where the part is read; nothing has changed on any rank."""
    folder, centers = saved
    name = damage(folder, FAULTY)
    found = on_three_ranks(tmp_path, centers, "load", folder)
    reason = f"rows 4 to 7 in {name} are damaged"
    own = f"ValueError: {folder} is no saved CenterLoss: {reason}"
    assert found == on_faulty_rank(own, refused(3), 3)


def test_loading_a_folder_without_a_part(saved, tmp_path):
    folder, centers = saved
    path = sorted(folder.glob("*.npy"))[FAULTY]
    path.unlink()
    found = on_three_ranks(tmp_path, centers, "load", folder)
    own = f"ValueError: {folder} is no saved CenterLoss: it has no {path.name}"
    assert found == on_faulty_rank(own, refused(3), 3)


def test_loading_a_folder_without_an_index(tmp_path):
    found = on_three_ranks(tmp_path, centers_of(12), "load", tmp_path)
    assert all(text.startswith("FileNotFoundError: ") for text in found)


def test_loading_a_damaged_index(saved, tmp_path):
    folder, centers = saved
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | {"format": 2}))
    found = on_three_ranks(tmp_path, centers, "load", folder)
    text = f"ValueError: {folder} is no saved CenterLoss: its format is 2, expected 1"
    assert found == [text] * 3


def test_loading_on_one_rank_from_another_folder(saved, tmp_path):
    """The two folders have different settings."""
    folder, centers = saved
    save(2, tmp_path / "other", centers, alpha=0.3)

    def on_rank(comm):
        loss_fn = ShardedCenterLoss(12, 3, comm, init="zeros")
        here = comm.Get_rank() == FAULTY
        found = outcome(loss_fn.load, tmp_path / "other" if here else folder)
        assert not loss_fn.shard.any()
        return found

    assert run_ranks(3, on_rank) == [different_settings("alpha")] * 3


def test_loading_centers_of_another_shape_or_dtype(saved, tmp_path):
    folder, centers = saved
    found = on_three_ranks(tmp_path, centers[:5], "load", folder)
    text = f"ValueError: {folder} has centers of shape (12, 3), expected (5, 3)"
    assert found == [text] * 3
    loaded = run_ranks(
        3,
        lambda comm: outcome(
            ShardedCenterLoss(12, 3, comm, dtype="float64").load, folder
        ),
    )
    text = f"ValueError: {folder} has centers of dtype float32, expected float64"
    assert loaded == [text] * 3


def test_a_file_that_changes_while_it_is_loaded(saved, monkeypatch):
    """The centers are incomplete then, until they are loaded again."""
    folder, centers = saved
    x, y = np.ones((2, 3), np.float32), [0, 11]
    gone = []
    read_rows = _folders.read_rows

    def read(index, first, last, store):
        if store is not None and this_rank() == FAULTY and not gone:
            gone.append(True)
            raise OSError("it is gone")
        return read_rows(index, first, last, store)

    monkeypatch.setattr(_folders, "read_rows", read)

    def on_rank(comm):
        loss_fn = ShardedCenterLoss(12, 3, comm, init="zeros")
        found = [outcome(loss_fn.load, folder), outcome(loss_fn.step, x, y)]
        found += [outcome(loss_fn.load, folder), outcome(loss_fn, x, y)]
        return found, loss_fn.shard

    found, shards = zip(*run_ranks(3, on_rank), strict=True)
    own = "OSError: it is gone"
    for rank, outcomes in enumerate(found):
        first = own if rank == FAULTY else failed(3)
        assert outcomes == [first, incomplete(3, on=[0, 1, 2]), None, None]
    assert bits(np.concatenate(shards)) == bits(centers)
