"""Book a plain failure on the fast path: nobody judges it, answers it or asks again.

What is not plain (an error of ours, a client's, one that steers a framework, one that no call has
raised before; a caller's deadline round the call) goes to the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..deadline import current, enclosing
from ..guards.facets import Answers
from ..outcomes import FAILURE
from ..stack import room
from .classify import is_plain
from .frames import has_call
from .pipeline import Pipeline
from .policy_state import PolicyState
from .stops import Tickets
from .tracing import tell_end

Fails = Callable[[Any, Tickets, float, BaseException], bool]


def failing(pipeline: Pipeline) -> Fails | None:
    """Return what books a failure; None where each needs the interpreter.

    It takes the compiled pass or None, the tickets, when the call began, and the error, and returns
    whether it has booked the end: else nothing has changed.
    """
    core, guards = pipeline.core, pipeline.fast_guards
    answer = any(isinstance(guard, Answers) for guard in guards)
    if not pipeline.is_plain or any(pipeline.reacts) or answer or pipeline.retries is not None:
        return None
    alone = len(guards) == 1
    settles = tuple((level, guard.settle) for level, guard in enumerate(guards))[::-1]
    known: type[BaseException] | None = None  # the last type that was plain

    def book(tickets: Tickets, now: float, duration: float, reason: str) -> None:
        for level, settle in settles:
            settle(tickets if alone else tickets[level], now, FAILURE, duration, reason, False)
        core.ended(FAILURE, duration)
        core.errors += 1
        core.write_shared_row()

    def fails(entered: Any, tickets: Tickets, began: float, error: BaseException) -> bool:
        nonlocal known
        kind = type(error)
        if core.gate or began < core.counting_since:
            return False
        if current.get() is not None and enclosing() is not None:  # it may be the reason
            return False
        try:
            if kind is not known:
                if not is_plain(kind):
                    return False
                known = kind
            room()
        except RecursionError:
            return False
        now = core.now()
        if entered is not None:
            entered.hand_over()
        core.locked(book, tickets, now, now - began, kind.__name__)
        if PolicyState.on_end is not None:
            tell_end(core, FAILURE, "error", "", now - began)
        return True

    return has_call(fails, core="core", ended="began")
