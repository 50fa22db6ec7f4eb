"""The batches that are timed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLD_BYTES = 128 << 20  # exceeds the caches


@dataclass(frozen=True)
class Workload:
    """Shapes: `rows` x `dim` features, `classes` x `dim` centers, all float32.

    With `cold`, steps cycle through so many sets of labels that the centers of a set
    have left the caches when it comes again. `halves` are half-precision dtypes of the
    features to time as well; `networked` workloads are also trained with a network.
    """

    rows: int
    dim: int
    classes: int
    cold: bool = False
    halves: tuple[str, ...] = ()
    networked: bool = False


@dataclass
class Batch:
    """Arrays of one workload, shared by all its entries."""

    features: NDArray[Any]
    label_sets: list[NDArray[np.int64]]
    centers: NDArray[np.float32]

    @property
    def touched(self) -> int:
        """Mean number of classes in a set of labels."""
        return round(np.mean([len(np.unique(labels)) for labels in self.label_sets]))


WORKLOADS = {
    "toy": Workload(128, 2, 10, networked=True),
    "reid": Workload(64, 2048, 751),
    "face": Workload(256, 512, 10_575, networked=True),
    "face4k": Workload(4096, 512, 10_575),
    "many": Workload(4096, 512, 300_000, cold=True),
    "long": Workload(65_536, 128, 1000, halves=("float16", "bfloat16")),
    "one class": Workload(262_144, 128, 1),
}

# Workloads of a training step in PyTorch.
TRAINING = ("toy", "face", "face4k", "many")

# Time against the number of classes.
CLASSES = {10**n: Workload(4096, 64, 10**n, cold=True) for n in range(1, 8)}


def make_batch(workload: Workload, rng: np.random.Generator) -> Batch:
    """Draw features, labels and centers; the centers repeat after 65536 classes."""
    rows, dim, classes = workload.rows, workload.dim, workload.classes
    sets = -(-COLD_BYTES // (rows * dim * 4)) if workload.cold else 1
    some_centers = rng.standard_normal((min(classes, 1 << 16), dim), dtype=np.float32)
    return Batch(
        features=rng.standard_normal((rows, dim), dtype=np.float32),
        label_sets=[rng.integers(0, classes, rows) for _ in range(sets)],
        centers=np.resize(some_centers, (classes, dim)),
    )
