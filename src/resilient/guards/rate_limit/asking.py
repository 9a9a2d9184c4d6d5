"""How a rate limit of a fleet asks for turns: it says what it needs, and is told what it got."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from math import inf
from typing import NamedTuple

from ...events import Event
from ..attached import Attached, Home
from ..base import Waiter
from .fleet import ANSWER_WITHIN, KEPT, LATE_ANSWER, Answer, FleetPace
from .pace import Pace
from .turns import Turns


class Request(NamedTuple):
    """What is asked of the store.

    Attributes:
        key: which limit.
        turns: how many; 0 only to learn whether it answers.
        within: in how many seconds they have to come.
        at: since when an answer is due.
        spent: calls that began while it did not answer, and that count as if it had let them.
        view: whether it is a view's, which has a count of its own.
        max_calls: so many a period,
        period: in seconds,
        burst: and at once,
        quota: or in each interval of that length.
        limit: the options in force then.
    """

    key: str
    turns: int
    within: float
    at: float
    spent: int
    view: bool
    max_calls: int
    period: float
    burst: int
    quota: bool
    limit: tuple[int, float, int, bool]


class Asking(Attached):
    """The part of a rate limit that a fleet shares.

    The other thread calls `request`, then `told` or `failed`, each under the policy's lock.
    """

    max_calls: int
    period: float
    burst: int
    quota: bool
    max_wait: float
    pace: Pace
    line: OrderedDict[Waiter, float]
    turns: Turns
    _home: weakref.ref[Home] | None = None
    _asks: Callable[[], object]

    @property
    def fleet(self) -> FleetPace | None:
        """Its pace, if a fleet shares it."""
        return self.pace if isinstance(self.pace, FleetPace) else None

    def attach(self, core: Home) -> None:
        self._home = weakref.ref(core)
        self._asks = self._ask  # made once: nothing may be allocated under the lock

    def ask(self, now: float, more: int = 0) -> None:
        """Have the store asked if those in line, and so many more, need it; see if it is late."""
        fleet = self.fleet
        if fleet is None:
            return
        if fleet.is_late(now):
            self._goes_alone(LATE_ANSWER, now)
        if fleet.should_ask(len(self.turns) + more, self.max_wait, now):
            fleet.asked_at = now
            self.emit(self._asks)

    @property
    def alone(self) -> str:
        """Why it goes on alone, and what it does; "" if it does not."""
        fleet = self.fleet
        return f"{fleet.away}; {fleet.alone_words}" if fleet is not None and fleet.away else ""

    @property
    def heard_by(self) -> float:
        """Until when those in line wait for an answer; in the past if none is due."""
        return -inf if self.fleet is None else self.fleet.due

    def _ask(self) -> None:
        home = None if self._home is None else self._home()
        if home is not None:
            home.ask_fleet(self)

    def request(self, now: float) -> Request:
        """Return what to ask for."""
        home = None if self._home is None else self._home()
        assert home is not None
        view = all(guard is not self for guard in home.guards)
        fleet = self.fleet
        assert fleet is not None
        # One at least: the caller for whom it is may not be in line yet, or may not wait.
        lacking = 0 if fleet.away else max(1, fleet.lacks(len(self.turns), now))
        longest = self.line[next(reversed(self.line))] - now if self.line else 0.0
        within = max(0.0, min(self.max_wait, longest))
        at = now if fleet.asked_at is None else fleet.asked_at
        calls, period, burst, quota = fleet.limit
        if quota:  # which no interval may exceed: each call hears of its turn, and begins, later
            period += ANSWER_WITHIN + KEPT
        spent = fleet.debt(now)
        return Request(
            home.name, lacking, within, at, spent, view, calls, period, burst, quota, fleet.limit
        )

    def told(self, answer: Answer, asked: Request, now: float) -> None:
        """Take what the store gave."""
        fleet = self.fleet
        assert fleet is not None
        was = fleet.away
        current = asked.limit == fleet.limit
        fleet.told(answer, now, asked_at=asked.at, spent=asked.spent, current=current)
        if fleet.away and not was:
            self._tell_away(now)
        if was and not fleet.away:
            self.emit(Event("back", guard=self.kind, at=now, reason="the store answers again"))
        # Who waits only to hear of a turn has heard now.
        self.turns.call_next(fleet, now, max(0.0, ANSWER_WITHIN - self.max_wait))
        self.ask(now)

    def failed(self, why: str, now: float) -> None:
        """Learn that the store does not answer."""
        fleet = self.fleet
        assert fleet is not None
        fleet.asked_at = None
        self._goes_alone(why, now)

    def _goes_alone(self, why: str, now: float) -> None:
        fleet = self.fleet
        assert fleet is not None
        was = fleet.away
        fleet.go_alone(why, now)
        if not was:
            self._tell_away(now)
        self.turns.sort_out(fleet, now)

    def _tell_away(self, now: float) -> None:
        self.emit(Event("away", guard=self.kind, at=now, reason=self.alone))
