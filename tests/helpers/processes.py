"""Commands that tests run in processes of their own, from the root of the sources."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


def run(*command, **options):
    """Run a command that must succeed; returns what it prints."""
    done = subprocess.run(
        [str(word) for word in command],
        **{"cwd": ROOT, "capture_output": True, "text": True, **options},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def run_module(name, *arguments, **options):
    """Run `python -m NAME ARGUMENTS`, as `run` does."""
    return run(sys.executable, "-m", name, *arguments, **options)
