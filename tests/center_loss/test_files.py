"""Saving and loading a CenterLoss: round trips, replaced files, damaged files."""

import enum
import os
import pickle
import re
import stat
import warnings
import zipfile

import numpy as np
import pytest

from centerloss import CenterLoss
from tests.helpers.batches import bits
from tests.helpers.states import SETTINGS, assert_invalid, assert_same, every_settings


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.npz"


@pytest.fixture
def saved(path):
    """The object that was saved to the file."""
    loss_fn = CenterLoss(3, 2, **SETTINGS)
    loss_fn.save(path)
    return loss_fn


def assert_holds(path, loss_fn):
    """The file has this state, and no other file is in the folder."""
    assert_same(CenterLoss.load(path), loss_fn)
    assert os.listdir(path.parent) == [path.name]


# --- files ------------------------------------------------------------------------


@every_settings
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(3, 2), (0, 2), (3, 0)])
def test_round_trip(path, shape, settings, dtype):
    loss_fn = CenterLoss(*shape, dtype=dtype, **settings)
    loss_fn.save(path)
    other = CenterLoss.load(path)
    assert_same(other, loss_fn)
    other.step(np.zeros((0, shape[1]), dtype), [])


@pytest.mark.parametrize(
    "centers",
    [
        np.array([[np.nan, np.inf], [-np.inf, -0.0], [5e-324, 1.0]]),
        np.random.default_rng(0).random((3, 5))[::-1, 1:3],
    ],
    ids=["special-values", "rows-of-a-larger-array"],
)
def test_centers_round_trip(path, centers):
    loss_fn = CenterLoss(3, 2, init=centers)
    loss_fn.save(path)
    assert_holds(path, loss_fn)


def test_a_memory_map_round_trips(tmp_path, path):
    centers = np.memmap(tmp_path / "centers", np.float32, "w+", shape=(3, 2))
    loss_fn = CenterLoss(3, 2, init=centers)
    assert loss_fn.centers is centers
    loss_fn.save(path)
    assert_same(CenterLoss.load(path), loss_fn)


def test_a_subclass_loads_itself(path):
    class Mine(CenterLoss):
        pass

    Mine(3, 2).save(path)
    assert type(Mine.load(path)) is Mine


def test_an_error_of_a_subclass_is_not_an_error_of_the_file(path):
    class Named(CenterLoss):
        def __init__(self, name):
            super().__init__(3, 2)
            self.name = name

    Named("mine").save(path)
    with pytest.raises(TypeError, match="__init__\\(\\) got an unexpected keyword"):
        Named.load(path)


@pytest.mark.parametrize("kind", [str, os.fsencode, lambda path: path])
@pytest.mark.parametrize("name", ["state.npz", "state", "state.ckpt", "ümlaut 1"])
def test_the_name_is_taken_as_it_is(tmp_path, kind, name):
    path = kind(tmp_path / name)
    loss_fn = CenterLoss(3, 2)
    loss_fn.save(path)
    assert os.listdir(tmp_path) == [name]
    assert_same(CenterLoss.load(path), loss_fn)


def test_a_name_without_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    CenterLoss(3, 2).save("state")
    assert os.listdir(tmp_path) == ["state"]


def test_numpy_reads_the_file(path, saved):
    with np.load(path, allow_pickle=False) as entries:
        found = {name: value.tolist() for name, value in entries.items()}
    expected = {"format": 1, "centers": saved.centers.tolist(), **SETTINGS}
    assert found == expected


# --- saving over a file -----------------------------------------------------------


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_save_leaves_the_older_file(path, saved, monkeypatch, failing):
    def fail(*_):
        raise OSError("disk on fire")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(OSError, match="^disk on fire$"):
            CenterLoss(3, 2).save(path)
    assert_holds(path, saved)


