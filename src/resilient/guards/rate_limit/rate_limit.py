"""The rate limit: bound how many calls begin in a time, with a line for the next ones."""

from __future__ import annotations

from collections import OrderedDict
from math import inf, nextafter
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ... import validation
from ...errors import RateLimitedError, RefusedError
from ...metric_types import Metric, Sample
from ...outcomes import REFUSED
from ...state_types import RateLimitState
from ..base import PARK, REFUSE, Guard, Waiter
from ..facets import Changeable, Queueing, Restorable
from .pace import Pace, Smooth
from .quota import Quota

if TYPE_CHECKING:
    from datetime import timedelta

LATE: Final = 0.1  # seconds that the first in line has to take its turn, once another asks for it
MOST_WAITING: Final = 1_000_000
_SLACK: Final = 1e-6  # seconds: turns are rounded up to floats
_LATER: Final = 1.01  # times max_wait: who wakes late makes those behind a little later, too

_RATE: Final = Metric(
    "rate_limit_per_second", "gauge", "Calls a second that the rate limit lets begin."
)
_READY: Final = Metric("rate_limit_ready", "gauge", "Calls that it would let begin at once.")
_WAITING: Final = Metric(
    "rate_limit_waiting", "gauge", "Callers who wait for their turn.", present="with `max_wait`"
)


