"""Arrays in one .npz file: read with distrust, written whole or not at all."""

import contextlib
import errno
import math
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ._settings import check_keys

if TYPE_CHECKING:
    import zipfile

_MOST_COMPRESSED = 1032  # bytes into one, by zip's usual method
_LONGEST_HEADER = 1000  # several times what is written; a longer one may be a trap


def write_npz(file: BinaryIO, **arrays: Any) -> None:
    """Do as np.savez, which before NumPy 2.4 leaves the archive open when it fails."""
    import zipfile  # here, as few processes need it and its import takes 3 ms

    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                value = np.asanyarray(array)
                np.lib.format.write_array(entry, value, allow_pickle=False)


def read_npz(file: BinaryIO, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Read the arrays of these names; nothing is unpickled.

    Damage and whatever else is no such file raises, mostly a ValueError.
    """
    import zipfile

    if file.read(4) != b"PK\x03\x04":
        raise ValueError("it is no .npz file")
    most = _MOST_COMPRESSED * os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        found = [name.removesuffix(".npy") for name in archive.namelist()]
        check_keys("it", found, names)
        if len(set(found)) < len(found):
            raise ValueError("it has an entry twice")
        return {name: _read_npy(archive, name, most) for name in found}


def _read_npy(archive: "zipfile.ZipFile", name: str, most: int) -> NDArray[Any]:
    """Read an array of at most so many bytes: NumPy makes room before it reads."""
    with archive.open(f"{name}.npy") as entry:
        np.lib.format.read_magic(entry)
        shape, _, dtype = np.lib.format.read_array_header_1_0(
            entry, max_header_size=_LONGEST_HEADER
        )
    if math.prod(shape) * dtype.itemsize > most:
        raise ValueError(f"{name} has shape {shape}, more than the file holds")
    with archive.open(f"{name}.npy") as entry:
        array: NDArray[Any] = np.lib.format.read_array(
            entry, allow_pickle=False, max_header_size=_LONGEST_HEADER
        )
        if entry.read(1):  # the sum that finds damage is compared at the end
            raise ValueError(f"{name} has shape {shape}, less than the file holds")
    return array


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of ``path`` once it is on the disk."""
    # As in plain writing, a symbolic link stays and its target is written.
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
        os.replace(temporary, target)  # closed by now: Windows renames no open file
    except BaseException:
        with contextlib.suppress(OSError):  # it may not be there yet, or no longer
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    """Make the names in a folder last, where the system knows how."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
