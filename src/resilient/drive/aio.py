"""The driver for async calls on asyncio and trio: the only code that awaits."""

from __future__ import annotations

import weakref
from asyncio import _get_running_loop
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import Any

from ..deadline import Terms, current, leave
from ..guards.base import Waiter
from ..shapes import returns_awaitable
from . import line
from .bell import Bell, here, task_in
from .call import DO_PARK, DO_RECOVER, DO_RUN, DONE, Call, Step, give_back
from .ending import MisuseError, conclude
from .limits import Bounds
from .plan import Plan
from .timers import Entry, Timer, Wheel, wheel_of
from .turned import TURNED, answer_async


async def run(call: Call) -> None:
    """Drive a call to its end."""
    await _drive(call, call.start)


async def _drive(call: Call, first: Callable[[], Step]) -> None:
    try:
        step = first()
        while step != DONE:
            if step == DO_RUN:
                step = await _limited(call, len(call.tickets), call.fn, call.args, call.kwargs)
            elif step == DO_PARK:
                step = await wait(call)
            elif step == DO_RECOVER:
                fn, args = call.recovery()
                step = await _limited(call, call.level, fn, args, {})
            else:
                step = await pause(call)
    except BaseException:
        call.drop()
        raise


async def finish(call: Call, awaitable: Awaitable[Any]) -> Any:
    """Await what a sync callable returned, for a call that was let in before."""
    step = await _limited(call, len(call.tickets), lambda: awaitable, (), {})
    await _drive(call, lambda: step)
    return conclude(call)


