"""The guarded functions in Python: twins of the compiled path."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ...callables import returns_work
from ...deadline import Deadline, Terms, current, enclosing
from .. import interpreter, settlement
from ..booking import give_back_stopped
from ..call import LASTS, Call, Step, value_or_raise
from ..fast_failure import failing
from ..fast_refusal import answer, throw
from ..frames import has_call
from ..handles import hand_out
from ..keeping import Fn, keeper
from ..pipeline import Pipeline
from ..stops import AGAIN, TURNED, Stopped
from .driver import drive, took


def run(call: Call, first: Callable[..., Step] = interpreter.start, *args: Any) -> None:
    """Drive a call to its end, or until the value it returned carries it on."""
    try:
        if drive(call, first, *args) == LASTS:
            hand_out(call)
    except BaseException:
        settlement.abort(call)
        raise


def call(
    pipeline: Pipeline, fn: Callable[..., Any], args: Any, kwargs: Any, *, final: bool = False
) -> Any:
    """Call fn once, by the interpreter; if final, no fallback can answer."""
    done = Call(pipeline, fn, args, kwargs)
    done.final = final
    run(done)
    return value_or_raise(done)


def stopped(
    pipeline: Pipeline, fn: Callable[..., Any], args: Any, kwargs: Any, stop: Stopped
) -> Any:
    """Continue a call that the fast path neither admitted nor answered."""
    if stop is AGAIN or pipeline.core.outbox:  # a slot may wait there: all are asked again
        if stop.tickets:
            give_back_stopped(pipeline.core, pipeline.fast_guards, stop)
        return call(pipeline, fn, args, kwargs)
    throw(pipeline, stop)
    done = None
    try:
        done = Call.stopped(pipeline, fn, args, kwargs, stop)
        run(done, interpreter.go_on, stop)
    except BaseException:
        if done is None:
            give_back_stopped(pipeline.core, pipeline.fast_guards, stop)
        elif not done.counted:
            pipeline.core.outbox.append(partial(settlement.give_back, pipeline, (), 0.0, done))
        raise
    return value_or_raise(done)


def finish(call: Call, value: Any) -> Any:
    """Return the value of a body that succeeded but needs the interpreter."""
    try:
        run(call, took, value)
    except RecursionError:
        call.core.outbox.append(partial(settlement.give_back, call.pipeline, (), 0.0, call))
        raise
    return value_or_raise(call)


def fail(
    pipeline: Pipeline,
    fn: Callable[..., Any],
    args: Any,
    kwargs: Any,
    tickets: Any,
    now: float,
    own: Deadline | None,
    error: BaseException,
    entered: Any = None,
) -> Call:
    """Drive a call whose body raised on the fast path to its end, and return it."""
    done = None
    try:
        done = Call.entered(pipeline, fn, args, kwargs, tickets, now, own)
        if entered is not None:
            entered.hand_over()
        drive(done, interpreter.raised, error)
    except RecursionError:
        if entered is None or entered.booked:
            pipeline.core.outbox.append(partial(settlement.give_back, pipeline, tickets, now, done))
        else:
            entered.give_back()
        raise
    return done


def is_slow(odd: Callable[[object], bool], value: object) -> bool:
    return returns_work(value) or odd(value)


def interpreted(pipeline: Pipeline, fn: Fn) -> Fn:
    def guarded(*args: Any, **kwargs: Any) -> Any:
        return call(pipeline, fn, args, kwargs)

    return guarded


def untimed(pipeline: Pipeline, fn: Fn, bare: Fn) -> Fn:
    core, enter, done_well, around = pipeline.core, pipeline.enter, pipeline.leave, current.get
    unusual, keep = partial(is_slow, pipeline.odd), keeper(pipeline, bare)
    fails = failing(pipeline)
    plain: type[Any] = type(None)  # the last type that proved not to be unended work

    def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal plain
        clock = core.now  # a local: a call through a slot costs as much as the clock itself
        now = clock()
        if around() is not None and (outer := enclosing()) is not None and now >= outer.when:
            return call(pipeline, bare, args, kwargs)  # no time is left
        tickets = enter(now)
        if tickets.__class__ is Stopped:
            return (
                answer(pipeline, bare, args, kwargs)
                if tickets is TURNED
                else stopped(pipeline, bare, args, kwargs, tickets)
            )
        done = None
        try:
            value = fn(*args, **kwargs) if kwargs else fn(*args)
            if type(value) is not plain:
                if unusual(value):
                    done = Call.entered(pipeline, bare, args, kwargs, tickets, now, None)
                    return finish(done, value)
                plain = type(value)  # pyright: ignore[reportUnknownVariableType]
        except BaseException as error:
            if done is not None or (fails is not None and fails(None, tickets, now, error)):
                raise
            done = fail(pipeline, bare, args, kwargs, tickets, now, None, error)
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


def timed(pipeline: Pipeline, fn: Fn, bare: Fn) -> Fn:  # noqa: C901
    core, enter, done_well = pipeline.core, pipeline.enter, pipeline.leave
    around, put = current.get, current.set
    unusual, keep = partial(is_slow, pipeline.odd), keeper(pipeline, bare)
    fails = failing(pipeline)
    assert pipeline.single is not None
    level, limit = pipeline.single
    plain: type[Any] = type(None)
    terms = Terms(0.0, level, core.name, core.now)

    def guarded(*args: Any, **kwargs: Any) -> Any:  # noqa: C901
        nonlocal plain, terms
        outer, clock = around(), core.now
        if outer is not None and (outer.open or outer.outer is not None):  # a nested limit
            return call(pipeline, bare, args, kwargs)
        if terms.seconds != limit.seconds or terms.now is not clock:
            terms = Terms(limit.seconds, level, core.name, clock)
        now = clock()
        tickets = enter(now)
        if tickets.__class__ is Stopped:
            return (
                answer(pipeline, bare, args, kwargs)
                if tickets is TURNED
                else stopped(pipeline, bare, args, kwargs, tickets)
            )
        own, done = Deadline(), None
        own.when = when = now + terms.seconds
        own.terms = terms
        own.outer = None
        own.open = True
        try:
            put(own)
            value = fn(*args, **kwargs) if kwargs else fn(*args)
            own.open = False
            if type(value) is not plain:
                if unusual(value):
                    done = Call.entered(pipeline, bare, args, kwargs, tickets, now, own)
                    return finish(done, value)
                plain = type(value)  # pyright: ignore[reportUnknownVariableType]
            ended = clock()
            if ended >= when:
                done = Call.entered(pipeline, bare, args, kwargs, tickets, now, own)
                return finish(done, value)
        except BaseException as error:
            if done is not None:
                raise
            own.open = False
            if around() is own:
                put(None)
            if fails is not None and fails(None, tickets, now, error):
                raise
            done = fail(pipeline, bare, args, kwargs, tickets, now, own, error)
            if done.error is error:
                done.error = None
                raise
            return value_or_raise(done)
        done_well(tickets, now, ended)
        if keep is not None:
            keep(value, args, kwargs, ended)
        return value

    return has_call(guarded, pipeline="pipeline", tickets="tickets", began="now")
