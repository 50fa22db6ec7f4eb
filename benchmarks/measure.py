"""Time several entries in interleaved rounds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from timeit import Timer

import numpy as np

SAMPLE_SECONDS = 2e-3  # duration of a sample
WARM_SECONDS = 10e-3  # untimed calls before it: caches, other libraries' idle threads
SLOW_SECONDS = 0.1  # calls that take longer are not warmed up before each sample
MAX_SAMPLES = 101
MIN_SAMPLES = 5


@dataclass(frozen=True)
class Entry:
    """What is timed; `prepare` is called before each sample."""

    name: str
    threads: int
    timer: Timer
    prepare: Callable[[], None]


@dataclass(frozen=True)
class Timing:
    """Median, quartiles and minimum of `samples`, in seconds per call.

    A sample is the mean of `calls` calls.
    """

    name: str
    threads: int
    median: float
    lower: float
    upper: float
    min: float
    samples: int
    calls: int


def measure(
    entries: Sequence[Entry],
    budget: float,
    rng: np.random.Generator,
    min_samples: int = MIN_SAMPLES,
) -> list[Timing]:
    """Time all entries for about `budget` seconds, in a random order in each round.

    Each gets the same share of the time. Slow entries skip rounds, evenly, but get at
    least `min_samples` samples.
    """
    share = budget / len(entries)
    runs = [_Run(entry, share, min_samples) for entry in entries]
    rounds = max(run.wanted for run in runs)
    for number in range(rounds):
        for i in rng.permutation(len(runs)):
            runs[i].take_sample(number, rounds)
    return [run.timing() for run in runs]


class _Run:
    """The samples of one entry; their number depends on the time of its first calls."""

    def __init__(self, entry: Entry, share: float, min_samples: int) -> None:
        self.entry = entry
        self.share = share
        self.min_samples = min_samples
        self.spent = 0.0
        self.times: list[float] = []
        seconds = self._estimate()
        self.calls = max(1, round(SAMPLE_SECONDS / seconds))
        self.warm_seconds = 0.0 if seconds > SLOW_SECONDS else WARM_SECONDS
        cost = self.warm_seconds + self.calls * seconds
        self.wanted = int(np.clip(share / cost, min_samples, MAX_SAMPLES))

    def _estimate(self) -> float:
        """Return the seconds per call, after a first call that may compile."""
        self.entry.prepare()
        self.entry.timer.timeit(1)
        calls = 1
        while (seconds := self.entry.timer.timeit(calls)) < SAMPLE_SECONDS / 2:
            calls *= 2
        return seconds / calls

    def take_sample(self, number: int, rounds: int) -> None:
        """Take a sample, unless this entry skips the round or has used its time."""
        before, after = (n * self.wanted // rounds for n in (number, number + 1))
        over = self.spent > self.share and len(self.times) >= self.min_samples
        if before == after or over:
            return
        self.entry.prepare()
        timeit = self.entry.timer.timeit
        warm = 0.0
        while warm < self.warm_seconds:
            warm += timeit(self.calls)
        seconds = timeit(self.calls)
        self.times.append(seconds / self.calls)
        self.spent += warm + seconds

    def timing(self) -> Timing:
        lower, median, upper = np.quantile(self.times, [0.25, 0.5, 0.75]).tolist()
        return Timing(
            name=self.entry.name,
            threads=self.entry.threads,
            median=median,
            lower=lower,
            upper=upper,
            min=min(self.times),
            samples=len(self.times),
            calls=self.calls,
        )