@pytest.mark.skipif(os.name == "nt", reason="no limit of sizes there")
def test_a_full_disk_leaves_the_older_file_and_nothing_else(path, saved):
    import resource  # Windows has none

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    for max_size in (0, 100, 2000, 4096, 10000, 20000, 23000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_size, limit[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                CenterLoss(3000, 2).save(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert_holds(path, saved)


@pytest.mark.parametrize("before", [True, False])
def test_an_interrupt_comes_out_and_leaves_nothing(path, saved, monkeypatch, before):
    """Ctrl-C right before or after the renaming."""
    newer = CenterLoss(30, 20)
    replace = os.replace

    def interrupted(*names):
        if not before:
            replace(*names)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        newer.save(path)
    assert_holds(path, saved if before else newer)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("alpha", -1.0, ValueError, "is -1.0, expected a finite number"),
        ("alpha", "0.25", TypeError, "is '0.25', expected a number"),
        ("ignore_index", 2.7, TypeError, "is 2.7, expected an integer"),
        ("centers", np.ones((3, 2), np.float16), TypeError, "has dtype float16, exp"),
        ("centers", [[1.0, 2.0]], TypeError, "is a list, expected a NumPy array"),
        ("centers", None, TypeError, "is a NoneType, expected a NumPy array"),
        ("centers", np.ones(3), ValueError, r"has shape \(3,\), expected \(classes, f"),
        ("centers", np.array(1.0), ValueError, r"has shape \(\), expected \(class"),
    ],
)
def test_an_invalid_state_is_not_saved(path, saved, name, value, error, message):
    before = path.read_bytes()
    setattr(saved, name, value)
    for method, arguments in (("save", [path]), ("state_dict", [])):
        with pytest.raises(error, match=f"^{name} {message}"):
            getattr(saved, method)(*arguments)
    assert path.read_bytes() == before


def test_repr_shows_an_invalid_setting():
    loss_fn = CenterLoss(3, 2)
    loss_fn.alpha = "0.25"
    assert "alpha='0.25'" in repr(loss_fn)


class Reduction(str, enum.Enum):  # noqa: UP042 (its str() is another text)
    SUM = "sum"


def test_an_enum_as_reduction_is_saved_as_text(path):
    loss_fn = CenterLoss(3, 2, reduction=Reduction.SUM)
    assert "reduction='sum'" in repr(loss_fn)
    loss_fn.save(path)
    assert_same(CenterLoss.load(path), loss_fn)
    loss_fn.load_state_dict(loss_fn.state_dict())
    assert type(loss_fn.reduction) is str


def test_settings_loaded_are_plain_values():
    loss_fn, alpha = CenterLoss(3, 2), np.array(0.25)
    loss_fn.load_state_dict(loss_fn.state_dict() | {"alpha": alpha})
    alpha[...] = 9
    assert repr(loss_fn.alpha) == "0.25"


def test_the_file_is_synced_before_it_is_renamed(path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor):
        found = os.fstat(descriptor)
        events.append("folder" if stat.S_ISDIR(found.st_mode) else found.st_size)
        fsync(descriptor)

    def watched_replace(*names):
        events.append("rename")
        replace(*names)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    CenterLoss(3, 2).save(path)
    # On Windows a folder cannot be opened, and its entries need no fsync.
    size = path.stat().st_size
    assert events == [size, "rename", "folder"][: 2 if os.name == "nt" else 3]


@pytest.mark.usefixtures("saved")
def test_the_file_has_the_permissions_of_any_new_file(tmp_path, path):
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.skipif(os.name == "nt", reason="a file has none for others there")
def test_a_replaced_file_keeps_its_permissions(path, saved):
    path.chmod(0o640)
    saved.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.skipif(os.name == "nt", reason="a link takes a privilege there")
def test_a_symbolic_link_stays(tmp_path, path):
    link = tmp_path / "latest"
    link.symlink_to(path)
    CenterLoss(3, 2).save(link)
    assert link.is_symlink()
    assert zipfile.is_zipfile(path)


def test_a_folder_is_not_replaced(tmp_path):
    folder = re.escape(str(tmp_path))
    with pytest.raises(ValueError, match=f"^{folder} is not a regular file$"):
        CenterLoss(3, 2).save(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="a device is a name in any folder there")
def test_a_device_is_not_replaced():
    with pytest.raises(ValueError, match="is not a regular file$"):
        CenterLoss(3, 2).save(os.devnull)


def test_a_missing_folder(tmp_path):
    path = tmp_path / "missing" / "state"
    with pytest.raises(FileNotFoundError) as caught:
        CenterLoss(3, 2).save(path)
    assert caught.value.filename == os.path.realpath(path)


# --- damaged and foreign files ----------------------------------------------------


def contents(**changes):
    """The entries of a file, with changes; None leaves an entry out."""
    entries = {"format": 1, "centers": np.ones((3, 2), np.float32), **SETTINGS}
    return {k: v for k, v in (entries | changes).items() if v is not None}


def test_a_missing_file(path):
    with pytest.raises(FileNotFoundError):
        CenterLoss.load(path)


@pytest.mark.usefixtures("saved")
def test_truncated_anywhere(path):
    for length in reversed(range(path.stat().st_size)):
        os.truncate(path, length)
        assert_invalid(path)


@pytest.mark.parametrize("classes", [3, 3000])
def test_a_changed_bit_is_an_error_or_harmless(path, classes):
    """In a third of a small file; in the header and the middle of a large array."""
    loss_fn = CenterLoss(classes, 4)
    loss_fn.save(path)
    whole = path.read_bytes()
    places = range(0, len(whole), 3)
    if classes == 3000:
        header = whole.index(b"centers.npy")
        places = [*range(header, header + 200), len(whole) // 2]
    reasons = []
    with path.open("r+b", buffering=0) as file:
        for i in places:
            changed = bytearray(whole)
            changed[i] ^= 1 << i % 8
            file.seek(0)
            file.write(changed)
            try:
                other = CenterLoss.load(path)
            except ValueError as error:
                reasons.append(str(error))
            else:
                assert_same(other, loss_fn)
    assert all(reason.startswith(f"{path} is no saved C") for reason in reasons)
    assert len(reasons) > len(places) / 2


@pytest.mark.parametrize("rows", [2999, 3001])
def test_a_shape_that_does_not_fit_the_file(path, rows):
    CenterLoss(3000, 4).save(path)
    changed = path.read_bytes().replace(b"(3000, 4)", b"(%d, 4)" % rows)
    path.write_bytes(changed)
    assert_invalid(path)


@pytest.mark.parametrize("name", ["centers", "centers.npy"])
def test_an_entry_that_occurs_twice(path, name):
    """One of the two would not be checked."""
    np.savez(path, **contents())
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns too
        archive.writestr(name, b"")
    assert_invalid(path, "it has an entry twice$")


@pytest.mark.usefixtures("saved")
def test_a_file_descriptor_is_no_path(path):
    with path.open("rb") as file:
        with pytest.raises(TypeError, match="PathLike"):
            CenterLoss.load(file.fileno())
        assert file.read(2) == b"PK"  # still open


def test_foreign_files(path):
    for content in (b"", b"PK", b"not a saved state\n" * 100, pickle.dumps({"a": 1})):
        path.write_bytes(content)
        assert_invalid(path, "it is no .npz file$")
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    assert_invalid(path, "it is no .npz file$")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    assert_invalid(path, "it has no 'format', expected format, centers, alpha, ")


class Bomb:
    """Sets a flag when it is unpickled."""

    exploded = False

    def __reduce__(self):
        return setattr, (Bomb, "exploded", True)


@pytest.mark.parametrize("name", ["format", "centers", "alpha"])
def test_nothing_is_unpickled(path, name):
    np.savez(path, **contents(**{name: np.array([Bomb()], dtype=object)}))
    assert_invalid(path, "allow_pickle=False$")
    assert not Bomb.exploded


@pytest.mark.parametrize(
    ("rows", "than"), [(1, "less"), (1 << 20, "more"), (1 << 34, "more")]
)
def test_a_shape_of_another_size_than_the_entry(path, rows, than):
    """A larger one is refused before memory is allocated."""
    np.savez(path, **contents(centers=None))
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, 2)}
    with (
        zipfile.ZipFile(path, "a") as archive,
        archive.open("centers.npy", "w") as file,
    ):
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(24))
    assert_invalid(path, rf"centers has shape \({rows}, 2\), {than} than the file h")


