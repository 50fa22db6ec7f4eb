"""What exchanges words among the ranks."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Words: TypeAlias = NDArray[np.int64]


class Engine(Protocol):
    """Exchanges words among ranks. Every rank makes the same calls, in the same order.

    An error of an engine ends the use of its ranks.
    """

    @property
    def rank(self) -> int:
        """The rank of this process."""
        ...

    @property
    def size(self) -> int:
        """The number of ranks."""
        ...

    def exchange(self, words: Words) -> Words:
        """Send row q of (size, n) words to rank q; return those received, by rank."""
        ...

    def start(
        self, words: Words, sent: Sequence[int], received: Sequence[int]
    ) -> Callable[[], Words]:
        """Send words (n,): the first ``sent[0]`` of them to rank 0, and so on.

        Returns a function that waits for the words of all ranks, of which rank q sends
        ``received[q]``, and returns them in the order of the ranks.
        """
        ...


class OneProcess:
    """The engine of a process by itself."""

    rank = 0
    size = 1

    def exchange(self, words: Words) -> Words:
        return words

    def start(
        self,
        words: Words,
        sent: Sequence[int],  # noqa: ARG002
        received: Sequence[int],  # noqa: ARG002
    ) -> Callable[[], Words]:
        return lambda: words
