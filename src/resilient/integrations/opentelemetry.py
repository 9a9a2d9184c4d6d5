"""OpenTelemetry: calls and events on the spans there are, exemplars, and metrics.

No span is made here: a guard takes microseconds, and what it decided is a word about the span it
was asked in. `Core.on_end` tells of calls that were slow or did not just go well, so that the
others cost nothing. Only OpenTelemetry's API is used; without its SDK nothing comes of it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from math import inf, isfinite, isnan
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from opentelemetry.metrics import (
    CallbackOptions,
    Meter,
    MeterProvider,
    Observation,
    get_meter_provider,
)
from opentelemetry.trace import Span, format_span_id, format_trace_id, get_current_span

from .. import checks
from ..catalogue import known
from ..drive.core import Core
from ..drive.counting import SHORTEST
from ..events import Event
from ..exemplars import note
from ..flags.here import here
from ..guards.circuit_breaker import CircuitBreaker
from ..guards.kill_switch import KillSwitch
from ..measures import Metric
from ..measuring import HISTOGRAMS, INFO, exported, row_of
from ..outcomes import FAILURE, IGNORED, OUTCOMES, SUCCESS
from ..pages.form import Entry
from ..pages.own import entry_of, own_entries
from ..reading import Flag
from ..registry import registry
from ..scraping import OF_SCRAPES, Places

__all__ = ("MAX_POLICIES", "instrument")

# The SDK keeps 2,000 sets of attributes an instrument, and a histogram is 13 of each policy.
MAX_POLICIES: Final = 150
_MOST: Final = 32  # events of a kind on one span, which has room for 128, the application's too
_LONGEST: Final = 256  # characters of a text
_PACKAGE: Final = __name__.partition(".")[0]
_FOLDED, _EVER = OF_SCRAPES[:2]  # the others are about other processes

_WELL: Final = (OUTCOMES[SUCCESS], OUTCOMES[IGNORED])  # for all that is known of the dependency
_FAILURE: Final = OUTCOMES[FAILURE]
# What callers got, from good to bad; "" is a caller that went away.
_RANKS: Final = {"full": 0, "caller_error": 2, "": 3, "degraded": 4, "error": 5}
_SLOW: Final = 1  # as its policy sees it
_OWN: Final = 2  # an error of the caller's own, such as a 404
_REASONS: Final = {
    "store": "disabled", "environment": "static", "test": "static", "declared": "default",
}  # fmt: skip


def instrument(
    *,
    metrics: bool = False,
    meter_provider: MeterProvider | None = None,
    max_policies: int = MAX_POLICIES,
) -> Callable[[], None]:
    """Tell OpenTelemetry what the policies of this process do.

    The current span gets attributes of the worst call in it, an event for each call that did not
    just go well, and one for each change of a policy or flag; sampled spans become exemplars of
    `resilient.metrics`. A second call takes the place of the first.

    Args:
        metrics: export the metrics of this process too. Default False: they are at ``/metrics``.
        meter_provider: what exports them. Default: the global one.
        max_policies: how many policies have series of their own there, in the order of their
            making; the others are added up in ``_other``. Default 150.

    Returns:
        A function that ends all of it; calling it twice does no harm.

    Raises:
        ValueError: max_policies is not from 1 to 1,000,000, or there is a meter_provider without
            ``metrics=True``.
        TypeError: meter_provider is not one, or metrics no bool.

    Example:
        >>> from resilient.integrations.opentelemetry import instrument
        >>> undo = instrument()
        >>> undo()
    """
    if meter_provider is not None and not isinstance(meter_provider, MeterProvider):
        checks.refuse_type("meter_provider", meter_provider, "a MeterProvider of OpenTelemetry")
    limit = checks.count("max_policies", max_policies)
    if not checks.flag("metrics", metrics) and meter_provider is not None:
        checks.refuse("meter_provider", meter_provider, "left out without metrics=True")
    with _lock:
        export = _export_of(meter_provider) if metrics else None
        for before in _newest:
            before.stop()
        begun = _Instrumented(export, limit)
        _newest[:] = [begun]

    def undo() -> None:
        with _lock:
            if _newest and _newest[0] is begun:
                _newest.clear()
                begun.stop()

    return undo


class _Instrumented:
    """What one `instrument` has begun."""

    def __init__(self, export: _Export | None, limit: int) -> None:
        self._before = Core.on_end
        self._export = export
        if export is not None:
            export.reading = _Reading(limit)
        self._unsubscribe = registry.subscribe(_on_event)
        Core.on_end = _on_end

    def stop(self) -> None:
        """Leave all as it was."""
        self._unsubscribe()
        if Core.on_end is _on_end:
            Core.on_end = self._before
        if self._export is not None:
            self._export.reading = None


_lock: Final = threading.Lock()
_newest: Final[list[_Instrumented]] = []  # at most one

# -- on the current span -------------------------------------------------------------


class _Told:
    """What a span has been told."""

    __slots__ = ("calls", "events", "flags", "names", "rank")

    def __init__(self) -> None:
        self.rank: int = -1  # of the worst call
        self.names: set[str] = set()  # of the attributes set for it
        self.calls: int = 0
        self.events: int = 0
        self.flags: set[str] = set()


_told: Final[WeakKeyDictionary[Span, _Told]] = WeakKeyDictionary()


def _told_to(span: Span) -> _Told:
    try:
        return _told.setdefault(span, _Told())
    except TypeError:  # a tracer of another make, whose spans can't be remembered
        return _Told()


def _on_end(core: Core, outcome: str, served: str, guard: str, seconds: float) -> None:
    """Take a call that has ended; see `Core.on_end`."""
    good = served == "full" and outcome in _WELL
    if good and seconds <= SHORTEST:  # some quick ones are told too
        return
    span = get_current_span()
    if not span.is_recording():
        return
    told, unusual = _told_to(span), not good or seconds >= _slow_from(core)
    rank = max(_RANKS[served], _SLOW * unusual)
    if served == "error" and outcome in _WELL:
        rank = _OWN
    if unusual or rank > told.rank:
        flag = _flag_of(core) if guard == KillSwitch.kind else None
        said = _said(core, outcome, served, guard, flag)
        if rank > told.rank:
            told.rank = rank
            span.set_attributes({**_blank(told.names - said.keys()), **said})
            told.names.update(said)
        if unusual:
            _tell(span, told, said, seconds, flag)
    _hang(core, span, outcome, seconds)


def _said(
    core: Core, outcome: str, served: str, guard: str, flag: Flag | None
) -> dict[str, str | bool]:
    """Return what a span is told of a call."""
    state = core.forced or next((each.state for each in core.guards if each.state), "")
    said: dict[str, str | bool] = {
        "resilient.policy": core.name,
        "resilient.outcome": outcome,
        "resilient.served": served,
        "resilient.guard": guard,
        "resilient.breaker_state": state,
    }
    if flag is not None:
        said |= {"resilient.flag": flag.name, "resilient.flag_off": True}
    return {name: value for name, value in said.items() if value}


def _blank(names: set[str]) -> dict[str, str | bool]:
    """Return what stands for nothing: an attribute, once set, can't be taken off a span."""
    return {name: False if name == "resilient.flag_off" else "" for name in names}


