"""Nearest centers: fit, partial_fit and predict against scikit-learn and SciPy.

``python -m benchmarks.classifier`` compares ``CenterClassifier`` of centerloss.sklearn
with ``NearestCentroid`` and ``GaussianNB``, and the class means of ``class_sums`` with
those of a sparse matrix product. It writes JSON and a page to results/.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from textwrap import fill
from timeit import Timer
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import NearestCentroid
from threadpoolctl import ThreadpoolController

import centerloss
from centerloss.sklearn import CenterClassifier

from .lookup import Results, on_threads, seconds
from .machine import describe, stem
from .measure import Entry, measure
from .report import describe_machine, integer, number, spread, table

OUT = Path(__file__).parent / "results"
END = "-classifier"  # of the names of the files
LIBRARIES = ("numpy", "scipy", "scikit-learn", "threadpoolctl")
# The calls of centerloss; all others are compared with these.
FIT = "CenterClassifier.fit"
PARTIAL_FIT = "CenterClassifier.partial_fit"
PREDICT = "CenterClassifier.predict"
SUMS = "class_sums"
OWN = (FIT, PARTIAL_FIT, PREDICT, SUMS)
MIN_SAMPLES = 3  # a fit of NearestCentroid takes up to ten seconds
BATCH = 1000  # rows in a call of partial_fit

Array = NDArray[Any]


@dataclass(frozen=True)
class Shape:
    """Rows in overlapping normal classes, all of them equally frequent."""

    rows: int
    dim: int
    classes: int
    spread: float  # standard deviation of the centers; that of the rows is 1
    predicted: int  # rows of predict
    streamed: int = 10_000  # rows of partial_fit


SHAPES = [
    Shape(60_000, 784, 10, spread=0.1, predicted=60_000),
    Shape(100_000, 128, 10_000, spread=0.5, predicted=5000),
]
QUICK = [
    replace(SHAPES[0], rows=4000, dim=16, predicted=4000, streamed=2000),
    replace(SHAPES[1], rows=4000, dim=8, classes=400, predicted=500, streamed=2000),
]


@dataclass(frozen=True)
class Data:
    """Rows, their labels, and the number of classes."""

    X: Array
    y: NDArray[np.int64]
    classes: int

    def head(self, rows: int) -> "Data":
        return replace(self, X=self.X[:rows], y=self.y[:rows])


@dataclass(frozen=True)
class Call:
    """A call to time; `threaded` ones are timed with each number of threads."""

    name: str
    call: Callable[[], Any]
    threaded: bool = False


def main(arguments: Sequence[str] | None = None) -> None:
    start = time.perf_counter()
    options = _parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    shapes, budget = (QUICK, 0.02) if options.quick else (SHAPES, 5.0)
    results = run(shapes, options.threads, budget)
    page = options.out / page_name(results)
    page.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    text = markdown(results)
    page.write_text(text)
    print(f"\n{text}\n{time.perf_counter() - start:.0f} s; written to {options.out}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.classifier", description=__doc__
    )
    parser.add_argument(
        "--threads", nargs="+", type=int, default=[1, 2], metavar="N",
        help="numbers of threads, for calls that have threads (default: 1 2)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=OUT, help="output folder (default: %(default)s)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="take few samples, to see that it runs"
    )
    return parser.parse_args(arguments)


# --- what is timed --------------------------------------------------------------------


def run(shapes: Sequence[Shape], threads: Sequence[int], budget: float) -> Results:
    """Time all calls; return the results, which can be written as JSON."""
    pools = ThreadpoolController()
    blas = {
        f"{pool['internal_api']} {pool['version']}, {pool['architecture']}"
        for pool in pools.info()
        if pool["user_api"] == "blas"
    }
    machine = describe(LIBRARIES) | {"BLAS": "; ".join(sorted(blas))}
    rng = np.random.default_rng(0)
    comparisons = []
    before = centerloss.get_num_threads()
    try:
        with pools.limit(limits=1):
            for shape, dtype in product(shapes, ("float32", "float64")):
                start = time.perf_counter()
                print(f"{_size(asdict(shape))}, {dtype}", end=" ", flush=True)
                for task, rows, calls in _tasks(shape, dtype):
                    entries = list(_entries(calls, threads, pools))
                    timings = measure(entries, budget, rng, MIN_SAMPLES)
                    found = {
                        "task": task, "rows": rows, "dim": shape.dim,
                        "classes": shape.classes, "dtype": dtype,
                        "timings": [asdict(timing) for timing in timings],
                    }  # fmt: skip
                    comparisons.append(found)
                print(f"{time.perf_counter() - start:.0f} s")
    finally:
        centerloss.set_num_threads(before)
    return {"machine": machine, "threads": list(threads), "comparisons": comparisons}


def _entries(
    calls: Sequence[Call], threads: Sequence[int], pools: ThreadpoolController
) -> Iterator[Entry]:
    for call in calls:
        for n in threads if call.threaded else [1]:
            prepare = partial(_set_threads, pools, n)
            yield Entry(call.name, n, Timer(call.call), prepare)


def _set_threads(pools: ThreadpoolController, n: int) -> None:
    """Set the threads of centerloss, and of the libraries that NumPy and others use."""
    centerloss.set_num_threads(n)
    pools.limit(limits=n)


def make_data(shape: Shape, dtype: str) -> Data:
    """Return the rows; they are the same numbers in all dtypes."""
    rng = np.random.default_rng(0)
    y = rng.permutation(shape.rows) % shape.classes
    centers = rng.standard_normal((shape.classes, shape.dim), np.float32)
    X = rng.standard_normal((shape.rows, shape.dim), np.float32)
    X += np.float32(shape.spread) * centers[y]
    return Data(X.astype(dtype), y, shape.classes)


def _tasks(shape: Shape, dtype: str) -> Iterator[tuple[str, int, list[Call]]]:
    """Yield name, number of rows and calls of each task, after a check of results."""
    data = make_data(shape, dtype)
    own = CenterClassifier().fit(data.X, data.y)
    other = NearestCentroid().fit(data.X, data.y)
    check_fit(data, own, other)
    yield "fit", shape.rows, fits(data)

    some = data.head(shape.predicted).X
    # Rounding decides between centers that are nearly as near; there are no such rows.
    np.testing.assert_array_equal(own.predict(some), other.predict(some))
    yield "predict", shape.predicted, predictions(own, other, some)

    stream = data.head(shape.streamed)
    check_stream(stream)
    yield "partial_fit", shape.streamed, streams(stream)

    check_means(data)
    yield "means", shape.rows, means(data)


def fits(data: Data) -> list[Call]:
    own, other = CenterClassifier, NearestCentroid
    return [
        Call(FIT, lambda: own().fit(data.X, data.y), threaded=True),
        Call(PARTIAL_FIT, lambda: learn(own(), data), threaded=True),
        Call("NearestCentroid.fit", lambda: other().fit(data.X, data.y)),
    ]


def predictions(own: Any, other: Any, X: Array) -> list[Call]:
    return [
        Call(PREDICT, partial(own.predict, X), threaded=True),
        Call("NearestCentroid.predict", partial(other.predict, X), threaded=True),
    ]


def streams(data: Data) -> list[Call]:
    return [
        Call(PARTIAL_FIT, lambda: learn(CenterClassifier(), data), threaded=True),
        Call("GaussianNB.partial_fit", lambda: learn(GaussianNB(), data)),
    ]


def learn(estimator: Any, data: Data) -> Any:
    """Pass all rows once, in batches."""
    classes: Array | None = np.arange(data.classes)
    edges = [*range(0, len(data.X), BATCH), len(data.X)]
    for start, end in pairwise(edges):
        estimator.partial_fit(data.X[start:end], data.y[start:end], classes)
        classes = None
    return estimator


def means(data: Data) -> list[Call]:
    return [
        Call(SUMS, partial(by_class_sums, data), threaded=True),
        Call("scipy.sparse, classes x rows", partial(by_rows, data)),
        Call("scipy.sparse, transposed", partial(by_transposed, data)),
        Call("np.add.at", partial(by_add_at, data)),
    ]


def by_class_sums(data: Data) -> Array:
    origin = np.zeros((data.classes, data.X.shape[1]), data.X.dtype)
    _, sums, counts = centerloss.class_sums(data.X, data.y, origin)
    return _divide(sums, counts)


def by_rows(data: Data) -> Array:
    """Multiply with a one-hot matrix, made from the pairs of class and row."""
    rows = np.arange(len(data.y))
    ones = np.ones(len(data.y), data.X.dtype)
    shape = data.classes, len(data.y)
    return _over_counts(sparse.csr_matrix((ones, (data.y, rows)), shape) @ data.X, data)


def by_transposed(data: Data) -> Array:
    """Multiply with the transpose of a one-hot matrix, whose rows need no sorting."""
    starts = np.arange(len(data.y) + 1)
    ones = np.ones(len(data.y), data.X.dtype)
    shape = len(data.y), data.classes
    return _over_counts(
        sparse.csr_matrix((ones, data.y, starts), shape).T @ data.X, data
    )


def by_add_at(data: Data) -> Array:
    sums = np.zeros((data.classes, data.X.shape[1]), data.X.dtype)
    np.add.at(sums, data.y, data.X)
    return _over_counts(sums, data)


def _over_counts(sums: Array, data: Data) -> Array:
    return _divide(sums, np.bincount(data.y, minlength=data.classes))


def _divide(sums: Array, counts: Array) -> Array:
    return np.divide(sums, counts[:, np.newaxis], out=sums, casting="same_kind")


# --- all sides compute the same -------------------------------------------------------


def check_fit(data: Data, own: Any, other: Any) -> None:
    """Raise unless the centers of fit and partial_fit are those of NearestCentroid."""
    for centers in (own.centers_, learn(CenterClassifier(), data).centers_):
        _assert_close(centers, other.centroids_, data)


def check_stream(data: Data) -> None:
    """Raise unless the means of GaussianNB are the centers."""
    bayes = learn(GaussianNB(), data)
    seen = bayes.class_count_ > 0
    centers = learn(CenterClassifier(), data).centers_
    _assert_close(centers[seen], bayes.theta_[seen], data)
    assert np.isnan(centers[~seen]).all()


def check_means(data: Data) -> None:
    first, *others = (call.call() for call in means(data))
    for other in others:
        _assert_close(first, other, data)


def _assert_close(actual: Array, expected: Array, data: Data) -> None:
    # Sums in float32 have errors: np.add.at adds thousands of rows one by one.
    atol = 1e-4 if data.X.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


# --- the page -------------------------------------------------------------------------


def markdown(results: Results) -> str:
    """Return the page: times, ratios and losses."""
    parts = ["# Nearest centers", describe_machine(results)]
    for task, comparisons in _by_task(results).items():
        parts += [f"## {task}", _times(comparisons)]
    parts += [
        "## Over centerloss",
        "Ratios of medians, above 1 where centerloss is faster. A call that uses only "
        "one thread is compared with centerloss on one and on several threads. "
        f"{_rows_of_tasks(results)}",
        _ratios(results, results["threads"]),
        "## Where centerloss is slower",
        losses(results),
    ]
    return "\n\n".join(parts).replace("\xa0", " ") + "\n"


def page_name(results: Results) -> str:
    return f"{stem(results['machine'])}{END}.md"


def pairs(comparison: Results) -> list[tuple[str, str]]:
    """Return each call of centerloss with each call that it is compared with."""
    names = dict.fromkeys(timing["name"] for timing in comparison["timings"])
    others = [name for name in names if name not in OWN]
    return list(product((name for name in names if name in OWN), others))


def ratio(comparison: Results, own: str, other: str, threads: int) -> float:
    """Return the median of another call over that of centerloss.

    The other one is on as many threads, if it has threads.
    """
    mine = seconds(comparison, own, threads)
    others = seconds(comparison, other, threads) or seconds(comparison, other)
    assert mine is not None
    assert others is not None
    return others / mine


def losses(results: Results) -> str:
    """List the calls that are faster than centerloss."""
    lines = []
    for found in results["comparisons"]:
        for (own, other), n in product(pairs(found), results["threads"]):
            value = ratio(found, own, other, n)
            if value < 1:
                lines.append(
                    f"- {other} takes {value:.2f} times as long as "
                    f"{on_threads(own, n)}: {_size(found)}, {found['dtype']}."
                )
    return "\n".join(lines) or "Nowhere in this run."


def summary(results: Results) -> str:
    """Return the table of ratios on one thread, for another page."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {machine[name]}" for name in LIBRARIES[:3])
    note = (
        f"{_rows_of_tasks(results)} One thread, {machine['processor']}, {versions}, "
        f"{machine['date']}. "
        f"`benchmarks/results/{page_name(results)}` has the times and quartiles, also "
        "on several threads; `python -m benchmarks.classifier` measures your machine."
    )
    lines = fill(note, 88, break_on_hyphens=False)
    return f"{_ratios(results, [1])}\n\n{lines}\n".replace("\xa0", " ")


