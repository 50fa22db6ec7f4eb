"""Time contestants in turns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from timeit import Timer

import numpy as np

SAMPLE_SECONDS = 2e-3  # of calls in one sample
WARM_SECONDS = 10e-3  # of calls before it: own caches, other libraries' threads asleep
SLOW_SECONDS = 0.1  # calls that are not warmed up again before each sample
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

    Those that are slow sit out rounds, evenly, so that each has a like share of the
    time and at least LEAST_SAMPLES samples.
    """
    seconds = [_seconds(contestant) for contestant in contestants]
    samples: list[list[float]] = [[] for _ in contestants]
    wanted = [_samples(budget / len(contestants), s) for s in seconds]
    rounds = max(wanted)
    for turn in range(rounds):
        for i in rng.permutation(len(contestants)):
            due = (turn + 1) * wanted[i] // rounds > turn * wanted[i] // rounds
            if due:
                samples[i].append(_sample(contestants[i], seconds[i]))
    return [
        _timing(contestant, times, _calls(s))
        for contestant, times, s in zip(contestants, samples, seconds, strict=True)
    ]


def _seconds(contestant: Contestant) -> float:
    """Estimate the seconds a call takes, after one that compiles and pages in."""
    contestant.prepare()
    contestant.timer.timeit(1)
    calls = 1
    while True:
        seconds = contestant.timer.timeit(calls)
        if seconds >= SAMPLE_SECONDS / 2:
            return seconds / calls
        calls *= 2


def _calls(seconds: float) -> int:
    return max(1, round(SAMPLE_SECONDS / seconds))


def _warm_calls(seconds: float) -> int:
    return 0 if seconds > SLOW_SECONDS else max(1, round(WARM_SECONDS / seconds))


def _samples(budget: float, seconds: float) -> int:
    cost = seconds * (_calls(seconds) + _warm_calls(seconds))
    return int(np.clip(budget / cost, LEAST_SAMPLES, MOST_SAMPLES))


def _sample(contestant: Contestant, seconds: float) -> float:
    contestant.prepare()
    contestant.timer.timeit(_warm_calls(seconds))
    calls = _calls(seconds)
    return contestant.timer.timeit(calls) / calls


def _timing(contestant: Contestant, times: list[float], calls: int) -> Timing:
    lower, median, upper = np.quantile(times, [0.25, 0.5, 0.75]).tolist()
    return Timing(
        name=contestant.name,
        threads=contestant.threads,
        median=median,
        lower=lower,
        upper=upper,
        least=min(times),
        samples=len(times),
        calls=calls,
    )
