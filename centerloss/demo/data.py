"""The images: scikit-learn's digits, or files in MNIST's IDX format."""

import gzip
import math
import zlib
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

_UNSIGNED_BYTES = 0x08


class DataError(ValueError):
    """A file is not valid; the message names the file and the fault."""


@dataclass(frozen=True)
class Split:
    """Images of K classes, some to train with and others to test with.

    Attributes
    ----------
    train_images, test_images : ndarray of shape (N, P), float32
        One image of P pixels per row; loaded pixels are in [0, 1].
    train_labels, test_labels : ndarray of shape (N,), int64
        Class of each image, from 0 to K - 1. Every class is among the training images.
    classes : tuple of str
        Names of the K classes.
    """

    train_images: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.float32]
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def standardized(self) -> Self:
        """Shift each pixel to mean 0, and scale all pixels to a variance of 1.

        Returns
        -------
        Split
            A new split. The shift and scale of the training images are applied to the
        test images too.
        """
        mean = self.train_images.mean(axis=0)
        train = self.train_images - mean
        scale = train.std(dtype=np.float64).astype(np.float32) or np.float32(1)
        train /= scale
        test = (self.test_images - mean) / scale
        return replace(self, train_images=train, test_images=test)


def load_digits_split(seed: int = 0) -> Split:
    """Load scikit-learn's 1797 handwritten digits of 8 x 8 pixels.

    A quarter of each class becomes test images.

    Parameters
    ----------
    seed : int, default 0
        Seed of the choice of test images.

    Returns
    -------
    Split

    Raises
    ------
    ModuleNotFoundError
        scikit-learn is not installed.

    Examples
    --------
    >>> split = load_digits_split()
    >>> split.train_images.shape, split.test_images.shape, split.classes[:3]
    ((1347, 64), (450, 64), ('0', '1', '2'))
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    train_images, test_images, train_labels, test_labels = train_test_split(
        (images / 16).astype(np.float32),
        labels.astype(np.int64),
        test_size=0.25,
        stratify=labels,
        random_state=seed,
    )
    classes = tuple(map(str, range(10)))
    return Split(train_images, train_labels, test_images, test_labels, classes)


def load_idx(directory: str | PathLike[str]) -> Split:
    """Read four files in the format of MNIST and Fashion-MNIST.

    Parameters
    ----------
    directory : path
        Folder of train-images-idx3-ubyte, train-labels-idx1-ubyte,
        t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, plain or compressed (.gz).

    Returns
    -------
    Split
        Its classes are the labels of the training images in ascending order.

    Raises
    ------
    DataError
        A file is missing, unreadable, truncated, too long, not in this format, or does
        not match the others.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise DataError(f"{folder}: {'not a' if folder.exists() else 'no such'} folder")
    train_path, train_pixels, train_values = _read_pair(folder, "train")
    test_path, test_pixels, test_values = _read_pair(folder, "t10k")
    if test_pixels.shape[1:] != train_pixels.shape[1:]:
        sizes = [_times(pixels.shape[1:]) for pixels in (test_pixels, train_pixels)]
        raise DataError(
            f"{test_path}: images of {sizes[0]} pixels, but {train_path.name} has "
            f"images of {sizes[1]}"
        )
    classes, train_labels = np.unique(train_values, return_inverse=True)
    if unknown := sorted(set(test_values.tolist()) - set(classes.tolist())):
        raise DataError(f"{folder}: no training image has the test label {unknown[0]}")
    return Split(
        _rows(train_pixels),
        train_labels.astype(np.int64),
        _rows(test_pixels),
        np.searchsorted(classes, test_values).astype(np.int64),
        tuple(map(str, classes.tolist())),
    )


def _read_pair(
    folder: Path, part: str
) -> tuple[Path, NDArray[np.uint8], NDArray[np.uint8]]:
    """Read images and labels of one part and check that their numbers agree."""
    images_path, images = _read_idx(folder, f"{part}-images-idx3-ubyte", 3)
    labels_path, labels = _read_idx(folder, f"{part}-labels-idx1-ubyte", 1)
    if len(images) != len(labels):
        raise DataError(
            f"{labels_path}: {len(labels)} labels, but {images_path.name} has "
            f"{len(images)} images"
        )
    if images.size == 0:
        raise DataError(f"{images_path}: no pixels: {_times(images.shape)}")
    if np.all(labels == labels[0]):
        raise DataError(
            f"{labels_path}: every label is {labels[0]}, expected at least two classes"
        )
    return images_path, images, labels


def _read_idx(folder: Path, name: str, ndim: int) -> tuple[Path, NDArray[np.uint8]]:
    """Read an IDX file: magic number, big-endian sizes, bytes."""
    path = folder / name
    if not path.exists():
        path = folder / f"{name}.gz"
    if not path.exists():
        raise DataError(f"{folder}: there is neither {name} nor {path.name}")
    content = _read_bytes(path)
    magic = bytes([0, 0, _UNSIGNED_BYTES, ndim])
    if content[:4] != magic[: len(content)]:
        raise DataError(
            f"{path}: starts with 0x{content[:4].hex()}, expected 0x{magic.hex()} "
            f"(unsigned bytes, dimensions: {ndim})"
        )
    header = 4 + 4 * ndim
    if len(content) < header:
        raise DataError(
            f"{path}: truncated: {len(content)} bytes, expected a header of {header}"
        )
    shape = tuple(np.frombuffer(content, ">u4", ndim, offset=4).tolist())
    found, expected = len(content) - header, math.prod(shape)
    if found != expected:
        wrong = "truncated" if found < expected else "trailing bytes"
        raise DataError(
            f"{path}: {wrong}: {found} bytes after the header, expected "
            f"{_times(shape)} = {expected}"
        )
    return path, np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _read_bytes(path: Path) -> bytes:
    """Read a whole file; decompress it if its name ends in .gz."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read()
    except EOFError:
        raise DataError(f"{path}: truncated: the gzip stream has no end") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not a sound gzip file: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _rows(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Flatten each image to a row of values in [0, 1]."""
    rows: Any = images.reshape(len(images), -1)
    return rows / np.float32(255)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
