"""Calls whose caller gave up on a worker thread that can't be stopped."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..events import Event, bus
from .call import Call, Step
from .core import Core


class Held:
    """What an abandoned worker holds until it ends."""

    __slots__ = ("ended", "tickets")

    def __init__(self, levels: int) -> None:
        self.tickets: list[int | None] = [None] * levels
        self.ended: bool = False


def abandon(call: Call, error: BaseException) -> tuple[Step, Callable[[], None]]:
    """End a call with an error; the second answer is to be called when its worker ends."""
    call.held = held = Held(len(call.tickets))
    call.core.locked(_abandoned, call.core, held, call.core.now(), str(error))
    return call.raised(error), partial(_worker_ended, call, held)


def _abandoned(core: Core, held: Held, now: float, reason: str) -> None:
    core.abandoned += 1
    core.abandoned_total += 1
    core.given_up[id(held)] = now
    if len(core.given_up) == 1:
        event = Event("abandoned", guard="timeout", at=now, reason=reason, policy=core.name)
        bus.enqueue(event)
        core.outbox.append(None)
    core.mirror()


def _worker_ended(call: Call, held: Held) -> None:
    """Give back what an abandoned worker held until now."""
    call.core.locked_or_later(_given_back, call, held, call.core.now())


def _given_back(call: Call, held: Held, now: float) -> None:
    core = call.core
    if call.began < core.born:  # the worker was a parent process's
        return
    core.abandoned -= 1
    core.given_up.pop(id(held), None)
    held.ended = True
    for level, ticket in enumerate(held.tickets):
        if ticket is not None:
            call.plan.guards[level].release(ticket, now)
    core.mirror()
