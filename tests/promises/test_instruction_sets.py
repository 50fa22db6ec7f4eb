"""The choice of an instruction set at import; test_golden.py compares the bits."""

import os
import subprocess
import sys

import pytest

from centerloss._core import _build_info

pytestmark = pytest.mark.thread_unsafe(reason="starts processes")
REPORT = "import centerloss; centerloss.show_versions()"


def imported(isa):
    return subprocess.run(
        [sys.executable, "-c", REPORT],
        env={**os.environ, "CENTERLOSS_ISA": isa},
        capture_output=True,
        text=True,
        check=False,
    )


def test_forced():
    isa = _build_info()["isa"]
    assert f"isa: {isa}\n" in imported(isa).stdout


def test_best_by_default():
    default = imported("").stdout
    assert "isa: " in default
    assert f"isa: {_build_info()['isa']}\n" in default or "CENTERLOSS_ISA" in os.environ


@pytest.mark.parametrize("isa", ["x86-64-v9", "x86-64", "avx2", " "])
def test_unknown(isa):
    done = imported(isa)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        f"ImportError: CENTERLOSS_ISA is '{isa}', which this build or this processor "
        "does not have: expected one of "
    )
    assert _build_info()["isa"] in last
