"""How a limit follows what is measured: by the gradient of durations, or by drops alone.

Gradient2 is that of Netflix/concurrency-limits (2018), with another baseline, and with drops; AIMD,
additive increase and multiplicative decrease, is that of Chiu and Jain (1989).
"""

from __future__ import annotations

from math import inf
from typing import Final, Protocol

from .samples import Baseline, Window

QUEUE: Final = 4  # calls that may stand in the dependency's own line
SMOOTHING: Final = 0.2
STEEPEST: Final = 0.5  # one window cuts at most so much
BACKOFF: Final = 0.9  # what a drop leaves
USED_UP: Final = 0.9  # of the slots: then what the limit hides has to be looked at

LOOK_EVERY: Final = 30.0  # seconds of use, after which it looks how long calls take idle
LOOK: Final = 0.25  # of the limit, meanwhile
SEEN: Final = 50  # calls that it looks at: the mean of fewer is chance
LOOK_PER_CALL: Final = 100  # it looks no more often than once in so many mean durations,
LOOK_SHARE: Final = 0.05  # and for no more than this share of the time
FEWEST_SEEN: Final = 10  # calls


class Rule(Protocol):
    """Says what the limit becomes."""

    def cut(self, limit: float) -> float:
        """Return it after a drop."""
        ...

    def next(self, limit: float, window: Window, now: float) -> float:
        """Return it after a full window."""
        ...

    def at(self, limit: float, now: float) -> float:
        """Return it when a call comes or ends, whatever became of it."""
        ...

    def usual(self, limit: float) -> float:
        """Return it without what is only for a moment."""
        ...


class Gradient:
    """Cuts as soon as calls take longer than the baseline, times a tolerance.

    A limit that is always used up hides how long calls take idle, most of all where it was too high
    from the beginning: so it is a quarter for a moment, now and then.

    Args:
        tolerance: how many times the baseline is no overload.
    """

    __slots__ = (
        "_before", "_calls", "_due", "_from", "_mean", "_seconds", "_until", "baseline",
        "tolerance",
    )  # fmt: skip

    def __init__(self, tolerance: float) -> None:
        self.tolerance: float = tolerance
        self.baseline: Baseline = Baseline()
        self._due: float = inf  # when to look
        self._before: float = 0.0  # the limit before it looked; 0 while it does not
        self._until: float = 0.0  # when it has looked for long enough
        self._mean: float = 0.0  # seconds a call, before it looked
        self._from: float = 0.0  # calls that end from here on began with the limit of now
        self._calls, self._seconds = 0, 0.0

    def cut(self, limit: float) -> float:
        """Return it after a drop."""
        self._before *= BACKOFF
        return limit * BACKOFF

    def next(self, limit: float, window: Window, now: float) -> float:
        """Return it after a full window."""
        if self._before:
            return self._looked(limit, window, now)
        self.baseline.add(window, now)
        if window.most * 2 < limit:  # it was not used: nothing is known of a larger one
            self._due = now + self._pause
            return limit
        self._mean = window.mean
        if now >= self._due and window.most >= USED_UP * limit:
            self._before, self._from = limit, now + 2 * window.mean
            self._until = now + LOOK_SHARE * self._pause
            self._calls, self._seconds = 0, 0.0
            return limit * LOOK
        self._due = min(self._due, now + self._pause)
        gradient = self.tolerance * self.baseline.seconds / window.mean if window.mean else 1.0
        wanted = limit * max(STEEPEST, min(1.0, gradient)) + QUEUE
        return limit + (wanted - limit) * SMOOTHING

    def _looked(self, limit: float, window: Window, now: float) -> float:
        """Return the limit of before once enough calls have been seen."""
        if window.began < self._from:
            return limit
        self._calls += window.calls
        self._seconds += window.seconds
        return limit if self._calls < SEEN else self._seen(now)

    def _seen(self, now: float) -> float:
        if self._calls >= FEWEST_SEEN:
            self.baseline.see(self._seconds / self._calls)
        before, self._before, self._due = self._before, 0.0, now + self._pause
        return before

    @property
    def _pause(self) -> float:
        return max(LOOK_EVERY, LOOK_PER_CALL * self._mean)

    def usual(self, limit: float) -> float:
        """Return it without what is only for a moment."""
        return self._before or limit

    def at(self, limit: float, now: float) -> float:
        """Return it when a call comes or ends, whatever became of it."""
        return self._seen(now) if self._before and now >= self._until else limit


class Aimd:
    """Rises by one a window where the limit was used."""

    __slots__ = ()

    def cut(self, limit: float) -> float:
        """Return it after a drop."""
        return limit * BACKOFF

    def at(self, limit: float, now: float) -> float:
        """Return it when a call comes or ends."""
        return limit

    def usual(self, limit: float) -> float:
        """Return it without what is only for a moment."""
        return limit

    def next(self, limit: float, window: Window, now: float) -> float:
        """Return it after a full window."""
        return limit + 1 if window.most * 2 >= limit else limit
