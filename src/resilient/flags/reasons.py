"""Why a flag has its value: the event of a change, and the text in errors."""

from __future__ import annotations

from typing import Final

from ..events import Event
from ..flag_handle import Flag
from .declarations import variable_of
from .flip import OFF, ON, Flip

# What decides a flag's value: "test", "environment", "provider", "store" or "declared".
Source = str
LET_GO: Final = "its time is up, or it was let go"
# These hold a flag off in one process, whatever the store says.
HOLDS: Final = {
    "environment": "its environment",
    "provider": "its OpenFeature provider",
}


def flipped(
    flag: Flag, on: bool, flip: Flip | None, source: Source, at: float, held: str, let_go: str
) -> Event:
    """Return the event of a flag whose value changed; `let_go` is why where nothing decides it."""
    reason = let_go
    if flip is not None:
        reason = ", ".join(part for part in (flip.reason, f"by {flip.by}") if part)
    elif source == "environment":
        reason = f"{variable_of(flag.name)} is set"
    elif source == "provider":
        reason = held
    return Event(
        "flipped",
        guard="flag",
        flag=flag.name,
        at=at,
        reason=reason,
        before=OFF if on else ON,
        after=ON if on else OFF,
        cause="auto" if flip is None else "operator",
    )


def why(flag: Flag, source: Source, flip: Flip | None, held: str) -> str:
    """Return the reason that errors show for a flag that is off."""
    if flip is not None:
        return f"the flag {flag.name} is off: {flip.reason}".removesuffix(": ")
    if source == "environment":
        return f"the flag {flag.name} is forced off by {variable_of(flag.name)}"
    if source == "provider":
        return f"the flag {flag.name} is off: {held}"
    return f"the flag {flag.name} is off" + (", as declared" if source == "declared" else "")
