"""What a margin between classes adds to center loss, on a convolutional network.

``python -m benchmarks.margin`` trains a network on images of pairs of things and
compares losses, among others by images of pairs that were never seen. Each training is
written to results/ when it is finished, and a second call continues the first.
"""

import argparse
import json
import math
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from textwrap import fill
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centerloss.demo.data import Split, load_digits_split, load_idx

from .lookup import Results
from .machine import describe, stem
from .report import table

OUT = Path(__file__).parent / "results"
END = "-margin"  # of the names of the files
LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch")
DIGITS = "scikit-learn's digits"
TUNING_SEEDS = (100, 101, 102)
ENOUGH = 0.01  # of the mean average precision at R, to be called better

MAP, AUC, ACCURACY, NEAREST = "mAP@R", "AUC", "accuracy", "nearest mean"
DISTANCE, SECONDS = "distance / radius", "seconds"
METRICS = (ACCURACY, NEAREST, MAP, AUC, DISTANCE, SECONDS)
SHARES = (ACCURACY, NEAREST, MAP, AUC)  # those between 0 and 1


@dataclass(frozen=True)
class Settings:
    """What is the same for all methods."""

    network: str = "lenet"  # or "resnet"
    steps: int = 2000
    batch: int = 128
    dim: int = 32
    things: int = 2  # in an image
    seen: int = 70  # of the 100 classes
    train_images: int = 500  # of each seen class
    test_images: int = 50  # of each class
    tuning_seeds: int = 3
    seeds: int = 6


TRIPLES = Settings(
    things=3, dim=64, seen=800, train_images=75, test_images=10, tuning_seeds=1, seeds=3
)
QUICK = Settings(
    steps=4, batch=32, train_images=4, test_images=4, tuning_seeds=1, seeds=1
)
RATES = {"lenet": 0.02, "resnet": 0.05}  # learning rates of the networks


@dataclass(frozen=True)
class Method:
    """A loss: the softmax loss, if it takes part, and weight * (pull + a term)."""

    name: str
    term: str = "none"  # or "pull" alone, or with "push" or "triplet"
    weight: float = 0.0
    margin: float = 0.0
    softmax: bool = True


CENTER, MARGIN, ALONE = "softmax + center", "softmax + center, margin", "margin alone"
TRIPLET = "softmax + center, triplet"
# The settings that each method is tried with.
METHODS = {
    "softmax": [Method("softmax")],
    CENTER: [Method(CENTER, "pull", weight) for weight in (0.03, 0.1, 0.3, 1.0)],
    MARGIN: [
        Method(MARGIN, "push", weight, margin)
        for weight in (0.03, 0.1, 0.3)
        for margin in (5.0, 10.0)
    ],
    ALONE: [
        Method(ALONE, "push", 1.0, margin, softmax=False) for margin in (3.0, 5.0, 10.0)
    ],
    TRIPLET: [Method(TRIPLET, "triplet", weight, 3.0) for weight in (0.03, 0.1, 0.3)],
}
TERMS = """\
The loss of an image with features x and class y is that of softmax plus weight times

- center: 1/2 |x - c_y|^2,
- margin: center + 1/2 sum of max(0, margin - |x - c_k|)^2 over the other classes k of
  the batch,
- triplet: center + max(0, |x - c_y| + margin - |x - c_k|) of the nearest other class k.

"margin alone" leaves the softmax out and so has no accuracy of it."""


@dataclass(frozen=True)
class Images:
    """Images of shape (N, 1, height, width), and their classes."""

    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """Images to train with, and test images of the same and of other classes."""

    train: Images
    seen: Images
    unseen: Images


def main(arguments: Sequence[str] | None = None) -> None:
    start = time.perf_counter()
    options = _parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    settings = TRIPLES if options.triples else Settings()
    if options.quick:
        settings = replace(QUICK, things=settings.things, seen=settings.seen)
    settings = replace(settings, network=options.network)
    machine = _describe(options.device)
    data = options.data.resolve().name if options.data else DIGITS
    results = {"machine": machine, "data": data, "jobs": options.jobs}
    results["settings"] = asdict(settings)
    results |= {"runs": []}
    page = options.out / page_name(results)
    file = page.with_suffix(".json")
    results = _continued(file, results)
    run(results, options, settings, file)
    text = markdown(results)
    page.write_text(text)
    print(f"\n{text}\n{time.perf_counter() - start:.0f} s; written to {options.out}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.margin", description=__doc__)
    parser.add_argument(
        "--data", type=Path, metavar="DIR",
        help="folder of the files of MNIST or Fashion-MNIST (default: digits)",
    )  # fmt: skip
    parser.add_argument(
        "--network", choices=RATES, default="lenet", help="default: %(default)s"
    )
    parser.add_argument(
        "--triples", action="store_true", help="three things in an image, not two"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N",
        help="number of trainings at a time (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=OUT, help="output folder (default: %(default)s)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="train for few steps, to see that it runs"
    )
    return parser.parse_args(arguments)


