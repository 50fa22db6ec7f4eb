"""The sdist has the files of the repository, and the package can be built from it."""

import email
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools", reason="setuptools is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.compiles]

ROOT = Path(__file__).parents[2]
# Written by setuptools; SOURCES.txt and others are in the folder.
GENERATED = {"PKG-INFO", "setup.cfg", "centerloss.egg-info"}

# One instruction set, which saves four fifths of the time.
BASELINE = {"CFLAGS": "-DCL_BASELINE_ONLY"}


def build(what, source, output):
    """Do what pip does, without an environment of its own."""
    script = f"from setuptools.build_meta import build_{what} as b; b({str(output)!r})"
    command = [sys.executable, "-c", script]
    subprocess.run(command, cwd=source, env=os.environ | BASELINE, check=True)
    (file,) = output.iterdir()
    return file


@pytest.fixture(scope="module")
def files():
    """The files of the clone, including uncommitted ones."""
    if not (ROOT / ".git").exists():
        pytest.skip("only a git clone knows which files belong to it")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, stdout=-1, text=True).stdout
    return [name for name in names.split("\0") if name and (ROOT / name).exists()]


@pytest.fixture(scope="module")
def sdist(files, tmp_path_factory):
    """Built in a copy: setuptools reads the egg-info folder that it leaves behind."""
    tree, output = map(tmp_path_factory.mktemp, ("tree", "sdist"))
    for name in files:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes((ROOT / name).read_bytes())
    return build("sdist", tree, output)


def test_files_are_those_of_git(sdist, files):
    with tarfile.open(sdist) as archive:
        members = [member.name for member in archive if member.isfile()]
    names = {name.partition("/")[2] for name in members}
    packed = {name for name in names if name.split("/")[0] not in GENERATED}
    assert packed == {name for name in files if not name.startswith(".git")}


def test_wheel_from_sdist(sdist, tmp_path):
    folders = source, output, installed = [tmp_path / name for name in "swi"]
    for folder in folders:
        folder.mkdir()
    with tarfile.open(sdist) as archive:
        archive.extractall(source, filter="data")
    (unpacked,) = source.iterdir()
    with zipfile.ZipFile(build("wheel", unpacked, output)) as wheel:
        wheel.extractall(installed)
    (metadata,) = installed.glob("*.dist-info/METADATA")
    described = [
        email.message_from_bytes(file.read_bytes())
        for file in (metadata, unpacked / "PKG-INFO")
    ]
    for message in described:
        assert message["Description-Content-Type"] == "text/markdown"
        page = message.get_payload()
        assert page.startswith("# centerloss\n")
        assert re.findall(r"\]\((?!https://).*?\)|<!--", page) == []
    script = "import centerloss; print(centerloss.__file__, centerloss.step.__name__)"
    # An instruction set that CENTERLOSS_ISA names is not in this build.
    environment = os.environ | {"PYTHONPATH": str(installed), "CENTERLOSS_ISA": ""}
    command = [sys.executable, "-c", script]
    printed = subprocess.check_output(command, cwd=output, env=environment, text=True)
    assert printed.split() == [str(installed / "centerloss" / "__init__.py"), "step"]
