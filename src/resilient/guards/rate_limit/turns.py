"""The line of a rate limit: callers who wait for their turn, first come first served."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from ..base import Waiter
from .pace import Pace

LATE: Final = 0.1  # seconds that the first has to take its turn, once another asks for it


class Turns:
    """The waiters of one rate limit. The caller of every method holds the lock.

    Whoever is first sleeps until its turn. If it is not there then, as in a loop that is blocked,
    it is set aside, and comes to the end of the line if it comes back.

    Args:
        line: the waiters in order, and until when each waits; the guard's own, which the compiled
            core looks at.
        wake: has a waiter woken.
    """

    def __init__(self, line: OrderedDict[Waiter, float], wake: Callable[[Waiter], object]) -> None:
        self.line: OrderedDict[Waiter, float] = line
        self._wake = wake
        self._aside: dict[Waiter, float] = {}
        self._asked: Waiter | None = None  # the first, whose turn another has asked for
        self._asked_at: float = 0.0

    def __len__(self) -> int:
        return len(self.line) + len(self._aside)

    def park(self, waiter: Waiter, limit: float) -> None:
        """Put a waiter at the end; it has its deadline."""
        self.line[waiter] = limit

    def is_first(self, waiter: Waiter) -> bool:
        """Return whether it is there, and this is its turn to ask; it came back if it was aside."""
        limit = self._aside.pop(waiter, None)
        if limit is not None:
            self.line[waiter] = limit
        return next(iter(self.line), None) is waiter

    def limit(self, waiter: Waiter) -> float | None:
        """Return until when it waits; None: it was told to go."""
        return self.line.get(waiter)

    def stays(self, waiter: Waiter, turn: float) -> None:
        """Have a waiter that could not begin sleep on; `turn` is that of the first."""
        limit = self.line[waiter]
        if next(iter(self.line)) is waiter:
            self._asked = None
            waiter.deadline = min(turn, limit)
        else:
            waiter.deadline = min(max(waiter.deadline, turn), limit)

    def quit(self, waiter: Waiter) -> bool:
        """Take a waiter out; return whether it was in."""
        if self._asked is waiter:
            self._asked = None
        return (self.line.pop(waiter, None) or self._aside.pop(waiter, None)) is not None

    def call_next(self, pace: Pace, now: float, sooner: float = 0.0) -> None:
        """Wake who is first by now, if it would sleep for longer; and who comes too late by now.

        Too late is so many seconds sooner than each waits at most.
        """
        while self.line:
            last = next(reversed(self.line))
            if pace.turn(len(self.line) - 1, now) <= self.line[last] - sooner:
                break
            del self.line[last]
            self._wake(last)
        if self.line:
            first = next(iter(self.line))
            turn = max(now, pace.turn(0, now))
            if first.deadline > turn:
                first.deadline = turn
                self._wake(first)

    def sort_out(self, pace: Pace, now: float) -> None:
        """Tell all whose turns come too late by a new pace."""
        place = 0
        for waiter, limit in list(self.line.items()):
            if pace.turn(place, now) <= limit:
                place += 1
            else:
                del self.line[waiter]
                self._wake(waiter)
        self.call_next(pace, now)

    def tidy(self, pace: Pace, now: float) -> None:
        """Set those aside that are first and let their turns pass; forget those who never come."""
        line, before = self.line, len(self.line)
        while line:
            first = next(iter(line))
            if first.deadline > now:
                break
            if now <= line[first] + LATE:
                if first is not self._asked:
                    self._asked, self._asked_at = first, now
                if now - self._asked_at < LATE:
                    break
                self._aside[first] = line[first]
            del line[first]
            self._wake(first)
        for waiter, limit in list(self._aside.items()):
            if now > limit + LATE:
                del self._aside[waiter]
        if len(line) < before:
            self.call_next(pace, now)

    def clear(self) -> None:
        """Forget all waiters."""
        self.line.clear()
        self._aside.clear()
        self._asked = None
