"""Kill a process while it saves a folder: the folder holds the old or the new state.

`python -m tests.isolated.kill_folder_saves` does so before and after every call that
changes or syncs something, and within each part; `--every 4` at every fourth point.
"""

import argparse
import contextlib
import os
import signal
import tempfile
from unittest import mock

import numpy as np

from centerloss import CenterLoss, _folders
from tests.helpers.folders import names, save
from tests.helpers.states import SETTINGS

CALLS = ("mkdir", "fsync", "replace", "listdir", "unlink")
PIECE_ROWS, COLUMNS = 256, 16  # a piece is larger than the buffer of a file


def ignore(_point):
    pass


def save_number(folder, number, parts, reached=ignore):
    """Save a state with this number in every element."""
    centers = np.full((3 * PIECE_ROWS * parts - 1, COLUMNS), number, np.float32)

    def piece(first, last):
        reached(f"rows {first} to {last}")
        return centers[first:last]

    return save(folder, centers, SETTINGS | {"alpha": number}, parts, piece)


@contextlib.contextmanager
def watched(reached):
    """Call `reached` before and after each of the calls."""

    def watch(name, function):
        def called(*arguments, **options):
            reached(f"before {name}")
            result = function(*arguments, **options)
            reached(f"after {name}")
            return result

        return called

    with contextlib.ExitStack() as stack:
        for name in CALLS:
            called = watch(name, getattr(os, name))
            stack.enter_context(mock.patch.object(os, name, called))
        yield


def points_of_a_save(folder, number, parts):
    """Save; returns the points that the process reached, in order."""
    points = []
    with watched(points.append):
        save_number(folder, number, parts, points.append)
    return points


def kill_at(folder, number, parts, index):
    """Start a process that saves, and kills itself at the point with this index."""
    child = os.fork()
    if child == 0:
        points = []

        def reached(point):
            points.append(point)
            if len(points) > index:
                os.kill(os.getpid(), signal.SIGKILL)

        with watched(reached):
            save_number(folder, number, parts, reached)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), (index, status)


def save_and_check(folder, number, parts):
    """Save; the folder holds this state and no other file."""
    saved = save_number(folder, number, parts)
    assert_holds(folder, number)
    assert sorted(os.listdir(folder)) == names(saved)


def assert_holds(folder, number):
    loaded = CenterLoss.load(folder)
    assert loaded.alpha == number, (loaded.alpha, number)
    assert np.all(loaded.centers == number), "a mixture of states"


def kill_first_save(folder, parts):
    """Kill the first save right before the renaming: there is no state yet."""
    points = points_of_a_save(folder + "-other", 0, parts)
    kill_at(folder, 0, parts, points.index("before replace"))
    try:
        CenterLoss.load(folder)
    except FileNotFoundError:
        save_and_check(folder, 1, parts)
    else:
        raise AssertionError("an unfinished first save loads")


def kill_later_saves(folder, parts, every):
    """Kill at the points of a save over an older one; returns the number of kills."""
    points = points_of_a_save(folder, 1, parts)
    renamed = points.index("after replace")
    number, chosen = 1, range(0, len(points), every)
    for index in chosen:
        kill_at(folder, number + 1, parts, index)
        assert_holds(folder, number + 1 if index >= renamed else number)
        number += 2
        save_and_check(folder, number, parts)
    return len(chosen)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    every = parser.parse_args().every
    killed = 0
    with (
        mock.patch.object(_folders, "_PIECE_BYTES", PIECE_ROWS * COLUMNS * 4),
        mock.patch.object(_folders, "BLOCK_ROWS", 2 * PIECE_ROWS),
        tempfile.TemporaryDirectory() as scratch,
    ):
        for parts in (1, 3):
            folder = os.path.join(scratch, str(parts))
            kill_first_save(folder, parts)
            killed += kill_later_saves(folder, parts, every)
    print(f"{killed} killed")


if __name__ == "__main__":
    main()
