"""Centers in a folder: parts in .npy files, and an index.json that names them.

Each save writes parts with new names, and then replaces the index by renaming, which
is the commit. A process that is killed at any moment leaves the old or the new state.
"""

import contextlib
import io
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ._files import atomic_write, read_npy_header, sync_folder
from ._settings import SETTINGS, check_keys, check_settings

BLOCK_ROWS = 65536  # rows of a checksum

_FORMAT = 1
_INDEX = "index.json"
_KEYS = (
    *("format", "classes", "features", "dtype"),
    *("settings", "block_rows", "parts", "crc32"),
)
_PART_KEYS = ("file", "first", "last", "crc32")
_PART_NAME = re.compile("centers-[0-9a-f]{16}-[0-9]{5,10}-of-[0-9]{5,10}[.]npy")
_TEMPORARY_NAME = re.compile("[.]centerloss-[0-9a-f]{16}[.]tmp")  # of atomic_write
_PIECE_BYTES = 1 << 20
_MAX_BYTES = np.iinfo(np.intp).max  # of an array


class Part(NamedTuple):
    """Rows ``first`` to ``last`` - 1 of the centers, in one .npy file.

    There is a CRC-32 for each block of `BLOCK_ROWS` rows, counted from ``first``.
    """

    file: str
    first: int
    last: int
    checksums: list[int]


class Folder(NamedTuple):
    """An index that was read and checked."""

    path: str
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    settings: dict[str, Any]
    parts: list[Part]


# --- writing ----------------------------------------------------------------------


def new_token() -> int:
    """Return a random number of at most 63 bits; all parts of a save share one."""
    return int.from_bytes(os.urandom(8), "little") >> 1


def part_name(token: int, number: int, parts: int) -> str:
    """Return the name of the file of a part."""
    return f"centers-{token:016x}-{number:05d}-of-{parts:05d}.npy"


def write_part(
    folder: str | os.PathLike[str],
    token: int,
    number: int,
    parts: int,
    first: int,
    last: int,
    piece: Callable[[int, int], NDArray[Any]],
) -> Part | None:
    """Write the rows of one part, which is on the disk afterwards.

    The folder is created if it is missing. An error removes the file.

    Parameters
    ----------
    folder : str or path-like
        The folder.
    token : int
        The number that all parts of this save share, and no earlier save has.
    number, parts : int
        Which part this is, from 0, and of how many.
    first, last : int
        The rows of the part: ``first`` to ``last`` - 1.
    piece : callable
        ``piece(a, b)`` returns rows a to b - 1, about 1 MiB of them. ``first`` is
        requested twice: its row alone shows the dtype and the number of columns.

    Returns
    -------
    Part or None
        None, and no file, if ``first`` equals ``last``.
    """
    path = os.fsdecode(folder)
    _make_folder(path)
    if first == last:
        return None
    name = part_name(token, number, parts)
    file_path = os.path.join(path, name)
    opened = open(file_path, "xb")  # noqa: SIM115 (not in `try`: a file there stays)
    try:
        with opened as file:
            checksums = _write_rows(file, first, last, piece)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path)
    except BaseException:
        _unlink(file_path)
        raise
    return Part(name, first, last, checksums)


def write_index(
    folder: str | os.PathLike[str],
    parts: Sequence[Part],
    shape: tuple[int, int],
    dtype: DTypeLike,
    settings: dict[str, Any],
) -> None:
    """Replace the index, and then remove the files that earlier saves left.

    Parameters
    ----------
    folder : str or path-like
        The folder, which holds the files of ``parts``.
    parts : sequence of Part
        The parts in the order of their rows, without None.
    shape, dtype
        Those of all centers.
    settings : dict
        The settings of a CenterLoss.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid; the older index stays.
    OSError
        If the index cannot be written; the older one stays.
    """
    path = os.fsdecode(folder)
    index = {
        "format": _FORMAT,
        "classes": shape[0],
        "features": shape[1],
        "dtype": np.dtype(dtype).name,
        "settings": check_settings(settings),
        "block_rows": BLOCK_ROWS,
        "parts": [dict(zip(_PART_KEYS, part, strict=True)) for part in parts],
    }
    index["crc32"] = _index_checksum(index)
    _check_index(path, index)
    with atomic_write(os.path.join(path, _INDEX)) as file:
        file.write(json.dumps(index).encode())
    _remove_leftovers(path, {part.file for part in parts})


