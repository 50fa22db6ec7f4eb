"""Messages of words: rows of any dtype, and several sections in one message."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .engine import Engine, Words


def row_words(columns: int, dtype: np.dtype[Any]) -> int:
    """Return how many words the values of a row take."""
    return -(-columns * dtype.itemsize // 8)


def empty_rows(
    rows: int, head: int, columns: int, dtype: np.dtype[Any]
) -> tuple[Words, NDArray[Any]]:
    """Return words (rows, ...), and the view of the values that follow `head` words."""
    words = np.empty((rows, head + row_words(columns, dtype)), np.int64)
    if columns * dtype.itemsize % 8:  # values do not fill the last word
        words[:, -1] = 0
    return words, values_of(words, head, columns, dtype)


def values_of(
    words: Words, head: int, columns: int, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return the values of rows of words, as a view."""
    values: NDArray[Any] = words[:, head:].view(dtype)[:, :columns]
    return values


class Section(NamedTuple):
    """Words for each rank, one rank after another; how many go and come."""

    words: Words
    sent: list[int]
    received: list[int]


def cut(words: Words, lengths: Sequence[int]) -> list[Words]:
    """Split words into consecutive parts of these lengths, as views."""
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    return [words[end - n : end] for n, end in zip(lengths, ends, strict=True)]


def start(engine: Engine, sections: Sequence[Section]) -> Callable[[], list[Words]]:
    """Send all sections in one message to each rank.

    Returns a function that waits for the words received in each section.
    """
    if len(sections) == 1:
        wait = engine.start(*sections[0])
        return lambda: [wait()]
    by_section = [cut(section.words, section.sent) for section in sections]
    wait = engine.start(
        np.concatenate([words for to in zip(*by_section, strict=True) for words in to]),
        [sum(n) for n in zip(*(s.sent for s in sections), strict=True)],
        [sum(n) for n in zip(*(s.received for s in sections), strict=True)],
    )
    # The words that were sent should not stay in memory until others are received.
    received = [section.received for section in sections]

    def receive() -> list[Words]:
        pieces = cut(wait(), [n for of in zip(*received, strict=True) for n in of])
        step = len(received)
        return [np.concatenate(pieces[k::step]) for k in range(step)]

    return receive
