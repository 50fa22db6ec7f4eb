"""The ordered sum of values of all ranks, from few words of each.

`ordered_sum` adds up runs of 1024 values, and then their sums. A rank sends the sums of
the runs that lie in its own values, and the values of those that it shares with others.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._core import ordered_sum, ordered_sum_of_runs
from .engine import Words

RUN = 1024


class Span(NamedTuple):
    """The places of a rank's values, among `total` of them."""

    first: int
    last: int
    total: int

    def own_runs(self) -> tuple[int, int]:
        """Return the first place of the complete runs, and the one after the last."""
        start = min(self.last, -(-self.first // RUN) * RUN)
        if self.last == self.total:  # where the last run ends
            return start, self.last
        return start, max(start, self.last // RUN * RUN)

    def words(self) -> int:
        """Return how many words the rank sends."""
        start, stop = self.own_runs()
        return start - self.first + -(-(stop - start) // RUN) + self.last - stop


def spans_of(counts: Sequence[int]) -> list[Span]:
    """Return the spans of ranks that have these numbers of values."""
    ends = np.cumsum(counts, dtype=np.int64).tolist()
    return [Span(end - n, end, ends[-1]) for n, end in zip(counts, ends, strict=True)]


def words_to_send(values: NDArray[np.float64], span: Span) -> Words:
    """Return the sums of the complete runs, between the values of incomplete ones."""
    start, stop = (place - span.first for place in span.own_runs())
    own = values[start:stop]
    runs = [ordered_sum(own[k : k + RUN]) for k in range(0, len(own), RUN)]
    parts = [values[:start], np.array(runs, np.float64), values[stop:]]
    return np.concatenate(parts).view(np.int64)


def sum_of_ranks(received: Sequence[Words], spans: Sequence[Span]) -> float:
    """Return the ordered sum of all values, from what each rank sends."""
    sums: list[float] = []
    shared: list[NDArray[np.float64]] = []  # values of a run of several ranks

    def end_run() -> None:
        values = np.concatenate(shared)
        if len(values):
            sums.append(ordered_sum(values))
        shared.clear()

    for words, span in zip(received, spans, strict=True):
        values = words.view(np.float64)
        start, stop = span.own_runs()
        head, tail = start - span.first, len(values) - (span.last - stop)
        shared.append(values[:head])
        if start % RUN == 0 or start == span.total:
            end_run()
        sums += values[head:tail].tolist()
        shared.append(values[tail:])
    return ordered_sum_of_runs(np.array(sums, np.float64), spans[-1].total)
