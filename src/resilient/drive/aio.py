"""The driver for async calls on asyncio and trio: the only code that awaits."""

from __future__ import annotations

import weakref
from asyncio import Future, Task, _get_running_loop
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from types import CoroutineType
from typing import Any, Final, cast

from ..deadline import Terms, current, leave
from ..guards.base import Waiter
from ..shapes import handle_of, returns_awaitable
from . import line
from .bell import Bell, here, task_in
from .call import DO_PARK, DO_RECOVER, DO_RUN, DONE, Call, Step, give_back
from .ending import MisuseError, conclude
from .frames import has_call
from .handles import handed_out
from .limits import Bounds
from .plan import Plan
from .timers import Entry, Timer, Wheel, wheel_of
from .turned import AGAIN, TURNED, Stopped, answer_async


async def run(call: Call) -> None:
    """Drive a call to its end."""
    await drive(call, call.start)


async def drive(call: Call, first: Callable[[], Step]) -> None:
    """Do the steps of a call, from the one that comes first to its end."""
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


has_call(drive, call="call")


async def finish(call: Call, awaitable: Awaitable[Any]) -> Any:
    """Await what a sync callable returned, for a call that was let in before."""
    call.fn, call.args, call.kwargs = lambda: awaitable, (), {}
    await drive(call, lambda: DO_RUN)
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
    new = call.origin is None and not call.enters
    if new and is_under_way(value) and not _is_part(call, value):
        call.value = handed_out(call, value, _FUTURES)  # judged where it ends
        return DONE
    return call.returned(value)


def _is_part(call: Call, value: Any) -> bool:
    neutral = call.plan.neutral
    return neutral is not None and neutral(value)


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


has_call(within, call="call")


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


async def _stopped(
    plan: Plan, fn: Callable[..., Any], args: Any, kwargs: Any, stop: Stopped
) -> Any:
    """Go on with a call that the fast path did not let in."""
    if stop is TURNED:
        return await answer_async(plan, args, kwargs)
    if stop is AGAIN:
        return await call(plan, fn, args, kwargs)
    done = Call(plan, fn, args, kwargs)
    await drive(done, partial(done.turned_away, stop))
    return conclude(done)


def _interpreted(plan: Plan, fn: Callable[..., Any]) -> Callable[..., Any]:
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        return await call(plan, fn, args, kwargs)

    return guarded


def _slow(odd: Callable[[object], bool], value: object) -> bool:
    return is_under_way(value) or odd(value)


_FUTURES: Final = (Future, Task)
_NOBODY: Final[dict[Entry, None]] = {}


def is_under_way(value: object) -> bool:
    """Return whether what an async function returned stands for work that has not ended."""
    return handle_of(value) != "" or type(value) in (CoroutineType, *_FUTURES)


async def _ended(call: Call, value: Any) -> Any:
    """Return the value of a body that has ended well, but not in the plainest way."""
    try:
        if is_under_way(value) and not _is_part(call, value):
            return handed_out(call, value, _FUTURES)  # judged where it ends
        await drive(call, partial(call.returned, value))
    except RecursionError:
        call.core.outbox.append(partial(give_back, call.plan, (), 0.0, call))
        raise
    return conclude(call)


async def _failed(
    plan: Plan,
    fn: Callable[..., Any],
    args: Any,
    kwargs: Any,
    tickets: Any,
    now: float,
    own: Entry | None,
    error: BaseException,
) -> Call:
    """Return the call that the fast path let in and whose body raised, driven to its end."""
    done: Call | None = None
    told: BaseException | None = None
    try:
        done = Call.entered(plan, fn, args, kwargs, tickets, now, own)
        told = error if own is None else own.reason(error)
        await drive(done, partial(done.raised, told))
    except RecursionError:
        plan.core.outbox.append(partial(give_back, plan, tickets, now, done))
        raise
    finally:
        told = None  # a frame that holds the exception whose traceback it is in is a cycle
    return done


def _plain(plan: Plan, fn: Callable[..., Any]) -> Callable[..., Any]:
    core, enter, done_well = plan.core, plan.enter, plan.leave
    unusual = partial(_slow, plan.odd)
    plain: type[Any] = type(None)  # the newest type of value that was seen to be no work or part

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal plain
        clock = core.now
        now = clock()
        tickets = enter(now)
        if tickets.__class__ is Stopped:
            return await _stopped(plan, fn, args, kwargs, tickets)
        done = None
        try:
            value = await (fn(*args, **kwargs) if kwargs else fn(*args))
            if type(value) is not plain:
                if unusual(value):
                    done = Call.entered(plan, fn, args, kwargs, tickets, now, None)
                    return await _ended(done, value)
                plain = type(value)  # pyright: ignore[reportUnknownVariableType]
        except BaseException as error:
            if done is not None:
                raise
            done = await _failed(plan, fn, args, kwargs, tickets, now, None, error)
            if done.error is error:
                done.error = None
                raise
            return conclude(done)
        done_well(tickets, now, clock())
        return value

    return has_call(guarded, plan="plan", tickets="tickets", began="now")


def _lifted(entry: Entry) -> None:
    """Lift the limit of a body that has ended."""
    leave(entry)
    if entry.fired:
        entry.took_back(None)
        entry.fired = False
    entry.task = None


def _timed(  # noqa: PLR0915
    plan: Plan, fn: Callable[..., Any]
) -> Callable[..., Any]:
    core, enter, done_well = plan.core, plan.enter, plan.leave
    around, put, unusual = current.get, current.set, partial(_slow, plan.odd)
    plain: type[Any] = type(None)
    assert plan.single is not None
    level, limit = plan.single
    known: weakref.ref[Wheel] | None = None  # the wheel of the newest call
    terms = Terms(0.0, level, core.name, monotonic)

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal known, plain, terms
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
        if tickets.__class__ is Stopped:
            return await _stopped(plan, fn, args, kwargs, tickets)
        entry, done, entries = cast("Entry | None", None), cast("Call | None", None), _NOBODY
        try:
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
            entries[entry] = None
            if wheel.handle is None:
                wheel.start()
            put(entry)
            value = await (fn(*args, **kwargs) if kwargs else fn(*args))
            entries.pop(entry, None)
            entry.open = False
            ended = monotonic()
            if ended >= when or (type(value) is not plain and unusual(value)):
                _lifted(entry)
                done = Call.entered(plan, fn, args, kwargs, tickets, now, entry)
                return await _ended(done, value)
        except BaseException as error:
            if done is not None:
                raise
            if entry is not None:
                entries.pop(entry, None)
                leave(entry)
            task = None  # the exception has this frame
            done = await _failed(plan, fn, args, kwargs, tickets, now, entry, error)
            if done.error is error:
                done.error = None
                raise
            return conclude(done)
        plain = type(value)  # pyright: ignore[reportUnknownVariableType]
        entry.task = None  # it stays in the context, which the task has
        done_well(tickets, now, ended)
        return value

    return has_call(guarded, plan="plan", tickets="tickets", began="now")
