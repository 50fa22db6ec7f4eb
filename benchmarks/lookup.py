"""Look up times in the results."""

from typing import Any

from .peers.base import Centerloss

COPY = "copy"
SAME_LABELS = f"{Centerloss.name}, same labels"
# Calls on the smallest batch as a user writes them.
PLAIN_CALL = "step(features, labels, centers)"
CLASS_CALL = "loss_fn.step(features, labels)"

# The entries of each library.
LIBRARIES = {
    "centerloss": ["centerloss"],
    "C by hand": ["C by hand"],
    "numba": ["numba"],
    "fastest PyTorch": ["PyTorch dense", "PyTorch sparse"],
    "fastest NumPy": ["NumPy add.at", "NumPy reduceat"],
}

_OFFSET_0 = ", offset 0"

Results = dict[str, Any]


def seconds(result: Results, name: str, threads: int = 1) -> float | None:
    """Return the median of an entry in a workload's result, None if not timed."""
    for timing in result["timings"]:
        if (timing["name"], timing["threads"]) == (name, threads):
            return timing["median"]
    return None


def fastest(result: Results, library: str, threads: int = 1) -> float | None:
    """Return the smallest median of a library's entries, None if none was timed."""
    medians = [seconds(result, name, threads) for name in LIBRARIES[library]]
    return min((m for m in medians if m is not None), default=None)


def at_offset_0(name: str) -> str:
    """Return the name of an entry with arrays that start a cache line."""
    return name + _OFFSET_0


def split_offset(name: str) -> tuple[str, str]:
    """Split a name into that of the entry at NumPy's offset, and the rest."""
    plain = name.removesuffix(_OFFSET_0)
    return plain, name[len(plain) :]


def on_threads(name: str, threads: int) -> str:
    """Return the label of an entry: its name and number of threads."""
    return f"{name}, {threads} thread{'s' if threads > 1 else ''}"
