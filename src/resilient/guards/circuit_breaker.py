"""The circuit breaker: stop calling what is failing, and find out gently when it is back.

The pattern is Michael Nygard's (*Release It!*, 2007); the rate over a sliding window with a minimum
volume is that of Hystrix and resilience4j. Epochs and leases are described in
``docs/explanation/architecture.md``.
"""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any, ClassVar, Final

from .. import checks
from ..errors import CircuitOpenError
from ..events import Cause, Event, Kind
from ..measures import Metric, Sample
from ..outcomes import FAILURE, SUCCESS, Judge, OnError, OnResult
from .base import REFUSE, Guard
from .window import Ages, CountWindow, TimeWindow

CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half_open"
METRICS_ONLY: Final = "metrics_only"
STATES: Final = (CLOSED, OPEN, HALF_OPEN, METRICS_ONLY)

LONGEST_RECOVERY: Final = 60.0
JITTER: Final = 0.2  # a recovery time is drawn from the last fifth, never longer than announced
_MOST_REASONS: Final = 8

_STATE: Final = Metric(
    "breaker_workers", "gauge", "Processes whose breaker is in this state.", "state"
)
_TRANSITIONS: Final = Metric(
    "breaker_transitions_total", "counter", "Changes of the breaker's state.", "to", "cause"
)
_SLOW: Final = Metric("slow_calls_total", "counter", "Calls that took slow_call_duration or longer.")
_LATE: Final = Metric(
    "late_results_total", "counter", "Results of calls let in before the breaker last moved."
)
_WOULD_OPEN: Final = Metric(
    "would_open_total", "counter", "Times that a metrics-only breaker would have opened."
)
_FAILURE_RATIO: Final = Metric(
    "failure_ratio", "gauge", "Failures in the window; absent below minimum_calls."
)
_SLOW_RATIO: Final = Metric(
    "slow_ratio", "gauge", "Slow calls in the window; absent below minimum_calls."
)


