"""The guarded async functions in Python: twins of the compiled path."""

from __future__ import annotations

import weakref
from asyncio import _get_running_loop
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Final, cast

from ...deadline import Terms, current, leave
from .. import interpreter, settlement
from ..booking import give_back_stopped
from ..call import LASTS, Call, Step, value_or_raise
from ..fast_failure import failing
from ..fast_refusal import answer_async, throw
from ..frames import has_call
from ..handles import hand_out
from ..keeping import Fn, keeper
from ..pipeline import Pipeline
from ..stops import AGAIN, TURNED, Stopped
from .driver import FUTURES, drive, is_under_way, took
from .timers import TimeoutEntry, TimeoutQueue, wheel_of
from .waker import task_in


async def run(call: Call, first: Callable[..., Step] = interpreter.start, *args: Any) -> None:
    """Drive a call to its end, or until the value it returned carries it on."""
    try:
        if await drive(call, first, *args) == LASTS:
            hand_out(call, FUTURES)
    except BaseException:
        settlement.abort(call)
        raise


async def call(
    pipeline: Pipeline, fn: Callable[..., Any], args: Any, kwargs: Any, *, final: bool = False
) -> Any:
    """Call fn once, by the interpreter; if final, no fallback can answer."""
    done = Call(pipeline, fn, args, kwargs)
    done.final = final
    await run(done)
    return value_or_raise(done)


async def stopped(
    pipeline: Pipeline, fn: Callable[..., Any], args: Any, kwargs: Any, stop: Stopped
) -> Any:
    """Continue a call that the fast path did not admit."""
    if stop is TURNED:
        return await answer_async(pipeline, fn, args, kwargs)
    if stop is AGAIN or pipeline.core.outbox:  # a slot may wait there: all are asked again
        if stop.tickets:
            give_back_stopped(pipeline.core, pipeline.fast_guards, stop)
        return await call(pipeline, fn, args, kwargs)
    throw(pipeline, stop)
    done = None
    try:
        done = Call.stopped(pipeline, fn, args, kwargs, stop)
        await run(done, interpreter.go_on, stop)
    except BaseException:
        if done is None:
            give_back_stopped(pipeline.core, pipeline.fast_guards, stop)
        elif not done.counted:
            pipeline.core.outbox.append(partial(settlement.give_back, pipeline, (), 0.0, done))
        raise
    return value_or_raise(done)


def interpreted(pipeline: Pipeline, fn: Callable[..., Any]) -> Callable[..., Any]:
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        return await call(pipeline, fn, args, kwargs)

    return guarded


def is_slow(odd: Callable[[object], bool], value: object) -> bool:
    return is_under_way(value) or odd(value)


_NOBODY: Final[dict[TimeoutEntry, None]] = {}


async def finish(call: Call, value: Any) -> Any:
    """Return the value of a body that succeeded but needs the interpreter."""
    try:
        await run(call, took, value)
    except RecursionError:
        call.core.outbox.append(partial(settlement.give_back, call.pipeline, (), 0.0, call))
        raise
    return value_or_raise(call)


async def fail(
    pipeline: Pipeline,
    fn: Callable[..., Any],
    args: Any,
    kwargs: Any,
    tickets: Any,
    now: float,
    own: TimeoutEntry | None,
    error: BaseException,
    entered: Any = None,
) -> Call:
    """Drive a call whose body raised on the fast path to its end, and return it."""
    done: Call | None = None
    told: BaseException | None = None
    try:
        done = Call.entered(pipeline, fn, args, kwargs, tickets, now, own)
        if entered is not None:
            entered.hand_over()
        told = error if own is None else own.reason(error)
        await drive(done, interpreter.raised, told)
    except RecursionError:
        if entered is None or entered.booked:
            pipeline.core.outbox.append(partial(settlement.give_back, pipeline, tickets, now, done))
        else:
            entered.give_back()
        raise
    finally:
        told = None  # the traceback holds this frame: a reference here is a cycle
    return done