def _tell(
    span: Span, told: _Told, said: Mapping[str, Any], seconds: float, flag: Flag | None
) -> None:
    """Put a call that did not just go well on the span, as an event."""
    told.calls += 1
    span.set_attribute("resilient.unusual_calls", told.calls)
    if flag is not None and flag.name not in told.flags and len(told.flags) < _MOST:
        told.flags.add(flag.name)
        span.add_event("feature_flag.evaluation", _evaluation(flag))
    if told.calls <= _MOST:
        took = {"resilient.duration": seconds} if 0 < seconds < inf else {}
        span.add_event("resilient.call", {**said, **took})


def _slow_from(core: Core) -> float:
    """Return from how many seconds on a good call is none to its policy: slow, or late."""
    limits = [guard.seconds for guard in core.guards if guard.seconds is not None]
    slow = [guard.health.slow_from for guard in core.guards if isinstance(guard, CircuitBreaker)]
    return min([*limits, *slow], default=inf)


def _flag_of(core: Core) -> Flag | None:
    """Return the flag that refused: the outermost that is off, or the only one there is."""
    switches = [guard for guard in core.all_guards() if isinstance(guard, KillSwitch)]
    for switch in switches:
        if switch.is_off():
            return switch.flag
    return switches[0].flag if len(switches) == 1 else None  # it is on again


def _evaluation(flag: Flag) -> dict[str, str]:
    on, source, flip = here.state.says(flag)
    said = {
        "feature_flag.key": flag.name,
        "feature_flag.result.variant": "off",
        "feature_flag.result.reason": "unknown" if on else _REASONS[source],
        "feature_flag.provider.name": _PACKAGE,
    }
    return said if flip is None or on else {**said, "feature_flag.version": str(flip.version)}


def _hang(core: Core, span: Span, outcome: str, seconds: float) -> None:
    """Let a call that ran be the exemplar of its bucket."""
    context = span.get_span_context()
    ran = outcome == _FAILURE or seconds > 0
    if ran and isfinite(seconds) and context.trace_flags.sampled:
        labels = {
            "trace_id": format_trace_id(context.trace_id),
            "span_id": format_span_id(context.span_id),
        }
        note(core, labels, seconds)


def _on_event(event: Event) -> None:
    """Put an event on the span of the call in whose thread it is told."""
    span = get_current_span()
    if span.is_recording():
        told = _told_to(span)
        told.events += 1
        if told.events <= _MOST:
            span.add_event(f"resilient.{event.kind}", _attributes(event))


