"""Type checks of the package, and of right and wrong calls in tests/typing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="mypy is not installed")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def check(*command, cwd):
    """Run a module, with the types of the source tree; it must succeed."""
    ran = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert ran.returncode == 0, ran.stdout


def test_mypy(tmp_path):
    """If mypy accepts a bad call, the ignore comment on its line is an error."""
    check("mypy", "--cache-dir", str(tmp_path), cwd=ROOT)


def test_stubs_match_the_functions(tmp_path):
    config = str(ROOT / "pyproject.toml")
    # In another folder, so that it imports the module in use.
    check(
        *("mypy.stubtest", "centerloss._core", "--mypy-config-file", config),
        cwd=tmp_path,
    )
