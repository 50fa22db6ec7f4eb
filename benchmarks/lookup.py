"""Look up times in the results."""

from typing import Any

from .peers.base import Centerloss

COPY = "copy"
SAME_LABELS = f"{Centerloss.name}, same labels"

Results = dict[str, Any]


def seconds(result: Results, name: str, threads: int = 1) -> float | None:
    """Return the median of an entry in a workload's result, None if not timed."""
    for timing in result["timings"]:
        if (timing["name"], timing["threads"]) == (name, threads):
            return timing["median"]
    return None


def centerloss(result: Results, threads: int = 1) -> float | None:
    """Return the median of centerloss."""
    return seconds(result, Centerloss.name, threads)


def fastest(result: Results, library: str, threads: int = 1) -> float | None:
    """Return the smallest median of the entries whose names start with `library`."""
    medians = [
        timing["median"]
        for timing in result["timings"]
        if timing["name"].startswith(library) and timing["threads"] == threads
    ]
    return min(medians, default=None)


def on_threads(name: str, threads: int) -> str:
    """Return the label of an entry: its name and number of threads."""
    return f"{name}, {threads} thread{'s' if threads > 1 else ''}"