def _attributes(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("policy", "flag", "guard", "cause", "reason", "before", "after"):
        _flatten(f"resilient.{name}", getattr(event, name), found)
    evidence = dict(event.evidence)
    exceptions: Mapping[str, int] = evidence.pop("exceptions", {})
    _flatten("resilient.evidence", evidence, found)
    if exceptions:  # a list: attributes whose names come from outside would have no end
        seen = [f"{number}x {name}"[:_LONGEST] for name, number in exceptions.items()]
        found["resilient.evidence.exceptions"] = seen[:_MOST]
    return found


def _flatten(name: str, value: Any, into: dict[str, Any]) -> None:
    if isinstance(value, Mapping):
        for key, each in cast("dict[str, Any]", value).items():
            _flatten(f"{name}.{key}", each, into)
    elif value is not None and value != "" and len(into) < _MOST:
        plain = isinstance(value, (bool, int, float))
        into[name] = value if plain else str(value)[:_LONGEST]


# -- metrics -------------------------------------------------------------------------


class _Reading:
    """One reading of all counts, handed out to the instruments that are asked in one collection."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._begin()

    def _begin(self) -> None:
        self._pid, self._lock = os.getpid(), threading.Lock()
        self._places = Places(self._limit)
        self._asked: set[str] = set()
        self._found: dict[str, list[Observation]] | None = None

    def of(self, name: str) -> list[Observation]:
        """Return what one metric shows: a metric that is asked again wants to know of now."""
        if self._pid != os.getpid():  # forked: the counts began anew, and the lock may be held
            self._begin()
        with self._lock:
            if self._found is None or name in self._asked:
                self._found = self._read()
                self._asked.clear()
            self._asked.add(name)
            return self._found.pop(name, [])

    def _read(self) -> dict[str, list[Observation]]:
        """Read this process's own: each process exports for itself, and the backend adds up."""
        found: dict[str, list[Observation]] = {}
        policies = [entry_of(core, *row_of(core), 0.0) for core in registry.cores()]
        for entry in [*self._places.shown(policies), *own_entries()]:
            keys, values = exported(entry.layout)
            own = {} if entry.kind == "process" else _labels(entry)
            for (metric, labels), value in zip(keys, values(entry.row), strict=True):
                if not isnan(value):
                    more = zip(map(_attribute, metric.labels), labels, strict=True)
                    seen = Observation(float(value), {**own, **dict(more)})
                    found.setdefault(metric.name, []).append(seen)
        for entry in self._places.known:
            found.setdefault(INFO.name, []).append(Observation(1.0, _info(entry)))
        found[_FOLDED.name] = [Observation(float(self._places.folded))]
        found[_EVER.name] = [Observation(float(self._places.ever))]
        return found


def _labels(entry: Entry) -> dict[str, str]:
    return {"resilient.flag" if entry.kind == "flag" else "resilient.policy": entry.name}


def _info(entry: Entry) -> dict[str, str]:
    tier = entry.about.get("tier")
    owner = str(entry.about.get("owner") or "")
    own = {"resilient.owner": owner, "resilient.tier": "" if tier is None else str(tier)}
    return {**_labels(entry), **own}


def _attribute(label: str) -> str:
    return label if label == "le" else f"resilient.{label}"


def named(metric: Metric) -> tuple[str, str]:
    """Return a metric's name and unit in OpenTelemetry: the unit is not part of the name."""
    name, part = metric.name.removesuffix("_total"), ""
    if metric in HISTOGRAMS:
        name, _, part = name.rpartition("_")
    unit = "s" if name.endswith("_seconds") else "1" if name.endswith("_ratio") else ""
    name = f"resilient.{name.removesuffix('_seconds')}"
    return (f"{name}.{part}", unit if part == "sum" else "") if part else (name, unit)


class _Export:
    """The instruments of one provider, made once: none can ever be taken back."""

    def __init__(self) -> None:
        self.reading: _Reading | None = None
        self._made: set[str] = set()

    def make(self, meter: Meter) -> None:
        """Make the instruments that there are not yet."""
        for metric in known():
            if metric.kind == "part" or metric.name in self._made:
                continue
            self._made.add(metric.name)
            create: Callable[..., object] = meter.create_observable_gauge
            if metric.kind == "counter":
                create = meter.create_observable_counter
            elif metric.over == "sum":
                create = meter.create_observable_up_down_counter
            name, unit = named(metric)
            create(name, [self._observer(metric.name)], unit=unit, description=metric.help)

    def _observer(self, name: str) -> Callable[[CallbackOptions], list[Observation]]:
        def observe(_: CallbackOptions) -> list[Observation]:
            reading = self.reading
            return [] if reading is None else reading.of(name)

        return observe


_exports: Final[WeakKeyDictionary[MeterProvider, _Export]] = WeakKeyDictionary()
_global: Final[list[_Export]] = []  # of the global provider, whose stand-in may have come first


def _export_of(given: MeterProvider | None) -> _Export:
    provider = get_meter_provider() if given is None else given
    export = _exports.get(provider)
    if provider is get_meter_provider():
        export = export or (_global[0] if _global else _Export())
        _global[:] = [export]
    export = _exports[provider] = export or _Export()
    export.make(provider.get_meter(_PACKAGE, str(vars(sys.modules[_PACKAGE])["__version__"])))
    return export
