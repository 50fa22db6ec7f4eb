"""What each rank does in the benchmarks of centers in shards; see `shards`.

``python -m benchmarks.shards_rank JOB`` runs on all ranks, with a `Job` as JSON.
"""

import gc
import json
import math
import mmap
import os
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import centerloss

from .memory import RESET, status

TOUCHED = 10**5  # classes that occur, evenly spread over all K
LABEL_SETS = 64
COUNTED = 20  # steps in which bytes and exchanges are counted

SHARDED = {
    "gloo": ["sharded, over rank"],
    "MPI": ["sharded, over rank", "sharded, over all"],
}
REPLICATED = "replicated"


@dataclass(frozen=True)
class Job:
    """What the ranks measure: each list has numbers of classes."""

    engine: str
    ranks: int
    folder: str  # for this run
    sharded: list[int]
    mapped: list[int]  # sharded, in memory-mapped files
    replicated: list[int]
    rows: int = 1024
    dim: int = 256
    samples: int = 100
    calls: int = 5  # steps of a sample


@dataclass
class Entry:
    """A variant at a number of classes, with what was measured on this rank."""

    name: str
    classes: int
    model: Any
    step: Callable[[Any], object]
    labels: Sequence[Any]
    memory: dict[str, int] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)


class Gloo:
    """PyTorch: forward and backward in training mode, over gloo."""

    def __init__(self, job: Job, features: np.ndarray) -> None:
        import torch
        import torch.distributed as dist

        import centerloss.torch

        torch.set_num_threads(1)
        self._torch, self._dist, self._losses = torch, dist, centerloss.torch
        self.rank, self.size = int(os.environ["RANK"]), job.ranks
        store = Path(job.folder, "store").as_uri()
        dist.init_process_group("gloo", store, rank=self.rank, world_size=self.size)
        self.barrier = dist.barrier
        self._embeddings = torch.from_numpy(features).requires_grad_()
        self.shape = features.shape

    def gather(self, value: Any) -> list[Any]:
        values = [None] * self.size
        self._dist.all_gather_object(values, value)
        return values

    def labels(self, labels: np.ndarray) -> Any:
        return self._torch.from_numpy(labels)

    def sharded(self, name: str, classes: int, init: Any) -> tuple[Any, Any]:
        def tensor(first: int, last: int) -> Any:
            return self._torch.from_numpy(init(first, last))

        model = self._losses.ShardedCenterLoss(
            classes,
            self.shape[1],
            over=name.split()[-1],
            init=tensor if callable(init) else init,
        )
        return model, self._training(model)

    def replicated(self, classes: int) -> tuple[Any, Any]:
        model = self._losses.CenterLoss(
            classes, self.shape[1], process_group=self._dist.group.WORLD
        )
        return model, self._training(model)

    def _training(self, model: Any) -> Callable[[Any], object]:
        def step(labels: Any) -> object:
            self._embeddings.grad = None
            return model(self._embeddings, labels).backward()

        return step

    def shard(self, model: Any) -> np.ndarray:
        return model.shard.numpy()

    @contextmanager
    def count_gathers(self, traffic: list[int]) -> Any:
        """Count what `CenterLoss` receives."""
        gather = self._dist.all_gather

        def counting(tensors: Any, tensor: Any, **options: Any) -> Any:
            traffic.append(tensor.nbytes * (self.size - 1))
            return gather(tensors, tensor, **options)

        self._dist.all_gather = counting
        try:
            yield
        finally:
            self._dist.all_gather = gather

    def close(self) -> None:
        self._dist.destroy_process_group()


