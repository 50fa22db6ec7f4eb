"""Processes that fork, are interrupted or killed leave whole data behind.

The scripts run in fresh interpreters, without threads of other tests.
"""

import random
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers.processes import ROOT, posix, run_module

pytestmark = [posix, pytest.mark.thread_unsafe(reason="starts and kills processes")]
INTERRUPTS = 10


def short_and_long(short, long):
    """Parameters of a test in `make test` and in the weekly run."""
    return [short, pytest.param(long, marks=pytest.mark.slow)]


@pytest.mark.parametrize("forks", short_and_long(50, 200))
def test_forked_children_and_pools_use_threads(forks):
    arguments = ("--forks", forks, "--pools", forks // 50)
    printed = run_module("tests.isolated.forks", *arguments)
    assert printed == f"{forks} forks, {forks // 50} pools\n"


def test_ctrl_c_during_training_leaves_whole_centers():
    """And a process that still works, whenever the signal arrives."""
    moments = random.Random(0)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.isolated.training_loop"],
        cwd=ROOT,
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


@pytest.mark.parametrize("times", short_and_long(10, 100))
def test_killed_while_saving(times):
    printed = run_module("tests.isolated.kill_saves", "--times", times)
    assert printed.startswith(f"{times} killed, ")


@pytest.mark.parametrize("every", short_and_long(4, 1))
def test_killed_while_saving_a_folder(every):
    printed = run_module("tests.isolated.kill_folder_saves", "--every", every)
    killed, _, rest = printed.partition(" ")
    assert int(killed) >= 48 // every
    assert rest == "killed\n"