class RateLimit(Queueing, Changeable, Restorable, RateLimitState):
    """Bounds how many calls begin in a time; made by `resilient.rate_limit`."""

    kind: ClassVar[str] = "rate_limit"
    in_core: ClassVar[bool] = True
    rank: ClassVar[float | None] = 50
    metrics: ClassVar[tuple[Metric, ...]] = (_RATE, _READY, _WAITING)
    changeable: ClassVar[tuple[str, ...]] = ("max_calls", "period", "burst", "max_wait")
    error: ClassVar[type[RefusedError]] = RateLimitedError
    pace: Pace
    max_wait: float
    line: OrderedDict[Waiter, float]  # until when each waits
    misplaced = "Calls that wait for their turn would hold the outer guard's slots."
    why: str

    def __init__(
        self,
        max_calls: int,
        period: float | timedelta = 1.0,
        *,
        burst: int = 1,
        quota: bool = False,
        max_wait: float | timedelta | None = None,
    ) -> None:
        super().__init__()
        self.max_calls: int = validation.count("max_calls", max_calls)
        self.period: float = validation.duration("period", period)
        self.burst: int = validation.count("burst", burst)
        self.quota: bool = validation.flag("quota", quota)
        if self.quota and self.burst != 1:
            validation.refuse("burst", burst, "1 with quota=True, which lets all come at once")
        self.max_wait = (
            0.0 if max_wait is None else validation.duration("max_wait", max_wait, zero=True)
        )
        self.adds_counts: tuple[str, ...] = ("line",) if self.max_wait else ()
        self.pace = self._pace()
        self.line = OrderedDict()
        self._waited_for: Waiter | None = None  # the first in line, whose turn another asks for
        self._waited_since: float = 0.0

    def _pace(self) -> Pace:
        if self.quota:
            return Quota(self.max_calls, self.period)
        return Smooth(self.max_calls, self.period, self.burst)

    def places(self) -> int:
        return MOST_WAITING if self.max_wait else 0

    # -- the life of an attempt ---------------------------------------------

    def admit(self, now: float) -> int:
        if not self.line or self._is_stuck(now):
            number = self.pace.take(now)
            if number >= 0:
                return number
        if self._wait(now) <= self.max_wait + _SLACK and self.max_wait > 0 and self._has_place():
            return PARK
        self.why = self._why(now)
        return REFUSE

    def _has_place(self) -> bool:
        return len(self.line) < MOST_WAITING

    def _wait(self, now: float) -> float:
        """Return the seconds until a call that comes now may begin."""
        turn = self.pace.turn(len(self.line), now)
        wait = max(0.0, turn - now)
        return wait if now + wait >= turn else nextafter(wait, inf)

    def _why(self, now: float) -> str:
        longest = f", and a call waits for up to {self.max_wait:g} s" if self.max_wait else ""
        return f"{self._allowed()}: the next may begin in {self._wait(now):.3g} s{longest}"

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> None:
        if outcome == REFUSED and self.pace.undo(ticket):  # a guard inside: it did not run
            self._call_next(now)

    def settle_success(self, ticket: int, now: float, duration: float) -> None:
        """Keep what has begun."""

    def retry_after(self, now: float) -> float:
        return self._wait(now)

    # -- the line ---------------------------------------------

    def park(self, waiter: Waiter, now: float) -> int:
        answer = self.admit(now)
        if answer != PARK:
            return answer
        wait = self._wait(now)
        if wait > waiter.left:
            self.why = (
                f"its turn comes in {wait:.3g} s, and its caller has {waiter.left:.3g} s left"
            )
            return REFUSE
        waiter.patience = self.max_wait
        waiter.deadline = now + wait
        self.line[waiter] = now + self.max_wait * _LATER + _SLACK
        return PARK

    def unpark(self, waiter: Waiter, now: float) -> int:
        limit = self.line.get(waiter)
        if limit is not None and now <= limit + LATE:
            first = next(iter(self.line)) is waiter
            if first or self._is_stuck(now):
                number = self.pace.take(now)
                if number >= 0:
                    self.quit(waiter, now)
                    return number
            if now < limit:
                turn = self.pace.turn(0, now) if first else now + LATE
                waiter.deadline = min(turn, limit)
                self._call_next(now)
                limit = self.line.get(waiter)
                if limit is not None:
                    return PARK
        self.why = f"its turn did not come within {waiter.patience:g} s"
        self.quit(waiter, now)
        return REFUSE

    def _is_stuck(self, now: float) -> bool:
        """Return whether the first in line lets its turn pass, as in a loop that is blocked."""
        first = next(iter(self.line), None)
        if first is None or first.deadline > now:
            return False
        if first is not self._waited_for:
            self._waited_for, self._waited_since = first, now
        if now > self.line[first] + LATE:  # and if it never comes back, it stands in nobody's way
            self.emit(first)
            self.quit(first, now)
            return not self.line or self._is_stuck(now)
        return now - self._waited_since >= LATE

    def quit(self, waiter: Waiter, now: float) -> None:
        if self.line.pop(waiter, None) is not None:
            self._call_next(now)

    def _call_next(self, now: float) -> None:
        """Wake who is first by now, and refuse those whose turn comes too late by now."""
        line, pace = self.line, self.pace
        while line:
            last = next(reversed(line))
            if pace.turn(len(line) - 1, now) <= line[last]:
                break
            del line[last]
            self.emit(last)
        first = next(iter(line), None)
        if first is not self._waited_for:
            self._waited_for = None
        if first is not None:
            turn = max(now, pace.turn(0, now))
            if first.deadline > turn:
                first.deadline = turn
                self.emit(first)

    # -- the operator and the process ---------------------------------------------

    def options(self) -> dict[str, Any]:
        return {
            "max_calls": self.max_calls,
            "period": self.period,
            "burst": self.burst,
            "quota": self.quota,
            "max_wait": self.max_wait or None,
        }

    def take_over(self, new: Guard, now: float) -> None:
        """Change the options: what was let in counts as before, and those in line as they came."""
        assert isinstance(new, RateLimit)
        pace = new._pace()
        pace.follow(self.pace, now)
        self.max_calls, self.period, self.burst = new.max_calls, new.period, new.burst
        self.max_wait, self.adds_counts, self.pace = new.max_wait, new.adds_counts, pace
        self._call_next(now)

    def after_fork(self, now: float, own: int) -> None:
        self.line.clear()
        self._waited_for = None

    def save(self) -> dict[str, Any]:
        return {"pace": self.pace.copy()}

    def restore(self, saved: dict[str, Any]) -> None:
        pace: Pace = saved["pace"].copy()
        pace.last = max(pace.last, self.pace.last) + 1  # no call of before is the last
        self.pace = pace

    # -- showing ---------------------------------------------

    def _allowed(self) -> str:
        calls = "1 call" if self.max_calls == 1 else f"{self.max_calls} calls"
        return f"{calls} in {self.period:g} s"

    def describe(self) -> str:
        if self.quota:
            text = f"lets at most {self._allowed()} begin, whichever {self.period:g} s one takes"
        else:
            text = f"lets {self._allowed()} begin, evenly"
            if self.burst > 1:
                text += f", {self.burst} of them at once"
        waits = f"the next ones wait for up to {self.max_wait:g} s" if self.max_wait else ""
        return f"{text}; {waits or 'it refuses the rest'}"

    def live(self, now: float) -> str:
        waiting = f", {len(self.line)} waiting" if self.line or self.max_wait else ""
        return f"{self.pace.ready(now)} may begin at once{waiting}"

    def snapshot(self, now: float) -> dict[str, Any]:
        return {
            "guard": self.kind,
            "ready": self.pace.ready(now),
            "waiting": len(self.line),
            "options": self.options(),
        }

    def measure(self, now: float) -> list[Sample]:
        rate = self.max_calls / self.period
        samples: list[Sample] = [(_RATE, (), rate), (_READY, (), self.pace.ready(now))]
        if self.max_wait or self.line:
            samples.append((_WAITING, (), len(self.line)))
        return samples
