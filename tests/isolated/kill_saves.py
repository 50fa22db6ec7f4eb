"""Kill a process that saves repeatedly: the file contains the old or the new state.

`python -m tests.isolated.kill_saves --times 200` does so 200 times, at random moments.
"""

import argparse
import os
import random
import re
import signal
import tempfile
import time

import numpy as np

from centerloss import CenterLoss

ROWS, COLUMNS = 500, 20
MAX_DELAY = 0.02  # seconds until a process is killed


def state(number):
    """A state with this number in every element."""
    centers = np.full((ROWS, COLUMNS), number, np.float32)
    return CenterLoss(ROWS, COLUMNS, init=centers, alpha=number)


def save_forever(path, number, report):
    """Save one state after another, and report each that is saved."""
    while True:
        number += 1
        state(number).save(path)
        os.write(report, number.to_bytes(8, "little"))


def last_number(pipe):
    """Read the last number that a killed process reported."""
    numbers = b""
    while more := os.read(pipe, 1 << 16):
        numbers += more
    return int.from_bytes(numbers[-8:], "little")


def kill_one(path, number, moment):
    """Kill a process that saves; returns the last number that it reported."""
    pipe, report = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(pipe)
        save_forever(path, number, report)
    os.close(report)
    first = os.read(pipe, 8)  # it has started
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    number = last_number(pipe) or int.from_bytes(first, "little")
    os.close(pipe)
    return number


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    times = parser.parse_args().times
    chance = random.Random(0)
    number, newer = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "state")
        state(number).save(path)
        for _ in range(times):
            reported = kill_one(path, number, chance.uniform(0, MAX_DELAY))
            loaded = CenterLoss.load(path)
            number = int(loaded.alpha)
            assert number in (reported, reported + 1), (number, reported)
            assert np.all(loaded.centers == number), "a mixture of states"
            newer += number > reported
        os.unlink(path)
        left = os.listdir(folder)
        assert len(left) <= times, left
        assert all(re.fullmatch(r"\.centerloss-\w+\.tmp", name) for name in left)
    print(
        f"{times} killed, {number} saves, {newer} not reported, {len(left)} left over"
    )


if __name__ == "__main__":
    main()
