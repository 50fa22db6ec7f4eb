"""What the numbers must show, and whether they do."""

from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

from .peers import Ours
from .results_view import Results, fastest, on, ours, ratio, seconds
from .runner import FLOOR, SAME_LABELS
from .workloads import TRAINING, WORKLOADS

# Step over the floor, by workload and threads.
OVER_FLOOR = {
    ("reid", 1): 1.8,
    ("face", 1): 1.8,
    ("long", 1): 1.8,
    ("long", 2): 1.05,
    ("face4k", 1): 1.1,
    ("face4k", 2): 0.75,
    ("many", 1): 2.0,
    ("many", 2): 1.0,
    ("one class", 1): 0.9,
    ("one class", 2): 0.6,
}
SAME = 1.05  # two medians of the same work differ by less
TOY_CALLS = {
    "step(features, labels, centers)": 1.5,
    "loss_fn.step(features, labels)": 1.8,
}
BYTES_PER_ROW = 64
BYTES_PER_THREAD = 64 << 10


@dataclass(frozen=True)
class Target:
    """A measured number (None: not measured in this run) and the limit it has."""

    what: str
    where: str
    measured: float | None
    limit: float
    unit: str = "x"
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        if self.at_least:
            return self.measured >= self.limit
        return self.measured <= self.limit


def targets(results: Results) -> list[Target]:
    """All targets, those of sections that did not run included."""
    return [
        *_over_floor(results["workloads"]),
        *_over_peers(results["workloads"]),
        *_halves(results["workloads"].get("long")),
        *_training(results["training"]),
        *_calls(results["workloads"].get("toy")),
        *_many_classes(results["classes"]),
        *_memory(results["memory"]),
        _import(results["import"]),
    ]


def _over_floor(workloads: Results) -> Iterator[Target]:
    for (name, threads), limit in OVER_FLOOR.items():
        entry = workloads.get(name)
        measured = ratio(ours(entry, threads), seconds(entry, FLOOR))
        yield Target(f"step / floor{on(threads)}", name, measured, limit)
    for name in ("reid", "face"):
        entry = workloads.get(name)
        measured = ratio(ours(entry, 2), ours(entry, 1))
        yield Target("step on 2 threads / on 1", name, measured, SAME)


def _over_peers(workloads: Results) -> Iterator[Target]:
    rivals = [("PyTorch", 1, 4.0), ("PyTorch", 2, 4.0), ("NumPy", 1, 12.0)]
    for library, threads, limit in rivals:
        what = f"fastest {library} / step{on(threads)}"
        for name in WORKLOADS:
            entry = workloads.get(name)
            measured = ratio(fastest(entry, library, threads), ours(entry, threads))
            yield Target(what, name, measured, limit, at_least=True)
    for name in WORKLOADS:
        if name != "toy":
            entry = workloads.get(name)
            measured = ratio(seconds(entry, "numba"), ours(entry))
            yield Target(f"numba / step{on(1)}", name, measured, 3.0, at_least=True)
    entry = workloads.get("face")
    measured = ratio(seconds(entry, "NumPy reduceat"), ours(entry))
    what = f"NumPy reduceat / step{on(1)}"
    yield Target(what, "face", measured, 8.0, at_least=True)


def _halves(entry: Results | None) -> Iterator[Target]:
    for threads in (1, 2):
        for dtype in ("float16", "bfloat16"):
            measured = ratio(ours(entry, threads, dtype), ours(entry, threads))
            what = f"long, two-byte features / float32{on(threads)}"
            yield Target(what, dtype, measured, 0.75)


def _training(training: Results) -> Iterator[Target]:
    own = "centerloss.torch"
    rivals = [("dense", {"toy": 2, "face": 100, "many": 300})]
    rivals += [("sparse", {"face": 3, "face4k": 3})]
    for rival, limits in rivals:
        for threads in (1, 2):
            what = f"PyTorch {rival} / {own}, a training step{on(threads)}"
            for name, limit in limits.items():
                entry = training.get(name)
                measured = ratio(
                    seconds(entry, f"PyTorch {rival}, trained", threads),
                    seconds(entry, own, threads),
                )
                yield Target(what, name, measured, limit, at_least=True)
    for name in TRAINING:
        entry = training.get(name)
        measured = ratio(seconds(entry, f"{own}, compiled"), seconds(entry, own))
        yield Target("compiled / eager, the loss alone", name, measured, SAME)
    for name in TRAINING:
        if WORKLOADS[name].networked:
            entry = training.get(name)
            whole = f"network with {own}"
            measured = ratio(
                seconds(entry, f"{whole}, compiled"), seconds(entry, whole)
            )
            yield Target("compiled / eager, with a network", name, measured, SAME)


def _calls(entry: Results | None) -> Iterator[Target]:
    for call, limit in TOY_CALLS.items():
        measured = seconds(entry, call)
        microseconds = None if measured is None else 1e6 * measured
        yield Target(f"`{call}`, whole call", "toy", microseconds, limit, unit="us")


def _many_classes(classes: Results) -> Iterator[Target]:
    most, few = classes.get("10000000"), classes.get("10000")
    what = f"step at K = 10000000 / at K = 10000{on(1)}"
    for name, where in ((SAME_LABELS, "same labels"), (Ours.name, "other labels")):
        measured = ratio(seconds(most, name), seconds(few, name))
        yield Target(what, f"{where} every step", measured, 2.0)


def _memory(rows: list[dict[str, int]]) -> Iterator[Target]:
    what = "peak memory of a step"
    for row in sorted(rows, key=itemgetter("rows", "threads", "classes")):
        limit = BYTES_PER_ROW * row["rows"] + BYTES_PER_THREAD * row["threads"]
        yield Target(
            f"{what}, {row['rows']} rows{on(row['threads'])}",
            f"K = {row['classes']}",
            row["bytes"] / 1024,
            limit / 1024,
            unit="KiB",
        )
    if not rows:
        yield Target(what, "", None, BYTES_PER_ROW, unit="bytes a row")


def _import(measured: dict[str, float] | None) -> Target:
    milliseconds = None if measured is None else 1e3 * measured["median"]
    return Target("import beyond NumPy's own", "", milliseconds, 30.0, unit="ms")
