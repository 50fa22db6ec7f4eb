"""Time contestants in turns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from timeit import Timer

import numpy as np

SAMPLE_SECONDS = 2e-3  # of calls in one sample
WARM_SECONDS = 10e-3  # of calls before it: own caches, other libraries' threads asleep
SLOW_SECONDS = 0.1  # a call this slow is not warmed up before each sample
MOST_SAMPLES = 101
LEAST_SAMPLES = 5


@dataclass(frozen=True)
class Contestant:
    """What is timed, and what has to be said to its library before."""

    name: str
    threads: int
    timer: Timer
    prepare: Callable[[], None]


@dataclass(frozen=True)
class Timing:
    """Seconds a call: median, quartiles and least of `samples` means of `calls`."""

    name: str
    threads: int
    median: float
    lower: float
    upper: float
    least: float
    samples: int
    calls: int


def measure(
    contestants: Sequence[Contestant], budget: float, rng: np.random.Generator
) -> list[Timing]:
    """Time all in rounds, each round in another order, for about `budget` seconds.

    Each has a like share of the time. Those that are slow sit out rounds, evenly, but
    get LEAST_SAMPLES samples whatever it takes.
    """
    share = budget / len(contestants)
    runs = [_Run(contestant, share) for contestant in contestants]
    rounds = max(run.wanted for run in runs)
    for turn in range(rounds):
        for i in rng.permutation(len(runs)):
            runs[i].take_turn(turn, rounds)
    return [run.timing() for run in runs]


class _Run:
    """The samples of one contestant, planned by what its first calls take."""

    def __init__(self, contestant: Contestant, share: float) -> None:
        self.contestant = contestant
        self.share = share
        self.spent = 0.0
        self.times: list[float] = []
        seconds = self._estimate()
        self.calls = max(1, round(SAMPLE_SECONDS / seconds))
        self.warm_seconds = 0.0 if seconds > SLOW_SECONDS else WARM_SECONDS
        cost = self.warm_seconds + self.calls * seconds
        self.wanted = int(np.clip(share / cost, LEAST_SAMPLES, MOST_SAMPLES))

    def _estimate(self) -> float:
        """Return the seconds a call takes, after one that compiles and pages in."""
        self.contestant.prepare()
        self.contestant.timer.timeit(1)
        calls = 1
        while (seconds := self.contestant.timer.timeit(calls)) < SAMPLE_SECONDS / 2:
            calls *= 2
        return seconds / calls

    def take_turn(self, turn: int, rounds: int) -> None:
        """Take a sample, if it is this contestant's turn and its time is not up."""
        turns = [number * self.wanted // rounds for number in (turn, turn + 1)]
        over = self.spent > self.share and len(self.times) >= LEAST_SAMPLES
        if turns[0] == turns[1] or over:
            return
        self.contestant.prepare()
        timeit = self.contestant.timer.timeit
        warm = 0.0
        while warm < self.warm_seconds:
            warm += timeit(self.calls)
        seconds = timeit(self.calls)
        self.times.append(seconds / self.calls)
        self.spent += warm + seconds

    def timing(self) -> Timing:
        lower, median, upper = np.quantile(self.times, [0.25, 0.5, 0.75]).tolist()
        return Timing(
            name=self.contestant.name,
            threads=self.contestant.threads,
            median=median,
            lower=lower,
            upper=upper,
            least=min(self.times),
            samples=len(self.times),
            calls=self.calls,
        )
