"""Time a step of center loss and its alternatives; write JSON, Markdown and plots."""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from .machine import stem
from .peers.base import Centerloss
from .plots import draw
from .registry import step_peers
from .report import markdown
from .runner import SECTIONS, Settings, run

OUT = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> None:
    start = time.perf_counter()
    options = _parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    results = run(_settings(options))
    name = stem(results["machine"])
    (options.out / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    text = markdown(results)
    (options.out / f"{name}.md").write_text(text)
    draw(results, options.out)
    print(f"\n{text}\n{time.perf_counter() - start:.0f} s; written to {options.out}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    peers = [name for name in step_peers() if name != Centerloss.name]
    parser.add_argument(
        "--workloads", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="NAME",
        help=f"what to run: {', '.join(SECTIONS)} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--threads", nargs="+", type=int, default=[1, 2], metavar="N",
        help="numbers of threads, for libraries that have threads (default: 1 2)",
    )  # fmt: skip
    parser.add_argument(
        "--peers", nargs="*", choices=peers, default=peers, metavar="NAME",
        help=f"what to compare with: {', '.join(peers)} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=OUT, help="output folder (default: %(default)s)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="take few samples, to see that it runs"
    )
    return parser.parse_args(arguments)


def _settings(options: argparse.Namespace) -> Settings:
    chosen = [Centerloss.name, *options.peers]
    peers = {name: peer for name, peer in step_peers().items() if name in chosen}
    quick = {"seconds": 0.1, "max_classes": 1000, "imports": 1} if options.quick else {}
    return Settings(options.workloads, options.threads, peers, **quick)


if __name__ == "__main__":
    main()
