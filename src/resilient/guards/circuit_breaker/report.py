"""What a circuit breaker reports: metrics, and plain data."""

from __future__ import annotations

from math import nan
from typing import Any, Final

from ...events import Cause
from ...metric_types import Metric, Sample
from .moves import Moving
from .trip_rules import counted

_ENOUGH: Final = "from `minimum_calls` on"

_STATE: Final = Metric(
    "breaker_workers", "gauge",
    "Processes whose breaker is in the state: closed, open, half_open, or metrics_only.", "state",
)  # fmt: skip
_TRANSITIONS: Final = Metric(
    "breaker_transitions_total", "counter",
    "Changes of the breaker's state, by itself (auto) or by an operator.", "to", "cause",
    present="with a circuit_breaker; those by an operator from the first on",
)  # fmt: skip
_SLOW: Final = Metric("slow_calls_total", "counter", "Calls that were slow, or came late.")
_LATE: Final = Metric(
    "late_results_total", "counter", "Results of calls let in before the breaker last moved."
)
_WOULD_OPEN: Final = Metric(
    "would_open_total", "counter", "Times that a metrics-only breaker would have opened.",
    present="with `metrics_only`",
)  # fmt: skip
_WOULD_REFUSE: Final = Metric(
    "would_refuse_total", "counter", "Calls that a metrics-only breaker would have refused.",
    present="with `metrics_only`",
)  # fmt: skip
_FAILURE_RATIO: Final = Metric(
    "failure_ratio", "gauge", "Share of failures in the breaker's window.",
    over="mean", present=_ENOUGH,
)  # fmt: skip
_OF_CALLS: Final = Metric("failure_ratio_calls", "part", "Calls that this is the share of.")
_SLOW_RATIO: Final = Metric(
    "slow_ratio", "gauge", "Share of slow calls in the breaker's window.",
    over="mean", present=f"{_ENOUGH}, with `slow_call_duration`",
)  # fmt: skip
_OF_SLOW: Final = Metric("slow_ratio_calls", "part", "Calls that this is the share of.")
_SINCE: Final = Metric(
    "breaker_since_timestamp_seconds", "gauge", "When the breaker last changed its state.",
    over="max", present="from its first change on",
)  # fmt: skip
_ADMITTED: Final = Metric(
    "breaker_admitted_share", "gauge", "The share of calls that a circuit lets in after closing.",
    over="min", present="with `ramp`",
)  # fmt: skip
METRICS: Final = (
    _ADMITTED,
    _STATE,
    _TRANSITIONS,
    _SLOW,
    _LATE,
    _WOULD_OPEN,
    _WOULD_REFUSE,
    _FAILURE_RATIO,
    _SLOW_RATIO,
    _SINCE,
)

_STATES: Final = ("closed", "open", "half_open")
_USUAL: Final[dict[tuple[str, Cause], int]] = {(state, "auto"): 0 for state in _STATES}
_NO_MOVES: Final[dict[tuple[str, Cause], int]] = {
    (state, cause): 0 for state in _STATES for cause in ("auto", "operator")
}


def samples(breaker: Moving, now: float) -> list[Sample]:
    """Return the samples of a breaker at this instant. The caller holds the lock."""
    measuring = breaker.only_measures
    states = (*_STATES, "metrics_only") if measuring else _STATES
    found: list[Sample] = [(_STATE, (state,), state == breaker.state) for state in states]
    found += [(_TRANSITIONS, key, number) for key, number in (_USUAL | breaker.moves).items()]
    found += [(_SLOW, (), breaker.slow_total), (_LATE, (), breaker.late_total)]
    if measuring or breaker.would_open_total:
        found.append((_WOULD_OPEN, (), breaker.would_open_total))
        found.append((_WOULD_REFUSE, (), breaker.would_refuse_total))
    if breaker.recovery.ramp is not None:
        found.append((_ADMITTED, (), breaker.admitted_share(now)))
    moved = breaker.history.moved
    found.append((_SINCE, (), nan if moved is None else moved))
    health = breaker.seen or breaker.health
    found += _share(_FAILURE_RATIO, _OF_CALLS, health.failure_ratio(now), health.window.calls)
    if health.slow_call_duration is not None:
        found += _share(_SLOW_RATIO, _OF_SLOW, health.slow_ratio(now), health.window.calls)
    return found


def _share(metric: Metric, of: Metric, ratio: float | None, calls: int) -> list[Sample]:
    """Return a share and its weight; an unknown share is NaN."""
    return [(metric, (), nan if ratio is None else ratio), (of, (), calls)]


def data(breaker: Moving, now: float) -> dict[str, Any]:
    """Return a breaker's options, state and counts as plain data. The caller holds the lock."""
    health = breaker.seen or breaker.health
    window = health.window
    return {
        "guard": breaker.kind,
        "state": breaker.state,
        "why": breaker.why,
        "admitted_share": breaker.admitted_share(now),
        "retry_after": breaker.retry_after(now),
        "failure_ratio": health.failure_ratio(now),
        "slow_ratio": health.slow_ratio(now),
        "window": {"calls": window.calls, "failures": window.failures, "slow": window.slow},
        "consecutive_failures": breaker.health.consecutive,
        "probes": len(breaker.probes),
        "late_results": breaker.late_total,
        "slow_calls": breaker.slow_total,
        "would_open": breaker.would_open_total,
        "would_refuse": breaker.would_refuse_total,
        "would_be": breaker.phase if breaker.only_measures else None,
        "transitions": {
            f"{to}/{by}": number for (to, by), number in (_NO_MOVES | breaker.moves).items()
        },
        "history": breaker.history.told(now),
        "options": breaker.in_force(),
        "revision": breaker._revision,
    }


def described(breaker: Moving) -> str:
    """Return what a breaker does, as a clause in plain English."""
    rules = breaker.health.rules()
    if breaker.only_measures:
        return f"only measures: it would open when {rules}"
    seconds = breaker.recovery.ramp
    ramp = "" if seconds is None else f", a tenth of the calls at first and all {seconds:g} s later"
    return (
        f"opens when {rules}; refuses for {breaker.recovery.timeout:g} s, then lets "
        f"{counted(breaker.half_open_max_calls, 'probe')} through at once and closes after "
        f"{counted(breaker.success_threshold, 'success', 'successes')}{ramp}"
    )


def live(breaker: Moving, now: float) -> str:
    """Return the state and the newest numbers. The caller holds the lock."""
    left = breaker.retry_after(now)
    if breaker.state == "open" and left is not None:
        return f"{breaker.state} for {left:.1f} s more: {breaker.why}"
    window = (breaker.seen or breaker.health).window
    window.advance(now)
    if breaker.only_measures and breaker.phase != "closed":
        phase = breaker.phase.replace("_", "-")
        return f"would be {phase}, {window.failures} of {counted(window.calls, 'call')} failed"
    share = breaker.admitted_share(now)
    climbs = f", {share:.0%} of the calls let in" if share < 1 else ""
    return f"{breaker.state}{climbs}, {window.failures} of {counted(window.calls, 'call')} failed"
