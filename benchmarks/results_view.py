"""Looking things up in the results."""

from typing import Any

from .peers import Ours

Results = dict[str, Any]


def seconds(entry: Results | None, name: str, threads: int = 1) -> float | None:
    """Return the median of a contestant in a workload's entry, None if not timed."""
    for timing in (entry or {}).get("timings", []):
        if (timing["name"], timing["threads"]) == (name, threads):
            return timing["median"]
    return None


def ours(entry: Results | None, threads: int = 1, dtype: str = "") -> float | None:
    """Return the median of centerloss itself."""
    return seconds(entry, f"{Ours.name} {dtype}".strip(), threads)


def fastest(entry: Results | None, library: str, threads: int = 1) -> float | None:
    """Return the least median among the contestants of a library, by name's start."""
    medians = [
        timing["median"]
        for timing in (entry or {}).get("timings", [])
        if timing["name"].startswith(library) and timing["threads"] == threads
    ]
    return min(medians, default=None)


def ratio(above: float | None, below: float | None) -> float | None:
    """Divide what was timed."""
    return None if above is None or below is None else above / below


def on(threads: int) -> str:
    """Say on how many threads, to be put behind a name."""
    return f", {threads} thread{'s' if threads > 1 else ''}"
