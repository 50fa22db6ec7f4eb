"""docs/example.c, compiled by the command of docs/from-c.md, prints what it shows."""

import os
import re
import shutil
import subprocess

import pytest

import centerloss
from tests.helpers.processes import ROOT, posix

DOCS = ROOT / "docs"


def commands():
    """Return each command of the page's console block with its output there."""
    page = (DOCS / "from-c.md").read_text("utf-8")
    (block,) = re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    lines = block.replace("\\\n", "")
    shown = [part.partition("\n") for part in re.split(r"^\$ ", lines, flags=re.M)[1:]]
    return [(command, output) for command, _, output in shown]


@posix
@pytest.mark.compiles
@pytest.mark.thread_unsafe(reason="compiles")
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs cc")
def test_example_prints_what_the_page_shows(tmp_path):
    find, (compile_it, silence), run_it = commands()
    assert "centerloss.get_include()" in find[0]
    # This compiles in a hundredth of the time; test_harness.py tests optimized kernels.
    quickly = compile_it.replace("-O3", "-O0 -Dalways_inline= -DCL_BASELINE_ONLY")
    shutil.copy(DOCS / "example.c", tmp_path)
    environment = {**os.environ, "CSRC": centerloss.get_include()}
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
