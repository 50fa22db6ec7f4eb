"""Write what the pages say about speed.

``python -m benchmarks.pages`` writes the Markdown pages in results/, and the marked
parts of README.md, docs/performance.md and docs/many-processes.md, which are about the
newest results.
"""

import json
import re
from pathlib import Path
from textwrap import fill

from . import classifier, shards
from .lookup import COPY, LIBRARIES, Results, fastest, seconds
from .machine import stem
from .report import CLASSES_PLOT, TRAINED, _integer, markdown, plot_name

ROOT = Path(__file__).parents[1]
FOLDER = "benchmarks/results"
ENDS = (shards.END, classifier.END)  # of the names of files with other results
OWN, *OTHERS = LIBRARIES


def main() -> None:
    newest, *others = load_results(ROOT / FOLDER)
    of_shards = load_results(ROOT / FOLDER, shards.END)
    of_classifier = load_results(ROOT / FOLDER, classifier.END)
    for results in (newest, *others):
        (ROOT / _page(results)).write_text(markdown(results), "utf-8")
    for results in of_shards:
        path = ROOT / FOLDER / shards.page_name(results)
        path.write_text(shards.markdown(results), "utf-8")
    for results in of_classifier:
        path = ROOT / FOLDER / classifier.page_name(results)
        path.write_text(classifier.markdown(results), "utf-8")
    parts = {
        "training": training(newest),
        "plot": _plot(newest),
        "speed": speed(newest, others),
        "results": _include(newest),
    }
    if of_shards:
        parts["shards"] = shards.summary(of_shards[0], f"../{FOLDER}")
    if of_classifier:
        parts["classifier"] = classifier.summary(of_classifier[0])
    for page in ("README.md", "docs/performance.md", "docs/many-processes.md"):
        path = ROOT / page
        path.write_text(fill_in(path.read_text("utf-8"), parts), "utf-8")


def load_results(folder: Path, end: str = "") -> list[Results]:
    """Return the results in a folder, the newest first.

    They are those of the module with this end, or of `benchmarks` itself without one.
    """
    found = [
        json.loads(path.read_text("utf-8"))
        for path in folder.glob("*.json")
        if path.stem.endswith(end or ENDS) == bool(end)
    ]
    return sorted(found, key=lambda r: r["machine"]["date"], reverse=True)


def fill_in(page: str, parts: dict[str, str]) -> str:
    """Replace the marked parts of a page; one that was not measured stays."""

    def part(match: re.Match[str]) -> str:
        part = parts.get(match[2])
        return match[0] if part is None else match[1] + part + match[3]

    marks = r"(<!-- by benchmarks\.pages: (\w+) -->\n).*?(<!-- end -->)"
    return re.sub(marks, part, page, flags=re.DOTALL)


def training(results: Results) -> str:
    """Return the sentence about a training step with many classes."""
    ours, times = {}, {}
    for name in ("face", "many"):
        own = seconds(results["training"][name], TRAINED)
        copied = seconds(results["training"][name], "PyTorch dense, trained")
        assert own is not None
        assert copied is not None
        ours[name], times[name] = own, f"{copied / own:.0f} times"
    sentence = (
        f"A training step in PyTorch takes {1e3 * ours['many']:.1f} ms with "
        f"{_integer(300_000)} classes; the usual copied class takes [{times['many']}]"
        f"({_page(results)}) as long, and {times['face']} with {_integer(10_575)} "
        "classes."
    )
    return _wrap(sentence, "  ")


def speed(results: Results, others: list[Results]) -> str:
    """Return the table of a step in multiples of a copy, with what it says."""
    machine = results["machine"]
    intro = (
        "Time of a step (loss, gradient and center update) as a multiple of "
        "`np.copyto` of the batch and its centers; one thread, float32; "
        f"{machine['processor']}, {machine['compiler']}, {machine['date']}. Lower is "
        f"faster, the fastest is bold. The [results]({_page(results)}) have the times "
        "and quartiles, and `make\xa0bench` measures your machine."
    )
    elsewhere = [
        f"On {other['machine']['processor']} ([{other['machine']['date']}]"
        f"({_page(other)})), {OWN} takes {', '.join(_own_ratios(other))}."
        for other in others
    ]
    last = _wrap(" ".join([_losses(results), *elsewhere]))
    return f"{_wrap(intro)}\n\n{_table(results)}\n\n{last}\n"


def _page(results: Results) -> str:
    return f"{FOLDER}/{stem(results['machine'])}.md"


def _plot(results: Results) -> str:
    path = f"{FOLDER}/{plot_name(results, CLASSES_PLOT)}"
    return f"![Time of a step against the number of classes]({path})\n"


def _include(results: Results) -> str:
    return f'```{{include}} ../{_page(results)}\n:start-after: "# Results"\n```\n'


def _wrap(text: str, indent: str = "") -> str:
    """Break into lines; no-break spaces become spaces."""
    lines = fill(
        text, 88, initial_indent=indent, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return lines.replace("\xa0", " ")


def _table(results: Results) -> str:
    workloads = results["workloads"].values()
    timed = [name for name in LIBRARIES if any(fastest(w, name) for w in workloads)]
    lines = [f"| batch, classes | {' | '.join(timed)} |"]
    lines.append("| --- |" + " ---: |" * len(timed))
    for workload in workloads:
        times = {name: fastest(workload, name) for name in timed}
        best = min(time for time in times.values() if time is not None)
        cells = [
            f"**{_ratio(workload, name)}**" if time == best else _ratio(workload, name)
            for name, time in times.items()
        ]
        classes = _integer(workload["classes"])
        lines.append(f"| {_shape(workload)}, {classes} | {' | '.join(cells)} |")
    return "\n".join(lines).replace("\xa0", " ")


def _losses(results: Results) -> str:
    """Return a sentence about what is faster than centerloss."""
    found = []
    for workload in results["workloads"].values():
        for name in OTHERS:
            own, other = fastest(workload, OWN), fastest(workload, name)
            if own and other and own > other:
                ratio = f"{own / other:.2f} times"
                found.append(f"{name} on {_shape(workload)} ({ratio})")
    return f"Faster than {OWN}: {', '.join(found) or 'nothing'}."


def _own_ratios(results: Results) -> list[str]:
    return [_ratio(workload, OWN) for workload in results["workloads"].values()]


def _ratio(workload: Results, name: str) -> str:
    time, copy = fastest(workload, name), seconds(workload, COPY)
    if time is None or copy is None:
        return ""
    return f"{time / copy:.1f}" if time < 10 * copy else f"{time / copy:.0f}"


def _shape(workload: Results) -> str:
    return f"{_integer(workload['rows'])}\xa0x\xa0{workload['dim']}"


if __name__ == "__main__":
    main()
