"""Construct the errors of refusals, and publish the first refusal after a quiet time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import RefusedError
from ..events import Event, bus
from ..guards.facets import Admission
from ..validation import clean
from .call import ENTRY, Call
from .policy_state import PolicyState

if TYPE_CHECKING:
    from .key_states import Key


def by_guard(
    guard: Admission, core: PolicyState, why: str, retry_after: float | None,
    key: Key | None = None,
) -> RefusedError:  # fmt: skip
    """Return the error of a guard's refusal."""
    told = f"{_name(core, key)}: refused by its {guard.kind} ({why})"
    return _of(
        core, key, guard.error(told, policy=core.name, guard=guard.kind, retry_after=retry_after)
    )


def at_entry(
    kind: type[RefusedError], call: Call, why: str, retry_after: float | None
) -> RefusedError:
    """Return the error of a refusal by the policy itself."""
    core, key = call.core, call.pipeline.key
    told = f"{_name(core, key)}: refused ({why})"
    return _of(core, key, kind(told, policy=core.name, guard=ENTRY, retry_after=retry_after))


def _name(core: PolicyState, key: Key | None) -> str:
    return core.name if key is None else f"{core.name}[{clean(key.text)}]"


def _of(core: PolicyState, key: Key | None, error: RefusedError) -> RefusedError:
    error._core = core
    if key is not None:
        error.key = key.text
    return error


def publish(call: Call, now: float) -> None:
    """Publish the event of a guard's first refusal after a quiet time."""
    refusal = call.error or call.recovered_from
    reason = "" if refusal is None else str(refusal)
    event = Event("refused", guard=call.refuser, at=now, reason=reason, policy=call.core.name)
    event.key = "" if call.pipeline.key is None else call.pipeline.key.text
    bus.enqueue(event)
    bus.deliver()
