"""Forked children and pools of a process that has used threads can use threads."""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import functools
import multiprocessing
import warnings

import numpy as np

import centerloss

warnings.simplefilter("error")  # such as that of a fork while threads run

TASKS = "/proc/self/task"


@functools.cache
def batch():
    """Just large enough for two threads."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((4100, 128)).astype(np.float32)
    labels = rng.integers(0, 900, len(features))
    return features, labels, rng.standard_normal((900, 128)).astype(np.float32)


def step(_=None):
    """A step on two threads, as bytes."""
    features, labels, centers = batch()
    centers = centers.copy()
    loss, gradient = centerloss.step(features, labels, centers)
    return np.float64(loss).tobytes() + gradient.tobytes() + centers.tobytes()


def settle():
    """Wait until the system no longer lists threads that have been joined."""
    while os.path.exists(TASKS) and len(os.listdir(TASKS)) > 1:
        os.sched_yield()


def fork(expected):
    """Make the step in a child; returns whether the result is the same."""
    settle()
    child = os.fork()
    if child == 0:
        os._exit(0 if step() == expected else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def pool(expected):
    """Make eight steps in two workers while the parent makes one, too."""
    settle()
    with multiprocessing.get_context("fork").Pool(2) as workers:
        pending = workers.map_async(step, range(8), chunksize=1)
        same = step() == expected
        same &= pending.get() == [expected] * 8
        workers.close()
        workers.join()
    return same


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--forks", type=int, default=200)
    parser.add_argument("--pools", type=int, default=10)
    options = parser.parse_args()
    centerloss.set_num_threads(1)
    expected = step()
    centerloss.set_num_threads(2)
    assert step() == expected
    forks = sum(fork(step()) for _ in range(options.forks))
    pools = sum(pool(expected) for _ in range(options.pools))
    print(f"{forks} forks, {pools} pools")


if __name__ == "__main__":
    main()
