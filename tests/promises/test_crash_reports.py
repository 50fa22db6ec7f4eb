"""A crash in the C code can be reported: signal handlers run, stacks can be unwound."""

import os
import shutil
import subprocess
import sys

import pytest

from centerloss import _core
from tests.helpers.processes import ROOT, posix, run

pytestmark = pytest.mark.thread_unsafe(reason="starts processes")


@posix
def test_fatal_signal_in_a_worker_thread():
    command = [sys.executable, "-m", "tests.isolated.bus_error"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode < 0
    assert "Fatal Python error: " in done.stderr
    assert "bus_error.py" in done.stderr


@pytest.mark.skipif(shutil.which("readelf") is None, reason="needs readelf")
@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs ELF files")
def test_extension_has_unwind_tables():
    """One table entry for nearly every function."""
    entries = run("readelf", "--debug-dump=frames", _core.__file__).count(" FDE ")
    symbols = run("readelf", "-sW", _core.__file__).splitlines()
    functions = {line.split()[1] for line in symbols if " FUNC " in line}
    functions.discard("0" * 16)
    assert entries >= max(20, len(functions) * 0.9)
