"""What a policy shows as metrics: its own counts, and what its guards measure."""

from __future__ import annotations

from itertools import accumulate
from typing import Final

from .drive.core import EDGES, Core, Section
from .guards.base import Guard
from .measures import Metric, Sample
from .outcomes import OUTCOMES
from .showing import peak_of

Key = tuple[Metric, tuple[str, ...]]

_FORCED: Final = ("forced_open", "forced_closed")
_LES: Final = [(str(edge),) for edge in EDGES] + [("+Inf",)]

_CALLS: Final = Metric("calls_total", "counter", "Calls, by how they ended.", "outcome")
_SERVED: Final = Metric(
    "served_total", "counter", "What callers got; degraded is a fallback's answer.", "served"
)
_REFUSALS: Final = Metric(
    "refusals_total", "counter", "Calls refused, by the guard that refused.", "guard"
)
_TIMEOUTS: Final = Metric("timeouts_total", "counter", "Calls ended by the policy's own timeout.")
_FALLBACKS: Final = Metric(
    "fallbacks_total", "counter", "Runs of a fallback, by how they ended.", "outcome"
)
_LATE: Final = Metric(
    "late_values_total", "counter", "Values that came after a cooperative timeout was up."
)
_FAULTS: Final = Metric("predicate_errors_total", "counter", "Predicates of options that raised.")
_IN_FLIGHT: Final = Metric("in_flight", "gauge", "Calls let in and not yet ended.")
_PEAK: Final = Metric("in_flight_peak", "gauge", "The most calls in flight of the last minute.")
_HELD: Final = Metric("abandoned_workers", "gauge", "Workers still running an abandoned body.")
_ABANDONED: Final = Metric("abandoned_total", "counter", "Bodies abandoned on a worker thread.")
_OVERRIDE: Final = Metric(
    "override_active", "gauge", "1 while an operator forces this state.", "kind"
)
INFO: Final = Metric("policy_info", "gauge", "Always 1; who owns a policy.", "owner", "tier")
# A histogram is three metrics: all are counters, when it comes to adding policies up.
DURATION: Final = (
    Metric("call_duration_seconds_bucket", "counter", "Time from admission to end.", "le"),
    Metric("call_duration_seconds_count", "counter", ""),
    Metric("call_duration_seconds_sum", "counter", ""),
)
WAIT: Final = (
    Metric("wait_seconds_bucket", "counter", "Time in line of calls that got a slot.", "le"),
    Metric("wait_seconds_count", "counter", ""),
    Metric("wait_seconds_sum", "counter", ""),
)
HISTOGRAMS: Final = {*DURATION, *WAIT}
OF_POLICIES: Final[tuple[Metric, ...]] = (
    _CALLS, _SERVED, _REFUSALS, _TIMEOUTS, _FALLBACKS, *DURATION, *WAIT, _LATE, _FAULTS,
    _IN_FLIGHT, _PEAK, _HELD, _ABANDONED, _OVERRIDE, INFO,
)  # fmt: skip


def measure(core: Core) -> list[Sample]:
    """Return all samples of a policy, taken at one instant: the same series every time."""
    guards = _guards_of(core)
    kinds = [guard.kind for guard in guards]
    with Section(core):
        now = core.now()
        calls, refusals = core.counts.copy(), core.refusals.copy()
        served = (core.full, core.degraded, core.errors)
        failed, timeouts, late = core.fallback_failures, core.timeouts, core.late_values
        in_flight, peak = core.in_flight, peak_of(core, now)
        held, abandoned, forced = core.abandoned, core.abandoned_total, core.forced
        buckets, seconds = core.buckets.copy(), core.duration_sum
        waits, waited = core.wait_buckets.copy(), core.wait_sum
        measured = [guard.measure(now) for guard in core.guards]
    samples: list[Sample] = [(_CALLS, (how,), n) for how, n in zip(OUTCOMES, calls, strict=True)]
    samples += [
        (_SERVED, (what,), n) for what, n in zip(("full", "degraded", "error"), served, strict=True)
    ]
    # A view may have had guards of other kinds, and be gone.
    for kind in dict.fromkeys(("policy", *kinds, *refusals)):
        if kind != "fallback":
            samples.append((_REFUSALS, (kind,), refusals.get(kind, 0)))
    if "fallback" in kinds:
        samples.append((_FALLBACKS, ("success",), served[1]))
        samples.append((_FALLBACKS, ("failure",), failed))
    samples += _histogram(DURATION, buckets, seconds)
    if any(guard.places() for guard in guards):
        samples += _histogram(WAIT, waits, waited)
    if any(guard.sync == "thread" for guard in guards):
        samples += [(_HELD, (), held), (_ABANDONED, (), abandoned)]
    faults = sum(judge.faults for judge in {guard.judge for guard in core.guards})
    samples += [
        (_TIMEOUTS, (), timeouts),
        (_LATE, (), late),
        (_FAULTS, (), faults),
        (_IN_FLIGHT, (), in_flight),
        (_PEAK, (), peak),
        (INFO, (core.owner, "" if core.tier is None else str(core.tier)), 1),
    ]
    samples += [(_OVERRIDE, (state,), float(state == forced)) for state in _FORCED]
    return samples + _joined(measured)


def _guards_of(core: Core) -> tuple[Guard, ...]:
    while True:
        try:
            return core.all_guards()
        except RuntimeError:  # a view was made while its guards were looked through
            continue


def _histogram(
    parts: tuple[Metric, Metric, Metric], buckets: list[int], total: float
) -> list[Sample]:
    bucket, count, whole = parts
    upto = list(accumulate(buckets))
    samples: list[Sample] = [(bucket, le, n) for le, n in zip(_LES, upto, strict=True)]
    return [*samples, (count, (), upto[-1]), (whole, (), total)]


def _joined(measured: list[list[Sample]]) -> list[Sample]:
    """Make one sample of those that two guards of a policy give alike."""
    seen = [part[0][0].name for part in measured if part]
    if len(set(seen)) == len(seen):
        return [sample for part in measured for sample in part]
    joined: dict[Key, float] = {}
    for metric, labels, value in (sample for part in measured for sample in part):
        key = metric, labels
        if key not in joined:
            joined[key] = value
        elif metric.kind == "counter":
            joined[key] += value
        else:
            joined[key] = max(joined[key], value)
    return [(*key, value) for key, value in joined.items()]
