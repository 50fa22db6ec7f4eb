"""Fixtures: small images, and the command line run on them."""

from types import SimpleNamespace

import pytest

from tests.demo.demo_files import run_demo, write_images


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "images")


@pytest.fixture
def run_main(folder, tmp_path):
    """Run the command line on the small images."""
    return lambda *flags: run_demo(
        "--data", folder, "--out", tmp_path / "demo.png", *flags
    )


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A run on the small images that writes all files: its flags, files and output."""
    path = tmp_path_factory.mktemp("demo")
    folder = write_images(path / "images")
    files = {name: path / f"demo.{name}" for name in ("png", "json", "gif")}
    flags = [
        *("--loss-weight", "0", "0.05", "0.5", "--alpha", "0.25"),
        *("--epochs", "3", "--seed", "5"),
    ]
    outputs = ["--out", files["png"], "--json", files["json"], "--gif", files["gif"]]
    status, output, errors = run_demo("--data", folder, *flags, *outputs)
    assert (status, errors) == (0, "")
    return SimpleNamespace(flags=flags, output=output, **files)
