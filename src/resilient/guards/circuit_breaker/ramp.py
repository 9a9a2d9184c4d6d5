"""The ramp of a circuit that has just closed: it lets in a share of the calls that grows to all."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .recovery import Recovery

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


class Climbing:
    """The part of a circuit breaker that has a ramp."""

    forced: str | None = None
    recovery: Recovery
    relapses: int
    why: str
    _ramp: Ramp | None = None  # while a closed circuit lets in a share of the calls

    def _simplify(self) -> None:
        raise NotImplementedError

    @property
    def only_measures(self) -> bool:
        """Whether it never refuses."""
        raise NotImplementedError

    def _climb(self, now: float) -> None:
        """Begin to let in a share that grows, or all at once."""
        if self.recovery.ramp is None:
            self.relapses = 0
        else:
            self._ramp = Ramp(self.recovery.ramp, now)
            self._simplify()

    def _is_climbing(self, now: float) -> bool:
        """Return whether a share of the calls is let in; end the ramp when it is over."""
        if self._ramp is not None and self._ramp.is_over(now):
            self._leave_ramp()
        return self._ramp is not None

    def _leave_ramp(self) -> None:
        self._ramp, self.relapses, self.why = None, 0, ""
        self._simplify()

    def _climbs(self, now: float) -> bool:
        """Return whether a call is let in."""
        if not self._is_climbing(now) or self._ramp is None or self._ramp.admits(now):
            return True
        if not self.only_measures:
            since, share = now - self._ramp.began, self._ramp.share(now)
            self.why = f"closed again for {since:.1f} s, it lets {share:.0%} of the calls in"
        return False

    def _change_ramp(self) -> None:
        if self._ramp is not None and self.recovery.ramp is not None:
            self._ramp.seconds = self.recovery.ramp
        elif self._ramp is not None:
            self._leave_ramp()

    def admitted_share(self, now: float) -> float:
        """Return the share of calls that a closed circuit lets in."""
        refuses = not self.only_measures and self.forced is None
        climbs = refuses and self._is_climbing(now) and self._ramp is not None
        return self._ramp.share(now) if climbs and self._ramp is not None else 1.0
