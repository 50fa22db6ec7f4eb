"""docs/example.c compiles as docs/from-c.md says, and prints what it shows there."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import centerloss

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def sources():
    """The folder of the C: that of the package, or of the clone."""
    if hasattr(centerloss, "get_include"):
        return centerloss.get_include()
    return str(ROOT / "csrc")


def commands():
    """Each command of the console block of the page, and what it prints there."""
    page = (DOCS / "from-c.md").read_text("utf-8")
    (block,) = re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    lines = block.replace("\\\n", "")
    shown = [part.partition("\n") for part in re.split(r"^\$ ", lines, flags=re.M)[1:]]
    return [(command, output) for command, _, output in shown]


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no cc")
def test_example_prints_what_the_page_shows(tmp_path):
    find, (compile_it, silence), run_it = commands()
    assert "centerloss.get_include()" in find[0]
    # One set of kernels takes a third of the time; test_c_harness.py compiles all.
    quickly = compile_it.replace("-O3", "-O0 -DCL_BASELINE_ONLY")
    shutil.copy(DOCS / "example.c", tmp_path)
    environment = {**os.environ, "CSRC": sources()}
    for command, shown in ((quickly, silence), run_it):
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stdout == shown
        assert done.stderr == ""


def test_library_is_all_of_the_c_that_knows_no_python():
    """The command on the page names these files and no others."""
    (_, (compile_it, _), _) = commands()
    folder = Path(sources())
    patterns = re.findall(r'"\$CSRC"/(\S+\.c)', compile_it)
    named = {path.name for pattern in patterns for path in folder.glob(pattern)}
    files = {path.name: path.read_text("utf-8") for path in folder.glob("*.c")}
    assert named == {name for name, text in files.items() if "Py" not in text}