def _describe(device: str) -> dict[str, str]:
    """Return a description of the machine, with the GPU as its processor."""
    machine = describe(LIBRARIES)
    if device == "cuda":
        import torch

        of_host = ("family and model", "caches")
        machine = {name: machine[name] for name in machine if name not in of_host}
        machine["processor"] = str(torch.cuda.get_device_name())
    return machine


def _continued(file: Path, results: Results) -> Results:
    """Return the results of an earlier call, or these where there are none."""
    if not file.exists():
        return results
    earlier: Results = json.loads(file.read_text())
    if any(earlier[name] != results[name] for name in ("data", "settings")):
        raise SystemExit(f"{file} has other data or settings: pass another --out")
    return earlier


# --- what is trained ------------------------------------------------------------------


def run(
    results: Results, options: argparse.Namespace, settings: Settings, file: Path
) -> None:
    """Train what the results lack; write them to the file after each training."""
    tuning = [
        (method, seed)
        for candidates in METHODS.values()
        for method in candidates
        for seed in TUNING_SEEDS[: settings.tuning_seeds]
        if len(candidates) > 1
    ]
    _train_all(results, tuning, options, settings, file)
    final = [
        (best(results, name), seed)
        for seed in range(settings.seeds)
        for name in METHODS
    ]
    _train_all(results, final, options, settings, file)


def _train_all(
    results: Results,
    wanted: Sequence[tuple[Method, int]],
    options: argparse.Namespace,
    settings: Settings,
    file: Path,
) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, context) as pool:
        jobs = {
            pool.submit(
                train_one, method, seed, options.data, options.device, settings
            ): (method, seed)
            for method, seed in wanted
            if _find(results, method, seed) is None
        }
        for job in as_completed(jobs):
            (method, seed), found = jobs[job], job.result()
            results["runs"].append({"method": asdict(method), "seed": seed} | found)
            file.write_text(json.dumps(results, indent=1) + "\n")
            print(f"{describe_method(method)}, seed {seed}: {found}", flush=True)


def train_one(
    method: Method, seed: int, data: Path | None, device: str, settings: Settings
) -> dict[str, float | None]:
    """Train once, in a process of its own, and return the metrics."""
    from .margin_training import measure  # needs PyTorch

    split = _load(data)
    if seed in TUNING_SEEDS:
        split = without_test(split)
    return measure(method, make_task(split, settings, seed), settings, seed, device)


@cache
def _load(data: Path | None) -> Split:
    split = load_idx(data) if data else load_digits_split()
    return split.standardized()


def best(results: Results, name: str) -> Method:
    """Return the method with the settings that were best with the seeds for tuning."""
    first, *others = METHODS[name]
    if not others:
        return first
    return max(METHODS[name], key=lambda method: _tuned(results, method).get(MAP, 0.0))


def _tuned(results: Results, method: Method) -> dict[str, float]:
    """Return the means of the runs with the seeds for tuning."""
    runs = [_find(results, method, seed) for seed in TUNING_SEEDS]
    found = [run for run in runs if run is not None]
    return {
        metric: fmean(run[metric] for run in found)
        for metric in METRICS
        if found and found[0][metric] is not None
    }


def _find(results: Results, method: Method, seed: int) -> Results | None:
    for each in results["runs"]:
        if (each["method"], each["seed"]) == (asdict(method), seed):
            return dict(each)
    return None


def without_test(split: Split) -> Split:
    """Leave the test images out: the last sixth of the training images replaces them.

    Settings chosen with these do not depend on the test images.
    """
    images, labels = split.train_images, split.train_labels
    end = len(labels) * 5 // 6
    return replace(
        split, train_images=images[:end], train_labels=labels[:end],
        test_images=images[end:], test_labels=labels[end:],
    )  # fmt: skip