def remove_part(folder: str | os.PathLike[str], part: Part | None) -> None:
    """Remove the file of a part, after a save that failed elsewhere.

    A file that the index names stays: `write_index` may be interrupted after the
    renaming. No error is raised; the next save removes what is left.
    """
    if part is not None:
        path = os.fsdecode(folder)
        with contextlib.suppress(OSError):
            if part.file.encode() not in _index_bytes(path):
                os.unlink(os.path.join(path, part.file))


def _index_bytes(path: str) -> bytes:
    try:
        with open(os.path.join(path, _INDEX), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _index_checksum(index: dict[str, Any]) -> int:
    """Return the CRC-32 of all that an index has besides its own."""
    others = {name: value for name, value in index.items() if name != "crc32"}
    return zlib.crc32(json.dumps(others).encode())


def _make_folder(path: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
        sync_folder(os.path.dirname(os.path.abspath(path)))


def _write_rows(
    file: BinaryIO, first: int, last: int, piece: Callable[[int, int], NDArray[Any]]
) -> list[int]:
    """Write a .npy file; return the checksums of its blocks."""
    row = piece(first, first + 1)
    dtype = row.dtype
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": (last - first, row.shape[1]),
    }
    np.lib.format.write_array_header_1_0(file, header)
    checksums = []
    for block in _ranges(first, last, BLOCK_ROWS):
        checksum = 0
        for start, stop in _ranges(*block, _piece_rows(row.nbytes)):
            rows = np.ascontiguousarray(piece(start, stop), dtype)
            file.write(rows.data)
            checksum = zlib.crc32(rows.data, checksum)
        checksums.append(checksum)
    return checksums


def _remove_leftovers(path: str, kept: set[str]) -> None:
    with contextlib.suppress(OSError):
        for name in os.listdir(path):
            is_own = _PART_NAME.fullmatch(name) or _TEMPORARY_NAME.fullmatch(name)
            if is_own and name not in kept:
                _unlink(os.path.join(path, name))


def _unlink(path: str) -> None:
    """Remove a file; if that fails, the next save removes it."""
    with contextlib.suppress(OSError):
        os.unlink(path)


# --- reading ----------------------------------------------------------------------


def read_index(folder: str | os.PathLike[str]) -> Folder:
    """Read the index of a folder and check every value in it.

    The parts are not opened.

    Raises
    ------
    OSError
        If the index cannot be opened or read.
    ValueError
        If anything in it is wrong.
    """
    path = os.fsdecode(folder)
    with _invalid(path), _open(path, _INDEX) as file:
        index = json.loads(file.read(), object_pairs_hook=_unique)
        return _check_index(path, index)


def read_rows(
    folder: Folder,
    first: int,
    last: int,
    store: Callable[[int, NDArray[Any]], None] | None,
) -> None:
    """Read rows piece by piece, and compare the checksums of the blocks they touch.

    Rows are stored before the checksum of their block is known. Call this with None
    first where rows may only be stored if none is damaged. A save at the same time
    may remove the files.

    Parameters
    ----------
    folder : Folder
        The index.
    first, last : int
        The rows: ``first`` to ``last`` - 1.
    store : callable or None
        ``store(a, rows)`` gets rows a, a + 1 and so on, about 1 MiB of them, in the
        dtype of ``folder``. The calls are in the order of the rows. None only compares
        the checksums.

    Raises
    ------
    OSError
        If a file cannot be opened or read.
    ValueError
        If a file is missing, is damaged, or is not one that `write_part` writes.
    """
    for part in folder.parts:
        if max(part.first, first) < min(part.last, last):
            _read_part(folder, part, first, last, store)


def read_folder(folder: str | os.PathLike[str]) -> tuple[NDArray[Any], dict[str, Any]]:
    """Return all centers and the settings; raise as `read_index` and `read_rows` do."""
    index = read_index(folder)
    for part in index.parts:  # their sizes are compared before memory is allocated
        with _open_part(index, part):
            pass
    centers = np.empty(index.shape, index.dtype)

    def store(start: int, rows: NDArray[Any]) -> None:
        centers[start : start + len(rows)] = rows

    read_rows(index, 0, len(centers), store)
    return centers, index.settings


def _read_part(
    folder: Folder,
    part: Part,
    first: int,
    last: int,
    store: Callable[[int, NDArray[Any]], None] | None,
) -> None:
    """Read those of the rows ``first`` to ``last`` - 1 that this part holds."""
    with _open_part(folder, part) as (file, dtype):
        begin = file.tell()
        row_bytes = folder.shape[1] * dtype.itemsize
        blocks = _ranges(part.first, part.last, BLOCK_ROWS)
        for (top, end), expected in zip(blocks, part.checksums, strict=True):
            if max(top, first) >= min(end, last):
                continue
            file.seek(begin + (top - part.first) * row_bytes)
            checksum = 0
            for start, stop in _ranges(top, end, _piece_rows(row_bytes)):
                rows = np.empty((stop - start, folder.shape[1]), dtype)
                file.readinto(rows.data)
                checksum = zlib.crc32(rows.data, checksum)
                wanted = rows[max(first - start, 0) : max(last - start, 0)]
                if store is not None and len(wanted):
                    store(max(first, start), wanted.astype(folder.dtype, copy=False))
            if checksum != expected:
                reason = f"rows {top} to {end - 1} in {part.file} are damaged"
                raise _error(folder.path, reason)


@contextlib.contextmanager
def _open_part(
    folder: Folder, part: Part
) -> Iterator[tuple[io.BufferedReader, np.dtype[Any]]]:
    """Open the file of a part at its first row; its header and its size are checked."""
    with _invalid(folder.path):
        try:
            opened = _open(folder.path, part.file)
        except FileNotFoundError:
            raise ValueError(f"it has no {part.file}") from None
    with opened as file:
        with _invalid(folder.path):
            dtype = _check_part(file, folder, part)
        yield file, dtype


def _open(path: str, name: str) -> io.BufferedReader:
    """Open a file of a folder for reading; a symbolic link is followed."""
    file_path = os.path.join(path, name)
    if os.path.exists(file_path) and not os.path.isfile(file_path):
        raise ValueError(f"{name} is not a regular file")  # opening a pipe would wait
    return open(file_path, "rb")


# --- checks -----------------------------------------------------------------------


@contextlib.contextmanager
def _invalid(path: str) -> Iterator[None]:
    """Raise ValueError for damage, of which JSON and NumPy raise many types."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise _error(path, str(error) or repr(error)) from error


def _error(path: str, reason: str) -> ValueError:
    return ValueError(f"{path} is no saved CenterLoss: {reason}")


def _check_part(file: io.BufferedReader, folder: Folder, part: Part) -> np.dtype[Any]:
    """Compare the header and the size of a file; return the dtype of its rows."""
    found, fortran_order, dtype = read_npy_header(file)
    shape = (part.last - part.first, folder.shape[1])
    if found != shape or fortran_order:
        order = ", Fortran order" if fortran_order else ""
        raise ValueError(f"{part.file} has shape {found}{order}, expected {shape}")
    if dtype.newbyteorder("=") != folder.dtype:
        raise ValueError(f"{part.file} has dtype {dtype}, expected {folder.dtype}")
    size = os.fstat(file.fileno()).st_size
    expected = file.tell() + shape[0] * shape[1] * dtype.itemsize
    if size != expected:
        raise ValueError(f"{part.file} has {size} bytes, expected {expected}")
    return dtype


def _check_index(path: str, index: Any) -> Folder:
    """Return an index whose values are all checked."""
    _check_object("it", index, _KEYS)
    for name, expected in (("format", _FORMAT), ("block_rows", BLOCK_ROWS)):
        if index[name] != expected:
            raise ValueError(f"its {name} is {index[name]!r}, expected {expected}")
    checksum = _index_checksum(index)
    if index["crc32"] != checksum:
        raise ValueError(f"its crc32 is {index['crc32']!r}, expected {checksum}")
    if index["dtype"] not in ("float32", "float64"):
        found = index["dtype"]
        raise ValueError(f"its dtype is {found!r}, expected 'float32' or 'float64'")
    dtype = np.dtype(index["dtype"])
    shape = (index["classes"], index["features"])
    for name, length in zip(("classes", "features"), shape, strict=True):
        if not _is_integer(length, 0, _MAX_BYTES):
            raise ValueError(f"its {name} is {length!r}, expected an integer >= 0")
    if max(shape[0], 1) * max(shape[1], 1) * dtype.itemsize > _MAX_BYTES:
        raise ValueError(f"its shape is {shape}, more than an array can have")
    _check_object("settings", index["settings"], SETTINGS)
    settings = check_settings(index["settings"])
    return Folder(path, shape, dtype, settings, _check_parts(index["parts"], shape[0]))


def _check_parts(entries: Any, classes: int) -> list[Part]:
    """Return the parts; each must begin where the one before ends."""
    if not isinstance(entries, list):
        raise ValueError(f"its parts is a {type(entries).__name__}, expected a list")
    parts: list[Part] = []
    end = 0
    for number, entry in enumerate(entries):
        part = _check_entry(f"part {number}", entry, end, classes)
        end = part.last
        parts.append(part)
    if end != classes:
        raise ValueError(f"its parts end at row {end}, expected {classes}")
    if len({part.file for part in parts}) < len(parts):
        raise ValueError("it has a file twice")
    return parts


def _check_entry(what: str, entry: Any, end: int, classes: int) -> Part:
    """Return a part that must begin at row ``end``."""
    _check_object(what, entry, _PART_KEYS)
    file, first, last, checksums = (entry[key] for key in _PART_KEYS)
    if not isinstance(file, str) or not _PART_NAME.fullmatch(file):
        raise ValueError(f"{what} has file {file!r}, expected a name as it is written")
    if not _is_integer(first, end, end) or not _is_integer(last, end + 1, classes):
        raise ValueError(
            f"{what} has rows {first!r} to {last!r}, "
            f"expected them from {end} and at most to {classes}"
        )
    blocks = len(range(first, last, BLOCK_ROWS))
    if not isinstance(checksums, list) or len(checksums) != blocks:
        raise ValueError(f"{what} has another crc32 than a list of length {blocks}")
    for checksum in checksums:
        if not _is_integer(checksum, 0, 0xFFFFFFFF):
            raise ValueError(f"{what} has the crc32 {checksum!r}, expected 32 bits")
    return Part(file, first, last, checksums)


def _check_object(what: str, value: Any, keys: tuple[str, ...]) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is a {type(value).__name__}, expected an object")
    check_keys(what, value, keys)


def _is_integer(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dict; one of two equal keys would not be checked."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has a key twice")
    return found


# --- ranges of rows ---------------------------------------------------------------


def _ranges(first: int, last: int, step: int) -> Iterator[tuple[int, int]]:
    for start in range(first, last, step):
        yield start, min(start + step, last)


def _piece_rows(row_bytes: int) -> int:
    """Return the number of rows that are read or written at a time."""
    return max(1, _PIECE_BYTES // max(1, row_bytes))
