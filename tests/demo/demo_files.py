"""Run the demo, and write and read its files."""

import contextlib
import io
import json
import struct

import numpy as np

from centerloss.demo.__main__ import main

NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "t10k": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
PNG = b"\x89PNG\r\n\x1a\n"


def idx(array):
    """Return an array of unsigned bytes in the IDX format."""
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def images_of(labels, rng):
    """Return images of noise, 4 x 3 pixels, with a bright pixel for the class."""
    images = rng.integers(0, 128, (len(labels), 12))
    images[np.arange(len(labels)), labels % 12] = 255
    return images.reshape(-1, 4, 3)


def write_images(path):
    """Write the four files, with 90 and 30 images of the classes 1, 4 and 7."""
    rng = np.random.default_rng(0)
    path.mkdir()
    for part, count in (("train", 90), ("t10k", 30)):
        labels = np.array([1, 4, 7])[np.arange(count) % 3]
        arrays = (images_of(labels, rng), labels)
        for name, array in zip(NAMES[part], arrays, strict=True):
            (path / name).write_bytes(idx(array))
    return path


def run_demo(*arguments):
    """Run the command line; return status, output and errors."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
    return status, output.getvalue(), errors.getvalue()


def numbers(path):
    """Return the results in a JSON file without the times."""
    runs = json.loads(path.read_text())["runs"]
    timed = ("seconds", "seconds_centerloss")
    return [{k: v for k, v in run.items() if k not in timed} for run in runs]
