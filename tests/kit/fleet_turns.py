"""The turns of a fleet's limit, as its definition says it: by all that were given."""

from __future__ import annotations

from fractions import Fraction

from resilient.guards.rate_limit.asking import Request
from resilient.guards.rate_limit.fleet import Answer


class NaiveTurns:
    """A store that remembers every turn, exactly."""

    def __init__(self, max_calls: int, period: float, burst: int, *, quota: bool) -> None:
        self.max_calls, self.period, self.burst = max_calls, Fraction(period), burst
        self.quota = quota
        self.given: list[Fraction] = []
        self.asked: dict[object, Fraction] = {}
        self.was_told_of = 0  # turns that it did not give

    def turn(self, now: Fraction) -> Fraction:
        """Return the first time from now on at which one more keeps the limit."""
        turn, many = now, len(self.given)
        for place, start in enumerate(self.given):
            number = many - place + 1  # calls from that one to the next
            if self.quota:
                allowed = start + self.period if number > self.max_calls else start
            else:
                allowed = start + (number - self.burst) * self.period / self.max_calls
            turn = max(turn, allowed)
        return turn

    def take(self, asked: Request, now: Fraction, who: object) -> Answer:
        """Give turns as a store does."""
        assert Fraction(asked.period) == self.period
        self.asked[who] = now
        self.given += [max([now, *self.given[-1:]])] * asked.spent
        self.was_told_of += asked.spent
        turns: list[float] = []
        while len(turns) < asked.turns and self.turn(now) <= now + Fraction(asked.within):
            self.given.append(self.turn(now))
            turns.append(float(self.given[-1] - now))
        return Answer(tuple(turns), float(self.turn(now) - now), len(self.asked))

    def check(self) -> None:
        """Hold the limit for all pairs; not for those that it was told of."""
        for first, start in enumerate([] if self.was_told_of else self.given):
            for last in range(first, len(self.given)):
                number, width = last - first + 1, self.given[last] - start
                if self.quota:
                    assert width >= self.period or number <= self.max_calls
                else:
                    assert number <= self.burst + self.max_calls * width / self.period