@pytest.mark.parametrize("descr", ["-" * 9000 + "1", "~" * 9900 + "1", "(" * 900])
def test_a_header_that_exhausts_the_parser(path, descr):
    """It would raise MemoryError in Python's parser."""
    np.savez(path, **contents(centers=None))
    with zipfile.ZipFile(path, "a") as archive:
        size = len(descr).to_bytes(2, "little")
        archive.writestr(
            "centers.npy", np.lib.format.magic(1, 0) + size + descr.encode()
        )
    assert_invalid(path)


@pytest.mark.usefixtures("saved")
def test_memory_error_is_not_damage(path, monkeypatch):
    def load(*_, **__):
        raise MemoryError

    monkeypatch.setattr(np.lib.format, "read_array", load)
    with pytest.raises(MemoryError):
        CenterLoss.load(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 2}, "its format is 2, expected 1$"),
        ({"format": None}, "it has no 'format', expected format, centers, "),
        ({"centers": None}, "it has no 'centers', expected format, centers, "),
        ({"alpha": None}, "it has no 'alpha', expected format, centers, "),
        ({"surplus": 1}, "it has a 'surplus', expected format, centers, "),
        ({"centers": np.ones(3)}, r"centers has shape \(3,\), expected \(classes, fe"),
        ({"centers": np.ones((3, 2), int)}, "centers has dtype int64, expected float"),
        ({"alpha": -1.0}, "alpha is -1.0, expected a finite number >= 0$"),
        ({"alpha": []}, "alpha is None, expected a number$"),
        ({"alpha": [1.0, 2.0]}, "can only convert an array of size 1"),
        ({"reduction": "max"}, "reduction is 'max', expected 'none', 'sum' or 'mean'$"),
        ({"normalize": 1}, "normalize is 1, expected True or False$"),
        ({"skip_nonfinite": 1}, "skip_nonfinite is 1, expected True or False$"),
        ({"ignore_index": 0.5}, "ignore_index is 0.5, expected an integer or None$"),
    ],
)
def test_an_archive_with_a_wrong_entry(path, changes, reason):
    np.savez(path, **contents(**changes))
    assert_invalid(path, reason)