class MPI:
    """NumPy over mpi4py."""

    def __init__(self, _job: Job, features: np.ndarray) -> None:
        from mpi4py import MPI

        from centerloss.distributed import ShardedCenterLoss

        self._comm, self._loss = MPI.COMM_WORLD, ShardedCenterLoss
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        self.barrier, self.gather = self._comm.Barrier, self._comm.allgather
        self._features, self._gradient = features, np.empty_like(features)
        self.shape = features.shape

    def labels(self, labels: np.ndarray) -> np.ndarray:
        return labels

    def sharded(self, name: str, classes: int, init: Any) -> tuple[Any, Any]:
        model = self._loss(
            classes, self.shape[1], self._comm, over=name.split()[-1], init=init
        )
        x, gradient = self._features, self._gradient
        return model, lambda labels: model.step(x, labels, out=gradient)

    def replicated(self, classes: int) -> tuple[Any, Any]:
        """What one would write: all ranks update all centers with all rows."""
        model = centerloss.CenterLoss(classes, self.shape[1], init="normal")
        x, gradient, comm = self._features, self._gradient, self._comm
        rows, columns = self.shape
        all_x = np.empty((self.size * rows, columns), x.dtype)
        all_labels = np.empty(self.size * rows, np.int64)

        def step(labels: np.ndarray) -> None:
            model.value_and_grad(x, labels, out=gradient)
            comm.Allgather(x, all_x)
            comm.Allgather(labels, all_labels)
            model.update(all_x, all_labels)

        return model, step

    def shard(self, model: Any) -> np.ndarray:
        return model.shard

    @contextmanager
    def count_gathers(self, traffic: list[int]) -> Any:
        """Count the two of the step above."""
        rows, columns = self.shape
        others = (self.size - 1) * rows
        yield
        traffic += [4 * columns * others, 8 * others] * COUNTED

    def close(self) -> None:
        pass


