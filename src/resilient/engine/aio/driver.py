"""The driver for async calls on asyncio and trio: the only code that awaits."""

from __future__ import annotations

import contextlib
from asyncio import Future, Task
from collections.abc import Callable
from types import CoroutineType
from typing import Any, Final

from ...callables import handle_of, returns_awaitable
from ...guards.base import Waiter
from .. import attempts, interpreter, settlement, waiting
from ..call import DO_PARK, DO_RACE, DO_RECOVER, DO_RUN, DONE, LASTS, Call, NotNeeded, Step
from ..frames import has_call
from ..misuse import MisuseError
from ..time_limits import binding, pause_end
from .deadline_scope import DeadlineScope
from .race import race
from .timers import Timer
from .waker import AsyncWaker, current_task

FUTURES: Final = (Future, Task)


async def drive(call: Call, first: Callable[..., Step], *args: Any) -> Step:
    """Run the steps of a call, beginning with `first`, until one is DONE or LASTS."""
    try:
        step = first(call, *args)
        while step < DONE:
            if step == DO_RUN and not call.begins():
                step = interpreter.raised(call, NotNeeded())
            elif step == DO_RUN:
                answer = attempts.dropped(call)
                if answer is not None:
                    await _closed(answer)
                step = await _limited(call, len(call.tickets), call.fn, call.args, call.kwargs)
            elif step == DO_RACE:
                step = await race(call, drive, _closed)
            elif step == DO_PARK:
                step = await wait(call)
            elif step == DO_RECOVER:
                step = await _limited(call, call.level, *call.recovery(), {})
            else:
                step = await pause(call)
    except BaseException:
        settlement.abort(call)
        raise
    return step


has_call(drive, call="call")


async def _closed(answer: Any) -> None:
    """Close an answer that another attempt replaces: it may hold a connection."""
    close = getattr(answer, "aclose", None) or answer.close
    with contextlib.suppress(Exception):
        found = close()
        if returns_awaitable(found):
            await found


async def _limited(
    call: Call, level: int, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Step:
    """Run fn under the time limits of the guards outside the given level."""
    bounds = DeadlineScope(call, level)
    over = bounds.over()
    if over is not None:
        return interpreter.not_run(call, over.error())
    try:
        value = await within(call, bounds, fn, args, kwargs)
    except BaseException as error:
        return interpreter.raised(call, error)
    return took(call, value)


def took(call: Call, value: Any) -> Step:
    """Accept the value that the body or a fallback returned."""
    new = call.recovering_from is None and not call.enters
    if new and is_under_way(value) and not _is_part(call, value):
        call.value, call.lasted = value, True
        return LASTS
    return interpreter.returned(call, value)


def is_under_way(value: object) -> bool:
    """Return True if the value of an async function stands for work that has not ended."""
    return handle_of(value) != "" or type(value) in (CoroutineType, *FUTURES)


def _is_part(call: Call, value: Any) -> bool:
    neutral = call.pipeline.neutral
    return neutral is not None and neutral(value)


async def within(
    call: Call,
    bounds: DeadlineScope,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    timer: Timer | None = None,
) -> Any:
    """Await fn; raise a timeout if its time was up."""
    value: Any = None
    limit, told = bounds.begin(timer), None
    try:
        try:
            value = await _awaited(call, fn, args, kwargs)
        except BaseException as error:
            told = error if limit is None else limit.end(error)
            if told is error:
                raise
        else:
            told = None if limit is None else limit.end(None)
        if told is not None:
            raise told
        return value
    finally:
        del told  # the traceback holds this frame: a reference here is a cycle


has_call(within, call="call")


async def _awaited(
    call: Call, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    if attempts.is_one(call):
        own = attempts.begin(call.pipeline)
        try:
            value = fn(*args, **kwargs)
            if returns_awaitable(value):
                return await value
        finally:
            attempts.end(own)
    else:
        value = fn(*args, **kwargs)
        if returns_awaitable(value):
            return await value
    if call.recovering_from is None:
        raise MisuseError(
            f"{call.core.name}: an async call needs a function that returns an awaitable; "
            f"it returned {type(value).__name__}. Use call() for a plain function."
        )
    return value  # a plain function may be the fallback of an async call


# -- waiting ---------------------------------------------


async def wait(call: Call) -> Step:
    """Wait in the queue of the guard at the call's level."""
    bell = AsyncWaker()
    waiter = Waiter(call.guard, bell.ring)
    limit = binding(call, call.level, current_task()[1])
    step = waiting.park(call, waiter, limit)
    while step == DO_PARK:
        until = min(waiter.deadline, call.core.now() + waiting.CHOP)
        try:
            await bell.wait(call.core, until if limit is None else min(until, limit.when))
        except BaseException as error:
            return waiting.leave(call, waiter, error)
        if not call.is_needed:
            return waiting.leave(call, waiter, NotNeeded())
        step = waiting.unpark(call, waiter)
        if step == DO_PARK and limit is not None and limit.now() >= limit.when:
            return waiting.leave(call, waiter, limit.error())
    return step


async def pause(call: Call) -> Step:
    """Sleep before the next attempt."""
    limit = binding(call, call.level, current_task()[1])
    until = pause_end(call, limit)
    try:
        await AsyncWaker().wait(call.core, until)
    except BaseException as error:
        return interpreter.woken(call, error)
    if limit is not None and limit.when <= until:
        return interpreter.woken(call, limit.error())
    return interpreter.try_again(call)
