"""What type checkers make of the package, and of calls that are right and wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="mypy is not installed")

ROOT = Path(__file__).parents[2]


def check(*command, cwd):
    """Run a module on the types of the source tree; it succeeds if all is well."""
    ran = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert ran.returncode == 0, ran.stdout


def test_mypy_takes_the_package_and_good_calls_and_refuses_each_bad_one(tmp_path):
    """A bad call that passed would leave the comment on its line unused, an error."""
    check("mypy", "--cache-dir", str(tmp_path), cwd=ROOT)


def test_stubs_are_those_of_the_functions(tmp_path):
    config = str(ROOT / "pyproject.toml")
    # In a folder of its own, it is the module in use that is looked at.
    check(
        *("mypy.stubtest", "centerloss._core", "--mypy-config-file", config),
        cwd=tmp_path,
    )