class CountingEngine:
    """An engine, and the bytes that this rank receives from others in each exchange."""

    def __init__(self, engine: Any, traffic: list[int]) -> None:
        self._engine, self._traffic = engine, traffic
        self.rank, self.size = engine.rank, engine.size

    def exchange(self, words: np.ndarray) -> np.ndarray:
        self._traffic.append(words.nbytes * (self.size - 1) // self.size)
        return self._engine.exchange(words)

    def start(self, words: Any, sent: Any, received: Any) -> Any:
        self._traffic.append(8 * (sum(received) - received[self.rank]))
        return self._engine.start(words, sent, received)


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    centerloss.set_num_threads(1)
    # Before the engine starts: PyTorch and MPI have seeds of their own.
    features = np.empty((job.rows, job.dim), np.float32)
    engine = {"gloo": Gloo, "MPI": MPI}[job.engine](job, features)
    rng = np.random.default_rng([1, engine.rank])
    features[...] = rng.standard_normal(features.shape)
    entries = _entries(job, engine, rng)
    _time(job, engine, entries)
    results = {
        "engine": job.engine,
        "ranks": job.ranks,
        "rows": job.rows,
        "dim": job.dim,
        "calls": job.calls,
        "processors": engine.gather(len(os.sched_getaffinity(0))),
        "entries": [_summary(job, engine, entry) for entry in entries],
    }
    if engine.rank == 0:
        Path(job.folder, "results.json").write_text(json.dumps(results))
    engine.close()


def _entries(job: Job, engine: Any, rng: np.random.Generator) -> list[Entry]:
    entries = []
    for classes in (*job.sharded, *job.mapped):
        init: Any = "normal"
        if classes in job.mapped:
            init = _Mapped(job, classes, engine.rank)
        for name in SHARDED[job.engine]:
            entry = _entry(job, engine, rng, name, classes, init)
            entries.append(entry)
            # The variants of a number of classes share their centers.
            shard = engine.shard(entry.model)
            init = lambda _first, _last, shard=shard: shard  # noqa: E731
    entries += [
        _entry(job, engine, rng, REPLICATED, classes, None)
        for classes in job.replicated
    ]
    return entries


def _entry(
    job: Job,
    engine: Any,
    rng: np.random.Generator,
    name: str,
    classes: int,
    init: Any,
) -> Entry:
    """Construct a variant, warm it up, and measure its memory."""

    def construct() -> tuple[Any, Any]:
        if name == REPLICATED:
            return engine.replicated(classes)
        return engine.sharded(name, classes, init)

    (model, step), peak = _growth(construct)
    occurring = _occurring(classes)
    shape = LABEL_SETS, job.rows
    labels = [engine.labels(of) for of in rng.choice(occurring, shape)]
    entry = Entry(name, classes, model, step, labels, {"construction": peak})
    for of_step in labels[:3]:
        step(of_step)
    entry.memory["step"] = max(_growth(lambda: step(labels[3]))[1] for _ in range(5))
    tracemalloc.start()
    step(labels[4])
    entry.memory["step, of NumPy"] = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return entry


def _occurring(classes: int) -> np.ndarray:
    """Return the classes that occur: as many whatever K is, if it is large."""
    count = min(classes, TOUCHED)
    return np.arange(count) * (classes // count)


class _Mapped:
    """A shard in a sparse file; the pages of the classes that occur are in memory."""

    def __init__(self, job: Job, classes: int, rank: int) -> None:
        self._path = Path(job.folder, f"{classes}-{rank}")
        self._classes, self._columns = classes, job.dim

    def __call__(self, first: int, last: int) -> np.ndarray:
        shape = last - first, self._columns
        with self._path.open("w+b") as file:
            file.truncate(4 * math.prod(shape))
            mapped = mmap.mmap(file.fileno(), 0)
        # Without it, Linux reads 128 KiB for each center.
        mapped.madvise(mmap.MADV_RANDOM)
        rows = np.frombuffer(mapped, np.float32).reshape(shape)
        occurring = _occurring(self._classes)
        own = occurring[(first <= occurring) & (occurring < last)] - first
        rows[own] = 0.5
        return rows


def _growth(call: Callable[[], Any]) -> tuple[Any, int]:
    """Return a result, and how much resident memory grew meanwhile, at its peak."""
    if not RESET.exists():
        return call(), 0
    gc.collect()
    RESET.write_text("5")
    before = status("VmHWM")
    result = call()
    return result, status("VmHWM") - before


def _time(job: Job, engine: Any, entries: list[Entry]) -> None:
    """Time the entries in turns, in an order that is the same on all ranks."""
    order = np.random.default_rng(0)
    for number in range(job.samples):
        first = number * job.calls
        for i in order.permutation(len(entries)):
            entry = entries[i]
            labels = [
                entry.labels[(first + k) % LABEL_SETS] for k in range(job.calls + 1)
            ]
            entry.step(labels[0])
            engine.barrier()
            start = time.perf_counter()
            for of_step in labels[1:]:
                entry.step(of_step)
            entry.times.append((time.perf_counter() - start) / job.calls)


def _summary(job: Job, engine: Any, entry: Entry) -> dict[str, Any]:
    """Return the results of an entry, of all ranks; counts the traffic."""
    traffic: list[int] = []
    if entry.name == REPLICATED:
        with engine.count_gathers(traffic):
            _step(entry)
    else:
        shards = entry.model._shards
        find = shards._find_engine
        shards._find_engine = lambda: CountingEngine(find(), traffic)
        _step(entry)
        shards._find_engine = find
    distinct = np.mean([len(np.unique(of)) for of in entry.labels[:COUNTED]])
    times = np.max(engine.gather(entry.times), axis=0)
    lower, median, upper = np.quantile(times, [0.25, 0.5, 0.75]).tolist()
    memory = engine.gather(entry.memory)
    return {
        "name": entry.name,
        "classes": entry.classes,
        "mapped": entry.classes in job.mapped and entry.name != REPLICATED,
        "lower": lower,
        "median": median,
        "upper": upper,
        "samples": len(times),
        "exchanges": len(traffic) / COUNTED,
        "bytes received": np.mean(engine.gather(sum(traffic) / COUNTED)),
        "distinct classes": np.mean(engine.gather(distinct)),
        "memory": {name: max(of[name] for of in memory) for name in memory[0]},
    }


def _step(entry: Entry) -> None:
    for labels in entry.labels[:COUNTED]:
        entry.step(labels)


if __name__ == "__main__":
    main()
