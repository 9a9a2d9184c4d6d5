"""Waiting in a guard's queue: the steps that both drivers take between their waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from ..deadline import Deadline
from ..errors import ResilientError
from ..guards.base import PARK, REFUSE, Waiter
from ..guards.facets import Admission, Queueing
from . import interpreter, settlement
from .call import DO_PARK, Call, Step

CHOP: Final = 1.0  # a waiter checks this often, so that the queue reclaims grants that nobody takes


def park(call: Call, waiter: Waiter, limit: Deadline | None) -> Step:
    """Enter the queue; the returned step may say that no wait is needed any more."""
    waiter.arrived = call.core.now()
    if limit is not None:
        waiter.left = limit.when - limit.now()
    return _line_up(call, waiter, cast("Queueing", call.guard).park)


def unpark(call: Call, waiter: Waiter) -> Step:
    """Continue after a wake or at the end of a wait; DO_PARK means to wait again."""
    return _line_up(call, waiter, cast("Queueing", call.guard).unpark)


def leave(call: Call, waiter: Waiter, error: BaseException) -> Step:
    """Give up the wait: the caller went away, or a timeout outside the queue has expired."""
    call.core.quit(waiter)
    if isinstance(error, ResilientError):
        return interpreter.not_run(call, error)
    call.error = error
    return settlement.unwind(call)


def _line_up(call: Call, waiter: Waiter, ask: Callable[[Waiter, float], int]) -> Step:
    verdict, refuser, why, retry_after = call.core.locked(
        _asked, call, waiter, ask, call.core.now()
    )
    if verdict == PARK:
        return DO_PARK
    if verdict == REFUSE:
        guard = cast("Admission", call.pipeline.guards[refuser])
        return interpreter.refused(call, guard, why, retry_after)
    return interpreter.admit(call, call.level + 1)


def _asked(
    call: Call, waiter: Waiter, ask: Callable[[Waiter, float], int], now: float
) -> tuple[int, int, str, float | None]:
    """Return the queueing guard's verdict, the level that gave it, and why it refuses."""
    refuser = call.level
    verdict = ask(waiter, now)
    if verdict >= 0:
        call.tickets[refuser] = verdict
        call.core.waited(now - waiter.arrived)
        verdict, refuser = _confirm(call, now)
    elif verdict == PARK:
        _pause(call, now)
    if verdict != REFUSE:
        return verdict, refuser, "", None
    guard = cast("Admission", call.pipeline.guards[refuser])
    return verdict, refuser, guard.why, guard.retry_after(now)


def _confirm(call: Call, now: float) -> tuple[int, int]:
    """Have the guards outside confirm their tickets: their state may have changed since."""
    for level, guard in call.pipeline.watchers:
        ticket = call.tickets[level]
        if level < call.level and ticket is not None:
            verdict = guard.confirm(ticket, now)
            call.tickets[level] = verdict if verdict >= 0 else None
            if verdict < 0:
                return REFUSE, level
            if guard.watches_ages:
                guard.go_on(verdict, now)
    return 0, call.level


def _pause(call: Call, now: float) -> None:
    """Tell the guards outside that the call waits for a slot, and not for the dependency."""
    for level, guard in call.pipeline.watchers:
        ticket = call.tickets[level]
        if level < call.level and ticket is not None and guard.watches_ages:
            guard.pause(ticket, now)
