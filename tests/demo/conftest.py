"""Fixtures: small images, and the command line on them."""

import numpy as np
import pytest

from centerloss.demo.__main__ import main
from tests.demo.demo_files import NAMES, idx, images_of


@pytest.fixture
def folder(tmp_path):
    """The four files, of 90 and 30 images of the classes 1, 4 and 7."""
    rng = np.random.default_rng(0)
    path = tmp_path / "images"
    path.mkdir()
    for part, count in (("train", 90), ("t10k", 30)):
        labels = np.array([1, 4, 7])[np.arange(count) % 3]
        arrays = (images_of(labels, rng), labels)
        for name, array in zip(NAMES[part], arrays, strict=True):
            (path / name).write_bytes(idx(array))
    return path


@pytest.fixture
def run_main(folder, tmp_path, capsys):
    """Run the command line on the small files; return status, output and errors."""

    def run(*flags):
        arguments = ["--data", str(folder), "--out", str(tmp_path / "demo.png"), *flags]
        try:
            status = main(arguments)
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run
