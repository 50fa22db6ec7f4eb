"""The step as a loop in C for one shape, compiled for this processor."""

import os
import shlex
import shutil
import subprocess
import sysconfig
from ctypes import CDLL, c_double, c_void_p
from functools import cache
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..workloads import Batch
from .base import ALPHA, Centerloss, Peer

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = (
    *("-std=gnu11", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno"),
    *("-shared", "-fPIC"),
)
# Of loss, gradient and centers, relative to the largest value. Centers may be moved by
# sums of 262144 rows in float32.
TOLERANCES = (1e-5, 1e-5, 1e-4)


class ByHand(Peer):
    """A loop on one thread; see by_hand.c.

    The arguments of the calls are made once, to keep what a call costs small.
    """

    name = "C by hand"

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        rows, dim = batch.features.shape
        self.loop = _compile(rows, dim, len(batch.centers), ALPHA)
        arrays = [
            (self.features, labels, self.centers, self.gradient)
            for labels in batch.label_sets
        ]
        self.arguments = cycle(
            [tuple(c_void_p(a.ctypes.data) for a in call) for call in arrays]
        )

    def step(self) -> float:
        loss: float = self.loop(*next(self.arguments))
        return loss


def find_compiler() -> list[str] | None:
    """Return the command of a C compiler that knows this processor, None without."""
    python_has = sysconfig.get_config_var("CC") or "cc"
    for command in (os.environ.get("CC", ""), python_has, "cc"):
        words = shlex.split(command)
        if words and shutil.which(words[0]):
            test = [*words, *FLAGS, "-fsyntax-only", "-x", "c", os.devnull]
            if subprocess.run(test, capture_output=True).returncode == 0:
                return words
    return None


@cache
def _compile(rows: int, dim: int, classes: int, alpha: float) -> Any:
    """Compile the loop for a shape; return the function."""
    compiler = find_compiler()
    assert compiler is not None
    sizes = [f"-DROWS={rows}", f"-DDIM={dim}", f"-DCLASSES={classes}"]
    with TemporaryDirectory() as folder:
        library = Path(folder, "by_hand.so")
        command = [*compiler, *FLAGS, *sizes, f"-DALPHA={alpha}f"]
        subprocess.run([*command, "-o", library, SOURCE], check=True)
        loop = CDLL(str(library)).step
    loop.restype = c_double
    return loop


def check(batch: Batch) -> None:
    """Raise AssertionError if a step by hand differs from one of centerloss.

    The centers of the batch are as before afterwards.
    """
    labels = batch.label_sets[0]
    classes = np.unique(labels)
    before = batch.centers.copy()
    results = []
    for peer_class in (Centerloss, ByHand):
        peer = peer_class(batch)
        loss = peer.step()
        results.append((loss, peer.gradient, batch.centers[classes]))
        batch.centers[classes] = before[classes]
        np.testing.assert_array_equal(batch.centers, before, "another center moved")
    for expected, actual, tolerance in zip(*results, TOLERANCES, strict=True):
        atol = tolerance * np.abs(expected).max()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)
