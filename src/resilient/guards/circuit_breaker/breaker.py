"""The circuit breaker: stop calls to a failing dependency, and probe gently whether it is back.

The pattern is Michael Nygard's (*Release It!*, 2007); the rate over a window is that of Hystrix and
resilience4j. Of epochs and leases ``docs/explanation/call.md`` tells.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ... import validation
from ...errors import CircuitOpenError, RefusedError
from ...events import Cause
from ...metric_types import Metric, Sample
from ...outcomes import FAILURE, REFUSED, SUCCESS, Judge, OnError, OnResult
from ...stack import room
from ...state_types import BreakerState
from ..base import REFUSE, Guard
from ..facets import Changeable, Peered, TimeLimit
from ..jitter import source
from ..window import Ages, calls
from .advice import BreakerAdvice
from .history import History
from .moves import CLOSED, HALF_OPEN, METRICS_ONLY, NEVER, OPEN, Moving
from .recovery import Recovery
from .report import METRICS, data, described, live, samples
from .trip_rules import Health, counted

if TYPE_CHECKING:
    from datetime import timedelta

# The ticket of a call that metrics-only admits and a real breaker would refuse.
_UNCOUNTED: Final = 0


class CircuitBreaker(Moving, Changeable, Peered, BreakerAdvice, BreakerState):
    """Refuses calls while the dependency fails; made by `resilient.circuit_breaker`."""

    kind: ClassVar[str] = "circuit_breaker"
    in_core: ClassVar[bool] = True
    rank: ClassVar[float | None] = 40
    metrics: ClassVar[tuple[Metric, ...]] = METRICS
    judges_health: ClassVar[bool] = True
    changeable: ClassVar[tuple[str, ...]] = (
        "failure_rate", "failure_threshold", "window", "minimum_calls", "slow_call_duration",
        "slow_call_rate", "recovery_timeout", "recovery_backoff", "max_recovery_timeout",
        "ramp", "half_open_max_calls", "success_threshold", "probe_lease", "metrics_only",
    )  # fmt: skip
    starts_afresh: ClassVar[tuple[str, ...]] = ("window",)
    misplaced = "An open circuit would still take the outer guard's slots."
    error: ClassVar[type[RefusedError]] = CircuitOpenError
    random: Callable[[], float] | None
    slow_total: int
    late_total: int
    would_refuse_total: int

    def __init__(
        self,
        *,
        failure_rate: float | None,
        failure_threshold: int | None,
        window: float | timedelta | calls,
        minimum_calls: int,
        slow_call_duration: float | timedelta | None,
        slow_call_rate: float,
        recovery_timeout: float | timedelta,
        recovery_backoff: float,
        max_recovery_timeout: float | timedelta | None,
        ramp: float | timedelta | None,
        half_open_max_calls: int,
        success_threshold: int,
        probe_lease: float | timedelta | None,
        metrics_only: bool,
        on: OnError | None,
        ignore: OnError | None,
        failed_result: OnResult | None,
    ) -> None:
        super().__init__()
        self.health: Health = Health(
            failure_rate=failure_rate,
            failure_threshold=failure_threshold,
            window=window,
            minimum_calls=minimum_calls,
            slow_call_duration=slow_call_duration,
            slow_call_rate=slow_call_rate,
        )
        self.recovery: Recovery = Recovery(
            recovery_timeout=recovery_timeout,
            recovery_backoff=recovery_backoff,
            max_recovery_timeout=max_recovery_timeout,
            ramp=ramp,
        )
        self.half_open_max_calls: int = validation.count("half_open_max_calls", half_open_max_calls)
        self.success_threshold: int = validation.count("success_threshold", success_threshold)
        self._lease = (
            None if probe_lease is None else validation.duration("probe_lease", probe_lease)
        )
        self._home = METRICS_ONLY if validation.flag("metrics_only", metrics_only) else CLOSED
        self.judge: Judge = Judge.of(on, ignore, failed_result)
        self.random = source()
        self.watches_ages: bool = slow_call_duration is not None
        self._probes = Ages(self._lease or self.recovery.timeout)
        self.state = self._home  # the state that operators see
        self.phase: str = CLOSED  # the state that decides; a metrics-only breaker has one, too
        self.seen: Health | None = None  # all results, if metrics-only
        self._watch()
        self._limits: tuple[TimeLimit, ...] = ()  # the timeouts of its policy
        self.serial: int = 1  # the newest ticket
        self.epoch: int = 1  # the first ticket that still counts
        self._simple = NEVER  # the epoch while the fast checks suffice, else NEVER
        self._simplify()
        self.recovered: int = 0  # successful probes of this half-open period
        self.until: float = 0.0  # when an open circuit admits a probe
        self.relapses: int = 0  # times it opened again without a close between
        self.slow_total = self.late_total = 0
        self.moves: dict[tuple[str, Cause], int] = {}  # counts by new state and cause
        self.history: History = History()

    # -- the life of an attempt ---------------------------------------------

    def admit(self, now: float) -> int:
        if self._simple < NEVER:
            return self.serial
        if self.phase == CLOSED:
            if self.forced is None and self.health.too_slow(now):
                self._decide(now)
                return self._refused()
            if self._ramp is not None and self.forced is None and not self._climbs(now):
                return self._refused()
        elif self.forced is None:
            ticket = self._probe(now)
            return ticket if ticket != REFUSE else self._refused()
        self.serial += 1
        if self.watches_ages:
            self.health.ages.add(self.serial, now)
        return self.serial

    def _refused(self) -> int:
        if self.seen is None:
            return REFUSE
        return _UNCOUNTED

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> None:
        health = self.health
        if ticket == _UNCOUNTED and (outcome != REFUSED or reason):  # else the guard is asked again
            self.would_refuse_total += 1
        slow = duration >= health.slow_from
        if self.seen is not None and outcome <= FAILURE:
            self.seen.window.add(now, outcome == FAILURE, slow)
        if self.watches_ages:
            health.ages.discard(ticket)
        if self.phase == HALF_OPEN and self.forced is None and self._probes.late(now):
            self._expire(now)
        if ticket < self.epoch:
            self.late_total += outcome <= FAILURE and ticket != _UNCOUNTED
        elif outcome > FAILURE:  # says nothing of the dependency: only gives the probe's place back
            self._probes.discard(ticket)
        else:
            self._result(ticket, now, outcome == FAILURE, slow, reason)

    def settle_success(self, ticket: int, now: float, duration: float) -> None:
        if ticket < self._simple or duration == inf:
            if self.phase != CLOSED or self.seen is not None:
                room()
            self.settle(ticket, now, SUCCESS, duration, "", False)
            return
        health = self.health
        health.consecutive = 0
        window = health.window
        if now < window.end:
            window.newest += 1
        else:
            window.add(now, False, False)
        if window.failures:
            self._look(now)

    def _look(self, now: float, bad: bool | None = None) -> None:
        """Open if a rule says so; if the stack is too short for that, the next result will."""
        try:
            if self.health.bad(now) if bad is None else bad:
                self._decide(now)
        except RecursionError:
            return

    def _result(self, ticket: int, now: float, failed: bool, slow: bool, reason: str) -> None:
        self.slow_total += slow
        if self.phase == HALF_OPEN:
            self._probes.discard(ticket)
            if self.forced is None:
                self._probed(now, failed, slow and self.watches_ages, reason)
                return
        bad = None
        if failed:
            bad = self.health.failed(now, slow, reason)
        else:
            self.health.consecutive = 0
            self.health.window.add(now, False, slow)
        if self.phase != OPEN and bad is not False:
            self._look(now, bad)

    # -- half-open ---------------------------------------------

    def _probe(self, now: float) -> int:
        if self.phase == OPEN:
            if now < self.until:
                return REFUSE
            room()
            self._move(HALF_OPEN, now, "the recovery time is over", "half_open")
        elif self._probes.late(now):
            room()
            self._expire(now)
            return REFUSE
        if len(self._probes) >= self.half_open_max_calls:
            return REFUSE
        self.serial += 1
        self._probes.add(self.serial, now)
        return self.serial

    def _probed(self, now: float, failed: bool, slow: bool, reason: str) -> None:
        if failed:
            self.health.failed(now, slow, reason)  # after a close the window starts afresh
            self._relapse(now, f"a probe failed ({reason})")
        elif slow:
            self.health.window.add(now, False, True)
            self._relapse(now, "a probe was slow")
        else:
            self.recovered += 1
            if self.recovered >= self.success_threshold:
                why = f"{counted(self.recovered, 'probe')} succeeded"
                self._move(CLOSED, now, why, "closed")
                self._climb(now)

    def _expire(self, now: float) -> None:
        self.health.window.add(now, False, True)
        self._relapse(now, f"a probe gave no result within {self._probes.limit:g} s")

    def _relapse(self, now: float, why: str) -> None:
        self.relapses += 1
        self._open(now, why)

    # -- the operator, the policy, the process ---------------------------------------------

    def meet(self, guards: tuple[Guard, ...]) -> None:
        self._limits = tuple(guard for guard in guards if isinstance(guard, TimeLimit))
        self.peers_changed()

    def peers_changed(self) -> None:
        limits = [guard.seconds for guard in self._limits]
        lease = self._lease or max([self.recovery.timeout, *limits])
        if lease != self._probes.limit:
            self._probes.rule(lease)

    def options(self) -> dict[str, Any]:
        return {
            **self.health.options(),
            **self.recovery.options(),
            "half_open_max_calls": self.half_open_max_calls,
            "success_threshold": self.success_threshold,
            "probe_lease": self._lease,
            "metrics_only": self._home == METRICS_ONLY,
            **self.judge.options(),
        }

    def take_over(self, new: Guard, now: float) -> None:
        assert isinstance(new, CircuitBreaker)
        self.health.adopt(new.health)
        self.recovery = new.recovery
        self._change_ramp()
        self.half_open_max_calls = new.half_open_max_calls
        self.success_threshold = new.success_threshold
        self._lease = new._lease
        self.watches_ages = new.watches_ages
        if self._home != new._home:
            if self.phase != CLOSED:  # the open or half-open period is over
                self.relapses = 0
                self.why = ""
                self.phase = CLOSED
                self._fresh()
            self.history.moved = now
            self.state = self._home = new._home
            self._watch()
        elif self.seen is not None:
            self.seen.adopt(Health(**self.health.options()))
        self._simplify()

    def describe(self) -> str:
        return described(self)

    def live(self, now: float) -> str:
        return live(self, now)

    def measure(self, now: float) -> list[Sample]:
        return samples(self, now)

    def snapshot(self, now: float) -> dict[str, Any]:
        return data(self, now)
