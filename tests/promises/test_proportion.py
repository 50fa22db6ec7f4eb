"""Promise 3: time and memory grow with the batch, not with the number of classes.

The benchmarks measure the time.
"""

import sys

import numpy as np
import pytest

import centerloss
from tests.helpers.batches import CALLS
from tests.helpers.processes import posix, run

# 4 million classes are 1 GiB of centers. The system allocates the pages of np.zeros
# when they are first used, so clearing, scanning or copying an array of that size
# raises the peak.
SCRIPT = """
import resource, sys
import numpy as np
import centerloss

K, D, B = 4_000_000, 64, 1000
centers = np.zeros((K, D), np.float32)
features = np.ones((B, D), np.float32)
labels = np.arange(B) % 100
labels[-1] = K - 1

def peak():
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale

before = peak()
centerloss.{name}(features, labels, centers)
print(peak() - before)
"""


@pytest.mark.parametrize("name", CALLS)
def test_classes_of_no_features_take_no_time(name):
    """A loop over the classes would not end."""
    features, labels = np.empty((0, 0), np.float32), np.empty(0, int)
    getattr(centerloss, name)(features, labels, np.empty((2**60, 0), np.float32))


# center_delta returns an array of that size.
FUNCTIONS = [name for name in CALLS if name != "center_delta"]


@pytest.mark.parametrize("name", FUNCTIONS)
@posix
@pytest.mark.thread_unsafe(reason="starts processes")
def test_no_memory_of_the_size_of_the_centers(name):
    printed = run(sys.executable, "-c", SCRIPT.format(name=name))
    # The rows in use are on a few pages, which may be huge ones (2 MiB).
    assert int(printed) < 32 * 2**20
