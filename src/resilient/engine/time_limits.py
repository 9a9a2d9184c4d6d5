"""Find the deadline that binds what a call runs."""

from __future__ import annotations

from typing import Any, Final, cast

from ..deadline import Deadline, TaskDeadline, Terms, current, enclosing
from .call import Call
from .policy_state import PolicyState

ANY_TASK: Final = object()


def binding(call: Call, level: int, task: object = ANY_TASK) -> Deadline | None:
    """Return the tightest deadline that binds what runs at a level.

    A deadline of this policy also becomes the call's `deadline`; a tighter one of an enclosing call
    does not. An async caller passes its task: a deadline that cancels another task does not bind
    this one.
    """
    call.deadline = None
    outer = enclosing() if current.get() is not None and PolicyState.active else None
    if not call.limits:
        return outer
    limits = [limit for limit in call.limits if limit[1] < level and PolicyState.active]
    if not limits:
        return outer
    when, at = min(limits)
    binds = outer is not None and (task is ANY_TASK or outer.task in (None, task))
    if outer is not None and binds and outer.when <= when:
        return outer
    call.deadline = own = _made(call, when, at, task)
    return own


def pause_end(call: Call, limit: Deadline | None) -> float:
    """Return when the pause before another attempt ends, or the limit that cuts it short."""
    now, clock = call.core.now(), call.core.clock
    until = now + call.delay if limit is None else min(now + call.delay, limit.when)
    if clock is not None and getattr(clock, "skips", False):
        cast("Any", clock).advance(max(0.0, until - now))
    return until


def _made(call: Call, when: float, at: int, task: object) -> Deadline:
    core = call.core
    seconds = next(guard.seconds for level, guard in call.pipeline.limits if level == at)
    around = current.get()
    # Else a chain of closed ones would grow without end.
    while around is not None and not around.open:
        around = around.outer
    terms = Terms(seconds, at, core.name, core.now)
    if task is ANY_TASK or task is None:
        return Deadline.made(when, terms, around)
    own = TaskDeadline()
    own.when, own.terms, own.outer, own.open, own.task = when, terms, around, True, task
    return own
