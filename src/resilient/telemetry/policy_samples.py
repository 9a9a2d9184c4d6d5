"""The metrics of policies, independent of Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Final

from ..admin.describe import peak_of
from ..admin.options import OPERATOR
from ..engine.counters import (
    DEGRADED,
    DURATION_SUM,
    DURATIONS,
    EDGES,
    ENDED,
    ERROR,
    FULL,
    IN_FLIGHT,
    QUICK,
    ROW,
)
from ..engine.flights import BATCHES, SHARED
from ..engine.policy_state import PolicyState
from ..guards.base import Guard, Mode
from ..guards.facets import Admission, Queueing, TimeLimit
from ..metric_types import Metric, Sample
from ..outcomes import OUTCOMES, SERVED
from .key_samples import OF_KEYS, with_keys
from .schema import WORDS, Key, Row, RowSchema, layout, reserve

_FORCED: Final = ("forced_open", "forced_closed")
_MODES: Final[tuple[Mode, ...]] = ("async", "cooperative", "thread")
_TIMESTAMP: Final = "_timestamp_seconds"  # on the policy's clock, until it is exported
_LES: Final = [*map(str, EDGES), "+Inf"]
_CALLERS, _TIMED, _LATE_AT, _FALLEN, _GIVEN_UP, _ABANDONED_AT = range(ERROR + 1, DURATIONS)

_FALLBACK: Final = "with a fallback"
_LINE: Final = "with a line (`max_waiting`)"
_THREAD: Final = 'with `sync="thread"`'

_SERVED: Final = Metric(
    "served_total", "counter",
    "What callers got: full, degraded (a fallback's answer), error or caller_error (their own "
    "doing, as an ignore= says).", "served",
)  # fmt: skip
_CALLS: Final = Metric(
    "calls_total", "counter",
    "Calls by how they ended: success, failure, ignored, cancelled or refused.", "outcome",
)  # fmt: skip
_REFUSALS: Final = Metric(
    "refusals_total", "counter",
    "Calls refused, by the guard that did it; policy is the forced state.", "guard",
    present="for `policy` and each guard that can refuse",
)  # fmt: skip
_TIMEOUTS: Final = Metric(
    "timeouts_total", "counter", "Calls ended by a timeout of the policy's own."
)
_FALLBACKS: Final = Metric(
    "fallbacks_total", "counter", "Fallbacks that answered (success) or raised (failure).",
    "outcome", present=_FALLBACK,
)  # fmt: skip
_LATE: Final = Metric(
    "late_values_total", "counter", "Values that came, and were returned, after the time was up."
)
_FAULTS: Final = Metric(
    "predicate_errors_total", "counter",
    "Predicates of on=, ignore= or failed_result= that raised.",
    present="with a predicate",
)  # fmt: skip
_IN_FLIGHT: Final = Metric(
    "in_flight", "gauge", "Calls let in and not yet ended, their fallbacks included."
)
_PEAK: Final = Metric(
    "in_flight_peak", "gauge", "The most calls in flight of the last minute, of each process."
)
_HELD: Final = Metric(
    "abandoned_workers", "gauge", "Worker threads still running a body that was given up.",
    present=_THREAD,
)  # fmt: skip
_OLDEST: Final = Metric(
    "abandoned_oldest_seconds", "gauge", "Seconds since the oldest of those was given up.",
    over="max", present=_THREAD,
)  # fmt: skip
_ABANDONED: Final = Metric(
    "abandoned_total", "counter", "Bodies given up on a worker thread.", present=_THREAD
)
_OVERRIDE: Final = Metric(
    "override_active", "gauge",
    "1 while an operator's order holds: forced_open, forced_closed, keys, or options.", "kind",
    over="max", present="always; `keys` with `keyed`, `options` from the first order on",
)  # fmt: skip
INFO: Final = Metric(
    "policy_info", "gauge", "Always 1: whose policy it is, to join others with.", "owner", "tier",
    over="max",
)  # fmt: skip
# A histogram is three metrics; all of them are added up as counters.
DURATION: Final = (
    Metric(
        "call_duration_seconds_bucket", "counter",
        "Time from admission to the end, of calls that were let in; of a stream, in its steps.",
        "le",
    ),
    Metric("call_duration_seconds_count", "counter", ""),
    Metric("call_duration_seconds_sum", "counter", ""),
)  # fmt: skip
WAIT: Final = (
    Metric(
        "wait_seconds_bucket", "counter", "Time in line, of calls that got a slot there.", "le",
        present=_LINE,
    ),
    Metric("wait_seconds_count", "counter", ""),
    Metric("wait_seconds_sum", "counter", ""),
)  # fmt: skip
HISTOGRAMS: Final = {*DURATION, *WAIT}
OF_POLICIES: Final[tuple[Metric, ...]] = (
    _SERVED, _CALLS, _REFUSALS, _TIMEOUTS, _FALLBACKS, *DURATION, *WAIT, _LATE, _FAULTS,
    _IN_FLIGHT, _PEAK, _HELD, _OLDEST, _ABANDONED, _OVERRIDE, INFO, *OF_KEYS, SHARED, BATCHES,
)  # fmt: skip
reserve((
    _SERVED, _CALLS, _TIMEOUTS, _LATE, _IN_FLIGHT, *DURATION, _REFUSALS, _FALLBACKS, _HELD,
    _ABANDONED, *WAIT,
))  # fmt: skip


# -- one policy at one instant -------------------------------------------------------


def row_of(core: PolicyState) -> tuple[RowSchema, list[float]]:
    """Return all numbers of a policy, taken at one instant."""
    core.expire()
    core.flush()  # runs what a too short stack has left
    now, guards = core.now(), core.shared_guards()
    counted, row, samples, measured = core.locked(_measured, core, guards, now)
    judges = {guard.judge for guard in core.guards}
    if any(judge.asks for judge in judges):
        samples.append((_FAULTS, (), sum(judge.faults for judge in judges)))
    layers = [guard._layers for guard in guards if guard._layers is not None]
    if any(OPERATOR in layer for layer in layers):  # from an operator's first order on
        active = any(layer.get(OPERATOR) for layer in layers)
        samples.append((_OVERRIDE, ("options",), float(active)))
    if core.collapsed is not None:
        samples += core.collapsed.samples()
    if core.keys is not None:
        samples.append((_OVERRIDE, ("keys",), float(core.keys.forced > 0)))
    wall = time.time() - now

    def timed(measured: Iterable[Sample]) -> list[Sample]:
        return [
            (metric, labels, value + wall if metric.name.endswith(_TIMESTAMP) else value)
            for metric, labels, value in measured
        ]

    samples += with_keys(core, timed(_joined(measured)), timed)
    tail = tuple((metric, labels) for metric, labels, _ in samples)
    whole = layout(words=counted.words, refusing=counted.refusing, tail=tail)
    return whole, row + [float(value) for _, _, value in samples]


def _measured(
    core: PolicyState, guards: tuple[Guard, ...], now: float
) -> tuple[RowSchema, list[float], list[Sample], list[list[Sample]]]:
    words, refusing = _words(core, guards), _refusing(guards)
    counted = layout(words=words, refusing=(*refusing, *_others(core, refusing)))
    samples = [(_PEAK, (), peak_of(core, now)), *_overrides(core)]
    if "thread" in words:
        samples.append((_OLDEST, (), now - min(core.abandoned_at.values(), default=now)))
    return counted, core.row(counted), samples, [guard.measure(now) for guard in core.guards]


def _overrides(core: PolicyState) -> list[Sample]:
    return [(_OVERRIDE, (state,), float(state == core.forced)) for state in _FORCED]


def _words(core: PolicyState, guards: tuple[Guard, ...]) -> tuple[str, ...]:
    """Return the optional counts that exist; a count stays even if its guard goes."""
    there = {word for guard in guards for word in guard.adds_counts}
    if core.wait_buckets is not None:
        there.add("line")
    if core.degraded or core.fallback_failures:
        there.add("fallback")
    if core.abandoned_total:
        there.add("thread")
    return tuple(word for word in WORDS if word in there)


def _refusing(guards: tuple[Guard, ...]) -> list[str]:
    """Return the kinds of the guards that may refuse a call, the forced state first."""
    # After a wait, a timeout may expire before the body begins.
    waits = any(isinstance(guard, Queueing) and guard.places() for guard in guards)
    kinds = [guard.kind for guard in guards if _refuses(guard, waits)]
    return list(dict.fromkeys(["policy", *kinds]))


def _refuses(guard: Guard, waits: bool) -> bool:
    if isinstance(guard, Admission) and any(guard.admits(mode) for mode in _MODES):
        return True
    return waits and isinstance(guard, TimeLimit)


def _others(core: PolicyState, known: list[str]) -> list[str]:
    """Return kinds with refusals whose guard is gone: it belonged to a view that was dropped."""
    return [kind for kind in core.refusals if kind not in known]


def _joined(measured: list[list[Sample]]) -> list[Sample]:
    """Merge equal samples of two guards of one policy."""
    joined: dict[Key, float] = {}
    for part in measured:
        for metric, labels, value in part:
            key = metric, labels
            if key in joined:
                # Two timeouts share the same workers, but each counts on its own.
                other = joined[key]
                value = value + other if metric.kind == "counter" else max(value, other)
            joined[key] = value
    return [(metric, labels, value) for (metric, labels), value in joined.items()]


# -- what is exported of a row -------------------------------------------------------

Exported = tuple[list[Key], Callable[[Row], Row]]


def exported(found: RowSchema) -> Exported:
    """Return the exported samples of such rows, and a function that gets their values."""
    if found.exported is None:
        found.exported = _exporter(found)
    known: Exported = found.exported
    return known


def _exporter(found: RowSchema) -> Exported:
    if found.heads == 0:
        return list(found.tail), lambda row: row
    keys = _keys_of_counts(found)
    fallback, thread, line = (word in found.words for word in ("fallback", "thread", "line"))
    shown = [place for place, (metric, _) in enumerate(found.tail) if metric.kind != "part"]
    keys += [found.tail[place] for place in shown]
    first, refused, heads = len(ROW), found.heads - len(found.refusing), found.heads
    taken = [heads + place for place in shown]

    def values(row: Row) -> list[float]:
        quick, full = row[QUICK], row[FULL] + row[QUICK]
        durations = list(accumulate(row[DURATIONS:first], initial=quick))[1:]
        out = [
            full, row[DEGRADED], row[ERROR], row[_CALLERS],
            row[ENDED] + quick, *row[ENDED + 1 : FULL],
            row[_TIMED], row[_LATE_AT], row[IN_FLIGHT],
            *durations, durations[-1], row[DURATION_SUM],
            *row[refused:heads],
        ]  # fmt: skip
        if fallback:
            out += row[DEGRADED], row[_FALLEN]
        if thread:
            out += row[_GIVEN_UP], row[_ABANDONED_AT]
        if line:
            waits = list(accumulate(row[first + 1 : refused]))
            out += [*waits, waits[-1], row[first]]
        out += [row[place] for place in taken]
        return out

    return keys, values


def _keys_of_counts(found: RowSchema) -> list[Key]:
    """Return the metrics and labels of a policy's counts, in the order of the values."""
    keys = [
        *_each(_SERVED, SERVED),
        *_each(_CALLS, OUTCOMES),
        (_TIMEOUTS, ()), (_LATE, ()), (_IN_FLIGHT, ()),
        *_histogram(DURATION),
        *_each(_REFUSALS, found.refusing),
    ]  # fmt: skip
    if "fallback" in found.words:
        keys += _each(_FALLBACKS, ("success", "failure"))
    if "thread" in found.words:
        keys += [(_HELD, ()), (_ABANDONED, ())]
    if "line" in found.words:
        keys += _histogram(WAIT)
    return keys


def _each(metric: Metric, words: Iterable[str]) -> list[Key]:
    return [(metric, (word,)) for word in words]


def _histogram(parts: tuple[Metric, Metric, Metric]) -> list[Key]:
    bucket, count, whole = parts
    return [*_each(bucket, _LES), (count, ()), (whole, ())]
