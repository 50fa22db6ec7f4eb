"""The images of the demo: the digits, and files in MNIST's format."""

import gzip

import numpy as np
import pytest

from centerloss.demo import DataError, load_digits_split, load_idx
from tests.demo.demo_files import NAMES, PNG, idx, images_of

TRAIN_IMAGES, TRAIN_LABELS = NAMES["train"]
TEST_IMAGES, TEST_LABELS = NAMES["t10k"]


def test_split_of_the_digits():
    split = load_digits_split(seed=3)
    again, other = load_digits_split(seed=3), load_digits_split(seed=4)
    assert np.array_equal(split.test_images, again.test_images)
    assert not np.array_equal(split.test_images, other.test_images)
    assert split.train_images.dtype == np.float32
    assert (split.train_images.min(), split.train_images.max()) == (0, 1)
    shares = np.bincount(split.test_labels) / np.bincount(split.train_labels)
    assert np.ptp(shares) < 0.02


def test_standardized():
    split = load_digits_split()
    made = split.standardized()
    assert np.allclose(made.train_images.mean(axis=0), 0, atol=1e-5)
    assert made.train_images.var() == pytest.approx(1, rel=1e-5)
    mean = split.train_images.mean(axis=0)
    scale = (split.train_images - mean).std()
    assert np.allclose(made.test_images * scale + mean, split.test_images, atol=1e-5)


def test_idx_files(folder):
    split = load_idx(folder)
    assert split.classes == ("1", "4", "7")
    assert split.train_images.shape == (90, 12)
    assert split.test_images.shape == (30, 12)
    assert split.train_labels.tolist() == [0, 1, 2] * 30
    assert split.test_labels.tolist() == [0, 1, 2] * 10
    stored = np.frombuffer((folder / TRAIN_IMAGES).read_bytes(), np.uint8, offset=16)
    assert np.array_equal(split.train_images.ravel(), stored / np.float32(255))


def test_compressed_idx_files(folder):
    plain = load_idx(folder)
    for path in list(folder.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed = load_idx(folder)
    assert np.array_equal(packed.train_images, plain.train_images)
    assert np.array_equal(packed.test_labels, plain.test_labels)


LABELS = np.arange(90) % 3
IMAGES = idx(images_of(LABELS, np.random.default_rng(0)))
PACKED = gzip.compress(IMAGES, mtime=0)
WRONG_MAGIC = "starts with 0x{}, expected 0x00000803 (unsigned bytes, dimensions: 3)"
BAD_GZIP = "not a sound gzip file: "
# File, its content, and the message after the file name.
WRONG_FILES = [
    (
        TRAIN_IMAGES,
        IMAGES[:-1],
        "truncated: 1079 bytes after the header, expected 90 x 4 x 3 = 1080",
    ),
    (
        TRAIN_IMAGES,
        IMAGES + b"\0",
        "trailing bytes: 1081 bytes after the header, expected 90 x 4 x 3 = 1080",
    ),
    (TRAIN_IMAGES, IMAGES[:10], "truncated: 10 bytes, expected a header of 16"),
    (TRAIN_IMAGES, b"", "truncated: 0 bytes, expected a header of 16"),
    (TRAIN_IMAGES, PNG, WRONG_MAGIC.format("89504e47")),
    (TRAIN_IMAGES, idx(LABELS), WRONG_MAGIC.format("00000801")),
    (TRAIN_IMAGES, idx(np.zeros((90, 0, 3))), "no pixels: 90 x 0 x 3"),
    (TRAIN_LABELS, idx(LABELS[:89]), f"89 labels, but {TRAIN_IMAGES} has 90 images"),
    (TEST_LABELS, idx(LABELS), f"90 labels, but {TEST_IMAGES} has 30 images"),
    (TRAIN_LABELS, idx(0 * LABELS), "every label is 0, expected at least two classes"),
    (
        TEST_IMAGES,
        idx(np.zeros((30, 3, 3))),
        f"images of 3 x 3 pixels, but {TRAIN_IMAGES} has images of 4 x 3",
    ),
    (f"{TRAIN_IMAGES}.gz", PACKED[:-9], "truncated: the gzip stream has no end"),
    (f"{TRAIN_IMAGES}.gz", IMAGES, BAD_GZIP),
    (f"{TRAIN_IMAGES}.gz", PACKED[:-8] + bytes(8), BAD_GZIP),
    (f"{TRAIN_IMAGES}.gz", PACKED[:12] + b"\xff" * 30, BAD_GZIP),
]


@pytest.mark.parametrize(("name", "content", "message"), WRONG_FILES)
def test_wrong_file_is_named(folder, name, content, message):
    if name.endswith(".gz"):
        (folder / name.removesuffix(".gz")).unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_idx(folder)
    assert str(caught.value).startswith(f"{folder / name}: {message}")


@pytest.mark.parametrize("name", [*NAMES["train"], *NAMES["t10k"]])
def test_missing_file(folder, name):
    (folder / name).unlink()
    message = f"{folder}: there is neither {name} nor {name}.gz"
    with pytest.raises(DataError) as caught:
        load_idx(folder)
    assert str(caught.value) == message


def test_folder_instead_of_a_file(folder):
    (folder / TRAIN_IMAGES).unlink()
    (folder / TRAIN_IMAGES).mkdir()
    with pytest.raises(DataError, match=f"{TRAIN_IMAGES}: Is a directory"):
        load_idx(folder)


def test_test_label_without_training_images(folder):
    (folder / TEST_LABELS).write_bytes(idx(np.arange(30) % 3))
    with pytest.raises(DataError) as caught:
        load_idx(folder)
    assert str(caught.value) == f"{folder}: no training image has the test label 0"
