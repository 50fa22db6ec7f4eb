"""The results as Markdown."""

import re
from collections.abc import Iterable, Iterator, Sequence

from .lookup import (
    CLASS_CALL,
    COPY,
    PLAIN_CALL,
    SAME_LABELS,
    Results,
    at_offset_0,
    on_threads,
    seconds,
    split_offset,
)
from .machine import stem
from .peers.base import Centerloss
from .peers.by_hand import ByHand
from .workloads import NUMPY_OFFSET

COPY_PLOT = "share-of-a-copy.png"
CLASSES_PLOT = "time-against-classes.png"
NOISE = 1.05  # smaller ratios of two medians are not reported as a difference
TRAINED = "centerloss.torch"

Row = Sequence[str]
Line = tuple[str, int]  # name and threads of an entry


def markdown(results: Results) -> str:
    """Return the page: all tables, and links to the plots."""
    parts = ["# Results", describe_machine(results)]
    if results["workloads"]:
        copy_plot = plot_name(results, COPY_PLOT)
        parts += ["## Time of a step", _times(results)]
        parts += ["## Time of a step relative to a copy", _over_copy(results)]
        parts += [f"![Speed relative to a copy, by workload]({copy_plot})"]
    if by_hand := _over_by_hand(results["workloads"]):
        parts += ["## Step over C by hand", by_hand]
    if threads := _over_one_thread(results):
        parts += ["## Several threads over one", threads]
    parts += ["## Where centerloss loses", _losses(results)]
    if results["workloads"]:
        parts += ["## Half precision, and whole calls", _other_calls(results)]
    if results["training"]:
        parts += ["## Training step in PyTorch", _training(results["training"])]
    if results["classes"]:
        classes_plot = plot_name(results, CLASSES_PLOT)
        parts += ["## Time against the number of classes", _classes(results)]
        parts += [f"![Time against the number of classes]({classes_plot})"]
    if results["memory"]:
        parts += ["## Peak memory of a step", _memory(results["memory"])]
    if results["import"]:
        parts += ["## Import", f"{spread(results['import'])} beyond NumPy's own."]
    return "\n\n".join(parts) + "\n"


def plot_name(results: Results, plot: str) -> str:
    """Return the name of the file of a plot."""
    return f"{stem(results['machine'])}-{plot}"


def table(head: Row, rows: Iterable[Row]) -> str:
    """Return the lines of a table; all columns but the first are right-aligned."""
    aligned = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, aligned, *rows])


def describe_machine(results: Results) -> str:
    """Return the list about the machine, and what the times are."""
    lines = [f"- {name}: {value}" for name, value in results["machine"].items()]
    threads = ", ".join(map(str, results["threads"]))
    note = "Times are medians, with quartiles in brackets."
    return "\n".join([*lines, f"- threads: {threads}", "", note])


