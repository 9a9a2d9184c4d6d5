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
from ..per_key import PerKey
from .advice import RateAdvice
from .asking import Asking
from .fleet import AGAIN, ANSWER_WITHIN, SCOPES, WHEN_AWAY, FleetPace
from .pace import Pace, Smooth
from .quota import Quota
from .turns import LATE, Turns

if TYPE_CHECKING:
    from datetime import timedelta

MOST_WAITING: Final = 1_000_000
_SLACK: Final = 1e-6  # seconds: turns are rounded up to floats
_LATER: Final = 1.01  # times max_wait: who wakes late makes those behind a little later, too

_RATE: Final = Metric(
    "rate_limit_per_second", "gauge", "Calls a second that the rate limit lets begin."
)
_FLEET_RATE: Final = Metric(
    "rate_limit_fleet_per_second", "gauge", "Calls a second that a limit of the fleet lets begin.",
    over="max", present='with `scope="fleet"`',
)  # fmt: skip
_READY: Final = Metric("rate_limit_ready", "gauge", "Calls that it would let begin at once.")
_AWAY: Final = Metric(
    "rate_limit_away", "gauge",
    "Processes that go on alone, because the store of the fleet does not answer.",
    present='with `scope="fleet"`',
)  # fmt: skip
_WAITING: Final = Metric(
    "rate_limit_waiting",
    "gauge",
    "Callers who wait for their turn.",
    present='with `max_wait`, or `scope="fleet"`',
)


