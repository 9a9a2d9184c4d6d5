"""The ramp of a circuit that has just closed: it lets in a share of the calls that grows to all."""

from __future__ import annotations

from math import ceil
from typing import Final

LEAST: Final = 0.1  # the share at its beginning


class Ramp:
    """Which calls are let in, by a credit: each call adds the share, one that is let in takes 1.

    So no chance is in it, and of any number of calls the share is let in, but for one. The first
    call always is.
    """

    __slots__ = ("_calls", "_credit", "began", "seconds")

    def __init__(self, seconds: float, began: float) -> None:
        self.seconds: float = seconds
        self.began: float = began
        self._credit: float = 1.0
        self._calls: int = 0

    def is_over(self, now: float) -> bool:
        """Return whether all calls are let in."""
        return now - self.began >= self.seconds

    def share(self, now: float) -> float:
        """Return the share that is let in."""
        passed = max(0.0, min(1.0, (now - self.began) / self.seconds))
        return LEAST + (1 - LEAST) * passed

    def admits(self, now: float) -> bool:
        """Count a call, and return whether it is let in."""
        self._calls += 1
        self._credit += self.share(now)
        if self._credit < 1:
            return False
        self._credit -= 1
        return True

    def retry_after(self, now: float) -> float:
        """Return in how many seconds a call is let in, if others come as they did so far."""
        passed = now - self.began
        calls = ceil((1 - self._credit) / self.share(now)) - 1  # that are refused before it
        if calls <= 0:
            return 0.0
        gap = passed / self._calls if self._calls else 0.0
        return min(calls * gap, self.seconds - passed) if gap else self.seconds - passed

    def save(self) -> tuple[float, float, float, int]:
        """Return what `restored` takes."""
        return self.seconds, self.began, self._credit, self._calls

    @classmethod
    def restored(cls, saved: tuple[float, float, float, int]) -> Ramp:
        """Return one that has counted what was saved."""
        made = cls(*saved[:2])
        made._credit, made._calls = saved[2:]
        return made
