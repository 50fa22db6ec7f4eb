"""The batches that are timed."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

COLD_BYTES = 128 << 20  # exceeds the caches
LINE = 64  # bytes of a cache line
NUMPY_OFFSET = 16  # where NumPy's own large arrays start in a cache line


@dataclass(frozen=True)
class Workload:
    """Shapes: `rows` x `dim` features, `classes` x `dim` centers, all float32.

    With `cold`, steps cycle through so many sets of labels that the centers of a set
    have left the caches when it comes again. `by_hand` workloads are also timed with a
    loop in C for their shape, and trained with a network if `networked`. `halves` are
    half-precision dtypes of the features to time as well.
    """

    rows: int
    dim: int
    classes: int
    cold: bool = False
    by_hand: bool = False
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

    @property
    def offset(self) -> int:
        """Bytes from the start of a cache line to the features."""
        return int(self.features.ctypes.data) % LINE

    def at_offset(self, offset: int) -> "Batch":
        """Return a copy whose features and centers have another offset."""
        moved = []
        for array in (self.features, self.centers):
            moved.append(empty(array.shape, array.dtype, offset))
            moved[-1][:] = array
        features, centers = moved
        return Batch(features, self.label_sets, centers)

    def empty_gradient(self) -> NDArray[Any]:
        """Return an array like the features, at the same offset."""
        return empty(self.features.shape, self.features.dtype, self.offset)


WORKLOADS = {
    "toy": Workload(128, 2, 10, networked=True),
    "reid": Workload(64, 2048, 751, by_hand=True),
    "face": Workload(256, 512, 10_575, by_hand=True, networked=True),
    "face4k": Workload(4096, 512, 10_575, by_hand=True),
    "many": Workload(4096, 512, 300_000, cold=True, by_hand=True),
    "long": Workload(65_536, 128, 1000, by_hand=True, halves=("float16", "bfloat16")),
    "one class": Workload(262_144, 128, 1, by_hand=True),
}

# Workloads of a training step in PyTorch.
TRAINING = ("toy", "face", "face4k", "many")

# Time against the number of classes.
CLASSES = {10**n: Workload(4096, 64, 10**n, cold=True) for n in range(1, 8)}


def make_batch(workload: Workload, rng: np.random.Generator) -> Batch:
    """Draw features, labels and centers; the centers repeat after 65536 classes.

    Features and centers have the offset of NumPy's own large arrays.
    """
    rows, dim, classes = workload.rows, workload.dim, workload.classes
    sets = -(-COLD_BYTES // (rows * dim * 4)) if workload.cold else 1
    some_centers = rng.standard_normal((min(classes, 1 << 16), dim), dtype=np.float32)
    centers = empty((classes, dim), np.float32, NUMPY_OFFSET)
    for start in range(0, classes, len(some_centers)):
        centers[start : start + len(some_centers)] = some_centers[: classes - start]
    features = empty((rows, dim), np.float32, NUMPY_OFFSET)
    rng.standard_normal(dtype=np.float32, out=features)
    label_sets = [rng.integers(0, classes, rows) for _ in range(sets)]
    return Batch(features, label_sets, centers)


def empty(shape: tuple[int, ...], dtype: DTypeLike, offset: int) -> NDArray[Any]:
    """Return an array that starts `offset` bytes into a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + LINE, np.uint8)
    start = (offset - memory.ctypes.data) % LINE
    return memory[start : start + size].view(dtype).reshape(shape)
