"""Describe a policy for people and programs: the printed plan, and plain data."""

from __future__ import annotations

from typing import Any

from ..engine.counters import EDGES, PEAK_SPAN
from ..engine.policy_state import PolicyState
from ..guards.base import Guard
from ..guards.candidate import Candidate
from ..guards.facets import Admission, Retries
from ..guards.per_key import PerKey
from ..guards.races import Races
from ..guards.sorting import answering, time_limits
from ..outcomes import OUTCOMES
from .keys import summed
from .keys import told as keys_told
from .options import changed
from .shadows import live_of, told_of


def snapshot_of(core: PolicyState, guards: tuple[Guard, ...]) -> dict[str, Any]:
    """Return options, state and counts as plain data, taken at one instant."""
    core.expire()
    core.flush()  # runs what a too short stack has left
    return core.locked(_snapshot, core, guards, core.now())


def _snapshot(core: PolicyState, guards: tuple[Guard, ...], now: float) -> dict[str, Any]:
    return {
        "name": core.name,
        "owner": core.owner,
        "tier": core.tier,
        "impact": core.impact,
        "state": core.state,
        "forced": core.forced,
        "forced_reason": core.forced_why,
        "forced_left": core.left(now),
        "calls": dict(zip(OUTCOMES, core.outcomes(), strict=True)),
        "served": {
            "full": core.full,
            "degraded": core.degraded,
            "error": core.errors,
            "caller_error": core.caller_errors,
        },
        "refusals": {
            kind: core.refusals.get(kind, 0)
            for kind in ("policy", *(g.kind for g in guards if isinstance(g, Admission)))
        },
        "timeouts": core.timeouts,
        "late_values": core.late_values,
        "fallback_failures": core.fallback_failures,
        "predicate_errors": sum(judge.faults for judge in {g.judge for g in guards}),
        "in_flight": core.in_flight,
        "in_flight_peak": peak_of(core, now),
        "abandoned": core.abandoned,
        "abandoned_total": core.abandoned_total,
        "duration": _histogram(core.durations, core.duration_sum),
        "wait": _histogram(core.waits, core.wait_sum),
        "guards": [_guard(core, guard, now) for guard in guards],
        **({} if core.keys is None else {"keys": summed(core)}),
        **({} if core.collapsed is None else {"collapsed": core.collapsed.data()}),
    }


def peak_of(core: PolicyState, now: float) -> int:
    """Return the last minute's most calls at once, exact to a minute. The caller holds the lock."""
    if now >= core.peak_until + PEAK_SPAN:
        return core.in_flight
    return core.peak if now >= core.peak_until else max(core.peak, core.peak_before)


def _guard(core: PolicyState, guard: Guard, now: float) -> dict[str, Any]:
    seen = {**guard.snapshot(now), "changed": changed(guard)}
    if core.keys is not None and isinstance(guard, Candidate):
        told = told_of(core, guard)
        seen |= {word: told[word] for word in ("would_open", "would_refuse")}
        seen["would_be"] = told["would_be"] or None
    return seen


def plan_text(core: PolicyState, guards: tuple[Guard, ...]) -> str:
    """Return the plan in plain English, with the current numbers."""
    core.expire()
    return core.locked(_plan_text, core, guards, core.now())


def _plan_text(core: PolicyState, guards: tuple[Guard, ...], now: float) -> str:
    lines = _heading(core, now)
    lines.append("  a call passes, outermost first:")
    for number, guard in enumerate(guards, 1):
        if core.keys is not None and isinstance(guard, Candidate):
            live = live_of(core, guard)
        else:
            live = guard.live(now)
        each = ", one for each key" if core.keys and isinstance(guard, PerKey) else ""
        lines.append(
            f"  {number}. {guard.kind} {guard.describe()}{each}" + (f" [{live}]" if live else "")
        )
        lines += [
            f"     {name} was declared as {how['declared']}, and is set by {how['by']}"
            for name, how in changed(guard).items()
        ]
    lines += _limits(guards)
    keys = summed(core)
    lines += [] if keys is None else keys_told(keys)
    calls = ", ".join(f"{n} {word}" for word, n in zip(OUTCOMES, core.outcomes(), strict=True))
    lines.append(f"  calls: {calls}; {core.in_flight} in flight")
    lines.append(
        f"  served: {core.full} full, {core.degraded} degraded, {core.errors} error, "
        f"{core.caller_errors} caller_error"
    )
    return "\n".join(lines)


def _heading(core: PolicyState, now: float) -> list[str]:
    """Return the first lines: the policy's name, state and owner."""
    left = core.left(now)
    more = "" if left is None else f"for {left:.0f} s more"
    forced = "; ".join(part for part in (core.forced_why, more) if part)
    lines = [f"{core.name}: {core.state}" + (f" ({forced})" if forced else "")]
    about = [
        f"owner {core.owner}" if core.owner else "",
        f"tier {core.tier}" if core.tier is not None else "",
    ]
    if any(about):
        lines.append("  " + ", ".join(part for part in about if part))
    if core.impact:
        lines.append(f"  while it is cut off: {core.impact}")
    if not PolicyState.active:
        lines.append("  not active: calls pass all but kill switches and forced states")
    return lines


def _limits(guards: tuple[Guard, ...]) -> list[str]:
    """Return the limits of these guards for some kinds of calls."""
    lines: list[str] = []
    if answering(guards):
        lines.append(
            "  note: a block, a context manager or a Future gets no fallback; a stream gets one "
            "only before its first item"
        )
    if any(isinstance(guard, Retries) for guard in guards):
        lines.append(
            "  note: a block, a context manager or a Future is not tried again; a stream is "
            "only before its first item"
        )
    if any(isinstance(guard, Races) for guard in guards):
        lines.append("  note: a block, a context manager or a Future gets no second copy")
    if time_limits(guards):
        lines.append(
            "  note: the timeout bounds the entry of a context manager (on trio the entry is told, "
            "and not cut), not its body; it does not bound a Future"
        )
    if not guards:
        lines.append("  nothing but this policy's own switch")
    return lines


def _histogram(buckets: list[int], total: float) -> dict[str, Any]:
    names = [f"{edge:g}" for edge in EDGES] + ["+Inf"]
    return {"buckets": dict(zip(names, buckets, strict=True)), "sum": total, "count": sum(buckets)}
