"""Promise 3: work and memory go with the batch, not with the number of classes.

How little of the time goes with it is measured in benchmarks/.
"""

import subprocess
import sys

import numpy as np
import pytest

import centerloss
from tests.helpers.batches import CALLS

# 4 million classes are 1 GiB of centers. NumPy gets them as untouched zeros, which
# are no memory until somebody reads or writes them: whoever clears, scans or copies
# anything of that size shows up in the peak.
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
    """A function that went through them would not come back."""
    features, labels = np.empty((0, 0), np.float32), np.empty(0, int)
    getattr(centerloss, name)(features, labels, np.empty((2**60, 0), np.float32))


# center_delta returns an array of that size, zeroed.
FUNCTIONS = [name for name in CALLS if name != "center_delta"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_of_the_size_of_the_centers(name):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(name=name)],
        check=True,
        capture_output=True,
        text=True,
    )
    # The rows touched lie on a few pages, each of which may be a huge one (2 MiB).
    assert int(done.stdout) < 32 * 2**20
