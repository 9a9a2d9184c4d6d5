"""What is drawn at random: times by their distribution, each concern from a source of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log
from random import Random
from typing import Final

KINDS: Final = ("constant", "exponential", "lognormal", "pareto", "trace")


@dataclass(frozen=True, slots=True)
class Times:
    """A distribution of durations.

    Attributes:
        kind: one of `KINDS`.
        mean: in seconds; of a trace it is not used.
        shape: sigma of a lognormal, alpha of a pareto; else not used.
    """

    kind: str
    mean: float
    shape: float = 0.0

    def drawn(self, random: Random) -> Callable[[], float]:
        """Return a function that draws a duration."""
        mean, shape = self.mean, self.shape
        if self.kind == "exponential":
            return lambda: random.expovariate(1 / mean)
        if self.kind == "lognormal":
            middle = log(mean) - shape * shape / 2
            return lambda: exp(random.gauss(middle, shape))
        if self.kind == "pareto":
            least = mean * (shape - 1) / shape
            return lambda: least * random.paretovariate(shape)
        return lambda: mean

    def recorded(self, times: tuple[float, ...]) -> Callable[[int], float | None]:
        """Return a function of a call's number: what it takes by the trace, None if drawn."""
        if self.kind != "trace":
            return lambda _: None
        return lambda number: times[number % len(times)]


def source(seed: int, concern: str) -> Random:
    """Return the source of one concern, so that what a policy draws moves no arrival."""
    return Random(f"{seed} {concern}")