def make_task(split: Split, settings: Settings, seed: int) -> Task:
    """Draw the seen classes among the ordered pairs of kinds, and all images."""
    rng = np.random.default_rng(seed)
    kinds = len(split.classes)
    shape = (kinds,) * settings.things
    classes = np.stack(np.unravel_index(rng.permutation(math.prod(shape)), shape), 1)
    seen, unseen = classes[: settings.seen], classes[settings.seen :]
    train = square(split.train_images), split.train_labels
    test = square(split.test_images), split.test_labels
    return Task(
        compose(*train, seen, settings.train_images, rng),
        compose(*test, seen, settings.test_images, rng),
        compose(*test, unseen, settings.test_images, rng),
    )


def square(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows of pixels as square images."""
    side = round(rows.shape[1] ** 0.5)
    return rows.reshape(-1, side, side)


def compose(
    images: NDArray[np.float32],
    kinds: NDArray[np.int64],
    classes: NDArray[np.int64],
    number: int,
    rng: np.random.Generator,
) -> Images:
    """Return a number of images of each class: one of each of its kinds, side by side.

    The labels are the rows of `classes`.
    """
    halves = [
        np.concatenate(
            [rng.choice(np.flatnonzero(kinds == kind), number) for kind in column]
        )
        for column in classes.T
    ]
    pixels = np.concatenate([images[half] for half in halves], axis=2)
    return Images(pixels[:, np.newaxis], np.repeat(np.arange(len(classes)), number))


# --- the page -------------------------------------------------------------------------


def page_name(results: Results) -> str:
    settings = Settings(**results["settings"])
    parts = stem(results["machine"]), settings.network, _task(settings)
    return f"{'-'.join(parts)}{END}.md"


def markdown(results: Results) -> str:
    """Return the page: set-up, table, comparison with center loss, and tuning."""
    machine = [f"- {name}: {value}" for name, value in results["machine"].items()]
    number = results["settings"]["seeds"]
    parts = [
        "# A margin between classes",
        "\n".join(machine),
        _wrap(_set_up(results)),
        TERMS,
        "## Results",
        _wrap(
            f"Means of {number} seeds, with the range in brackets. Accuracy of the "
            "softmax and of the nearest class mean of the training images, on seen "
            "classes; mean average precision at R and area under the curve of same or "
            "different class, by Euclidean distance, on unseen classes; smallest "
            "distance of two class means over the root mean square distance of the "
            "images to their class mean, on seen classes; seconds of a training, "
            f"{results['jobs']} at a time."
        ),
        table(["", *METRICS], [_row(results, name) for name in METHODS]),
        "## Over softmax + center",
        "\n".join(f"- {verdict(results, name)}" for name in (MARGIN, ALONE, TRIPLET)),
        _wrap(
            f"Better: {MAP} is higher by at least {ENOUGH} in the mean, and nothing "
            "else between 0 and 1 is lower by more. The brackets have the differences "
            "of the single seeds, which choose the classes, the images and the initial "
            "network."
        ),
        "## Choice of settings",
        _wrap(
            f"Means of other seeds ({results['settings']['tuning_seeds']}), whose test "
            "images are training images that are left out of the training. The highest "
            "mAP@R on unseen classes decides."
        ),
        table(["", *METRICS], _tuning(results)),
        _command(results),
    ]
    return "\n\n".join(parts) + "\n"


NETWORKS = {
    "lenet": (
        "LeNet++ (three times two convolutions of 3 x 3 and a pooling; 32, 64 and 128 "
        "channels; PReLU)"
    ),
    "resnet": (
        "a small ResNet (a convolution and three blocks with 32, 64 and 128 channels; "
        "batch normalization; each thing's part of the image is averaged)"
    ),
}


def summary(all_results: Sequence[Results]) -> str:
    """Return a table for the documentation: a row for each network and task."""
    head = ["network, images", *METHODS]
    return table(head, sorted(_summarized(results) for results in all_results)) + "\n"


def _summarized(results: Results) -> list[str]:
    settings = Settings(**results["settings"])
    title = {"lenet": "LeNet++", "resnet": "ResNet"}[settings.network]
    cells = [
        _number(MAP, fmean(run[MAP] for run in _runs(results, method)))
        for method in METHODS
    ]
    return [f"{title}, {_task(settings)}, {settings.seen} classes", *cells]


def _set_up(results: Results) -> str:
    settings = Settings(**results["settings"])
    return (
        f"Images of {settings.things} things side by side, from {results['data']}. The "
        f"{10**settings.things} classes are the ordered {_task(settings)} of 10 kinds. "
        f"{settings.seen} are seen in training, with {settings.train_images} images "
        "each, the others never. The seed draws which, and "
        f"{settings.test_images} test images of each class, composed of test images. "
        f"The network is {NETWORKS[settings.network]}, a linear layer to "
        f"{settings.dim} features and a linear classifier. All methods: "
        f"{settings.steps} steps of {settings.batch} images, SGD with momentum 0.9, "
        f"rate {RATES[settings.network]} with a cosine schedule, weight decay 5e-4, "
        "gradients clipped at norm 2. Centers start at class means and move with alpha "
        "0.5. The weight of the loss grows from 0 over the first fifth of the steps. "
        "Initial network and batches depend on the seed only."
    )


def _task(settings: Settings) -> str:
    return {2: "pairs", 3: "triples"}[settings.things]


def _command(results: Results) -> str:
    settings = Settings(**results["settings"])
    options = "" if results["data"] == DIGITS else " --data DIR"
    options += f" --network {settings.network}"
    options += " --triples" if _task(settings) == "triples" else ""
    options += f" --jobs {results['jobs']}"
    return f"Made by `python -m benchmarks.margin{options}`, on the device above."


def _row(results: Results, name: str) -> list[str]:
    runs = _runs(results, name)
    label = describe_method(best(results, name))
    return [label, *(_mean_and_range(runs, metric) for metric in METRICS)]


def _runs(results: Results, name: str) -> list[Results]:
    """Return the runs with the chosen settings, in the order of the seeds."""
    chosen = best(results, name)
    runs = (
        _find(results, chosen, seed) for seed in range(results["settings"]["seeds"])
    )
    return [each for each in runs if each is not None]


def _mean_and_range(runs: Sequence[Results], metric: str) -> str:
    values = [each[metric] for each in runs if each[metric] is not None]
    if not values:
        return ""
    ends = f"{_number(metric, min(values))} - {_number(metric, max(values))}"
    return f"{_number(metric, fmean(values))} ({ends})"


def _number(metric: str, value: float) -> str:
    digits = {SECONDS: 0, DISTANCE: 2, AUC: 4}.get(metric, 3)
    return f"{value:.{digits}f}"


def verdict(results: Results, name: str) -> str:
    """Say whether a method is better than center loss, with the differences."""
    gains = differences(results, name)
    means = {metric: fmean(values) for metric, values in gains.items()}
    better = means[MAP] >= ENOUGH and min(means.values()) >= -ENOUGH
    seeds = ", ".join(f"{gain:+.3f}" for gain in gains[MAP])
    changes = ", ".join(f"{metric} {gain:+.4f}" for metric, gain in means.items())
    return f"{name}: {'better' if better else 'not better'} ({changes}; {MAP}: {seeds})"


def differences(results: Results, name: str) -> dict[str, list[float]]:
    """Return a method minus center loss, for each seed, in what both have."""
    pairs = list(zip(_runs(results, name), _runs(results, CENTER), strict=True))
    return {
        metric: [own[metric] - center[metric] for own, center in pairs]
        for metric in SHARES
        if pairs[0][0][metric] is not None
    }


def _tuning(results: Results) -> Iterator[list[str]]:
    for candidates in METHODS.values():
        for method in candidates:
            if found := _tuned(results, method):
                cells: list[Any] = [_mean(found, metric) for metric in METRICS]
                yield [describe_method(method), *cells]


def _mean(found: dict[str, float], metric: str) -> str:
    return _number(metric, found[metric]) if metric in found else ""


def describe_method(method: Method) -> str:
    """Return the name, and the settings that the method has."""
    numbers = [f"weight {method.weight:g}"] if method.weight else []
    numbers += [f"margin {method.margin:g}"] if method.margin else []
    return f"{method.name} ({', '.join(numbers)})" if numbers else method.name


def _wrap(text: str) -> str:
    return fill(text, 88, break_on_hyphens=False)


if __name__ == "__main__":
    main()
