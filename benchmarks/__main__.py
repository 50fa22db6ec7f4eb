"""``python -m benchmarks``: measure, print, and write JSON, Markdown and pictures."""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from .peers import Ours, available
from .plots import draw
from .report import markdown
from .runner import SECTIONS, Settings, run

OUT = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> None:
    start = time.perf_counter()
    given = _parse(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    results = run(_settings(given))
    (given.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = markdown(results)
    (given.out / "results.md").write_text(text)
    draw(results, given.out)
    print(f"\n{text}\n{time.perf_counter() - start:.0f} s; written to {given.out}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    peers = list(available())
    parser.add_argument(
        "--workloads", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="NAME",
        help=f"of {', '.join(SECTIONS)}",
    )  # fmt: skip
    parser.add_argument(
        "--threads", nargs="+", type=int, default=[1, 2], metavar="N",
        help="numbers of threads, for those that have them",
    )  # fmt: skip
    parser.add_argument(
        "--peers", nargs="*", choices=peers[1:], default=peers[1:], metavar="NAME",
        help=f"beside centerloss, of {', '.join(peers[1:])}",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=OUT, help="a folder")
    parser.add_argument(
        "--quick", action="store_true", help="few samples, to see that it runs"
    )
    return parser.parse_args(arguments)


def _settings(given: argparse.Namespace) -> Settings:
    chosen = [Ours.name, *given.peers]
    peers = {name: peer for name, peer in available().items() if name in chosen}
    quick = {"seconds": 0.1, "most_classes": 1000, "imports": 1} if given.quick else {}
    return Settings(given.workloads, given.threads, peers, **quick)


if __name__ == "__main__":
    main()
