"""Arrays in one .npz file: every entry is checked on reading, and writing is atomic."""

import contextlib
import errno
import math
import os
import shutil
import zipfile
from collections.abc import Iterator
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ._settings import check_keys

_MAX_COMPRESSION = 1032  # of deflate, the usual method of zip files
_MAX_HEADER = 1000  # characters; several times the length of those that are written


def write_npz(file: BinaryIO, **arrays: Any) -> None:
    """Write arrays as np.savez does, but close the archive also on an error.

    np.savez leaves it open before NumPy 2.4.
    """
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                value = np.asanyarray(array)
                np.lib.format.write_array(entry, value, allow_pickle=False)


def read_npz(file: BinaryIO, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Read the arrays with these names, or those that `check_keys` requires of them.

    Nothing is unpickled.

    A file that is damaged or is not such a file raises an error, usually ValueError.
    """
    if file.read(4) != b"PK\x03\x04":
        raise ValueError("it is no .npz file")
    max_bytes = _MAX_COMPRESSION * os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        found = [name.removesuffix(".npy") for name in archive.namelist()]
        check_keys("it", found, names)
        if len(set(found)) < len(found):
            raise ValueError("it has an entry twice")
        return {name: _read_npy(archive, name, max_bytes) for name in found}


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, Fortran order and dtype of a .npy file, which is read so far."""
    np.lib.format.read_magic(file)
    return np.lib.format.read_array_header_1_0(file, max_header_size=_MAX_HEADER)


def _read_npy(archive: zipfile.ZipFile, name: str, max_bytes: int) -> NDArray[Any]:
    """Read an array of at most `max_bytes`.

    NumPy allocates the array before it reads, so the size in the header is checked
    first.
    """
    with archive.open(f"{name}.npy") as entry:
        shape, _, dtype = read_npy_header(entry)
    if math.prod(shape) * dtype.itemsize > max_bytes:
        raise ValueError(f"{name} has shape {shape}, more than the file holds")
    with archive.open(f"{name}.npy") as entry:
        array: NDArray[Any] = np.lib.format.read_array(
            entry, allow_pickle=False, max_header_size=_MAX_HEADER
        )
        if entry.read(1):  # reading to the end also verifies the checksum
            raise ValueError(f"{name} has shape {shape}, less than the file holds")
    return array


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` once it is on the disk."""
    # A symbolic link stays and its target is replaced, as with open(path, "w").
    target = os.path.realpath(os.fsdecode(path))
    if os.path.exists(target) and not os.path.isfile(target):
        raise ValueError(f"{target} is not a regular file")
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), target)
    temporary = os.path.join(folder, f".centerloss-{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            if os.path.exists(target):
                shutil.copymode(target, temporary)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)  # after closing: Windows renames no open file
    except BaseException:
        with contextlib.suppress(OSError):  # not created yet, or renamed already
            os.unlink(temporary)
        raise
    sync_folder(folder)


def sync_folder(folder: str) -> None:
    """Write a folder's entries to the disk, on systems that support it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