class calls:
    """A window of the last `size` calls, instead of one of seconds: ``window=calls(100)``."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = checks.count("calls", size, most=100_000)

    def __repr__(self) -> str:
        return f"calls({self.size})"


class CircuitBreaker(Guard):
    """Refuses calls while the dependency fails; made by `resilient.circuit_breaker`."""

    kind: ClassVar[str] = "circuit_breaker"
    rank: ClassVar[float | None] = 40
    judges_health: ClassVar[bool] = True
    misplaced = "An open circuit would still take the outer guard's slots."
    error = CircuitOpenError

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
        half_open_max_calls: int,
        success_threshold: int,
        probe_lease: float | timedelta | None,
        metrics_only: bool,
        on: OnError | None,
        ignore: OnError | None,
        failed_result: OnResult | None,
    ) -> None:
        super().__init__()
        self.failure_rate = (
            None if failure_rate is None else checks.share("failure_rate", failure_rate)
        )
        self.failure_threshold = (
            None
            if failure_threshold is None
            else checks.count("failure_threshold", failure_threshold)
        )
        self.window = (
            CountWindow(window.size)
            if isinstance(window, calls)
            else TimeWindow(_window_seconds(window))
        )
        self.minimum_calls = checks.count("minimum_calls", minimum_calls)
        if isinstance(window, calls) and self.minimum_calls > window.size:
            checks.refuse(
                "minimum_calls", minimum_calls, f"at most the window, which is {window!r}"
            )
        self.slow_call_rate = checks.share("slow_call_rate", slow_call_rate)
        self.slow_call_duration = (
            None
            if slow_call_duration is None
            else checks.duration("slow_call_duration", slow_call_duration)
        )
        if (self.failure_rate, self.failure_threshold, self.slow_call_duration) == (None,) * 3:
            checks.refuse(
                "failure_rate", None, "set when failure_threshold and slow_call_duration are not: "
                "this breaker could never open"
            )
        self.recovery_timeout = checks.duration("recovery_timeout", recovery_timeout)
        self.half_open_max_calls = checks.count("half_open_max_calls", half_open_max_calls)
        self.success_threshold = checks.count("success_threshold", success_threshold)
        self._lease = None if probe_lease is None else checks.duration("probe_lease", probe_lease)
        self.judge = Judge(on, ignore, failed_result)
        self.random = random.random
        self._home = METRICS_ONLY if checks.flag("metrics_only", metrics_only) else CLOSED
        self._slow = float("inf") if self.slow_call_duration is None else self.slow_call_duration
        self._ages = Ages(self._slow)
        self._probes = Ages(self._lease or self.recovery_timeout)
        self._reasons: dict[str, int] = {}
        self.state = self._home
        self._simple = self._home == CLOSED and self.slow_call_duration is None
        self.forced: str | None = None
        self.serial = 0  # the newest ticket
        self.epoch = 0  # the first ticket that still counts
        self.consecutive = 0
        self.recovered = 0  # successful probes of this half-open time
        self.until = 0.0  # an open circuit lets a probe through from here
        self.relapses = 0  # opened again and again without a close between
        self.slow_total = self.late_total = self.would_open_total = 0
        self.transitions: dict[tuple[str, Cause], int] = {
            (state, cause): 0 for state in STATES[:3] for cause in ("auto", "operator")
        }

    # -- the life of an attempt --------------------------------------------------------------------

    def before(self, now: float) -> int:
        if self.state == CLOSED:
            if self.slow_call_duration is None:
                return self.serial
            if self.forced is None and self._too_slow(now):
                self._open(now, self._summary(now))
                return REFUSE
        elif self.forced is None and self.state != METRICS_ONLY:
            return self._probe(now)
        self.serial += 1
        if self.slow_call_duration is not None:
            self._ages.add(self.serial, now)
        return self.serial

    def resume(self, ticket: int, now: float) -> int:
        if ticket < self.epoch:  # the circuit moved while the call stood in line
            return self.before(now)
        if ticket in self._ages:  # its wait inside was not the dependency's time
            self._ages.discard(ticket)
            self._ages.add(ticket, now)
        return ticket

    def after(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> None:
        if outcome == SUCCESS and self._simple and ticket >= self.epoch and duration < self._slow:
            self.consecutive = 0  # the usual case, by itself: it is what every good call pays
            window = self.window
            window.add(now, False, False)
            if window.failures:
                self._decide(now)
            return
        if self.slow_call_duration is not None:
            self._ages.discard(ticket)
        if ticket < self.epoch:
            self.late_total += outcome <= FAILURE
            return
        slow = duration >= self._slow
        if outcome > FAILURE:  # says nothing of the dependency: only the probe's place is given back
            self._probes.discard(ticket)
            return
        self.slow_total += slow
        failed = outcome == FAILURE
        if self.state == HALF_OPEN and self.forced is None:
            self._probed(ticket, now, failed, slow, reason)
            return
        self.window.add(now, failed, slow)
        if failed:
            self.consecutive += 1
            self._count_reason(reason)
        else:
            self.consecutive = 0
        if self.state != OPEN and (self.window.failures or self._slow < float("inf")):
            self._decide(now)

    # -- half-open -----------------------------------------------------------------------------------

    def _probe(self, now: float) -> int:
        if self.state == OPEN:
            if now < self.until:
                return REFUSE
            self._move(HALF_OPEN, now, "the recovery time is over", "half_open")
        elif self._probes.late(now):
            self._relapse(now, f"a probe gave no result within {self._probes.limit:g} s")
            return REFUSE
        if len(self._probes) >= self.half_open_max_calls:
            return REFUSE
        self.serial += 1
        self._probes.add(self.serial, now)
        return self.serial

    def _probed(self, ticket: int, now: float, failed: bool, slow: bool, reason: str) -> None:
        self._probes.discard(ticket)
        slow = slow and self.slow_call_duration is not None
        if failed or slow:
            self._count_reason(reason if failed else "slow call")
            self._relapse(now, f"a probe failed ({reason})" if failed else "a probe was slow")
            return
        self.recovered += 1
        if self.recovered >= self.success_threshold:
            self.relapses = 0
            self._move(CLOSED, now, f"{_count(self.recovered, 'probe')} succeeded", "closed")

    def _relapse(self, now: float, why: str) -> None:
        self.relapses += 1
        self._open(now, why)

    # -- deciding --------------------------------------------------------------------------------------

    def _decide(self, now: float) -> None:
        window = self.window
        if self.failure_rate is not None and window.calls >= self.minimum_calls:
            failing = window.failures / window.calls >= self.failure_rate
        else:
            failing = self.failure_threshold is not None and (
                self.consecutive >= self.failure_threshold
            )
        if self.forced is None and (failing or self._too_slow(now)):
            self._open(now, self._summary(now))

    def _too_slow(self, now: float) -> bool:
        if self.slow_call_duration is None:
            return False
        late = self._ages.late(now)
        self.window.advance(now)
        volume = self.window.calls + late
        return volume >= self.minimum_calls and (
            (self.window.slow + late) / volume >= self.slow_call_rate
        )

    def _open(self, now: float, why: str) -> None:
        if self.state == METRICS_ONLY:
            self.would_open_total += 1
            self._tell("would_open", now, why, METRICS_ONLY, METRICS_ONLY)
            self._fresh()
            return
        base = self.recovery_timeout
        longest = max(LONGEST_RECOVERY, base)
        delay = min(base * 2 ** min(self.relapses, 40), longest)
        if self.random is not None:
            delay *= 1 - JITTER * self.random()
        self.until = now + delay
        self._move(OPEN, now, why, "opened")
        self.why = why

    def _move(
        self, state: str, now: float, why: str, kind: Kind, cause: Cause = "auto"
    ) -> None:
        before, self.state = self.state, state
        self._simple = state == CLOSED and self.slow_call_duration is None
        self.why = "half-open, and the probes that may run are running" if state == HALF_OPEN else ""
        self._fresh()
        if (state, cause) in self.transitions:
            self.transitions[state, cause] += 1
        self._tell(kind, now, why, before, state, cause)

    def _fresh(self) -> None:
        """Begin a new epoch: results of calls that were let in before move nothing."""
        self.serial += 1
        self.epoch = self.serial
        self.consecutive = self.recovered = 0
        self.window.clear()
        self._ages.clear()
        self._probes.clear()
        self._reasons.clear()

    def _tell(
        self, kind: Kind, now: float, why: str, before: str, after: str, cause: Cause = "auto"
    ) -> None:
        self.emit(
            Event(kind, guard=self.kind, at=now, reason=why, before=before, after=after, cause=cause)
        )

    def _count_reason(self, reason: str) -> None:
        if reason in self._reasons or len(self._reasons) < _MOST_REASONS:
            self._reasons[reason] = self._reasons.get(reason, 0) + 1

    def _summary(self, now: float) -> str:
        window, late = self.window, self._ages.late(now)
        parts = [f"{window.failures} of {_count(window.calls, 'call')} failed"]
        if self.slow_call_duration is not None:
            parts.append(f"{window.slow} slow and {late} in flight for too long")
        if window.calls < self.minimum_calls and self.consecutive:
            parts.append(f"{self.consecutive} failures in a row")
        by_count = sorted(self._reasons.items(), key=lambda item: -item[1])
        if by_count:
            parts.append(", ".join(f"{number}x {reason}" for reason, number in by_count))
        return "; ".join(parts)

    # -- the operator, the policy, the process ---------------------------------------------------------

    def force(self, state: str | None, now: float) -> None:
        released, self.forced = self.forced, state if state == "forced_closed" else None
        if state is None and self._home == CLOSED:
            if released == "forced_closed":
                self.relapses = 0
                self._move(CLOSED, now, "released from forced_closed", "closed", "operator")
            else:
                self._move(HALF_OPEN, now, "released from forced_open", "half_open", "operator")

    def joined(self, guards: tuple[Guard, ...]) -> None:
        limits = [guard.seconds for guard in guards if guard.seconds is not None]
        if self._lease is None:
            self._probes.limit = max([self._probes.limit, *limits])

    def forked(self, now: float, own: int) -> None:
        if self.random is not None:
            self.random = random.Random().random
        self._fresh()
        self.slow_total = self.late_total = self.would_open_total = 0
        for key in self.transitions:
            self.transitions[key] = 0

    def retry_after(self, now: float) -> float | None:
        return max(0.0, self.until - now) if self.state == OPEN else None

    # -- showing ---------------------------------------------------------------------------------------

    def describe(self) -> str:
        rules = []
        if self.failure_rate is not None:
            rules.append(
                f"{self.failure_rate:.0%} of at least {self.minimum_calls} calls in {self.window} fail"
            )
        if self.failure_threshold is not None:
            rules.append(f"{self.failure_threshold} fail in a row at lower traffic")
        if self.slow_call_duration is not None:
            rules.append(f"{self.slow_call_rate:.0%} take {self.slow_call_duration:g} s or longer")
        opens = " or ".join(rules)
        if self._home == METRICS_ONLY:
            return f"only measures: it would open when {opens}"
        return (
            f"opens when {opens}; refuses for {self.recovery_timeout:g} s, then lets "
            f"{_count(self.half_open_max_calls, 'probe')} through at once and closes after "
            f"{_count(self.success_threshold, 'success', 'successes')}"
        )

    def live(self, now: float) -> str:
        self.window.advance(now)
        shown = f"{self.state}, {self.window.failures} of {_count(self.window.calls, 'call')} failed"
        if self.state == OPEN:
            return f"{self.state} for {max(0.0, self.until - now):.1f} s more: {self.why}"
        return shown

    def failure_ratio(self, now: float) -> float | None:
        """Return the share of failures in the window, or None below the minimum volume."""
        self.window.advance(now)
        enough = self.window.calls >= self.minimum_calls
        return self.window.failures / self.window.calls if enough else None

    def slow_ratio(self, now: float) -> float | None:
        """Return the share of slow calls, or None below the minimum volume."""
        if self.slow_call_duration is None:
            return None
        late = self._ages.late(now)
        self.window.advance(now)
        volume = self.window.calls + late
        return (self.window.slow + late) / volume if volume >= self.minimum_calls else None

    def measure(self, now: float) -> list[Sample]:
        samples: list[Sample] = [
            (_STATE, (state,), float(state == self.state)) for state in STATES
        ]
        samples += [(_TRANSITIONS, key, number) for key, number in self.transitions.items()]
        samples += [
            (_SLOW, (), self.slow_total),
            (_LATE, (), self.late_total),
            (_WOULD_OPEN, (), self.would_open_total),
        ]
        for metric, ratio in (
            (_FAILURE_RATIO, self.failure_ratio(now)),
            (_SLOW_RATIO, self.slow_ratio(now)),
        ):
            if ratio is not None:
                samples.append((metric, (), ratio))
        return samples

    def snapshot(self, now: float) -> dict[str, Any]:
        return {
            "guard": self.kind,
            "state": self.state,
            "why": self.why,
            "retry_after": self.retry_after(now),
            "failure_ratio": self.failure_ratio(now),
            "slow_ratio": self.slow_ratio(now),
            "window": {
                "calls": self.window.calls,
                "failures": self.window.failures,
                "slow": self.window.slow,
            },
            "consecutive_failures": self.consecutive,
            "probes": len(self._probes),
            "late_results": self.late_total,
            "slow_calls": self.slow_total,
            "would_open": self.would_open_total,
            "transitions": {f"{to}/{by}": n for (to, by), n in self.transitions.items()},
            "options": {
                "failure_rate": self.failure_rate,
                "failure_threshold": self.failure_threshold,
                "window": str(self.window),
                "minimum_calls": self.minimum_calls,
                "slow_call_duration": self.slow_call_duration,
                "slow_call_rate": self.slow_call_rate,
                "recovery_timeout": self.recovery_timeout,
                "half_open_max_calls": self.half_open_max_calls,
                "success_threshold": self.success_threshold,
                "probe_lease": self._probes.limit,
                "metrics_only": self._home == METRICS_ONLY,
            },
        }


def _window_seconds(window: object) -> float:
    if isinstance(window, (int, float, timedelta)) and not isinstance(window, bool):
        return checks.duration("window", window)
    checks.refuse_type("window", window, "a duration > 0 in seconds, a timedelta, or calls(n)")


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