def test_an_older_file(path):
    """Without `skip_nonfinite`."""
    centers = np.random.default_rng(0).random((3, 2))
    np.savez(path, **contents(centers=centers, skip_nonfinite=None))
    settings = SETTINGS | {"skip_nonfinite": True}
    assert_same(CenterLoss.load(path), CenterLoss(3, 2, init=centers, **settings))


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_byte_order_and_layout_loads_as_native_rows(path, dtype, order):
    centers = np.random.default_rng(0).random((3, 2)).astype(dtype, order)
    swapped = {
        name: np.asarray(value).astype(np.asarray(value).dtype.newbyteorder(dtype[0]))
        for name, value in contents().items()
    }
    np.savez(path, **swapped | {"centers": centers})
    loss_fn = CenterLoss.load(path)
    native = centers.dtype.newbyteorder("=")
    assert bits(loss_fn.centers) == bits(centers.astype(native))
    assert loss_fn.centers.flags.carray


def test_an_archive_of_maximal_compression_loads(path):
    centers = np.zeros((3000, 1000))
    np.savez_compressed(path, **contents(centers=centers))
    assert path.stat().st_size < centers.nbytes / 900
    assert_same(CenterLoss.load(path), CenterLoss(3000, 1000, init=centers, **SETTINGS))