async def _limited(
    call: Call, level: int, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Step:
    """Run what stands at a level under the time limits outside it."""
    bounds = Bounds(call, level)
    over = bounds.over()
    if over is not None:
        return call.not_run(over.error())
    try:
        value = await within(call, bounds, fn, args, kwargs)
    except BaseException as error:
        return call.raised(error)
    return call.returned(value)


async def within(
    call: Call,
    bounds: Bounds,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    timer: Timer | None = None,
) -> Any:
    """Await fn, and raise a timeout where the time was up."""
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
        del told  # a frame that holds the exception whose traceback it is in is a cycle


async def _awaited(
    call: Call, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    value = fn(*args, **kwargs)
    if returns_awaitable(value):
        return await value
    if call.origin is None:
        raise MisuseError(
            f"{call.core.name}: an async call needs a function that returns an awaitable; "
            f"it returned {type(value).__name__}. Use call() for a plain function."
        )
    return value  # a plain function may serve as the fallback of an async call


# -- waiting ---------------------------------------------


async def wait(call: Call) -> Step:
    """Stand in a line."""
    bell = Bell()
    waiter = Waiter(call.here, bell.ring)
    limit = call.limit(call.level, here()[1])
    step = line.park(call, waiter)
    while step == DO_PARK:
        until = min(waiter.deadline, call.core.now() + line.CHOP)
        try:
            await bell.wait(call, until if limit is None else min(until, limit.when))
        except BaseException as error:
            return line.leave(call, waiter, error)
        step = line.unpark(call, waiter)
        if step == DO_PARK and limit is not None and limit.now() >= limit.when:
            return line.leave(call, waiter, limit.error())
    return step


async def pause(call: Call) -> Step:
    """Sleep between two attempts."""
    limit = call.limit(call.level, here()[1])
    until = call.core.now() + call.delay
    try:
        await Bell().wait(call, until if limit is None else min(until, limit.when))
    except BaseException as error:
        return call.raised(error)
    if limit is not None and limit.when <= until:
        return call.not_run(limit.error())
    return call.again()


# -- the wrappers that users call ---------------------------------------------


def guard(plan: Plan, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return an async function that calls fn under the plan."""
    if not plan.fast:
        return _interpreted(plan, fn)
    return _plain(plan, fn) if plan.single is None else _timed(plan, fn)


async def call(
    plan: Plan, fn: Callable[..., Any], args: Any, kwargs: Any, *, final: bool = False
) -> Any:
    """Call fn once, by the interpreter; where final, no fallback can answer."""
    done = Call(plan, fn, args, kwargs)
    done.final = final
    await run(done)
    return conclude(done)


async def turned(plan: Plan, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Answer a call that was refused."""
    return await answer_async(plan, args, kwargs)


def _interpreted(plan: Plan, fn: Callable[..., Any]) -> Callable[..., Any]:
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        return await call(plan, fn, args, kwargs)

    return guarded


def _plain(plan: Plan, fn: Callable[..., Any]) -> Callable[..., Any]:
    core, enter, done_well, neutral = plan.core, plan.enter, plan.leave, plan.neutral
    plain: type[Any] = type(None)  # the newest type of value that was seen to be no part

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal plain
        clock = core.now
        now = clock()
        tickets = enter(now)
        if tickets is None or tickets is TURNED:
            return await (call if tickets is None else turned)(plan, fn, args, kwargs)
        try:
            value = await (fn(*args, **kwargs) if kwargs else fn(*args))
        except BaseException as error:
            done = None
            try:
                done = Call.entered(plan, fn, args, kwargs, tickets, now, None)
                await _drive(done, partial(done.raised, error))
            except RecursionError:
                core.outbox.append(partial(give_back, plan, tickets, now, done))
                raise
            if done.error is error:
                done.error = None
                raise
            return conclude(done)
        if neutral is not None and type(value) is not plain and neutral(value):
            done = Call.entered(plan, fn, args, kwargs, tickets, now, None)
            await _drive(done, partial(done.returned, value))
            return conclude(done)
        plain = type(value)  # pyright: ignore[reportUnknownVariableType]
        done_well(tickets, now, clock())
        return value

    return guarded


def _timed(  # noqa: PLR0915
    plan: Plan, fn: Callable[..., Any]
) -> Callable[..., Any]:
    core, enter, done_well, neutral = plan.core, plan.enter, plan.leave, plan.neutral
    around, put = current.get, current.set
    assert plan.single is not None
    level, limit = plan.single
    known: weakref.ref[Wheel] | None = None  # the wheel of the newest call
    terms = Terms(0.0, level, core.name, monotonic)

    async def guarded(*args: Any, **kwargs: Any) -> Any:  # noqa: PLR0915
        nonlocal known, terms
        loop = _get_running_loop()
        task = None if loop is None else task_in(loop)
        outer = around()
        nested = outer is not None and (outer.open or outer.outer is not None)
        if task is None or nested or core.now is not monotonic:
            return await call(plan, fn, args, kwargs)  # trio, a nested limit, a manual clock
        seconds = terms.seconds
        if limit.seconds != seconds:
            seconds = limit.seconds or 0.0
            terms, known = Terms(seconds, level, core.name, monotonic), None
        now = monotonic()
        tickets = enter(now)
        if tickets is None or tickets is TURNED:
            return await (call if tickets is None else turned)(plan, fn, args, kwargs)
        wheel = None if known is None else known()
        if wheel is None or wheel.loop is not loop:
            assert loop is not None
            wheel = wheel_of(loop, seconds)
            known = weakref.ref(wheel)
        entry = Entry()
        entry.when = when = now + seconds
        entry.terms, entry.outer, entry.open, entry.fired = terms, None, True, False
        entry.task, entry.cancelling = task, task.cancelling()
        entries = wheel.entries
        try:
            entries[entry] = None
            if wheel.handle is None:
                wheel.start()
            put(entry)
            value = await (fn(*args, **kwargs) if kwargs else fn(*args))
            entries.pop(entry, None)
            entry.open = False
        except BaseException as error:
            entries.pop(entry, None)
            leave(entry)
            done = None
            try:
                done = Call.entered(plan, fn, args, kwargs, tickets, now, entry)
                task = None  # the exception has this frame
                await _drive(done, partial(done.raised, entry.reason(error)))
            except RecursionError:
                core.outbox.append(partial(give_back, plan, tickets, now, done))
                raise
            if done.error is error:
                done.error = None
                raise
            return conclude(done)
        ended = monotonic()
        if ended >= when or (neutral is not None and neutral(value)):  # late, or no news
            leave(entry)
            if entry.fired:
                entry.took_back(None)
            entry.task = None
            done = Call.entered(plan, fn, args, kwargs, tickets, now, entry)
            await _drive(done, partial(done.returned, value))
            return conclude(done)
        entry.task = None  # it stays in the context, which the task has
        done_well(tickets, now, ended)
        return value

    return guarded
