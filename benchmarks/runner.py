"""Run the benchmarks: which entries are timed on which workload."""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from timeit import Timer
from typing import Any

import ml_dtypes
import numpy as np

import centerloss

from .imports import measure_import
from .lookup import CLASS_CALL, COPY, PLAIN_CALL, SAME_LABELS, at_offset_0
from .machine import describe
from .measure import Entry, measure
from .memory import measure_memory
from .peers.base import ALPHA, Centerloss, Peer
from .peers.by_hand import ByHand, check
from .registry import training_peers
from .workloads import (
    CLASSES,
    TRAINING,
    WORKLOADS,
    Batch,
    Workload,
    empty,
    make_batch,
)

SECTIONS = (*WORKLOADS, "training", "classes", "memory", "import")


@dataclass(frozen=True)
class Settings:
    """What to run; `seconds` is the time for one workload."""

    sections: Sequence[str]
    threads: Sequence[int]
    peers: dict[str, type[Peer]]
    seconds: float = 20.0
    max_classes: int = 10**7
    imports: int = 15


def run(settings: Settings) -> dict[str, Any]:
    """Run the benchmarks; return the results, which can be written as JSON."""
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
        classes = {min(10**4, settings.max_classes), settings.max_classes}
        results["memory"] = measure_memory(sorted(classes))
    elif section == "import":
        results["import"] = measure_import(settings.imports)
    else:
        results["workloads"][section] = _time_workload(section, settings, rng)


def _time_workload(
    name: str, settings: Settings, rng: np.random.Generator
) -> dict[str, Any]:
    workload = WORKLOADS[name]
    batch = make_batch(workload, rng)
    peers = _peers_of(workload, settings)
    entries = [_copy(batch), *_entries(batch, peers, settings.threads)]
    entries += _entries_at_offset_0(batch.at_offset(0), peers)
    for dtype in workload.halves:
        entries += _half_precision(batch, dtype, settings.threads)
    if name == "toy":
        entries += _whole_calls(batch)
    timings = measure(entries, settings.seconds, rng)
    return _result(workload, batch, timings)


def _time_training(settings: Settings, rng: np.random.Generator) -> dict[str, Any]:
    """Time a training step in PyTorch, if it is installed."""
    results = {}
    for name in TRAINING:
        workload = WORKLOADS[name]
        peers = training_peers(workload.networked)
        if not peers or workload.classes > settings.max_classes:
            continue
        batch = make_batch(workload, rng)
        entries = []
        for peer_name, peer_class in peers.items():
            peer = peer_class(batch)
            entries += _on_threads(peer_name, peer, settings.threads)
        timings = measure(entries, settings.seconds, rng)
        results[name] = _result(workload, batch, timings)
    return results


def _time_classes(settings: Settings, rng: np.random.Generator) -> dict[str, Any]:
    """Time all numbers of classes in the same rounds, on one thread."""
    workloads = {
        K: workload
        for K, workload in CLASSES.items()
        if workload.classes <= settings.max_classes and _fits(workload)
    }
    batches = {K: make_batch(workload, rng) for K, workload in workloads.items()}
    groups = {
        K: [
            *_entries(batch, _peers_of(workloads[K], settings), [1]),
            _same_labels(batch),
        ]
        for K, batch in batches.items()
    }
    entries = [entry for group in groups.values() for entry in group]
    timings = iter(measure(entries, 3 * settings.seconds, rng))
    return {
        str(K): _result(workloads[K], batches[K], [next(timings) for _ in groups[K]])
        for K in workloads
    }


def _fits(workload: Workload) -> bool:
    """Return whether there is memory for the centers and a peer's copies of them."""
    if not hasattr(os, "sysconf"):
        return True
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 4 * workload.classes * workload.dim * 4 < free


def _result(workload: Workload, batch: Batch, timings: Sequence[Any]) -> dict[str, Any]:
    return {
        "rows": workload.rows,
        "dim": workload.dim,
        "classes": workload.classes,
        "touched": batch.touched,
        "label_sets": len(batch.label_sets),
        "timings": [asdict(timing) for timing in timings],
    }


def _copy(batch: Batch, dtype: str = "") -> Entry:
    """Copy as many values as a step has to read and write."""
    shape = len(batch.features) + batch.touched, batch.features.shape[1]
    source, target = (
        empty(shape, batch.features.dtype, batch.offset) for _ in range(2)
    )
    source[:] = 0.5
    name = f"{COPY} {dtype}".strip()
    return Entry(name, 1, Timer(partial(np.copyto, target, source)), lambda: None)


def _on_threads(name: str, peer: Any, threads: Sequence[int]) -> list[Entry]:
    return [
        Entry(name, n, Timer(peer.step), partial(peer.set_threads, n)) for n in threads
    ]


def _peers_of(workload: Workload, settings: Settings) -> dict[str, type[Peer]]:
    """Return the peers that are timed on a workload."""
    peers = dict(settings.peers)
    if not workload.by_hand:
        peers.pop(ByHand.name, None)
    return peers


def _entries(
    batch: Batch, peers: dict[str, type[Peer]], threads: Sequence[int]
) -> list[Entry]:
    entries = []
    for name, peer_class in peers.items():
        if peer_class is ByHand:
            check(batch)
        peer = peer_class(batch)
        entries += _on_threads(name, peer, threads if peer.threaded else [1])
    return entries


def _entries_at_offset_0(batch: Batch, peers: dict[str, type[Peer]]) -> list[Entry]:
    """The copy, centerloss and C by hand with arrays that start a cache line."""
    few = {
        name: peers[name] for name in (Centerloss.name, ByHand.name) if name in peers
    }
    return [
        replace(entry, name=at_offset_0(entry.name))
        for entry in (_copy(batch), *_entries(batch, few, [1]))
    ]


def _same_labels(batch: Batch) -> Entry:
    """centerloss with the same labels in every step, so their centers stay in cache."""
    same = Batch(batch.features, batch.label_sets[:1], batch.centers)
    return _on_threads(SAME_LABELS, Centerloss(same), [1])[0]


def _half_precision(batch: Batch, dtype: str, threads: Sequence[int]) -> list[Entry]:
    half_type = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    features = empty(batch.features.shape, half_type, batch.offset)
    features[:] = batch.features
    half = Batch(features, batch.label_sets, batch.centers)
    name = f"{Centerloss.name} {dtype}"
    return [_copy(half, dtype), *_on_threads(name, Centerloss(half), threads)]


def _whole_calls(batch: Batch) -> list[Entry]:
    """Calls as a user writes them, with the gradient in a new array."""
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
        Entry(call, 1, Timer(call, globals=names), prepare)
        for call in (PLAIN_CALL, CLASS_CALL)
    ]
