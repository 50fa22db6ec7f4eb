"""Write what the pages say about speed.

``python -m benchmarks.pages`` writes the Markdown pages in results/, and the marked
parts of README.md and of pages in docs/, which are about the newest results.
"""

import json
import re
from pathlib import Path
from textwrap import fill

from . import classifier, margin, shards
from .lookup import COPY, LIBRARIES, Results, fastest, seconds
from .machine import stem
from .report import CLASSES_PLOT, TRAINED, duration, integer, markdown, plot_name

ROOT = Path(__file__).parents[1]
FOLDER = "benchmarks/results"
MODULES = (shards, classifier, margin)  # which have results of their own
ENDS = tuple(module.END for module in MODULES)  # of the names of their files
OWN, *OTHERS = LIBRARIES
DENSE = "PyTorch dense"  # the usual copied class
PAGES = (
    "README.md", "docs/performance.md", "docs/many-processes.md", "docs/recipes.md"
)  # fmt: skip


def main() -> None:
    newest, *others = load_results(ROOT / FOLDER)
    for results in (newest, *others):
        (ROOT / _page(results)).write_text(markdown(results), "utf-8")
    found = {module: load_results(ROOT / FOLDER, module.END) for module in MODULES}
    for module, of_module in found.items():
        for results in of_module:
            path = ROOT / FOLDER / module.page_name(results)
            path.write_text(module.markdown(results), "utf-8")
    parts = {
        "training": training(newest),
        "plot": plot(newest),
        "speed": speed(newest, others),
        "results": _include(newest),
    }
    if found[shards]:
        parts["shards"] = shards.summary(found[shards][0], f"../{FOLDER}")
    if found[classifier]:
        parts["classifier"] = classifier.summary(found[classifier][0])
    if found[margin]:
        parts["margin"] = margin.summary(found[margin])
    for page in PAGES:
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
    sizes, ours, times = {}, {}, {}
    for name in ("face", "many"):
        step = results["training"][name]
        own, copied = seconds(step, TRAINED), seconds(step, f"{DENSE}, trained")
        assert own is not None
        assert copied is not None
        sizes[name] = f"{_shape(step)} embeddings and {_classes(step)}"
        ours[name], times[name] = f"{1e3 * own:.1f} ms", f"{copied / own:.0f} times"
    sentence = (
        f"For {sizes['many']}, the loss takes {ours['many']} of a training step in "
        f"PyTorch, on one thread; the usual copied class takes [{times['many']}]"
        f"({_page(results)}) as long, and {times['face']} for {sizes['face']}."
    )
    return _wrap(sentence, "  ")


def plot(results: Results) -> str:
    """Return the figure of time against classes, and its first and last numbers."""
    path = f"{FOLDER}/{plot_name(results, CLASSES_PLOT)}"
    timed = [r for r in results["classes"].values() if seconds(r, DENSE)]
    few, many = timed[0], timed[-1]
    ours, copied = (
        [duration(seconds(result, name) or 0.0) for result in (few, many)]
        for name in (OWN, DENSE)
    )
    text = (
        f"On {_shape(few)} features, a step takes {ours[0]} with {_classes(few)} and "
        f"{ours[1]} with {_classes(many)}: a batch then has more different centers, "
        "which come from memory instead of the caches. The usual copied class, "
        f"{DENSE}, takes {copied[0]} and {copied[1]}."
    )
    image = f"![Time of a step against the number of classes]({path})"
    return f"{image}\n\n{_wrap(text)}\n"


def speed(results: Results, others: list[Results]) -> str:
    """Return the table of a step in multiples of a copy, with what it says."""
    machine = results["machine"]
    intro = (
        "Time of a step (loss, gradient and center update) as a multiple of "
        "`np.copyto` of the batch and its centers; one thread, float32; "
        f"{machine['processor']}, {machine['compiler']}, {machine['date']}. Lower is "
        f"faster, the fastest is bold. The times are in [{FOLDER}]({_page(results)})."
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
        classes = integer(workload["classes"])
        lines.append(f"| {_shape(workload)}, {classes} | {' | '.join(cells)} |")
    return "\n".join(lines).replace("\xa0", " ")


def _losses(results: Results) -> str:
    """Return a sentence about what is faster than centerloss."""
    found = []
    for name in OTHERS:
        both = [
            (fastest(workload, OWN), fastest(workload, name))
            for workload in results["workloads"].values()
        ]
        ratios = [own / other for own, other in both if own and other]
        slower = [ratio for ratio in ratios if ratio > 1]
        if slower:
            times = f"up to {max(slower):.2f} times"
            found.append(f"{name} on {len(slower)} of {len(ratios)} batches ({times})")
    return f"Faster than {OWN}: {', '.join(found) or 'nothing'}."


def _own_ratios(results: Results) -> list[str]:
    return [_ratio(workload, OWN) for workload in results["workloads"].values()]


def _ratio(workload: Results, name: str) -> str:
    time, copy = fastest(workload, name), seconds(workload, COPY)
    if time is None or copy is None:
        return ""
    return f"{time / copy:.1f}" if time < 10 * copy else f"{time / copy:.0f}"


def _shape(workload: Results) -> str:
    return f"{integer(workload['rows'])}\xa0x\xa0{workload['dim']}"


def _classes(workload: Results) -> str:
    return f"{integer(workload['classes'])}\xa0classes"


if __name__ == "__main__":
    main()
