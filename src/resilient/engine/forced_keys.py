"""Forced states of single keys: the policy's own stays above them."""

from __future__ import annotations

from math import inf

from ..events import Cause, Event
from .alarms import alarm_at
from .call import ENTRY
from .forced_state import expiring
from .key_states import KeyState
from .key_table import KeyTable
from .policy_state import PolicyState


def force_key(
    core: PolicyState, text: str, forced: str | None, why: str, seconds: float = inf, *,
    cause: Cause = "operator",
) -> None:  # fmt: skip
    """Force the state of one key, for good or for some seconds, or release it (None)."""
    table = core.keys
    assert table is not None
    core.must_be_free()
    state = table.states.get(text)
    if state is None and forced is None:
        return
    entered = None
    while entered is None:
        fresh = table.states.get(text) or table.made(text)
        entered = core.locked(table.entered, fresh, core.now())
    if core.locked(_force, table, entered, forced, why, seconds, cause, core.now()):
        until = entered.key.until
        if until < inf:
            alarm_at(until, core.now(), core.clock, expiring(core))


def _force(
    table: KeyTable, state: KeyState, forced: str | None, why: str, seconds: float, cause: Cause,
    now: float,
) -> bool:  # fmt: skip
    """Force the state of a key, or release it; return whether it was another one before."""
    key = state.key
    if cause == "auto" and now < key.until:
        return False
    before, known = key.forced, (key.forced_why, key.until)
    until = now + seconds if forced is not None else inf
    if forced == before and (forced is None or (why, until) == known):
        return False
    table.forced += (forced is not None) - (before is not None)
    key.forced, key.until = forced, until
    key.forced_why = why if forced is not None else ""
    table.due = min(each.key.until for each in (state, *table.states.values()))
    state.seen |= 2
    state.made = {}  # those made from now on are on the fast path or not, as it is forced or not
    for guard in state.stateful():
        if before is not None and forced is not None:
            guard.force(None, now)
        guard.force(forced, now)
        if forced is None and table.core.forced is not None:
            guard.force(table.core.forced, now)
    told = f"{why} (for {seconds:g} s)" if seconds < inf and forced else why
    event = Event(
        "released" if forced is None else "forced", guard=ENTRY, at=now, reason=told,
        before=before or "", after=forced or "", cause=cause,
    )  # fmt: skip
    key.emit(event)
    if forced is None:
        table.leave(state, now)
    return True


def expire_keys(core: PolicyState) -> None:
    """End the forced states of keys whose time is up."""
    table, now = core.keys, core.now()
    for state in [] if table is None else list(table.states.values()):
        key = state.key
        if key.until <= now:
            why = f"its time was up: {key.forced_why}".removesuffix(": ")
            force_key(core, key.text, None, why, cause="auto")


def reset_key(core: PolicyState, text: str, why: str) -> bool:
    """Close the circuit breaker of a key; return False if the key is not known."""
    table = core.keys
    assert table is not None
    core.must_be_free()
    state = table.states.get(text)
    if state is None:
        return False
    core.locked(_reset, state, core.now(), why)
    return True


def _reset(state: KeyState, now: float, why: str) -> None:
    for guard in state.stateful():
        guard.reset(now, why)
