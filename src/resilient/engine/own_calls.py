"""Read the calls that a thread is running from its stack; see `frames`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..guards.base import Guard
from ..state_types import compiled
from .call import Call
from .frames import variables
from .policy_state import PolicyState
from .stops import Stopped


class OwnCall:
    """A call that has begun and not ended."""

    __slots__ = ("began", "beside", "core", "holding")

    def __init__(
        self,
        core: PolicyState,
        began: float,
        holding: tuple[Guard, ...],
        beside: tuple[Call, ...] = (),
    ) -> None:
        self.beside: tuple[Call, ...] = beside  # the other copies of its attempt
        self.core: PolicyState = core
        self.began: float = began
        self.holding: tuple[Guard, ...] = holding  # those that issued it a ticket


def own_calls(frame: Any) -> list[OwnCall]:
    """Return the calls that a frame and its callers are running."""
    found: dict[tuple[int, float], OwnCall | None] = {}  # None: its end is being counted
    for entered in _in_c():
        _add(found, entered)
    for held in _held(frame):
        call = held.get("call")
        if isinstance(call, Call) and call.counted:
            found.setdefault((id(call.core), call.began), None)
        elif "entered" in held:
            _add(found, held["entered"])
        elif "ended" in held:
            found.setdefault((id(held["core"]), held["ended"]), None)
        else:
            own = _own_call(held)
            if own is not None:
                found.setdefault((id(own.core), own.began), own)
    return [own for own in found.values() if own is not None]


def is_inside(frame: Any, core: PolicyState, guard: Guard) -> bool:
    """Return True if a frame is inside the body of a call that this guard admitted."""
    calls = [_own_call(held) for held in _held(frame)]
    calls += [_of_pass(entered) for entered in _in_c()]
    return any(own is not None and own.core is core and guard in own.holding for own in calls)


def _in_c() -> list[Any]:
    """Return the passes of the sync calls that this thread runs on a compiled path."""
    return [] if compiled is None else compiled.passes_here()


def _add(found: dict[tuple[int, float], OwnCall | None], entered: Any) -> None:
    own = _of_pass(entered)
    if own is not None:
        found.setdefault((id(own.core), own.began), own)


def _of_pass(entered: Any) -> OwnCall | None:
    """Return the call of a pass; None where it was booked."""
    if entered is None or entered.booked:
        return None
    pipeline = entered.pipeline
    holding = tuple(pipeline.guards[level] for level in pipeline.fast_levels)
    return OwnCall(pipeline.core, entered.began, holding)


def _held(frame: Any) -> Iterator[dict[str, Any]]:
    while frame is not None:
        held = variables(frame)
        if held:
            yield held
        frame = frame.f_back


def _own_call(held: dict[str, Any]) -> OwnCall | None:
    if "entered" in held:
        return _of_pass(held["entered"])
    call, pipeline, tickets = held.get("call"), held.get("pipeline"), held.get("tickets")
    if isinstance(call, Call):
        if not call.admitted or call.counted:
            return None
        guards, outer = call.pipeline.guards, call.original.tickets
        trios = zip(guards, call.tickets, outer, strict=True)
        kept = tuple(guard for guard, *tickets in trios if tickets != [None, None])
        return OwnCall(call.core, call.began, kept, call.beside)
    if pipeline is not None and tickets is not None and type(tickets) is not Stopped:
        holding = tuple(pipeline.guards[level] for level in pipeline.fast_levels)
        return OwnCall(pipeline.core, held["began"], holding)
    return None
