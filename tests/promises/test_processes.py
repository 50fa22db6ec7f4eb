"""Processes that fork, are interrupted or killed: the others go on, the data is whole.

The scripts run in fresh interpreters, so that no thread of another test is around.
"""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers.paths import TESTS

SCRIPTS = TESTS / "isolated"
INTERRUPTS = 10
unix = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def run(script, *arguments):
    command = [sys.executable, str(SCRIPTS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@unix
def test_forked_children_and_pools_use_threads():
    assert run("forks.py", "--forks", 200, "--pools", 5) == "200 forks, 5 pools\n"


@unix
def test_ctrl_c_during_training_leaves_whole_centers():
    """And a process that answers; at moments by chance."""
    moments = random.Random(0)
    process = subprocess.Popen(
        [sys.executable, str(SCRIPTS / "training_loop.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        for _ in range(INTERRUPTS):
            print(file=process.stdin, flush=True)
            assert process.stdout.readline() == "training\n"
            time.sleep(moments.uniform(0, 0.02))
            process.send_signal(signal.SIGINT)
            finite, whole, answers, _ = process.stdout.readline().split()
            assert (finite, whole, answers) == ("True", "True", "True")
    assert process.returncode == 0


@unix
def test_killed_while_saving():
    """The long form is `python tests/isolated/kill_saves.py --times 200`."""
    assert run("kill_saves.py", "--times", 20).startswith("20 killed, ")
