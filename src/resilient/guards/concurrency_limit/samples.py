"""What is measured of the calls that ended: their mean duration, and how long they take idle."""

from __future__ import annotations

from array import array
from math import inf
from typing import Final

WINDOW: Final = 0.1  # seconds that one window lasts at least,
FEWEST: Final = 10  # and calls that it has at least
CAP: Final = 1.5  # times the floor: no baseline is higher
_MEMORY: Final = 600  # windows that the long mean goes back, about
_SLICE: Final = 10.0  # seconds over which the floor takes its means
_SLICES: Final = 60  # of those it remembers so many: ten minutes
_FEWEST_IN_SLICE: Final = 20  # calls: the mean of fewer is chance
_UNSEEN: Final = -inf


class Window:
    """The calls that ended since the last look at the limit."""

    __slots__ = ("began", "calls", "most", "seconds")

    def __init__(self) -> None:
        self.began: float = _UNSEEN
        self.calls: int = 0
        self.seconds: float = 0.0
        self.most: int = 0  # the most that ran at once

    def add(self, duration: float, running: int, now: float) -> None:
        """Count a call that ended well; `running` with it."""
        if self.began == _UNSEEN:
            self.began = now
        self.calls += 1
        self.seconds += duration
        self.most = max(self.most, running)

    def is_full(self, now: float) -> bool:
        """Return whether it says enough."""
        return self.calls >= FEWEST and now - self.began >= WINDOW

    def clear(self, now: float) -> None:
        """Begin anew: the same object, as nothing may be allocated under the lock."""
        self.began, self.calls, self.seconds, self.most = now, 0, 0.0, 0

    @property
    def mean(self) -> float:
        """Seconds a call."""
        return self.seconds / self.calls


class Baseline:
    """How long a call takes where nobody waits for anybody, as far as can be seen from outside.

    It is the mean of the last minutes, but never more than `CAP` times the least of the means of
    10 s that the last ten minutes have seen: else a slow overload would become what is usual, and
    the limit would rise with it (Netflix/concurrency-limits, issues 165 and 176).
    """

    __slots__ = ("_began", "_calls", "_long", "_means", "_next", "_seconds", "floor")

    def __init__(self) -> None:
        self.floor: float = inf  # the least of the means; infinite before there is one
        self._long: float = 0.0
        self._means: array[float] = array("d", [inf] * _SLICES)
        self._next: int = 0  # the place of the next one
        self._began, self._calls, self._seconds = _UNSEEN, 0, 0.0

    def add(self, window: Window, now: float) -> None:
        """Take a full window."""
        if self._began == _UNSEEN:
            self._began = window.began
        mean = window.mean
        self._long += (mean - self._long) / _MEMORY if self._long else mean
        if self._long > 2 * mean:  # it was overloaded, and is not any more
            self._long *= 0.95
        self._calls += window.calls
        self._seconds += window.seconds
        if now - self._began >= _SLICE:
            known = self._calls >= _FEWEST_IN_SLICE
            self.see(self._seconds / self._calls if known else inf)
            self._began, self._calls, self._seconds = now, 0, 0.0

    def see(self, mean: float) -> None:
        """Remember a mean of some seconds; infinite where too few calls ended."""
        means, least = self._means, inf
        means[self._next % _SLICES] = mean
        self._next += 1
        for place in range(_SLICES):
            if means[place] < least:
                least = means[place]
        self.floor = least

    @property
    def seconds(self) -> float:
        """The baseline; 0 before there is one."""
        return min(self._long, CAP * self.floor)
