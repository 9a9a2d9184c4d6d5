"""A provider's quota: when the last calls began, each of them."""

from __future__ import annotations

from bisect import bisect_right

from .pace import seconds_at, since, until


class Quota:
    """At most ``max_calls`` calls in each half-open interval of `period` seconds.

    It remembers when the last calls began, in a ring; `max_calls` of them, or as many as it ever
    had to.
    """

    __slots__ = ("_before", "_newest", "_period", "_ring", "_size", "last", "max_calls")

    def __init__(self, max_calls: int, period: float) -> None:
        self.max_calls: int = max_calls
        self._period: int = until(period)
        self._size: int = max_calls
        self._ring: list[int] = []
        self._newest: int = -1  # the place of the newest
        self._before: int | None = None  # what was in that place before
        self.last: int = 0

    def _began(self, back: int) -> int | None:
        """Return when the call so many before the next one began; None: there was none."""
        ring = self._ring
        return ring[(self._newest + 1 - back) % len(ring)] if 0 < back <= len(ring) else None

    def take(self, now: float) -> int:
        """Let a call begin, and return its number; -1 if it may not."""
        first = self._began(self.max_calls)
        if first is not None and since(now) - first < self._period:
            return -1
        newest, ring = self._began(1), self._ring
        tick = until(now) if newest is None else max(newest, until(now))
        place = (self._newest + 1) % self._size
        if place < len(ring):
            self._before, ring[place] = ring[place], tick
        else:
            self._before = None
            ring.append(tick)
        self._newest = place
        self.last += 1
        return self.last

    def turn(self, place: int, now: float) -> float:
        """Return when the call after so many others may begin; in the past: at once."""
        rounds, place = divmod(place, self.max_calls)
        first = self._began(self.max_calls - place)
        tick = since(now) if first is None else first + self._period
        if rounds:
            tick = max(tick, since(now)) + rounds * self._period
        return seconds_at(tick)

    def undo(self, number: int) -> bool:
        """Forget a call that did not run, if it is the last; return whether it was."""
        if number != self.last or self._newest < 0:
            return False
        if self._before is None:
            self._ring.pop()
        else:
            self._ring[self._newest] = self._before
        self._newest = (self._newest - 1) % self._size if self._ring else -1
        self.last += 1
        return True

    def ready(self, now: float) -> int:
        """Return how many calls may begin at once."""
        recent, known = since(now) - self._period, min(len(self._ring), self.max_calls)
        over = bisect_right(range(known), recent, key=lambda at: self._began(known - at) or 0)
        return self.max_calls - known + over

    def follow(self, old: Quota, now: float) -> None:
        """Remember the calls of another pace."""
        known = len(old._ring)
        self._ring = [old._began(back) or 0 for back in range(known, 0, -1)]
        self._size, self._newest = max(self.max_calls, old._size, known), known - 1
        self.last = old.last + 1

    def copy(self) -> Quota:
        """Return another one that remembers the same."""
        made = Quota(self.max_calls, 1.0)
        made._period, made._size, made.last = self._period, self._size, self.last
        made._ring, made._newest, made._before = self._ring.copy(), self._newest, self._before
        return made
