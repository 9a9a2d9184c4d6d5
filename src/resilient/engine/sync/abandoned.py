"""Calls whose caller gave up on a worker thread that can't be stopped."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

from ...events import Event, bus
from ...guards.facets import Admission
from .. import interpreter
from ..call import AbandonedWorker, Call, Step
from ..policy_state import PolicyState


def abandon(call: Call, error: BaseException) -> tuple[Step, Callable[[], None]]:
    """End a call with an error; also return a function to call when its worker ends."""
    call.abandoned = held = AbandonedWorker(len(call.tickets))
    kind = call.pipeline.worker_guard
    call.core.locked(_abandoned, call.core, held, kind, call.core.now(), str(error))
    return interpreter.raised(call, error), partial(_worker_ended, call, held)


def left_behind(call: Call) -> Callable[[], None]:
    """Count a worker that goes on without a caller; return what to call when it ends."""
    held, core = AbandonedWorker(0), call.core
    core.locked(_counted, core, held, core.now())
    return partial(_worker_ended, call, held)


def _abandoned(
    core: PolicyState, held: AbandonedWorker, kind: str, now: float, reason: str
) -> None:
    _counted(core, held, now)
    if len(core.abandoned_at) == 1:
        event = Event("abandoned", guard=kind, at=now, reason=reason, policy=core.name)
        bus.enqueue(event)
        core.outbox.append(None)


def _counted(core: PolicyState, held: AbandonedWorker, now: float) -> None:
    core.abandoned += 1
    core.abandoned_total += 1
    core.abandoned_at[id(held)] = now
    core.write_shared_row()


def _worker_ended(call: Call, held: AbandonedWorker) -> None:
    """Give back what an abandoned worker has held."""
    call.core.locked_or_later(_given_back, call, held, call.core.now())


def _given_back(call: Call, held: AbandonedWorker, now: float) -> None:
    core = call.core
    if call.began < core.counting_since:  # the worker was a parent process's
        return
    core.abandoned -= 1
    core.abandoned_at.pop(id(held), None)
    held.has_ended = True
    for level, ticket in enumerate(held.tickets):
        if ticket is not None:
            cast("Admission", call.pipeline.guards[level]).release(ticket, now)
    core.write_shared_row()
