"""Construct the errors of refusals, and publish the first refusal after a quiet time."""

from __future__ import annotations

from ..errors import RefusedError
from ..events import Event, bus
from ..guards.facets import Admission
from .call import ENTRY, Call
from .policy_state import PolicyState


def by_guard(
    guard: Admission, core: PolicyState, why: str, retry_after: float | None, key: str = ""
) -> RefusedError:
    """Return the error of a guard's refusal."""
    name = f"{core.name}[{key}]" if key else core.name
    by = "refused" if guard.kind == ENTRY else f"refused by its {guard.kind}"
    error = guard.error(
        f"{name}: {by} ({why})",
        policy=core.name,
        guard=guard.kind,
        retry_after=retry_after,
    )
    error.key = key
    error._core = core
    return error


def at_entry(
    kind: type[RefusedError], core: PolicyState, why: str, retry_after: float | None
) -> RefusedError:
    """Return the error of a refusal by the policy itself."""
    name = core.name
    error = kind(f"{name}: refused ({why})", policy=name, guard=ENTRY, retry_after=retry_after)
    error._core = core
    return error


def publish(call: Call, now: float) -> None:
    """Publish the event of a guard's first refusal after a quiet time."""
    refusal = call.error or call.recovered_from
    reason = "" if refusal is None else str(refusal)
    event = Event("refused", guard=call.refuser, at=now, reason=reason, policy=call.core.name)
    event.key = "" if call.pipeline.key is None else call.pipeline.key.text
    bus.enqueue(event)
    bus.deliver()
