"""Folders of centers: round trips, failed saves, damaged and foreign folders."""

import json
import os
import re
import stat
import tracemalloc
import zlib

import numpy as np
import pytest

from centerloss import CenterLoss, _folders
from centerloss._folders import (
    BLOCK_ROWS,
    new_token,
    read_index,
    read_rows,
    remove_part,
    write_index,
    write_part,
)
from tests.helpers.batches import bits
from tests.helpers.folders import names, save
from tests.helpers.states import SETTINGS, assert_invalid, assert_same, every_settings

not_windows = pytest.mark.skipif(os.name == "nt", reason="Windows does it otherwise")


def rows(classes, features=3, dtype="float32"):
    return np.random.default_rng(0).standard_normal((classes, features)).astype(dtype)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "centers"


@pytest.fixture
def centers():
    return rows(10)


@pytest.fixture
def parts(folder, centers, monkeypatch):
    """The parts of the state that was saved to the folder."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)  # which takes most of the time
        return save(folder, centers, SETTINGS)


def assert_holds(folder, centers, parts=None):
    """The folder has this state and, if parts are given, no other file."""
    assert_same(
        CenterLoss.load(folder), CenterLoss(*centers.shape, init=centers, **SETTINGS)
    )
    if parts is not None:
        assert sorted(os.listdir(folder)) == names(parts)


# --- round trips ------------------------------------------------------------------


@every_settings
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(7, 2), (2, 2), (1, 5), (0, 2), (3, 0)])
@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_round_trip(folder, shape, settings, dtype, parts):
    loss_fn = CenterLoss(*shape, dtype=dtype, rng=0, **settings)
    plain = {name: getattr(loss_fn, name) for name in SETTINGS}
    save(folder, loss_fn.centers, plain, parts)
    other = CenterLoss.load(folder)
    assert_same(other, loss_fn)
    other.step(np.zeros((1, shape[1]), dtype)[:0], [])


def test_special_values_round_trip(folder):
    centers = np.array([[np.nan, np.inf], [-np.inf, -0.0], [5e-324, 1.0]])
    save(folder, centers, SETTINGS)
    assert_holds(folder, centers)


@pytest.mark.parametrize("kind", [str, os.fsencode, lambda path: path])
def test_kinds_of_paths(folder, centers, kind):
    path = kind(folder)
    parts = save(path, centers, SETTINGS)
    remove_part(path, parts[0])
    assert_holds(path, centers)
    assert sorted(os.listdir(folder)) == names(parts)


def test_a_subclass_loads_itself(folder, centers):
    class Mine(CenterLoss):
        pass

    save(folder, centers, SETTINGS)
    assert type(Mine.load(folder)) is Mine


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">f8", "<f8"])
def test_any_byte_order_loads_as_native(folder, dtype):
    centers = rows(10, dtype=dtype)
    parts = save(folder, centers, SETTINGS)
    assert np.load(folder / parts[0].file).dtype == dtype
    assert_holds(folder, centers.astype(centers.dtype.newbyteorder("=")))
    dtypes = []
    read_rows(read_index(folder), 0, 10, lambda _, piece: dtypes.append(piece.dtype))
    assert len(dtypes) == 3
    assert all(dtype.isnative for dtype in dtypes)


def test_rows_that_are_not_contiguous(folder):
    centers = rows(10, 9)[:, ::3]
    save(folder, centers, SETTINGS)
    assert_holds(folder, centers.copy())


def test_the_format(folder):
    """What the files contain, as NumPy and json read them."""
    centers = rows(200_001, 2)
    save(folder, centers, SETTINGS, 2)
    index = json.loads((folder / "index.json").read_bytes())
    found = index.pop("parts")
    del index["crc32"]
    assert index == {
        "format": 1,
        "classes": 200_001,
        "features": 2,
        "dtype": "float32",
        "settings": SETTINGS,
        "block_rows": 65536,
    }
    for number, (first, last) in enumerate([(0, 100_001), (100_001, 200_001)]):
        part = found[number]
        name = f"centers-[0-9a-f]{{16}}-0000{number}-of-00002.npy"
        assert re.fullmatch(name, part.pop("file"))
        blocks = (centers[first : first + 65536], centers[first + 65536 : last])
        sums = [zlib.crc32(block.tobytes()) for block in blocks]
        assert part == {"first": first, "last": last, "crc32": sums}
    for part in read_index(folder).parts:
        array = np.load(folder / part.file, mmap_mode="r")
        assert bits(array) == bits(centers[part.first : part.last])


def test_the_index(folder, centers, parts):
    index = read_index(folder)
    assert (index.shape, index.settings, index.parts) == ((10, 3), SETTINGS, parts)
    assert index.dtype == centers.dtype
    assert index.dtype.isnative


def test_tokens_differ_and_have_63_bits():
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert 1 << 60 < max(tokens) < 1 << 63


# --- ranges of rows ---------------------------------------------------------------


def test_any_range_of_rows(folder, monkeypatch):
    """In pieces, in order, over parts and blocks."""
    monkeypatch.setattr(_folders, "BLOCK_ROWS", 5)
    monkeypatch.setattr(_folders, "_PIECE_BYTES", 3 * 12)
    centers = rows(29)
    save(folder, centers, SETTINGS)
    index = read_index(folder)
    for first in range(30):
        for last in range(first, 30):
            found = []

            def store(start, piece, found=found, first=first):
                assert start == first + sum(map(len, found))
                assert 1 <= len(piece) <= 3
                found.append(piece)

            read_rows(index, first, last, store)
            stacked = np.concatenate([centers[:0], *found])
            assert bits(stacked) == bits(centers[first:last])


def test_pieces_are_about_one_mebibyte(folder):
    centers = rows(BLOCK_ROWS + 1000, 20)
    lengths = []

    def piece(first, last):
        lengths.append(last - first)
        return centers[first:last]

    save(folder, centers, SETTINGS, 1, piece)
    assert lengths[0] == 1  # for the dtype
    assert lengths[1:] == [13107] * 5 + [1, 1000]
    lengths.clear()
    read_rows(read_index(folder), 0, len(centers), lambda _, x: lengths.append(len(x)))
    assert lengths == [13107] * 5 + [1, 1000]


def test_a_row_larger_than_a_piece(folder):
    centers = rows(3, 300_000)
    save(folder, centers, SETTINGS, 2)
    assert_holds(folder, centers)


def test_only_blocks_of_the_range_are_verified(folder, monkeypatch):
    monkeypatch.setattr(_folders, "BLOCK_ROWS", 5)
    part, *_ = save(folder, rows(40), SETTINGS, 2)
    change(folder / part.file, -10 * 12)  # in rows 10 to 14
    index = read_index(folder)
    for first, last in ((0, 10), (15, 40), (12, 12)):
        read_rows(index, first, last, None)
    for first, last in ((0, 11), (14, 15), (0, 40)):
        for store in (None, lambda *_: None):
            with pytest.raises(ValueError, match=f"rows 10 to 14 in {part.file} are d"):
                read_rows(index, first, last, store)


def test_a_range_opens_only_its_parts(folder, centers, parts):
    for part in (parts[0], parts[2]):
        os.unlink(folder / part.file)
    index = read_index(folder)
    for first, last in ((4, 8), (0, 0), (2, 2), (10, 10)):
        found = [centers[:0]]
        read_rows(index, first, last, lambda _, piece, found=found: found.append(piece))
        assert bits(np.concatenate(found)) == bits(centers[first:last])
    with pytest.raises(ValueError, match=f"it has no {parts[2].file}$"):
        read_rows(index, 7, 9, None)


@pytest.mark.usefixtures("parts")
def test_an_error_of_store_comes_out_as_it_is(folder):
    def store(*_):
        raise TypeError("mine")

    with pytest.raises(TypeError, match="^mine$"):
        read_rows(read_index(folder), 0, 10, store)


def test_memory_of_writing_and_reading(folder):
    """A few MiB, for 32 MiB in parts of 16."""
    shape = (1 << 17, 64)

    def piece(first, last):
        return np.full((last - first, 64), first, np.float32)

    tracemalloc.start()
    try:
        token = new_token()
        ranges = enumerate([(0, 1 << 16), (1 << 16, 1 << 17)])
        parts = [write_part(folder, token, i, 2, *ab, piece) for i, ab in ranges]
        write_index(folder, parts, shape, np.float32, SETTINGS)
        index = read_index(folder)
        for store in (None, lambda *_: None):
            read_rows(index, 0, shape[0], store)
        peak = tracemalloc.get_traced_memory()[1]
        del index, parts
        tracemalloc.reset_peak()
        loss_fn = CenterLoss.load(folder)
        peak_of_load = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 1 << 20 < peak < 4 << 20
    assert loss_fn.centers.nbytes < peak_of_load < loss_fn.centers.nbytes + (4 << 20)


# --- saves that fail, and saves over an older one ---------------------------------


def test_a_save_over_another_leaves_its_own_files(folder, parts):
    newer = rows(20, 4, "float64")
    newer_parts = save(folder, newer, SETTINGS, 5)
    assert_holds(folder, newer, newer_parts)
    assert not {part.file for part in parts} & {part.file for part in newer_parts}


@pytest.mark.usefixtures("parts")
def test_leftovers_are_removed_and_other_files_stay(folder, centers):
    token = new_token()
    left = write_part(folder, token, 2, 3, 4, 6, lambda a, b: centers[a:b])
    (folder / ".centerloss-0123456789abcdef.tmp").touch()
    others = (
        *("notes.txt", "centers-best-of-all.npy", ".centerloss-mine.tmp"),
        f"{left.file}.bak",
    )
    for name in others:
        (folder / name).touch()
    (folder / left.file.replace("-00002-", "-00000-")).mkdir()  # cannot be unlinked
    parts = save(folder, centers, SETTINGS)
    assert_holds(folder, centers)
    expected = {*names(parts), *others, left.file.replace("-00002-", "-00000-")}
    assert set(os.listdir(folder)) == expected


@pytest.mark.parametrize("call", ["listdir", "unlink"])
def test_files_that_cannot_be_removed_are_no_error(folder, parts, monkeypatch, call):
    def fail(*_):
        raise PermissionError

    newer = rows(20)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        newer_parts = save(folder, newer, SETTINGS)
    assert_holds(folder, newer)
    assert set(os.listdir(folder)) == {*names(parts), *names(newer_parts)}
    assert_holds(folder, newer, save(folder, newer, SETTINGS))


@pytest.mark.parametrize("failing_row", [0, 5, 9])
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, FileExistsError])
def test_an_error_of_piece_removes_the_file(
    folder, centers, parts, failing_row, error, monkeypatch
):
    monkeypatch.setattr(_folders, "_PIECE_BYTES", 12)

    def piece(first, last):
        if first == failing_row:
            raise error
        return centers[first:last]

    with pytest.raises(error):
        write_part(folder, new_token(), 0, 1, 0, 10, piece)
    assert_holds(folder, centers, parts)


@not_windows
def test_a_full_disk_removes_the_file(folder, centers, parts):
    import resource  # Windows has none

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    newer = rows(3000)
    for max_size in (0, 100, 4096, 20000, 36000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_size, limit[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                save(folder, newer, SETTINGS, 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert_holds(folder, centers, parts)


def test_a_failed_sync_removes_the_file(folder, centers, parts, monkeypatch):
    def fail(_):
        raise OSError("disk on fire")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="^disk on fire$"):
            save(folder, rows(20), SETTINGS)
    assert_holds(folder, centers, parts)


def write_parts(folder, centers):
    """Write the two parts of a save that is not committed yet."""
    token = new_token()
    half = len(centers) // 2
    ranges = ((0, half), (half, len(centers)))
    return [
        write_part(folder, token, i, 2, *ab, lambda a, b: centers[a:b])
        for i, ab in enumerate(ranges)
    ]


def test_remove_part_after_a_failed_commit(folder, centers, parts, monkeypatch):
    def fail(*_):
        raise OSError("disk on fire")

    newer = rows(20)
    newer_parts = write_parts(folder, newer)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="^disk on fire$"):
            write_index(folder, newer_parts, newer.shape, newer.dtype, SETTINGS)
    for part in (*newer_parts, *newer_parts, None):  # also a missing one
        remove_part(folder, part)
    assert_holds(folder, centers, parts)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("call", ["replace", "listdir", "unlink"])
def test_remove_part_keeps_what_was_committed(folder, monkeypatch, call):
    """Ctrl-C in `write_index`, right after the renaming or while it clears up."""
    function = getattr(os, call)

    def interrupted(*names):
        function(*names)
        raise KeyboardInterrupt

    newer = rows(20)
    newer_parts = write_parts(folder, newer)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_index(folder, newer_parts, newer.shape, newer.dtype, SETTINGS)
    for part in newer_parts:
        remove_part(folder, part)
    assert_holds(folder, newer)


def test_remove_part_of_a_first_save(folder, centers):
    for part in write_parts(folder, centers):
        remove_part(folder, part)
    assert os.listdir(folder) == []
    remove_part(folder / "missing", part)


def test_remove_part_keeps_a_file_if_the_index_is_unreadable(folder, centers):
    part, _ = write_parts(folder, centers)
    (folder / "index.json").mkdir()
    remove_part(folder, part)
    assert (folder / part.file).exists()


def test_a_name_that_exists_is_not_overwritten(folder, centers, monkeypatch):
    monkeypatch.setattr(os, "urandom", lambda size: b"\1" * size)
    parts = save(folder, centers, SETTINGS)
    with pytest.raises(FileExistsError):
        save(folder, rows(20), SETTINGS)
    assert_holds(folder, centers, parts)


@pytest.mark.usefixtures("parts")
def test_parts_that_do_not_fit_are_not_committed(folder, centers):
    newer = rows(20)
    first, second = write_parts(folder, newer)
    for wrong in ([second, first], [first], [second], [first, first, second]):
        with pytest.raises(
            ValueError, match=r"^part 1 has rows|^part 0 has|^its parts"
        ):
            write_index(folder, wrong, newer.shape, newer.dtype, SETTINGS)
    for name, value, error in (
        ("alpha", -1.0, ValueError),
        ("reduction", 3, TypeError),
    ):
        changed = SETTINGS | {name: value}
        with pytest.raises(error, match=f"^{name} is"):
            write_index(folder, [first, second], newer.shape, newer.dtype, changed)
    assert_holds(folder, centers)


def test_the_order_in_which_files_reach_the_disk(folder, centers, parts, monkeypatch):
    events = []

    def watch(name):
        function = getattr(os, name)

        def called(*arguments):
            function(*arguments)
            kind = ""
            if name == "fsync":
                found = os.fstat(arguments[0])
                kind = " folder" if stat.S_ISDIR(found.st_mode) else f" {found.st_size}"
            events.append(name + kind)

        monkeypatch.setattr(os, name, called)

    for name in ("fsync", "replace", "unlink"):
        watch(name)
    (part,) = save(folder, centers, SETTINGS, 1)
    part_size = (folder / part.file).stat().st_size
    index_size = (folder / "index.json").stat().st_size
    expected = [
        *(f"fsync {part_size}", "fsync folder"),
        *(f"fsync {index_size}", "replace", "fsync folder"),
        *["unlink"] * len(parts),
    ]
    if os.name == "nt":  # a folder cannot be opened, and its entries need no fsync
        expected = [event for event in expected if event != "fsync folder"]
    assert events == expected


@not_windows
def test_a_new_folder_is_synced_in_its_parent(folder, centers, monkeypatch):
    synced = []
    fsync = os.fsync

    def watched(descriptor):
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    save(folder, centers, SETTINGS)
    assert synced[0] == folder.parent.stat().st_ino


def test_parents_are_not_made(tmp_path, centers):
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "missing" / "centers", centers, SETTINGS)
    assert os.listdir(tmp_path) == []


def test_a_file_is_no_folder(tmp_path, centers):
    path = tmp_path / "file"
    path.write_bytes(b"mine")
    with pytest.raises(OSError, match="file"):
        save(path, centers, SETTINGS)
    assert path.read_bytes() == b"mine"


# --- damaged and foreign folders --------------------------------------------------


def change(path, place, bit=0):
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def test_no_index(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        CenterLoss.load(tmp_path)
    assert caught.value.filename == str(tmp_path / "index.json")


def reasons_of_changed_bits(folder, path, centers, places):
    """Change a bit at each place; returns by place the reasons of the errors."""
    whole, reasons = path.read_bytes(), {}
    for place in places:
        change(path, place, place % 8)
        try:
            assert_holds(folder, centers)
        except ValueError as error:
            reasons[place] = str(error).removeprefix(
                f"{folder} is no saved CenterLoss: "
            )
        path.write_bytes(whole)
    assert not any(reason.startswith(str(folder)) for reason in reasons.values())
    return reasons


def test_a_changed_bit_of_a_part(folder, centers, parts):
    """An error in the rows; an error or harmless in the header."""
    path = folder / parts[1].file
    size = path.stat().st_size
    reasons = reasons_of_changed_bits(folder, path, centers, range(size))
    damaged = f"rows 4 to 7 in {path.name} are damaged"
    assert [reasons[i] for i in range(size - 48, size)] == [damaged] * 48
    assert len(reasons) > 48 + 60


@pytest.mark.usefixtures("parts")
def test_a_changed_bit_of_the_index(folder, centers):
    path = folder / "index.json"
    places = range(0, path.stat().st_size, 3)
    assert list(reasons_of_changed_bits(folder, path, centers, places)) == [*places]


@pytest.mark.parametrize("number", [0, 2])
def test_a_part_of_another_length(folder, parts, number):
    path = folder / parts[number].file
    whole = path.read_bytes()
    expected = f"{path.name} has %d bytes, expected {len(whole)}$"
    for content in (whole[:-1], whole[:-12], whole + b"\0", whole + bytes(12)):
        path.write_bytes(content)
        assert_invalid(folder, expected % len(content))
    for length in range(128):
        path.write_bytes(whole[:length])
        assert_invalid(folder)


def test_a_missing_part(folder, parts):
    os.unlink(folder / parts[1].file)
    assert_invalid(folder, f"it has no {parts[1].file}$")


@pytest.mark.usefixtures("parts")
def test_a_part_that_the_index_does_not_name(folder, centers):
    write_parts(folder, rows(10, 3) + 1)
    assert_holds(folder, centers)


def test_parts_in_each_others_place(folder, parts):
    one, other = (folder / part.file for part in parts[:2])
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert_invalid(folder, f"rows 0 to 3 in {one.name} are damaged$")


def test_a_part_that_is_a_folder(folder, parts):
    path = folder / parts[1].file
    path.unlink()
    path.mkdir()
    assert_invalid(folder, f"{path.name} is not a regular file$")


@not_windows
@pytest.mark.parametrize("number", [0, None])
def test_a_pipe_is_not_opened(folder, parts, number):
    """Opening it would wait for ever."""
    name = "index.json" if number is None else parts[number].file
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert_invalid(folder, f"{name} is not a regular file$")


@not_windows
def test_a_part_may_be_a_symbolic_link(tmp_path, folder, centers, parts):
    """As in the caches of downloads, where the content has its hash as a name."""
    for part in parts:
        os.rename(folder / part.file, tmp_path / part.file)
        (folder / part.file).symlink_to(tmp_path / part.file)
    assert_holds(folder, centers)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (rows(3), r"has shape \(3, 3\), expected \(4, 3\)$"),
        (rows(4, 4), r"has shape \(4, 4\), expected \(4, 3\)$"),
        (np.zeros(12, np.float32), r"has shape \(12,\), expected \(4, 3\)$"),
        (np.asfortranarray(rows(4)), r"has shape \(4, 3\), Fortran order, expected"),
        (rows(4, dtype="float64"), "has dtype float64, expected float32$"),
        (rows(4).astype(np.int32), "has dtype int32, expected float32$"),
        (np.zeros((4, 3), "f4,f4"), "has dtype .*, expected float32$"),
        (np.full((4, 3), None), "has dtype object, expected float32$"),
    ],
)
def test_another_array_in_a_part(folder, parts, array, reason):
    np.save(folder / parts[0].file, array)
    assert_invalid(folder, f"{parts[0].file} {reason}")


def header(shape, descr="<f4"):
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an array" * 20,
        # A header of another version, and texts that exhaust Python's parser.
        np.lib.format.magic(2, 0) + (76).to_bytes(4, "little") + b" " * 300,
        *(
            np.lib.format.magic(1, 0) + len(text).to_bytes(2, "little") + text.encode()
            for text in (
                *(
                    "-" * 9000 + "1",
                    "(" * 900,
                    "\n" * 900,
                    header("(4, 3)") + " " * 1000,
                ),
                *(header("(1 << 60, 3)"), header("(4, 3)", "<f4" * 100)),
            )
        ),
    ],
)
def test_foreign_content_in_a_part(folder, parts, content):
    (folder / parts[0].file).write_bytes(content)
    assert_invalid(folder)


def rewrite(folder, **changes):
    """Change values of the index; None leaves one out. The checksum fits."""
    path = folder / "index.json"
    index = json.loads(path.read_bytes())
    index = {k: v for k, v in (index | changes).items() if v is not None}
    others = {k: v for k, v in index.items() if k != "crc32"}
    checksum = zlib.crc32(json.dumps(others).encode())
    path.write_text(json.dumps({**others, "crc32": changes.get("crc32", checksum)}))


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 2}, "its format is 2, expected 1$"),
        ({"format": "1"}, "its format is '1', expected 1$"),
        ({"format": None}, "it has no 'format', expected format, classes, feat"),
        ({"parts": None}, "it has no 'parts', expected format, classes, feat"),
        ({"surplus": 1}, "it has a 'surplus', expected format, classes, feat"),
        ({"crc32": 5}, "its crc32 is 5, expected [0-9]+$"),
        ({"block_rows": 1}, "its block_rows is 1, expected 65536$"),
        (
            {"classes": 9},
            "part 2 has rows 8 to 10, expected them from 8 and at most to",
        ),
        ({"classes": 11}, "its parts end at row 10, expected 11$"),
        ({"classes": -1}, "its classes is -1, expected an integer >= 0$"),
        ({"classes": True}, "its classes is True, expected an integer >= 0$"),
        ({"classes": 10.0}, "its classes is 10.0, expected an integer >= 0$"),
        ({"classes": 1 << 63}, "its classes is 9223372036854775808, expected an int"),
        ({"features": -1}, "its features is -1, expected an integer >= 0$"),
        ({"features": "3"}, "its features is '3', expected an integer >= 0$"),
        ({"features": 1 << 62}, "its shape is .*, more than an array can have$"),
        ({"features": 4}, r"has shape \(4, 3\), expected \(4, 4\)$"),
        ({"features": 1 << 40}, r"has shape \(4, 3\), expected \(4, 1099511627776\)$"),
        (
            {"classes": 0, "features": 1 << 62, "parts": []},
            "its shape is .*, more than",
        ),
        (
            {"dtype": "float16"},
            "its dtype is 'float16', expected 'float32' or 'float64'",
        ),
        ({"dtype": "f4"}, "its dtype is 'f4', expected"),
        ({"dtype": ["float32"]}, r"its dtype is \['float32'\], expected"),
        ({"dtype": "float64"}, "has dtype float32, expected float64$"),
        ({"settings": []}, "settings is a list, expected an object$"),
        ({"settings": SETTINGS | {"seed": 1}}, "settings has a 'seed', expected alpha"),
        ({"settings": {}}, "settings has no 'alpha', expected alpha, loss_weight"),
        ({"settings": SETTINGS | {"alpha": -1}}, "alpha is -1, expected a finite numb"),
        ({"settings": SETTINGS | {"alpha": "1"}}, "alpha is '1', expected a number$"),
        ({"settings": SETTINGS | {"alpha": np.nan}}, "alpha is nan, expected a finite"),
        ({"settings": SETTINGS | {"normalize": 1}}, "normalize is 1, expected True or"),
        ({"settings": SETTINGS | {"reduction": "max"}}, "reduction is 'max', expected"),
        ({"parts": {}}, "its parts is a dict, expected a list$"),
        ({"parts": []}, "its parts end at row 0, expected 10$"),
        ({"parts": [1]}, "part 0 is a int, expected an object$"),
        ({"parts": [{}]}, "part 0 has no 'file', expected file, first, last, crc32$"),
    ],
)
def test_an_index_with_a_wrong_value(folder, changes, reason):
    rewrite(folder, **changes)
    assert_invalid(folder, reason)


NAME = "centers-0123456789abcdef-00000-of-00003.npy"


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"surplus": 1}, "part 1 has a 'surplus', expected file, first, last, crc32$"),
        (
            {"first": 3},
            "part 1 has rows 3 to 8, expected them from 4 and at most to 10$",
        ),
        ({"first": 5}, "part 1 has rows 5 to 8, expected"),
        ({"first": 4.0}, "part 1 has rows 4.0 to 8, expected"),
        ({"last": 4}, "part 1 has rows 4 to 4, expected"),
        ({"last": 3}, "part 1 has rows 4 to 3, expected"),
        ({"last": 7}, "part 2 has rows 8 to 10, expected them from 7 and"),
        ({"last": 9}, "part 2 has rows 8 to 10, expected them from 9 and"),
        ({"last": 10}, "part 2 has rows 8 to 10, expected them from 10 and"),
        ({"last": 11}, "part 1 has rows 4 to 11, expected"),
        ({"last": 1 << 70}, "part 1 has rows 4 to 1180591620717411303424, expected"),
        ({"last": "8"}, "part 1 has rows 4 to '8', expected"),
        ({"last": None}, "part 1 has rows 4 to None, expected"),
        ({"crc32": []}, "part 1 has another crc32 than a list of length 1$"),
        ({"crc32": [1, 2]}, "part 1 has another crc32 than a list of length 1$"),
        ({"crc32": 1}, "part 1 has another crc32 than a list of length 1$"),
        ({"crc32": [-1]}, "part 1 has the crc32 -1, expected 32 bits$"),
        ({"crc32": [1 << 32]}, "part 1 has the crc32 4294967296, expected 32 bits$"),
        ({"crc32": [True]}, "part 1 has the crc32 True, expected 32 bits$"),
        ({"crc32": [0]}, "rows 4 to 7 in .* are damaged$"),
        ({"file": NAME}, f"it has no {NAME}$"),
        *(
            ({"file": name}, "part 1 has file .*, expected a name as it is written$")
            for name in (
                *(
                    "",
                    ".",
                    "..",
                    "index.json",
                    f"../{NAME}",
                    f"/tmp/{NAME}",
                    f"./{NAME}",
                ),
                *(f"x/{NAME}", f"x\\{NAME}", f"C:{NAME}", f"{NAME}\0", f"{NAME}\n"),
                *(f"{NAME}:x", NAME.upper(), NAME.replace("0", "\u0660"), 1, None, []),
            )
        ),
    ],
)
def test_a_part_with_a_wrong_value(folder, changes, reason):
    entries = json.loads((folder / "index.json").read_bytes())["parts"]
    entries[1] |= changes
    rewrite(folder, parts=entries)
    assert_invalid(folder, reason)


@pytest.mark.usefixtures("parts")
def test_an_index_with_a_surplus_part(folder):
    entries = json.loads((folder / "index.json").read_bytes())["parts"]
    rewrite(folder, parts=[*entries, entries[-1]])
    assert_invalid(folder, "part 3 has rows 8 to 10, expected them from 10 and at most")
    entries[1]["file"] = entries[0]["file"]
    rewrite(folder, parts=entries)
    assert_invalid(folder, "it has a file twice$")


@pytest.mark.usefixtures("parts")
def test_an_index_without_skip_nonfinite(folder):
    """As a file without it, it has the default."""
    settings = {k: v for k, v in SETTINGS.items() if k != "skip_nonfinite"}
    rewrite(folder, settings=settings)
    assert CenterLoss.load(folder).skip_nonfinite is True


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"\xff\xfe\xfd", "codec can't decode"),
        (b"[]", "it is a list, expected an object$"),
        (b"null", "it is a NoneType, expected an object$"),
        (b'{"format": 1, "format": 1}', "it has a key twice$"),
        (b'{"a": {"b": 1, "b": 2}}', "it has a key twice$"),
        (b"[" * 200_000, "recursion"),
        (b'{"format": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
    ],
)
def test_foreign_content_in_the_index(folder, content, reason):
    folder.mkdir()
    (folder / "index.json").write_bytes(content)
    assert_invalid(folder, reason)


@pytest.mark.usefixtures("parts")
def test_no_memory_is_allocated_for_what_an_index_claims(folder):
    """Its sizes are compared with those of the files first."""
    content = [{"features": 1 << 30}, {"classes": 1 << 50}]
    entries = json.loads((folder / "index.json").read_bytes())["parts"]
    entries[-1]["last"] = 1 << 50
    content.append({"classes": 1 << 50, "parts": entries})
    tracemalloc.start()
    try:
        for changes in content:
            rewrite(folder, **{"features": 3, "classes": 10} | changes)
            with pytest.raises(
                ValueError, match=r"has shape|end at row|list of length"
            ):
                CenterLoss.load(folder)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("parts")
def test_memory_error_is_not_damage(folder, monkeypatch):
    def load(*_, **__):
        raise MemoryError

    monkeypatch.setattr(json, "loads", load)
    with pytest.raises(MemoryError):
        CenterLoss.load(folder)