class RateLimit(Asking, Queueing, Changeable, PerKey, Restorable, RateAdvice, RateLimitState):
    """Bounds how many calls begin in a time; made by `resilient.rate_limit`."""

    kind: ClassVar[str] = "rate_limit"
    in_core: ClassVar[bool] = True
    rank: ClassVar[float | None] = 50
    metrics: ClassVar[tuple[Metric, ...]] = (_RATE, _FLEET_RATE, _READY, _AWAY, _WAITING)
    changeable: ClassVar[tuple[str, ...]] = (
        "max_calls", "period", "burst", "max_wait", "when_away",
    )  # fmt: skip
    error: ClassVar[type[RefusedError]] = RateLimitedError
    pace: Pace
    max_wait: float
    line: OrderedDict[Waiter, float]  # until when each waits
    misplaced = (
        "Calls that it refuses, or that wait for a turn, would hold the outer guard's slots."
    )
    why: str

    def __init__(
        self,
        max_calls: int,
        period: float | timedelta = 1.0,
        *,
        burst: int = 1,
        quota: bool = False,
        max_wait: float | timedelta | None = None,
        scope: str = "process",
        when_away: str | None = None,
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
        self.scope: str = validation.one_of("scope", scope, SCOPES)
        if self.scope == "process" and when_away is not None:
            validation.refuse("when_away", when_away, 'given with scope="fleet" alone')
        self.when_away: str | None = when_away
        if self.scope == "fleet":
            given = "local" if when_away is None else when_away
            self.when_away = validation.one_of("when_away", given, WHEN_AWAY)
        self.adds_counts: tuple[str, ...] = ("line",) if self.waits else ()
        self.pace = self._pace()
        self.line = OrderedDict()
        self.turns: Turns = Turns(self.line, self._wake)
        self.why = self._refused()

    def _pace(self) -> Pace:
        options = self.max_calls, self.period, self.burst
        if self.when_away is not None:
            return FleetPace(*options, quota=self.quota, when_away=self.when_away)
        return Quota(*options[:2]) if self.quota else Smooth(*options)

    def _wake(self, waiter: Waiter) -> None:
        self.emit(waiter)

    @property
    def waits(self) -> float:
        """For how many seconds a call may wait: for its turn, or to hear of one."""
        return self.max_wait if self.scope == "process" else max(self.max_wait, ANSWER_WITHIN)

    def places(self) -> int:
        return MOST_WAITING if self.waits else 0

    # -- the life of an attempt ---------------------------------------------

    def admit(self, now: float) -> int:
        self.ask(now)
        if len(self.turns):
            self.turns.tidy(self.pace, now)
        if not self.line:
            number = self.pace.take(now)
            if number >= 0:
                return number
        if self._may_wait(now):
            self.ask(now, 1)
            return PARK
        self.why = self._refused()
        return REFUSE

    def _may_wait(self, now: float) -> bool:
        has_place = self.waits > 0 and len(self.turns) < MOST_WAITING
        turn = self.pace.turn(len(self.line), now)
        return has_place and turn - now <= self.max_wait + _SLACK

    def retry_after(self, now: float) -> float:
        turn = self.pace.turn(len(self.line), now)
        if turn == inf:  # nobody knows: it may look again by then
            return AGAIN
        wait = max(0.0, turn - now)
        return wait if now + wait >= turn else nextafter(wait, inf)

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> None:
        begun = outcome != REFUSED or duration > 0.0
        if not begun and self.pace.undo(ticket):
            self.turns.call_next(self.pace, now)

    def settle_success(self, ticket: int, now: float, duration: float) -> None:
        """Keep what has begun."""

    # -- the line ---------------------------------------------

    def park(self, waiter: Waiter, now: float) -> int:
        answer = self.admit(now)
        if answer != PARK:
            return answer
        wait = self.retry_after(now)
        if wait > waiter.left:
            left = f"its caller has {waiter.left:.3g} s left"
            self.why = f"its turn comes in {wait:.3g} s, and {left}"
            return REFUSE
        waiter.patience = self.waits
        limit = now + min(self.waits * _LATER + _SLACK, waiter.left)
        self.turns.park(waiter, limit)
        waiter.deadline = max(now + wait, self.heard_by)
        return PARK

    def unpark(self, waiter: Waiter, now: float) -> int:
        self.ask(now)
        turns, pace = self.turns, self.pace
        first = turns.is_first(waiter)
        if not first:
            turns.tidy(pace, now)
            first = turns.is_first(waiter)
        limit = turns.limit(waiter)
        if limit is not None and now <= limit + LATE:
            number = pace.take(now) if first else -1
            if number >= 0:
                self.quit(waiter, now)
                return number
            turn = pace.turn(0, now) if first else now + LATE
            if now < limit and (not first or turn <= limit):
                turns.stays(waiter, max(turn, self.heard_by))
                return PARK
        self.why = f"no turn came within {waiter.patience:g} s, or could"
        self.quit(waiter, now)
        return REFUSE

    def quit(self, waiter: Waiter, now: float) -> None:
        if self.turns.quit(waiter):
            self.turns.call_next(self.pace, now)

    # -- the operator and the process ---------------------------------------------

    def options(self) -> dict[str, Any]:
        return {
            "max_calls": self.max_calls,
            "period": self.period,
            "burst": self.burst,
            "quota": self.quota,
            "max_wait": self.max_wait or None,
            "scope": self.scope,
            "when_away": self.when_away,
        }

    def take_over(self, new: Guard, now: float) -> None:
        """Change the options: what was let in counts as before, and those in line as they came."""
        assert isinstance(new, RateLimit)
        new.pace.follow(self.pace, now)
        self.max_calls, self.period, self.burst = new.max_calls, new.period, new.burst
        self.max_wait, self.adds_counts, self.pace = new.max_wait, new.adds_counts, new.pace
        self.when_away = new.when_away
        self.why = self._refused()  # the compiled path writes none
        self.turns.sort_out(self.pace, now)

    def at_rest(self, now: float) -> bool:
        if len(self.turns):
            return False
        most = self.max_calls if self.quota else self.burst
        return self.pace.ready(now) >= most if self.fleet is None else self.fleet.at_rest(now)

    def after_fork(self, now: float, own: int) -> None:
        self.turns.clear()
        if self.fleet is not None:
            self.fleet.drop_asked()

    def memory(self) -> float:
        return self.period if self.quota else self.burst * self.period / self.max_calls

    def save(self) -> dict[str, Any]:
        return {"pace": self.pace.copy()}

    def restore(self, saved: dict[str, Any]) -> None:
        pace: Pace = saved["pace"].copy()
        pace.last = max(pace.last, self.pace.last) + 1  # no call of before is the last
        self.pace = pace

    # -- showing ---------------------------------------------

    def _allowed(self) -> str:
        calls = "1 call" if self.max_calls == 1 else f"{self.max_calls} calls"
        return f"{calls} in {self.period:g} s" + (", of the whole fleet" if self.fleet else "")

    def _refused(self) -> str:
        longest = f", and none waits for more than {self.max_wait:g} s" if self.max_wait else ""
        alone = f"; {self.alone}" if self.alone else ""
        return f"{self._allowed()}{longest}{alone}"

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
        waiting = f", {len(self.turns)} waiting" if len(self.turns) or self.max_wait else ""
        alone = f", alone: {self.alone}" if self.alone else ""
        return f"{self.pace.ready(now)} may begin at once{waiting}{alone}"

    def snapshot(self, now: float) -> dict[str, Any]:
        said: dict[str, Any] = {
            "guard": self.kind,
            "ready": self.pace.ready(now),
            "waiting": len(self.turns),
            "options": self.options(),
        }
        fleet = self.fleet
        if fleet is not None:
            said["fleet"] = {"processes": fleet.processes, "away": fleet.away}
        return said

    def measure(self, now: float) -> list[Sample]:
        fleet, rate = self.fleet, self.max_calls / self.period
        samples: list[Sample] = [(_READY, (), self.pace.ready(now))]
        if fleet is None:
            samples.append((_RATE, (), rate))
        else:
            samples += [(_FLEET_RATE, (), rate), (_AWAY, (), bool(fleet.away))]
        if self.waits or len(self.turns):
            samples.append((_WAITING, (), len(self.turns)))
        return samples
