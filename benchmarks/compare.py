"""Compare two builds of ``centerloss._core``, before and after a change.

``python -m benchmarks.compare OLD_SO NEW_SO`` times a step with both, in turns, in one
process. It prints the median time of the old build and the median of the ratios
new / old with quartiles, for arrays that start 16 and 0 bytes into a cache line.
"""

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from itertools import cycle, product
from timeit import Timer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .measure import SAMPLE_SECONDS, WARM_SECONDS
from .peers.base import ALPHA
from .workloads import NUMPY_OFFSET, WORKLOADS, Batch, make_batch

ROUNDS = 31


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.compare")
    parser.add_argument("old", help="path of the _core*.so built before the change")
    parser.add_argument("new", help="path of the _core*.so built after the change")
    parser.add_argument(
        "--workloads", nargs="+", choices=WORKLOADS, default=WORKLOADS, metavar="NAME"
    )
    options = parser.parse_args()
    builds = [load(options.old), load(options.new)]
    rng = np.random.default_rng(0)
    print("workload   threads  offset  old [us]  new / old")
    for name in options.workloads:
        batch = make_batch(WORKLOADS[name], rng)
        for offset, threads in product((NUMPY_OFFSET, 0), (1, 2)):
            times = compare(builds, batch.at_offset(offset), (threads, threads), rng)
            old = 1e6 * np.median(times[:, 0])
            low, median, high = np.quantile(
                times[:, 1] / times[:, 0], [0.25, 0.5, 0.75]
            )
            ratio = f"{median:.3f} ({low:.3f} - {high:.3f})"
            print(f"{name:<10} {threads:7} {offset:7} {old:9.4g}  {ratio}", flush=True)


def load(path: str) -> Any:
    """Import a build under the name it was compiled for, apart from `centerloss`."""
    loader = ExtensionFileLoader("centerloss._core", path)
    spec = spec_from_file_location(loader.name, path, loader=loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def compare(
    builds: list[Any],
    batch: Batch,
    threads: Sequence[int],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return seconds per call, (ROUNDS, builds); `threads` has a number per build."""
    gradient = batch.empty_gradient()

    def step(build: Any, labels: Iterator[NDArray[np.int64]]) -> None:
        build.step(
            batch.features, next(labels), batch.centers, alpha=ALPHA, out=gradient
        )

    timers = []
    for build, n in zip(builds, threads, strict=True):
        build.set_num_threads(n)
        timers.append(Timer(partial(step, build, cycle(batch.label_sets))))
    sets = len(batch.label_sets)
    seconds = max(timer.timeit(sets) for timer in timers) / sets
    calls = max(1, round(SAMPLE_SECONDS / seconds))
    times = np.empty((ROUNDS, len(builds)))
    for row in times:
        for i in rng.permutation(len(builds)):
            timers[i].timeit(round(WARM_SECONDS / seconds))
            row[i] = timers[i].timeit(calls) / calls
    return times


if __name__ == "__main__":
    main()
