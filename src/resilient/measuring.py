"""What policies show as metrics, without a word about Prometheus."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from itertools import accumulate
from typing import Final
from weakref import WeakKeyDictionary, WeakSet

from .drive.core import BUSY, EDGES, Core
from .guards.base import Guard, Mode
from .measures import Metric, Sample
from .outcomes import OUTCOMES
from .showing import peak_of
from .updating import OPERATOR

Key = tuple[Metric, tuple[str, ...]]
Keys = tuple[Key, ...]

OTHER: Final = "_other"  # the name under which policies beyond the limit are added up

_FORCED: Final = ("forced_open", "forced_closed")
_MODES: Final[tuple[Mode, ...]] = ("async", "cooperative", "thread")
_LES: Final = [*map(str, EDGES), "+Inf"]

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
    "override_active", "gauge", "1 while an operator's order of this kind holds.", "kind"
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


# -- one policy at one instant -------------------------------------------------------


def measure(core: Core) -> list[Sample]:
    """Return all samples of a policy, taken at one instant: the same series every time."""
    now, guards = core.now(), core.all_guards()
    with core.lock:
        gate = core.gate
        core.gate = gate | BUSY
        try:
            calls, refusals = core.outcomes(), core.refusals.copy()
            served = (core.full, core.degraded, core.errors)
            fallbacks = (core.degraded, core.fallback_failures)
            timeouts, late = core.timeouts, core.late_values
            in_flight, peak = core.in_flight, peak_of(core, now)
            held, abandoned, forced = core.abandoned, core.abandoned_total, core.forced
            buckets, seconds = core.durations, core.duration_sum
            waits, waited = core.waits, core.wait_sum
            measured = [guard.measure(now) for guard in core.guards]
        finally:
            core.gate = gate
    core.flush_after(gate)
    # A view may have had guards of other kinds, and be gone.
    refused = {"policy": 0, **dict.fromkeys(_refusing(guards), 0), **refusals}
    samples: list[Sample] = [
        *_each(_CALLS, OUTCOMES, calls),
        *_each(_SERVED, ("full", "degraded", "error"), served),
        *_each(_REFUSALS, refused, refused.values()),
        (_TIMEOUTS, (), timeouts),
        (_LATE, (), late),
        (_IN_FLIGHT, (), in_flight),
        (_PEAK, (), peak),
        *_each(_OVERRIDE, _FORCED, [float(state == forced) for state in _FORCED]),
        (INFO, (core.owner, "" if core.tier is None else str(core.tier)), 1),
        *_histogram(DURATION, buckets, seconds),
    ]
    judges = {guard.judge for guard in core.guards}
    if any(judge.asks for judge in judges):
        samples.append((_FAULTS, (), sum(judge.faults for judge in judges)))
    layers = [guard.layers for guard in guards if guard.layers is not None]
    if any(OPERATOR in layer for layer in layers):  # from an operator's first order on
        active = any(layer.get(OPERATOR) for layer in layers)
        samples.append((_OVERRIDE, ("options",), float(active)))
    if any(guard.kind == "fallback" for guard in guards):
        samples += _each(_FALLBACKS, ("success", "failure"), fallbacks)
    if any(guard.places() for guard in guards):
        samples += _histogram(WAIT, waits, waited)
    if any(guard.sync == "thread" for guard in guards):
        samples += [(_HELD, (), held), (_ABANDONED, (), abandoned)]
    return samples + _joined(measured)


def _refusing(guards: tuple[Guard, ...]) -> list[str]:
    """Return the kinds of the guards that may refuse a call."""
    line = any(guard.places() for guard in guards)  # where a time can be up before the body began
    return [
        guard.kind
        for guard in guards
        if any(guard.admits(mode) for mode in _MODES) or (line and guard.seconds is not None)
    ]


def _each(metric: Metric, words: Iterable[str], numbers: Iterable[float]) -> list[Sample]:
    return [(metric, (word,), number) for word, number in zip(words, numbers, strict=True)]


def _histogram(
    parts: tuple[Metric, Metric, Metric], buckets: list[int], total: float
) -> list[Sample]:
    bucket, count, whole = parts
    upto = list(accumulate(buckets))
    return [*_each(bucket, _LES, upto), (count, (), upto[-1]), (whole, (), total)]


def _joined(measured: list[list[Sample]]) -> list[Sample]:
    """Make one sample of those that two guards of one policy give alike."""
    joined: dict[Key, float] = {}
    for part in measured:
        for metric, labels, value in part:
            key = metric, labels
            if key in joined:
                # Two timeouts hold one and the same worker; what they count is their own.
                other = joined[key]
                value = value + other if metric.kind == "counter" else max(value, other)
            joined[key] = value
    return [(metric, labels, value) for (metric, labels), value in joined.items()]


# -- the policies beyond the limit ---------------------------------------------------


class Places:
    """Which policies have series of their own, and what the others have counted together."""

    def __init__(self, limit: int) -> None:
        self.pid: int = os.getpid()
        self.ever: int = 0
        self._limit = limit
        self._lock = threading.Lock()
        self._shown: WeakSet[Core] = WeakSet()
        # What each had counted when it was last read. When it dies, that stays in the sum.
        self._read: WeakKeyDictionary[Core, tuple[Keys, list[float]]] = WeakKeyDictionary()
        self._known: dict[Keys, Keys] = {}  # one of each, for many
        self._sums: dict[Key, float] = {}

    def split(self, cores: list[Core]) -> tuple[list[Core], list[Core]]:
        """Return the policies to show and those to fold; none changes sides while it lives."""
        with self._lock:
            shown = [core for core in cores if core in self._shown]
            folded = [core for core in cores if core in self._read]
            for core in cores if len(shown) + len(folded) < len(cores) else ():
                if core in self._shown or core in self._read:
                    continue
                if len(shown) < self._limit and core.name != OTHER:
                    shown.append(core)
                    self._shown.add(core)
                else:
                    folded.append(core)
                    self._read[core] = (), []
                    self.ever += 1
            return shown, folded

    def fold(self, core: Core, samples: list[Sample], gauges: dict[Key, float]) -> None:
        """Add up a policy; a counter never goes back, whichever scrape read it first."""
        with self._lock:
            keys, values = self._read[core]
            before = dict(zip(keys, values, strict=True))
            for metric, labels, value in samples:
                key = metric, labels
                if metric.kind == "counter":
                    more = max(value - before.get(key, 0.0), 0.0)
                    before[key] = before.get(key, 0.0) + more
                    self._sums[key] = self._sums.get(key, 0.0) + more
                elif metric is not INFO and not metric.name.endswith("_ratio"):
                    gauges[key] = gauges.get(key, 0.0) + value
            keys = tuple(before)
            self._read[core] = self._known.setdefault(keys, keys), list(before.values())

    def folded(self, gauges: dict[Key, float]) -> list[Sample]:
        """Return what all the folded policies have counted, living or not."""
        with self._lock:
            sums = {**self._sums, **gauges, (INFO, ("", "")): 1.0}
        return [(metric, labels, value) for (metric, labels), value in sums.items()]
