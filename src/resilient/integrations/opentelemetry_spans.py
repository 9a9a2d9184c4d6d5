"""What the current span gets: attributes of its worst call, events, exemplars."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, isfinite
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from opentelemetry.trace import Span, format_span_id, format_trace_id, get_current_span

from ..engine.counters import SHORTEST
from ..engine.policy_state import PolicyState
from ..events import Event
from ..flag_handle import Flag
from ..flags.runtime import here
from ..guards.facets import InFlight, Stateful, Switch
from ..guards.sorting import time_limits
from ..outcomes import FAILURE, IGNORED, OUTCOMES, SUCCESS
from ..telemetry.exemplars import note

_MOST: Final = 32  # events of a kind on one span, which has room for 128 in all
_LONGEST: Final = 256  # characters of a text
_PACKAGE: Final = __name__.partition(".")[0]
_WELL: Final = (OUTCOMES[SUCCESS], OUTCOMES[IGNORED])  # nothing bad of the dependency
_FAILURE: Final = OUTCOMES[FAILURE]
# How callers were served, from good to bad; "" is a caller that went away.
_RANKS: Final = {"full": 0, "caller_error": 2, "": 3, "degraded": 4, "error": 5}
_SLOW: Final = 1  # in its policy's terms
_OWN: Final = 2  # an error of the caller's own, such as a 404
_REASONS: Final = {
    "store": "disabled", "environment": "static", "provider": "cached", "test": "static",
    "declared": "default",
}  # fmt: skip


class _Told:
    """What a span has got so far."""

    __slots__ = ("calls", "events", "flags", "names", "rank")

    def __init__(self) -> None:
        self.rank: int = -1  # of the worst call
        self.names: set[str] = set()  # the attributes set for that call
        self.calls: int = 0
        self.events: int = 0
        self.flags: set[str] = set()


_told: Final[WeakKeyDictionary[Span, _Told]] = WeakKeyDictionary()


def _told_to(span: Span) -> _Told:
    try:
        return _told.setdefault(span, _Told())
    except TypeError:  # a foreign tracer, whose spans can't be weakly referenced
        return _Told()


def on_end(core: PolicyState, outcome: str, served: str, guard: str, seconds: float) -> None:
    """Report a call that has ended; see `PolicyState.on_end`."""
    good = served == "full" and outcome in _WELL
    if good and seconds <= SHORTEST:  # it also gets some quick ones
        return
    span = get_current_span()
    if not span.is_recording():
        return
    told, unusual = _told_to(span), not good or seconds >= _slow_from(core)
    rank = max(_RANKS[served], _SLOW * unusual)
    if served == "error" and outcome in _WELL:
        rank = _OWN
    if unusual or rank > told.rank:
        flag = _flag_of(core, guard)
        said = _said(core, outcome, served, guard, flag)
        if rank > told.rank:
            told.rank = rank
            span.set_attributes({**_blank(told.names - said.keys()), **said})
            told.names.update(said)
        if unusual:
            _tell(span, told, said, seconds, flag)
    _hang(core, span, outcome, seconds)


def _said(
    core: PolicyState, outcome: str, served: str, guard: str, flag: Flag | None
) -> dict[str, str | bool]:
    """Return a span's attributes for a call."""
    state = core.forced or next(
        (g.state for g in core.guards if isinstance(g, Stateful) and g.state), ""
    )
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
    """Return empty values: an attribute can't be removed from a span."""
    return {name: False if name == "resilient.flag_off" else "" for name in names}


def _tell(
    span: Span, told: _Told, said: Mapping[str, Any], seconds: float, flag: Flag | None
) -> None:
    """Add an unusual call to the span, as an event."""
    told.calls += 1
    span.set_attribute("resilient.unusual_calls", told.calls)
    if flag is not None and flag.name not in told.flags and len(told.flags) < _MOST:
        told.flags.add(flag.name)
        span.add_event("feature_flag.evaluation", _evaluation(flag))
    if told.calls <= _MOST:
        took = {"resilient.duration": seconds} if 0 < seconds < inf else {}
        span.add_event("resilient.call", {**said, **took})


def _slow_from(core: PolicyState) -> float:
    """Return the duration from which its policy considers a successful call slow or late."""
    limits = [limit.seconds for limit in time_limits(core.guards)]
    slow = [guard.slow_from for guard in core.guards if isinstance(guard, InFlight)]
    return min([*limits, *slow], default=inf)


def _flag_of(core: PolicyState, kind: str) -> Flag | None:
    """Return the flag that refused: the outermost one that is off, or the only one."""
    there = [guard for guard in core.shared_guards() if isinstance(guard, Switch)]
    switches = [guard for guard in there if guard.kind == kind]
    for switch in switches:
        if switch.is_off():
            return switch.flag
    return switches[0].flag if len(switches) == 1 else None  # the only flag, which is on again


def _evaluation(flag: Flag) -> dict[str, str]:
    on, source, flip = here.state.says(flag)
    said = {
        "feature_flag.key": flag.name,
        "feature_flag.result.variant": "off",
        "feature_flag.result.reason": "unknown" if on else _REASONS[source],
        "feature_flag.provider.name": _PACKAGE,
    }
    return said if flip is None or on else {**said, "feature_flag.version": str(flip.version)}


def _hang(core: PolicyState, span: Span, outcome: str, seconds: float) -> None:
    """Make a call that ran the exemplar of its bucket."""
    context = span.get_span_context()
    ran = outcome == _FAILURE or seconds > 0
    if ran and isfinite(seconds) and context.trace_flags.sampled:
        labels = {
            "trace_id": format_trace_id(context.trace_id),
            "span_id": format_span_id(context.span_id),
        }
        note(core, labels, seconds)


def on_event(event: Event) -> None:
    """Add an event to the current span of the thread that delivers it."""
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
    if exceptions:  # a list: exception names as attribute names would have no limit
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
