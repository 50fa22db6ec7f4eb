"""A limit of the address space keeps threads from being created: the same bits."""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import resource
import threading

import numpy as np

import centerloss


def limit_address_space():
    """Leave 4 MiB of address space, less than the stack of a thread."""
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 20), resource.RLIM_INFINITY))


if __name__ == "__main__":
    features = np.ones((7000, 100), np.float32)
    labels = np.arange(7000) % 2000
    centers = np.zeros((2000, 100), np.float32)
    out = np.empty_like(features)
    centerloss.set_num_threads(1)
    moved, moved_before = centers.copy(), centers.copy()
    expected = centerloss.step(features, labels, moved_before, out=out)[0]
    gradient = out.tobytes()
    out[...] = 0
    centerloss.set_num_threads(8)
    limit_address_space()
    try:
        threading.Thread(target=print).start()
    except RuntimeError:
        pass
    else:
        raise SystemExit("a thread was created, so nothing was tested")
    assert centerloss.step(features, labels, moved, out=out)[0] == expected
    assert out.tobytes() == gradient
    assert moved.tobytes() == moved_before.tobytes()
