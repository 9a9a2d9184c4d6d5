"""What the shadows of a policy would have done: with keys, those of all keys together."""

from __future__ import annotations

from typing import Any

from ..engine.policy_state import PolicyState
from ..guards.base import Guard
from ..guards.candidate import Candidate
from .summary import plain

Said = dict[str, Any]


def shadows(core: PolicyState) -> dict[str, list[Said]]:
    """Return what the shadows of a policy would have done, and what would change with them."""
    living = {guard.kind: guard for guard in core.guards}
    rows = [
        {**told, **_changes(guard, living.get(guard.of))}
        for guard in core.guards
        if isinstance(guard, Candidate)
        for told in [told_of(core, guard)]
    ]
    return {"shadows": rows} if rows else {}


def _changes(shadow: Candidate, living: Guard | None) -> Said:
    changes = {} if living is None else shadow.changes(living)
    said = {name: plain(value) for name, value in changes.items()}
    return {"living": living is not None, "changes": said}


def told_of(core: PolicyState, shadow: Candidate) -> Said:
    """Return what a shadow would have done, for all calls of its policy."""
    row = shadow.told()
    if core.keys is None:
        return row
    place = core.guards.index(shadow)
    for state in core.keys.used():
        own = state.guards[place]
        told = own.told() if isinstance(own, Candidate) and own is not shadow else {}
        if not told:
            continue
        row["would_open"] += told["would_open"]
        row["would_refuse"] += told["would_refuse"]
        if told["would_be"] not in ("", "closed"):
            row["would_be"] = told["would_be"]
        if told["last"]:
            row["last"] = f"{state.key.text}: {told['last']}"
    return row


def live_of(core: PolicyState, shadow: Candidate) -> str:
    """Return what a shadow would have done, in a few words, for the printed plan."""
    told = told_of(core, shadow)
    return (
        f"of all keys: {told['would_open']} would have opened, {told['would_refuse']} calls "
        "would have been refused"
    )
