"""Who is timed on which workload, and all of it as one dictionary."""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from timeit import Timer
from typing import Any

import ml_dtypes
import numpy as np

import centerloss

from .imports import measure_import
from .machine import describe
from .measure import Contestant, measure
from .memory import measure_memory
from .peers import ALPHA, Ours, Peer
from .workloads import CLASSES, TRAINING, WORKLOADS, Batch, Workload, make_batch

FLOOR = "copy"
SAME_LABELS = f"{Ours.name}, same labels"
SECTIONS = (*WORKLOADS, "training", "classes", "memory", "import")


@dataclass(frozen=True)
class Settings:
    """What to run; `seconds` is the time for the contestants of one workload."""

    sections: Sequence[str]
    threads: Sequence[int]
    peers: dict[str, type[Peer]]
    seconds: float = 20.0
    most_classes: int = 10**7
    imports: int = 15


def run(settings: Settings) -> dict[str, Any]:
    """Measure; the result goes to JSON as it is."""
    results: dict[str, Any] = {
        "machine": describe(),
        "threads": list(settings.threads),
        "peers": list(settings.peers),
        "workloads": {},
        "training": {},
        "classes": {},
        "memory": [],
        "import": None,
    }
    before = centerloss.get_num_threads()
    rng = np.random.default_rng(0)
    try:
        for section in settings.sections:
            start = time.perf_counter()
            print(section, end=" ", flush=True)
            _run_section(section, settings, rng, results)
            print(f"{time.perf_counter() - start:.0f} s")
    finally:
        centerloss.set_num_threads(before)
    return results


def _run_section(
    section: str, settings: Settings, rng: np.random.Generator, results: dict[str, Any]
) -> None:
    if section == "training":
        results["training"] = _time_training(settings, rng)
    elif section == "classes":
        results["classes"] = _time_classes(settings, rng)
    elif section == "memory":
        most = settings.most_classes
        results["memory"] = measure_memory(sorted({min(10**4, most), most}))
    elif section == "import":
        results["import"] = measure_import(settings.imports)
    else:
        results["workloads"][section] = _time_workload(section, settings, rng)


def _time_workload(
    name: str, settings: Settings, rng: np.random.Generator
) -> dict[str, Any]:
    workload = WORKLOADS[name]
    batch = make_batch(workload, rng)
    contestants = [_floor(batch), *_contestants(batch, settings, settings.threads)]
    for dtype in workload.halves:
        contestants += _half_contestants(batch, dtype, settings.threads)
    if name == "toy":
        contestants += _whole_calls(batch)
    timings = measure(contestants, settings.seconds, rng)
    return _entry(workload, batch, timings)


def _time_training(settings: Settings, rng: np.random.Generator) -> dict[str, Any]:
    """Time a training step in PyTorch, if it is there."""
    if not find_spec("torch"):
        return {}
    from .peers_training import networks, ways

    entries = {}
    for name in TRAINING:
        if WORKLOADS[name].classes > settings.most_classes:
            continue
        batch = make_batch(WORKLOADS[name], rng)
        contestants = []
        found = ways() | (networks() if WORKLOADS[name].networked else {})
        for way_name, way_class in found.items():
            way = way_class(batch)
            for n in settings.threads:
                prepare = partial(way.set_threads, n)
                contestants.append(Contestant(way_name, n, Timer(way.step), prepare))
        timings = measure(contestants, settings.seconds, rng)
        entries[name] = _entry(WORKLOADS[name], batch, timings)
    return entries


def _time_classes(settings: Settings, rng: np.random.Generator) -> dict[str, Any]:
    """Time every number of classes in the same rounds, on one thread."""
    workloads = {
        K: workload
        for K, workload in CLASSES.items()
        if workload.classes <= settings.most_classes and _fits(workload)
    }
    batches = {K: make_batch(workload, rng) for K, workload in workloads.items()}
    groups = {
        K: [*_contestants(batch, settings, [1]), _same_labels(batch)]
        for K, batch in batches.items()
    }
    contestants = [contestant for group in groups.values() for contestant in group]
    timings = iter(measure(contestants, 3 * settings.seconds, rng))
    return {
        str(K): _entry(workloads[K], batches[K], [next(timings) for _ in groups[K]])
        for K in workloads
    }


def _fits(workload: Workload) -> bool:
    """Tell whether there is memory for the centers and a peer's copies of them."""
    if not hasattr(os, "sysconf"):
        return True
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 4 * workload.classes * workload.dim * 4 < free


def _entry(workload: Workload, batch: Batch, timings: Sequence[Any]) -> dict[str, Any]:
    return {
        "rows": workload.rows,
        "dim": workload.dim,
        "classes": workload.classes,
        "touched": batch.touched,
        "label_sets": len(batch.label_sets),
        "timings": [asdict(timing) for timing in timings],
    }


def _floor(batch: Batch, dtype: str = "") -> Contestant:
    """Copy as many values as a step cannot but read and write."""
    shape = len(batch.features) + batch.touched, batch.features.shape[1]
    source = np.full(shape, 0.5, batch.features.dtype)
    to = np.empty_like(source)
    name = f"{FLOOR} {dtype}".strip()
    return Contestant(name, 1, Timer(partial(np.copyto, to, source)), lambda: None)


def _contestants(
    batch: Batch, settings: Settings, threads: Sequence[int]
) -> list[Contestant]:
    contestants = []
    for name, peer_class in settings.peers.items():
        peer = peer_class(batch)
        for n in threads if peer.threaded else [1]:
            prepare = partial(peer.set_threads, n)
            contestants.append(Contestant(name, n, Timer(peer.step), prepare))
    return contestants


def _same_labels(batch: Batch) -> Contestant:
    """Let centerloss have the same labels in every step, and their centers at hand."""
    same = Ours(Batch(batch.features, batch.label_sets[:1], batch.centers))
    prepare = partial(same.set_threads, 1)
    return Contestant(SAME_LABELS, 1, Timer(same.step), prepare)


def _half_contestants(
    batch: Batch, dtype: str, threads: Sequence[int]
) -> list[Contestant]:
    features = batch.features.astype(
        ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    )
    half = Batch(features, batch.label_sets, batch.centers)
    name = f"{Ours.name} {dtype}"
    peer = Ours(half)
    return [_floor(half, dtype)] + [
        Contestant(name, n, Timer(peer.step), partial(peer.set_threads, n))
        for n in threads
    ]


def _whole_calls(batch: Batch) -> list[Contestant]:
    """Calls as a user writes them, the gradient in a new array."""
    names = {
        "step": centerloss.step,
        "loss_fn": centerloss.CenterLoss(
            *batch.centers.shape, alpha=ALPHA, init=batch.centers
        ),
        "features": batch.features,
        "labels": batch.label_sets[0],
        "centers": batch.centers,
    }
    prepare = partial(centerloss.set_num_threads, 1)
    return [
        Contestant(call, 1, Timer(call, globals=names), prepare)
        for call in (
            "step(features, labels, centers)",
            "loss_fn.step(features, labels)",
        )
    ]
