"""Construct the errors of refusals, and publish the first refusal after a quiet time."""

from __future__ import annotations

from ..errors import RefusedError
from ..events import Event, bus
from ..guards.facets import Admission
from .call import ENTRY, Call
from .policy_state import PolicyState


def by_guard(
    guard: Admission, core: PolicyState, why: str, retry_after: float | None
) -> RefusedError:
    """Return the error of a guard's refusal."""
    error = guard.error(
        f"{core.name}: refused by its {guard.kind} ({why})",
        policy=core.name,
        guard=guard.kind,
        retry_after=retry_after,
    )
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
    bus.enqueue(Event("refused", guard=call.refuser, at=now, reason=reason, policy=call.core.name))
    bus.deliver()
