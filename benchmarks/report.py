"""The results as Markdown."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from .results_view import Results, on, ours, seconds
from .runner import FLOOR, SAME_LABELS
from .targets import Target, targets

SHARE_PLOT = "share-of-the-floor.png"
CLASSES_PLOT = "time-against-classes.png"

Row = Sequence[str]


def markdown(results: Results) -> str:
    """All tables, the pictures' places among them."""
    parts = ["# A step of center loss, measured", _machine(results)]
    parts += ["## What it must show", _targets(targets(results))]
    parts += ["## Where centerloss loses", _losses(results)]
    if results["workloads"]:
        parts += ["## Time of a step", _times(results)]
        parts += ["## Step over floor", _over_floor(results)]
        parts += [f"![Share of the floor by workload]({SHARE_PLOT})"]
        parts += ["## More of centerloss", _more(results)]
    if results["training"]:
        parts += ["## Training in PyTorch", _training(results["training"])]
    if results["classes"]:
        parts += ["## Time against the number of classes", _classes(results)]
        parts += [f"![Time against the number of classes]({CLASSES_PLOT})"]
    return "\n\n".join(parts) + "\n"


def _table(head: Row, rows: Iterable[Row]) -> str:
    aligned = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, aligned, *rows])


def _machine(results: Results) -> str:
    lines = [f"- {name}: {value}" for name, value in results["machine"].items()]
    threads = ", ".join(map(str, results["threads"]))
    return "\n".join([*lines, f"- threads: {threads}; one where not said"])


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _time(value: float) -> str:
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= unit:
            return f"{_number(value / unit)} {name}"
    return f"{_number(1e9 * value)} ns"


def _spread(timing: Results | None) -> str:
    if timing is None:
        return ""
    lower, upper = _time(timing["lower"]), _time(timing["upper"])
    return f"{_time(timing['median'])} ({lower} - {upper})"


def _targets(found: Sequence[Target]) -> str:
    """Make one row of all with the same limit on the same figure."""

    def figure(target: Target) -> tuple[str, str]:
        sign = "≥" if target.at_least else "≤"
        return target.what, f"{sign} {_number(target.limit)} {target.unit}"

    rows = []
    for head, group in groupby(found, figure):
        same = list(group)
        cells = [f"{t.where} {_measured(t)}".strip() for t in same]
        missed = [target.where for target in same if target.met is False]
        run = any(target.met is not None for target in same)
        met = f"**no**: {', '.join(missed)}" if missed else "yes" if run else "not run"
        rows.append([*head, ", ".join(cells), met])
    return _table(["figure", "target", "measured", "met"], rows)


def _measured(target: Target) -> str:
    return "-" if target.measured is None else _number(target.measured)


def _losses(results: Results) -> str:
    """Every rival that is faster on as many threads."""
    entries = {
        **results["workloads"],
        **{f"K = {K}": entry for K, entry in results["classes"].items()},
    }
    lines = []
    for where, entry in entries.items():
        for timing in entry["timings"]:
            own = ours(entry, timing["threads"])
            if own is None or timing["name"] not in results["peers"]:
                continue
            if timing["median"] < own:
                times = f"{_time(timing['median'])} against {_time(own)}"
                rival = timing["name"] + on(timing["threads"])
                lines.append(f"- {where}: {rival} is faster, {times}.")
    return "\n".join(lines) or "To no rival in this run."


def _by_line(entry: Results) -> dict[tuple[str, int], Results]:
    return {(t["name"], t["threads"]): t for t in entry["timings"]}


def _lines(results: Results, entries: Results) -> list[tuple[str, int]]:
    """Return (name, threads) of all that are timed in each entry, in their order."""
    names = (FLOOR, *results["peers"], SAME_LABELS)
    lines = dict.fromkeys(line for e in entries.values() for line in _by_line(e))
    return [line for line in lines if line[0] in names]


def _times(results: Results) -> str:
    workloads = results["workloads"]
    rows = [
        [line[0] + on(line[1])]
        + [_spread(_by_line(entry).get(line)) for entry in workloads.values()]
        for line in _lines(results, workloads)
    ]
    heads = [
        f"{name}<br>{entry['rows']}x{entry['dim']} K={entry['classes']}"
        for name, entry in workloads.items()
    ]
    note = "Median, and the quartiles in brackets."
    return f"{note}\n\n{_table(['', *heads], rows)}"


def _over_floor(results: Results) -> str:
    workloads = results["workloads"]
    rows = [
        [name + on(threads)]
        + [
            _number(seconds(entry, name, threads) / seconds(entry, FLOOR))
            for entry in workloads.values()
        ]
        for name, threads in _lines(results, workloads)
    ]
    return _table(["", *workloads], rows)


def _more(results: Results) -> str:
    """What is timed on one workload alone: other features, other calls."""
    lines = _lines(results, results["workloads"])
    rows = [
        [f"{where}: {line[0]}{on(line[1])}", _spread(timing)]
        for where, entry in results["workloads"].items()
        for line, timing in _by_line(entry).items()
        if line not in lines
    ]
    return _table(["", "time"], rows) if rows else "Not timed in this run."


def _training(training: Results) -> str:
    lines = dict.fromkeys(line for e in training.values() for line in _by_line(e))
    rows = [
        [line[0] + on(line[1])]
        + [_spread(_by_line(entry).get(line)) for entry in training.values()]
        for line in lines
    ]
    note = "Forward, backward, and the move of the centers; no network."
    return f"{note}\n\n{_table(['', *training], rows)}"


def _classes(results: Results) -> str:
    classes = results["classes"]
    rows = [
        [line[0], *(_spread(_by_line(entry).get(line)) for entry in classes.values())]
        for line in _lines(results, classes)
    ]
    entry = next(iter(classes.values()))
    note = (
        f"{entry['rows']} x {entry['dim']} features, one thread; "
        f"{entry['label_sets']} sets of labels in turn, "
        "but for the last line."
    )
    return f"{note}\n\n{_table(['', *(f'K={K}' for K in classes)], rows)}"
