"""The budget of a policy for extra attempts: a share of its calls, and a small floor.

A token bucket as in Finagle's retry budgets and gRPC's retry throttling (gRFC A6): each call puts
in a share of a token, each extra attempt takes a whole one. So extra attempts stay a share of the
load, however much of it fails, and an overload that has lost its trigger is not fed by retries
(Bronson et al., *Metastable Failures in Distributed Systems*, 2021).
"""

from __future__ import annotations

from typing import Any, Final

from ..state_types import BudgetState

MOST: Final = 10  # tokens that can be saved up; a budget begins with so many
FLOOR: Final = 0.1  # tokens a second that come without any call
_UNIT: Final = 1_000_000  # whole numbers do not drift: a token is so many


class Budget(BudgetState):
    """The tokens of one policy; in any time at most MOST + share x calls + FLOOR x seconds go.

    Attributes:
        calls: how many calls have put in their share.
        share: of a token, that each puts in; None spends without a limit.
    """

    __slots__ = ("_at", "_calls", "_units", "share")

    def __init__(self, share: float | None) -> None:
        self.share: float | None = share
        self.calls: int = 0
        self._units = MOST * _UNIT
        self._calls = 0  # that are in the units already
        self._at: float | None = None  # when they were counted

    def _now(self, now: float) -> int:
        units = self._units + int(FLOOR * _UNIT * (now - (now if self._at is None else self._at)))
        if self.share is not None:
            units += round(self.share * _UNIT) * (self.calls - self._calls)
        return min(units, MOST * _UNIT)

    def left(self, now: float) -> float:
        """Return how many tokens there are; infinite without a limit."""
        return float("inf") if self.share is None else self._now(now) / _UNIT

    def is_full(self, now: float) -> bool:
        """Return whether a new budget would have as many tokens."""
        return self.share is None or self._now(now) >= MOST * _UNIT

    def take(self, now: float) -> bool:
        """Take a token; return False if there is none."""
        if self.share is None:
            return True
        units = self._now(now) - _UNIT
        if units < 0:
            return False
        self._units, self._calls, self._at = units, self.calls, now
        return True

    def give_back(self) -> None:
        """Put back a token that was taken for an attempt which did not begin."""
        self._units = min(self._units + _UNIT, MOST * _UNIT)

    def adopt(self, share: float | None, now: float) -> None:
        """Change the share; what has been put in stays."""
        self._units, self._calls, self._at = self._now(now), self.calls, now
        self.share = share

    def saved(self) -> tuple[Any, ...]:
        """Return its state for `put`."""
        return self._units, self._calls, self._at, self.calls

    def put(self, saved: tuple[Any, ...]) -> None:
        """Set the state that `saved` returned."""
        self._units, self._calls, self._at, self.calls = saved

    def refill(self) -> None:
        """Begin anew, with all tokens."""
        self._units, self._calls, self._at, self.calls = MOST * _UNIT, 0, None, 0
