"""One call on all ranks, after its headers."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .blocks import Route, Rows
from .engine import Engine, Words
from .headers import DONE, Header
from .messages import Section, cut, empty_rows, row_words, start, values_of
from .sums import spans_of, sum_of_ranks, words_to_send

_LOW = 2**32 - 1  # half a word: the head of a row is its label and its number


class Received(NamedTuple):
    """Rows of all ranks whose classes this rank owns, in the order of their places."""

    values: NDArray[Any]  # (n, D)
    labels: NDArray[np.int64]  # (n,), in the shard
    places: NDArray[np.int64]  # (n,)
    weights: NDArray[np.float64] | None  # (n,)
    type: str  # what the values are


def pack_rows(rows: Rows, route: Route) -> Words:
    """Return rows as words (n, ...), in the order of `Route.order`."""
    values, weights = rows.values, rows.weights
    # One pass scatters all rows. The ignored ones go to a last row, which is cut off.
    count = len(route.order)
    target = np.full(len(values), count)
    target[route.order] = np.arange(count)
    head = _head_words(rows)
    words, out = empty_rows(count + 1, head, values.shape[1], values.dtype)
    out[target] = values
    words = words[:count]
    words[:, 0] = route.labels << 32 | route.order
    if weights is not None:
        words[:, 1] = weights.view(np.int64)[route.order]
    return words


def _head_words(rows: Rows) -> int:
    """Return the number of words before the values of a row."""
    return 1 if rows.weights is None else 2


class Call:
    """The exchanges of a call on which the ranks agree.

    Parameters
    ----------
    engine : Engine
    features : int
        D.
    rows : Rows
        The batch of this rank.
    route : Route
        Where they go.
    packed : array, optional
        The rows as words, if they are to be sent.
    headers : sequence of Header
        Those of all ranks.
    """

    def __init__(
        self,
        engine: Engine,
        features: int,
        rows: Rows,
        route: Route,
        packed: Words | None,
        headers: Sequence[Header],
    ) -> None:
        self._engine = engine
        self._features = features
        self._rows = rows
        self._route = route
        self._packed = packed
        self._headers = headers
        self._spans = spans_of([header.rows for header in headers])

    @property
    def positions(self) -> NDArray[np.int64]:
        """The position of each row's center in those fetched; -1 for ignored rows."""
        return self._route.positions

    @property
    def is_last(self) -> bool:
        """Whether no rank wants to continue a series of calls."""
        return all(header.state == DONE for header in self._headers)

    def fetch(
        self,
        dtype: np.dtype[Any],
        read: Callable[[NDArray[np.int64], NDArray[Any]], None],
        *,
        weigh: bool,
    ) -> tuple[NDArray[Any], float]:
        """Return the centers of this rank's classes, (U, D), and all ranks' weight W.

        ``read(labels, out)`` stores centers of the shard. Without `weigh`, W is the
        number of rows that are not ignored.
        """
        asked_counts = self._route.asked_counts
        asked = [header.classes_asked for header in self._headers]
        sections = [Section(self._route.asked, asked_counts, asked)]
        weights = self._rows.weights
        if weigh and weights is not None:
            counted = np.where(self._rows.labels < 0, 0.0, weights)
            sections.append(self._section_of_sum(counted))
        labels, *of_weights = start(self._engine, sections)()
        answers, values = empty_rows(len(labels), 0, self._features, dtype)
        read(labels, values)
        width = row_words(self._features, dtype)
        words = self._engine.start(
            answers.reshape(-1),
            [n * width for n in asked],
            [n * width for n in asked_counts],
        )()
        rows = words.reshape(len(self._route.asked), width)
        centers = values_of(rows, 0, self._features, dtype)
        if of_weights:
            return centers, self._sum(of_weights[0])
        return centers, float(sum(header.counted for header in self._headers))

    def start(
        self, *, send_rows: bool, terms: NDArray[np.float64] | None
    ) -> Callable[[], tuple[Received | None, float]]:
        """Send the rows to the owners of their classes, and the terms of a sum to all.

        Returns a function that waits for rows, and for the sum of all ranks' terms.
        """
        sections = [self._section_of_rows()] if send_rows else []
        if terms is not None:
            sections.append(self._section_of_sum(terms))
        wait = start(self._engine, sections)

        def receive() -> tuple[Received | None, float]:
            words = wait()
            total = math.nan if terms is None else self._sum(words.pop())
            return self._received(words[0]) if words else None, total

        return receive

    def _section_of_rows(self) -> Section:
        words = self._packed
        assert words is not None
        self._packed = None  # freed when they are sent
        width = words.shape[1]
        return Section(
            words.reshape(-1),
            [n * width for n in self._route.row_counts],
            [header.rows_sent * width for header in self._headers],
        )

    def _received(self, words: Words) -> Received:
        dtype = self._rows.values.dtype
        counts = [header.rows_sent for header in self._headers]
        head = _head_words(self._rows)
        rows = words.reshape(sum(counts), head + row_words(self._features, dtype))
        firsts = np.array([span.first for span in self._spans], np.int64)
        weighted = self._rows.weights is not None
        return Received(
            values_of(rows, head, self._features, dtype),
            rows[:, 0] >> 32,
            np.repeat(firsts, counts) + (rows[:, 0] & _LOW),
            rows[:, 1].copy().view(np.float64) if weighted else None,
            self._rows.type,
        )

    def _section_of_sum(self, values: NDArray[np.float64]) -> Section:
        words = words_to_send(values, self._spans[self._engine.rank])
        size = self._engine.size
        received = [span.words() for span in self._spans]
        return Section(np.tile(words, size), [len(words)] * size, received)

    def _sum(self, words: Words) -> float:
        return sum_of_ranks(cut(words, [s.words() for s in self._spans]), self._spans)
