"""When calls may begin: the arithmetic of a rate limit, in whole numbers.

Time is counted in ticks of 2**-64 s, of which the floats of a clock are whole numbers, but for the
smallest. Those are rounded so that never more is let in: a call begins with the next tick, and is
asked about as if it were the last one. So the bounds hold exactly, and nothing drifts.
"""

from __future__ import annotations

from math import ceil, floor, inf, nextafter
from typing import Any, Final, Protocol

from ...state_types import PaceState

TICKS: Final = 2.0**64  # of a second
_NEVER: Final = -(2**120)  # before all others, in parts


def since(now: float) -> int:
    """Return the last tick until now."""
    return floor(now * TICKS)


def until(now: float) -> int:
    """Return the first tick from now on."""
    return ceil(now * TICKS)


def seconds_at(tick: int) -> float:
    """Return the first time that is no earlier than a tick."""
    found = tick / TICKS
    return found if since(found) >= tick else nextafter(found, inf)


class Pace(Protocol):
    """Says when calls may begin.

    Attributes:
        max_calls: the most of them.
        last: the number of the last call; 0 before the first.
    """

    max_calls: int
    last: int

    def take(self, now: float) -> int:
        """Let a call begin, and return its number; -1 if it may not."""
        ...

    def turn(self, place: int, now: float) -> float:
        """Return when the call after so many others may begin; in the past: at once."""
        ...

    def undo(self, number: int) -> bool:
        """Forget a call that did not run, if it is the last; return whether it was."""
        ...

    def ready(self, now: float) -> int:
        """Return how many calls may begin at once."""
        ...

    def follow(self, old: Any, now: float) -> None:
        """Remember the calls of another pace of the same kind."""
        ...

    def copy(self) -> Pace:
        """Return another one that remembers the same."""
        ...


class Smooth(PaceState):
    """At most ``burst + max_calls * w / period`` calls in each interval of w seconds.

    The generic cell rate algorithm (ITU-T I.371, 1993). It needs one number: when the next call
    would be due if they came evenly. It is told in parts, of which a tick has `max_calls`.
    """

    __slots__ = ("burst",)

    def __init__(self, max_calls: int, period: float, burst: int) -> None:
        self.max_calls: int = max_calls
        self.burst: int = burst
        self.step: int = until(period)  # from one call to the next
        self.ahead: int = (burst - 1) * self.step  # how long before it is due a call may begin
        self.parts: int = _NEVER  # when the next call is due
        self.before: int = _NEVER  # when the last one was
        self.last: int = 0

    def take(self, now: float) -> int:
        """Let a call begin, and return its number; -1 if it may not."""
        due, tick = self.parts, since(now)
        here = tick * self.max_calls
        if due - self.ahead > here:
            return -1
        if tick != now * TICKS:
            here = until(now) * self.max_calls
        following = (due if due > here else here) + self.step  # noqa: FURB136 - max() is slower
        self.before, self.parts = due, following
        self.last += 1
        return self.last

    def turn(self, place: int, now: float) -> float:
        """Return when the call after so many others may begin; in the past: at once."""
        due = self.parts
        if place:
            due = max(due, since(now) * self.max_calls) + place * self.step
        return seconds_at(-((self.ahead - due) // self.max_calls))

    def undo(self, number: int) -> bool:
        """Forget a call that did not run, if it is the last; return whether it was."""
        if number != self.last:
            return False
        self.parts = self.before
        self.last += 1  # which no call has: it is undone once
        return True

    def ready(self, now: float) -> int:
        """Return how many calls may begin at once."""
        spare = since(now) * self.max_calls + self.ahead - self.parts
        return max(0, min(self.burst, spare // self.step + 1))

    def follow(self, old: Smooth, now: float) -> None:
        """Remember the calls of another pace: so many are to be waited for as before."""
        this = until(now)
        waited = old.parts - this * old.max_calls  # in parts of the old one
        if waited > 0:
            self.parts = this * self.max_calls - (-waited * self.step // old.step)
            self.before = self.parts
        self.last = old.last + 1

    def copy(self) -> Smooth:
        """Return another one that remembers the same."""
        made = Smooth(self.max_calls, 1.0, self.burst)
        made.step, made.ahead = self.step, self.ahead
        made.parts, made.before, made.last = self.parts, self.before, self.last
        return made
