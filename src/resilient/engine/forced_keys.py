"""Forced states of single keys: the policy's own stays above them."""

from __future__ import annotations

import weakref
from math import inf
from typing import Any

from ..events import Cause, Event
from .alarms import alarm_at
from .call import ENTRY
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
    fresh = table.made(text) if state is None else state
    state = core.locked(_force, table, fresh, forced, why, seconds, cause, core.now())
    if seconds < inf and state is not None:
        alarm_at(state.key.until, core.now(), core.clock, _release(core, text))


def _force(
    table: KeyTable, fresh: KeyState, forced: str | None, why: str, seconds: float, cause: Cause,
    now: float,
) -> KeyState | None:  # fmt: skip
    state = table.entered(fresh, now)
    key = state.key
    if cause == "auto" and now < key.until:
        return None
    before, known = key.forced, (key.forced_why, key.until)
    until = now + seconds if forced is not None else inf
    if forced == before and (forced is None or (why, until) == known):
        return None
    table.forced += (forced is not None) - (before is not None)
    key.forced, key.until = forced, until
    key.forced_why = why if forced is not None else ""
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
    return state


def _release(core: PolicyState, text: str) -> Any:
    """Return what ends a timed state, through a weak reference to the policy."""
    ref = weakref.ref(core)

    def release() -> None:
        living = ref()
        if living is not None and living.keys is not None and text in living.keys.states:
            why = living.keys.states[text].key.forced_why
            force_key(living, text, None, f"its time was up: {why}".removesuffix(": "),
                      cause="auto")  # fmt: skip

    return release


def reset_key(core: PolicyState, text: str, why: str) -> bool:
    """Close the circuit breaker of a key; return False if the key is not known."""
    table = core.keys
    assert table is not None
    core.must_be_free()
    state = table.states.get(text) if text != table.overflow.key.text else table.overflow
    if state is None:
        return False
    core.locked(_reset, state, core.now(), why)
    return True


def _reset(state: KeyState, now: float, why: str) -> None:
    for guard in state.stateful():
        guard.reset(now, why)
