"""The keys of a policy as plain data: one of them, or the worst."""

from __future__ import annotations

from typing import Any, Final

from ..engine.key_states import KeyState
from ..engine.policy_state import PolicyState
from ..validation import clean

SHOWN: Final = 10
_RANKS: Final = {"forced_open": 0, "open": 1, "half_open": 2, "forced_closed": 3}


def shown(core: PolicyState, text: str) -> dict[str, Any] | None:
    """Return one key as plain data; None if it has no guards of its own."""
    table = core.keys
    state = None if table is None else table.states.get(text)
    return None if state is None else core.locked(_shown, state, core.now())


def _shown(state: KeyState, now: float) -> dict[str, Any]:
    return {
        "key": state.key.text,
        "state": state.state,
        "why": why_of(state),
        "forced": state.key.forced,
        "refused": state.key.refused,
        "running": state.key.running + len(state.users),
        "guards": [guard.snapshot(now) for guard in state.own],
    }


def why_of(state: KeyState) -> str:
    """Return why a key is forced, or why its breaker is not closed."""
    whys = [guard.why for guard in state.stateful() if guard.state]
    return state.key.forced_why if state.key.forced else whys[0] if whys else ""


def summed(core: PolicyState, most: int = SHOWN) -> dict[str, Any] | None:
    """Return what there is of keys, and the worst by name; None where there are none."""
    table = core.keys
    if table is None:
        return None
    states = table.used()
    moved = [state for state in states if state.state not in _USUAL]
    return {
        "known": len(table.states),
        "max_keys": table.max_keys,
        "not_closed": len(moved),
        "forced": {state.key.text: state.key.forced for state in states if state.key.forced},
        "overflowed": table.overflowed,
        "forgotten": table.forgotten,
        "worst": [_line(state) for state in _worst(states)[:most]],
    }


_USUAL: Final = ("closed", "metrics_only")


def _worst(states: list[KeyState]) -> list[KeyState]:
    """Return the states that are not as they should be, the worst first."""
    bad = [state for state in states if state.state not in _USUAL or state.key.refused]
    return sorted(bad, key=_badness)


def _badness(state: KeyState) -> tuple[int, int, str]:
    return _RANKS.get(state.state, 9), -state.key.refused, state.key.text


def _line(state: KeyState) -> dict[str, Any]:
    return {
        "key": state.key.text, "state": state.state, "why": why_of(state),
        "refused": state.key.refused, "running": state.key.running + len(state.users),
    }  # fmt: skip


def told(keys: dict[str, Any]) -> list[str]:
    """Return lines for the plan."""
    more = f"; {keys['overflowed']} calls shared the guards of further keys"
    lines = [
        f"  keys: {keys['known']} of at most {keys['max_keys']}, {keys['not_closed']} not closed"
        + (more if keys["overflowed"] else "")
    ]
    return lines + [f"  {line}" for line in _worst_told(keys)]


def _worst_told(keys: dict[str, Any]) -> list[str]:
    """Return a line for each of the worst keys."""
    return [
        f"{clean(row['key'])}: {row['state']}, {row['refused']} refused"
        + (f" ({clean(row['why'])})" if row["why"] else "")
        for row in keys["worst"]
    ]
