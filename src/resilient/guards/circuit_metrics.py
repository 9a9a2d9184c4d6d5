"""What a circuit breaker shows as metrics."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Final

from ..measures import Metric, Sample

if TYPE_CHECKING:
    from .circuit_breaker import CircuitBreaker

_STATE: Final = Metric(
    "breaker_workers", "gauge", "Processes whose breaker is in this state.", "state"
)
_TRANSITIONS: Final = Metric(
    "breaker_transitions_total", "counter", "Changes of the breaker's state.", "to", "cause"
)
_SLOW: Final = Metric("slow_calls_total", "counter", "Calls that were slow, or came late.")
_LATE: Final = Metric(
    "late_results_total", "counter", "Results of calls let in before the breaker last moved."
)
_WOULD_OPEN: Final = Metric(
    "would_open_total", "counter", "Times that a metrics-only breaker would have opened."
)
_FAILURE_RATIO: Final = Metric(
    "failure_ratio", "gauge", "Failures in the window; absent below minimum_calls.", over="mean"
)
_OF_CALLS: Final = Metric("failure_ratio_calls", "part", "Calls that this is the share of.")
_SLOW_RATIO: Final = Metric(
    "slow_ratio", "gauge", "Slow calls in the window; absent below minimum_calls.", over="mean"
)
_OF_SLOW: Final = Metric("slow_ratio_calls", "part", "Calls that this is the share of.")
METRICS: Final = (_STATE, _TRANSITIONS, _SLOW, _LATE, _WOULD_OPEN, _FAILURE_RATIO, _SLOW_RATIO)

_STATES: Final = ("closed", "open", "half_open")
_USUAL: Final = {(state, "auto"): 0 for state in _STATES}


def samples(breaker: CircuitBreaker, now: float) -> list[Sample]:
    """Return the samples of a breaker at this instant; under the lock."""
    measuring = breaker.only_measures
    states = (*_STATES, "metrics_only") if measuring else _STATES
    found: list[Sample] = [(_STATE, (state,), state == breaker.state) for state in states]
    found += [(_TRANSITIONS, key, number) for key, number in (_USUAL | breaker.moves).items()]
    found += [(_SLOW, (), breaker.slow_total), (_LATE, (), breaker.late_total)]
    if measuring or breaker.would_open_total:
        found.append((_WOULD_OPEN, (), breaker.would_open_total))
    health = breaker.health
    found += _share(_FAILURE_RATIO, _OF_CALLS, health.failure_ratio(now), health.window.calls)
    if health.slow_call_duration is not None:
        found += _share(_SLOW_RATIO, _OF_SLOW, health.slow_ratio(now), health.window.calls)
    return found


def _share(metric: Metric, of: Metric, ratio: float | None, calls: int) -> list[Sample]:
    """Return a share and its weight; where it is not known, it is there all the same, as NaN."""
    return [(metric, (), nan if ratio is None else ratio), (of, (), calls)]