def untimed(pipeline: Pipeline, fn: Fn, bare: Fn) -> Fn:
    core, enter, done_well = pipeline.core, pipeline.enter, pipeline.leave
    unusual, keep = partial(is_slow, pipeline.odd), keeper(pipeline, bare)
    fails = failing(pipeline)
    plain: type[Any] = type(None)  # the last type that proved to be neither unended work nor a part

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal plain
        clock = core.now
        now = clock()
        tickets = enter(now)
        if tickets.__class__ is Stopped:
            return await stopped(pipeline, bare, args, kwargs, tickets)
        done = None
        try:
            value = await (fn(*args, **kwargs) if kwargs else fn(*args))
            if type(value) is not plain:
                if unusual(value):
                    done = Call.entered(pipeline, bare, args, kwargs, tickets, now, None)
                    return await finish(done, value)
                plain = type(value)  # pyright: ignore[reportUnknownVariableType]
        except BaseException as error:
            if done is not None or (fails is not None and fails(None, tickets, now, error)):
                raise
            done = await fail(pipeline, bare, args, kwargs, tickets, now, None, error)
            if done.error is error:
                done.error = None
                raise
            return value_or_raise(done)
        ended = clock()
        done_well(tickets, now, ended)
        if keep is not None:
            keep(value, args, kwargs, ended)
        return value

    return has_call(guarded, pipeline="pipeline", tickets="tickets", began="now")


def lifted(entry: TimeoutEntry) -> None:
    """Lift the limit of a body that has ended."""
    leave(entry)
    if entry.fired:
        entry.took_back(None)
        entry.fired = False
    entry.task = None


def timed(  # noqa: C901, PLR0915
    pipeline: Pipeline, fn: Fn, bare: Fn, other: Callable[[], Fn]
) -> Fn:
    """Return the function for tasks of asyncio; `other` returns what runs elsewhere."""
    core, enter, done_well = pipeline.core, pipeline.enter, pipeline.leave
    around, put, unusual = current.get, current.set, partial(is_slow, pipeline.odd)
    keep, fails = keeper(pipeline, bare), failing(pipeline)
    plain: type[Any] = type(None)
    assert pipeline.single is not None
    level, limit = pipeline.single
    known: weakref.ref[TimeoutQueue] | None = None  # the queue of the last call
    terms = Terms(0.0, level, core.name, monotonic)

    async def guarded(*args: Any, **kwargs: Any) -> Any:  # noqa: C901, PLR0912, PLR0915
        nonlocal known, plain, terms
        loop = _get_running_loop()
        task = None if loop is None else task_in(loop)
        outer = around()
        nested = outer is not None and (outer.open or outer.outer is not None)
        if nested or core.now is not monotonic:  # a manual clock
            return await call(pipeline, bare, args, kwargs)
        if task is None:
            return await other()(*args, **kwargs)
        seconds = terms.seconds
        if limit.seconds != seconds:
            seconds = limit.seconds
            terms, known = Terms(seconds, level, core.name, monotonic), None
        now = monotonic()
        tickets = enter(now)
        if tickets.__class__ is Stopped:
            return await stopped(pipeline, bare, args, kwargs, tickets)
        entry, done, entries = cast("TimeoutEntry | None", None), cast("Call | None", None), _NOBODY
        try:
            wheel = None if known is None else known()
            if wheel is None or wheel.loop is not loop:
                assert loop is not None
                wheel = wheel_of(loop, seconds)
                known = weakref.ref(wheel)
            entry = TimeoutEntry()
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
                lifted(entry)
                done = Call.entered(pipeline, bare, args, kwargs, tickets, now, entry)
                return await finish(done, value)
        except BaseException as error:
            if done is not None:
                raise
            if entry is not None:
                entries.pop(entry, None)
                leave(entry)
            task = None  # the traceback of the exception keeps this frame alive
            if entry is not None and not entry.fired and fails is not None:
                entry.task = None
                if fails(None, tickets, now, error):
                    raise
            done = await fail(pipeline, bare, args, kwargs, tickets, now, entry, error)
            if done.error is error:
                done.error = None
                raise
            return value_or_raise(done)
        plain = type(value)  # pyright: ignore[reportUnknownVariableType]
        entry.task = None  # the entry stays in the context, which the task keeps
        done_well(tickets, now, ended)
        if keep is not None:
            keep(value, args, kwargs, ended)
        return value

    return has_call(guarded, pipeline="pipeline", tickets="tickets", began="now")
