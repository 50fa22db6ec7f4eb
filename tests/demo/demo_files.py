"""Files that the tests of the demo write and read."""

import json
import struct

import numpy as np

NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "t10k": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
PNG = b"\x89PNG\r\n\x1a\n"


def idx(array):
    """An array of unsigned bytes as an IDX file has it."""
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def images_of(labels, rng):
    """Noise of 4 x 3 pixels, with a bright pixel where the class is."""
    images = rng.integers(0, 128, (len(labels), 12))
    images[np.arange(len(labels)), labels % 12] = 255
    return images.reshape(-1, 4, 3)


def numbers(path):
    """What a run wrote to it with --json, but for the times."""
    runs = json.loads(path.read_text())["runs"]
    timed = ("seconds", "seconds_centerloss")
    return [{k: v for k, v in run.items() if k not in timed} for run in runs]