def number(value: float) -> str:
    """Return a number with three digits, or more before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def integer(value: int) -> str:
    """Return a number, with no-break spaces between thousands from five digits on."""
    return f"{value:,}".replace(",", "\xa0") if value >= 10_000 else str(value)


def duration(value: float) -> str:
    """Return seconds in the largest unit that gives at least one."""
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= unit:
            return f"{number(value / unit)} {name}"
    return f"{number(1e9 * value)} ns"


def spread(timing: Results | None) -> str:
    """Return the median, and the quartiles in brackets."""
    if timing is None:
        return ""
    lower, upper = duration(timing["lower"]), duration(timing["upper"])
    return f"{duration(timing['median'])} ({lower} - {upper})"


def _ratio(result: Results, line: Line, base: Line) -> str:
    """Return the ratio of two medians, an empty text if one was not timed."""
    over, under = seconds(result, *line), seconds(result, *base)
    return number(over / under) if over and under else ""


def _timings(result: Results) -> dict[Line, Results]:
    return {(t["name"], t["threads"]): t for t in result["timings"]}


def _spreads(
    lines: Iterable[Line], columns: Iterable[Results]
) -> Iterator[tuple[Line, Row]]:
    for line in lines:
        yield line, [spread(_timings(result).get(line)) for result in columns]


def _lines(results: Results, columns: Results) -> list[Line]:
    """Return name and threads of the entries that have a row in the main tables."""
    names = [COPY, *results["peers"], SAME_LABELS]
    lines = [(split_offset(line[0])[0], line) for line in _all_lines(columns)]
    known = [(names.index(name), line) for name, line in lines if name in names]
    return [line for _, line in sorted(known, key=lambda pair: pair[0])]


def _all_lines(columns: Results) -> list[Line]:
    return list(dict.fromkeys(line for c in columns.values() for line in _timings(c)))


def _times(results: Results) -> str:
    workloads = results["workloads"]
    rows = [
        [on_threads(*line), *cells]
        for line, cells in _spreads(_lines(results, workloads), workloads.values())
    ]
    heads = [
        f"{name}<br>{result['rows']}x{result['dim']} K={result['classes']}"
        for name, result in workloads.items()
    ]
    return table(["", *heads], rows)


def _over_copy(results: Results) -> str:
    workloads = results["workloads"]
    rows = [
        [on_threads(name, threads)]
        + [
            _ratio(result, (name, threads), (COPY + split_offset(name)[1], 1))
            for result in workloads.values()
        ]
        for name, threads in _lines(results, workloads)
    ]
    return table(["", *workloads], rows)


def _over_by_hand(workloads: Results) -> str:
    """centerloss relative to C by hand, where that was timed."""
    columns = {
        name: result
        for name, result in workloads.items()
        if seconds(result, ByHand.name) is not None
    }
    if not columns:
        return ""
    note = "One thread; arrays that start so many bytes into a cache line."
    own, loop = Centerloss.name, ByHand.name
    lines = {
        f"offset {NUMPY_OFFSET}": ((own, 1), (loop, 1)),
        "offset 0": ((at_offset_0(own), 1), (at_offset_0(loop), 1)),
    }
    rows = [
        [label, *(_ratio(result, *pair) for result in columns.values())]
        for label, pair in lines.items()
    ]
    return f"{note}\n\n{table(['', *columns], rows)}"


def _over_one_thread(results: Results) -> str:
    """centerloss on several threads relative to one."""
    name, workloads = Centerloss.name, results["workloads"]
    several = [threads for threads in results["threads"] if threads > 1]
    if not (workloads and several and 1 in results["threads"]):
        return ""
    rows = [
        [on_threads(name, threads)]
        + [_ratio(result, (name, threads), (name, 1)) for result in workloads.values()]
        for threads in several
    ]
    return table(["", *workloads], rows)


def _losses(results: Results) -> str:
    """List what is faster than centerloss, and variants slower than the plain call."""
    classes = {f"K = {K}": result for K, result in results["classes"].items()}
    sections = [
        (Centerloss.name, {**results["workloads"], **classes}),
        (TRAINED, results["training"]),
    ]
    losses: dict[str, list[str]] = {}
    for own, columns in sections:
        for where, result in columns.items():
            for what, ratio in _lost(result, own, results["peers"]):
                losses.setdefault(what, []).append(f"{where} {number(ratio)} times")
    lines = [f"- {what}: {', '.join(found)}." for what, found in losses.items()]
    return "\n".join(lines) or "Nowhere in this run."


def _lost(
    result: Results, own: str, peers: Sequence[str]
) -> Iterator[tuple[str, float]]:
    timings = _timings(result)
    for (name, threads), timing in timings.items():
        label = on_threads(name, threads)
        peer, offset = split_offset(name)
        base = timings.get((own + offset, threads))
        if base and peer.removesuffix(", trained") in peers:
            ratio = base["median"] / timing["median"]
            if ratio > 1:
                yield f"{label} is faster than {own}{offset}", ratio
        plain_name = _plain(name)
        plain = timings.get((plain_name, threads))
        if plain and plain_name != COPY:
            ratio = timing["median"] / plain["median"]
            if ratio > NOISE:
                yield f"{label} is slower than {plain_name}", ratio


def _plain(name: str) -> str:
    """Return what a variant is compared with.

    That is the same in float32 or without torch.compile, and the function for a method.
    """
    if name == CLASS_CALL:
        return PLAIN_CALL
    return re.sub(r" b?float16|, compiled", "", name)


def _other_calls(results: Results) -> str:
    """Entries that are timed on one workload only."""
    lines = _lines(results, results["workloads"])
    rows = [
        [
            f"{where}: {on_threads(name, threads)}",
            spread(timing),
            _ratio(result, (name, threads), (_plain(name), threads)),
        ]
        for where, result in results["workloads"].items()
        for (name, threads), timing in _timings(result).items()
        if (name, threads) not in lines
    ]
    if not rows:
        return "Not timed in this run."
    note = f"Ratios are over the same in float32, or over `{PLAIN_CALL}`."
    return f"{note}\n\n{table(['', 'time', 'ratio'], rows)}"


def _training(training: Results) -> str:
    lines = _all_lines(training)
    times = [
        [on_threads(*line), *cells]
        for line, cells in _spreads(lines, training.values())
    ]
    ratios = [
        [on_threads(name, threads)]
        + [
            _ratio(result, (name, threads), (TRAINED, threads))
            for result in training.values()
        ]
        for name, threads in lines
        if all(seconds(result, name, threads) for result in training.values())
    ]
    return "\n\n".join(
        [
            "Forward, backward and center update, on embeddings without a network.",
            table(["", *training], times),
            f"Relative to {TRAINED} on the same number of threads:",
            table(["", *training], ratios),
        ]
    )


def _classes(results: Results) -> str:
    classes = results["classes"]
    rows = [
        [name, *cells]
        for (name, _), cells in _spreads(_lines(results, classes), classes.values())
    ]
    result = next(iter(classes.values()))
    note = (
        f"{result['rows']} x {result['dim']} features, one thread; "
        f"{result['label_sets']} sets of labels in turn, one set in the last line."
    )
    return f"{note}\n\n{table(['', *(f'K={K}' for K in classes)], rows)}"


def _memory(measured: list[dict[str, int]]) -> str:
    classes = sorted({row["classes"] for row in measured})
    kibibytes = {
        (row["rows"], row["threads"], row["classes"]): f"{row['bytes'] / 1024:.0f} KiB"
        for row in measured
    }
    lines = sorted({key[:2] for key in kibibytes})
    rows = [
        [on_threads(f"{rows} rows", threads)]
        + [kibibytes[rows, threads, K] for K in classes]
        for rows, threads in lines
    ]
    return table(["", *(f"K={K}" for K in classes)], rows)