def _rows_of_tasks(results: Results) -> str:
    """Say which rows each task gets: the columns of the ratios name those of fit."""
    rows = {
        task: " and ".join(dict.fromkeys(integer(found["rows"]) for found in all_found))
        for task, all_found in _by_task(results).items()
    }
    return (
        f"partial_fit gets the rows in batches of {BATCH}: all of them where it is "
        f"compared with a fit, {rows['partial_fit']} where it is compared with "
        f"GaussianNB. predict gets {rows['predict']} rows."
    )


def _by_task(results: Results) -> dict[str, list[Results]]:
    tasks: dict[str, list[Results]] = {}
    for comparison in results["comparisons"]:
        tasks.setdefault(comparison["task"], []).append(comparison)
    return tasks


def _times(comparisons: Sequence[Results]) -> str:
    lines = [(t["name"], t["threads"]) for t in comparisons[0]["timings"]]
    rows = [
        [on_threads(*line), *(spread(_timing(found, *line)) for found in comparisons)]
        for line in lines
    ]
    heads = [f"{_size(found)}<br>{found['dtype']}" for found in comparisons]
    return table(["", *heads], rows)


def _timing(comparison: Results, name: str, threads: int) -> Results:
    (found,) = (
        timing
        for timing in comparison["timings"]
        if (timing["name"], timing["threads"]) == (name, threads)
    )
    return dict(found)


def _ratios(results: Results, threads: Sequence[int]) -> str:
    rows = []
    for comparisons in _by_task(results).values():
        for (own, other), n in product(pairs(comparisons[0]), threads):
            values = [ratio(found, own, other, n) for found in comparisons]
            label = own if len(threads) == 1 else on_threads(own, n)
            rows.append([other, label, *map(number, values)])
    columns = next(iter(_by_task(results).values()))
    heads = [f"{_size(found)}<br>{found['dtype']}" for found in columns]
    return table(["", "over", *heads], rows)


def _size(found: Results) -> str:
    """Return rows, values in a row, and classes."""
    rows, classes = integer(found["rows"]), integer(found["classes"])
    return f"{rows} x {found['dim']}, {classes} classes"


if __name__ == "__main__":
    main()
