"""Train a network on images for each of several loss weights and compare them."""

import argparse
import contextlib
import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from . import (
    DataError,
    Divergence,
    Settings,
    evaluate,
    load_digits_split,
    load_idx,
    train,
)

# The defaults with --data. 60 000 images need fewer epochs than 1347 digits. On
# Fashion-MNIST, a loss weight of 1 lowers the accuracy by one or two percent, and 0.03
# does not; on the digits neither does 1.
WITH_DATA = Settings(loss_weights=(0.0, 0.03), epochs=8)

EPILOG = """\
Center loss makes classes compact: compare the ratios, and the accuracies by the nearest
center. A large loss weight can lower the accuracy of the scores: it brings the classes
closer to each other, and in two dimensions they are close already. Which loss weight is
best depends on the images, the network and the number of classes, so try several, or
more features, as in --feat-dim 16.
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose error messages are one line long."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = _make_parser()
    options = parser.parse_args(arguments)
    try:
        _run(options)
    except ModuleNotFoundError as error:
        parser.error(f"needs {error.name}: pip install 'centerloss[demo]'")
    except DataError as error:
        parser.error(str(error))
    except (Divergence, MemoryError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from . import report

    split = load_idx(options.data) if options.data else load_digits_split(options.seed)
    split = split.standardized()
    settings = _settings(options)
    num_images = len(split.train_images)
    print(
        f"{num_images} images to train and {len(split.test_images)} to test, "
        f"{len(split.classes)} classes, {settings.epochs} epochs",
        flush=True,
    )
    steps = settings.epochs * settings.steps_per_epoch(num_images)
    recorder = None
    if options.gif is not None:
        from . import animation

        recorder = animation.Recorder(split, settings)
    with tqdm(total=steps, unit="step", disable=None) as bar:
        runs = train(split, settings, lambda _: bar.update(), recorder)
    results = [evaluate(run, split) for run in runs]
    print(report.table(results))
    print(report.notes(results, len(split.test_images)))
    report.picture(runs, results, split).savefig(options.out, format="png")
    if options.json is not None:
        options.json.write_text(report.to_json(results))
    if recorder is not None:
        frames = animation.draw(recorder.films(), recorder.labels, split.classes)
        animation.save(frames, options.gif)


def _settings(options: argparse.Namespace) -> Settings:
    names = {field.name for field in dataclasses.fields(Settings)}
    given = {
        name: value
        for name, value in vars(options).items()
        if name in names and value is not None
    }
    return dataclasses.replace(WITH_DATA if options.data else Settings(), **given)


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m centerloss.demo",
        description=__doc__,
        epilog=EPILOG,
        allow_abbrev=False,
    )
    add, default = parser.add_argument, Settings()
    count = _checked(int, "a whole number above 0", lambda n: n > 0)
    add(
        "--data",
        metavar="DIR",
        type=Path,
        help="folder with images in MNIST's format (default: scikit-learn's digits)",
    )
    add(
        "--epochs",
        metavar="N",
        type=count,
        help="number of epochs "
        f"(default: {default.epochs}, or {WITH_DATA.epochs} with --data)",
    )
    add(
        "--batch-size",
        metavar="N",
        type=count,
        default=default.batch_size,
        help="images per step (default: %(default)s)",
    )
    add(
        "--learning-rate",
        metavar="R",
        type=_checked(float, "a number above 0", lambda r: 0 < r < math.inf),
        default=default.learning_rate,
        help="initial learning rate, decays to 0 along a cosine (default: %(default)s)",
    )
    add(
        "--feat-dim",
        metavar="D",
        type=_checked(int, "a whole number from 2", lambda n: n >= 2),
        default=default.feat_dim,
        help="dimension of the features (default: %(default)s)",
    )
    add(
        "--loss-weight",
        metavar="W",
        dest="loss_weights",
        nargs="+",
        type=_checked(float, "a number from 0", lambda w: 0 <= w < math.inf),
        help="weights of the center loss, one run for each; each is increased from 0 "
        f"during training (default: {_listed(default.loss_weights)}, or "
        f"{_listed(WITH_DATA.loss_weights)} with --data)",
    )
    add(
        "--alpha",
        metavar="A",
        type=_checked(float, "a number from 0 to 1", lambda a: 0 <= a <= 1),
        default=default.alpha,
        help="update rate of the centers (default: %(default)s)",
    )
    add(
        "--seed",
        metavar="N",
        type=_checked(int, "a whole number of 32 bits", lambda n: 0 <= n < 2**32),
        default=default.seed,
        help="seed of the random numbers (default: %(default)s)",
    )
    add(
        "--out",
        metavar="PNG",
        type=_writable,
        default="demo.png",
        help="output file of the picture (default: %(default)s)",
    )
    add(
        "--json",
        metavar="PATH",
        type=_writable,
        help="output file of the results as JSON (default: none)",
    )
    add(
        "--gif",
        metavar="PATH",
        type=_writable,
        help="output file of an animation of the training (default: none)",
    )
    return parser


def _listed(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:g}" for number in numbers)


def _checked(
    convert: Callable[[str], float], wanted: str, holds: Callable[[float], bool]
) -> Callable[[str], float]:
    """Return a converter that rejects numbers for which `holds` is false."""

    def checked(text: str) -> float:
        with contextlib.suppress(ValueError):
            value = convert(text)
            if holds(value):
                return value
        raise argparse.ArgumentTypeError(f"expected {wanted}, not {text!r}")

    return checked


def _writable(text: str) -> Path:
    """Return a path after checking that it can be written; leave no new file there."""
    path = Path(text)
    existed = path.exists()
    try:
        path.open("ab").close()
        if not existed:
            path.unlink()
    except OSError as error:
        reason = f"cannot write {text}: {error.strerror}"
        raise argparse.ArgumentTypeError(reason) from None
    return path


if __name__ == "__main__":
    sys.exit(main())
