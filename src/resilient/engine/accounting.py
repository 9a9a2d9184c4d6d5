"""Count a call that has ended, and what its caller got."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from ..outcomes import CANCELLED, FAILURE, REFUSED, SERVED, SUCCESS
from .call import Call
from .counters import EDGES
from .policy_state import QUIET, PolicyState
from .tracing import tell_end

FULL: Final = 0
DEGRADED: Final = 1
ERROR: Final = 2
CALLER_ERROR: Final = 3
CALLER_GONE: Final = 4
_NAMES: Final = (*SERVED, "")
_LATE: Final = float("inf")


def served(call: Call) -> int:
    """Return what the caller got: an index into `SERVED`, or CALLER_GONE."""
    if call.error is None:
        if call.forced_outcome is not None and call.forced_outcome[0] == FAILURE:
            return ERROR
        return FULL if call.recovered_from is None else DEGRADED
    if not isinstance(call.error, Exception):
        return CALLER_GONE
    return CALLER_ERROR if call.is_callers else ERROR


def count(call: Call, now: float, what: int | None) -> None:
    """Count a call that has ended, and what its caller got. The caller holds the lock."""
    core, outcome = call.core, call.outcome
    call.counted = True
    if call.in_key and call.pipeline.key is not None:
        call.in_key = False
        call.pipeline.key.running -= 1
    call.served = what = served(call) if what is None else what
    if call.admitted:
        life = now - call.started if call.active_seconds is None else call.active_seconds
        seconds = life if call.duration == _LATE else call.duration
        if call.retrying is not None:  # until the end of the last attempt
            seconds += call.started - call.retrying.since
        core.in_flight -= 1
        core.buckets[bisect_left(EDGES, seconds)] += 1
        core.duration_sum += seconds
    if outcome != SUCCESS or not call.admitted:
        # After the bucket: an interrupt must not make the successes fewer.
        core.counts[outcome] += 1
        core.not_succeeded += call.admitted
    core.timeouts += call.expired_level > -1
    core.late_values += call.is_late
    core.fallback_failures += call.fallbacks_failed
    core.full_without_success += (what == FULL) - (outcome == SUCCESS)
    core.degraded += what == DEGRADED
    core.errors += what == ERROR and outcome != CANCELLED
    core.caller_errors += what == CALLER_ERROR
    if outcome == REFUSED:
        if call.pipeline.key is not None:
            call.pipeline.key.refused += 1
        call.is_news = _count_refusal(core, call.refuser, now)
    if core.shared_row is not None:
        core.write_shared_row()


def _count_refusal(core: PolicyState, refuser: str, now: float) -> bool:
    """Count a refusal; return True if it is the first after a quiet time."""
    core.refusals[refuser] = core.refusals.get(refuser, 0) + 1
    last = core.refused_at.get(refuser)
    core.refused_at[refuser] = now
    return last is None or now - last >= QUIET


def trace(call: Call, now: float) -> None:
    """Pass the end of a call to the call tracer."""
    refuser = call.refuser if call.outcome == REFUSED else ""
    late = call.duration == _LATE
    seconds = now - call.started if late else call.duration if call.ran else 0.0
    tell_end(call.core, call.outcome, _NAMES[call.served], refuser, seconds)
