"""The guarded async functions with a time limit in tasks of trio, which a cancel scope ends."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

from ...clock import real
from ...deadline import Terms, current
from ..call import Call, value_or_raise
from ..compiled import RAISE
from ..fast_failure import failing
from ..frames import has_call
from ..keeping import Fn, Keeper, keeper
from ..pipeline import Pipeline
from ..stops import Stopped
from .timers import TimeoutEntry
from .twins import fail, finish, is_slow, lifted, stopped
from .waker import in_trio, own_error


def choosing(make: Callable[[], Fn], other: Callable[[], Fn]) -> Callable[[], Fn]:
    """Return what chooses by where it runs: what `make` makes in a task of trio, else the other."""
    made: list[Fn] = []

    def choose() -> Fn:
        if not in_trio() or real.is_frozen():
            return other()
        if not made:
            made.append(make())
        return made[0]

    return choose


def through(path: Any, body: Fn, ends: Any, keep: Keeper | None) -> Fn:
    """Return the function on a compiled path; `ends` are `functions.AsyncEnds`."""
    trio = sys.modules["trio"]
    task, time, scope_of = trio.lowlevel.current_task, trio.current_time, trio.CancelScope
    enter, booked, twin, fails = path.enter_task, path.leave, path.twin, failing(ends.pipeline)
    assert ends.pipeline.single is not None
    limit = ends.pipeline.single[1]

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        entered = enter(task())
        if entered is None:
            return await twin()(*args, **kwargs)
        try:
            with scope_of(deadline=time() + limit.seconds) as scope:
                value = await (body(*args, **kwargs) if kwargs else body(*args))
            if scope.cancelled_caught:
                raise entered.deadline.error()
        except BaseException as error:
            try:
                answer = await ends.ended(entered, args, kwargs, own_error(error), fails)
            except BaseException:
                entered.give_back()
                raise
            if answer is not RAISE:
                return answer
            if isinstance(own_error(error), GeneratorExit):
                raise GeneratorExit from None
            raise
        try:
            if not booked(entered, value):
                return await ends.returned(entered, args, kwargs, value)
        except BaseException:
            entered.give_back()
            raise
        if keep is not None:
            keep(value, args, kwargs, entered.ended)
        return value

    return has_call(guarded, entered="entered")


def twin(pipeline: Pipeline, fn: Fn, bare: Fn) -> Fn:
    """Return the function in Python: `twins.timed` with a cancel scope."""
    trio = sys.modules["trio"]
    task, time, scope_of = trio.lowlevel.current_task, trio.current_time, trio.CancelScope
    core, enter, done_well = pipeline.core, pipeline.enter, pipeline.leave
    keep, fails = keeper(pipeline, bare), failing(pipeline)
    assert pipeline.single is not None
    level, limit = pipeline.single
    terms = Terms(0.0, level, core.name, monotonic)

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal terms
        seconds = limit.seconds
        if seconds != terms.seconds:
            terms = Terms(seconds, level, core.name, monotonic)
        now = monotonic()
        tickets = enter(now)
        if tickets.__class__ is Stopped:
            return await stopped(pipeline, bare, args, kwargs, tickets)
        own, done = cast("TimeoutEntry | None", None), cast("Call | None", None)
        try:
            own = _entry(now + seconds, terms, task())
            current.set(own)
            with scope_of(deadline=time() + seconds) as scope:
                value = await (fn(*args, **kwargs) if kwargs else fn(*args))
            if scope.cancelled_caught:
                raise own.error()
            lifted(own)
            ended = monotonic()
            if ended >= own.when or is_slow(pipeline.odd, value):
                done = Call.entered(pipeline, bare, args, kwargs, tickets, now, own)
                return await finish(done, value)
        except BaseException as error:
            if done is not None:
                raise
            if own is not None:
                lifted(own)
            if fails is not None and fails(None, tickets, now, own_error(error)):
                raise
            done = await fail(pipeline, bare, args, kwargs, tickets, now, own, own_error(error))
            if done.error is error:
                done.error = None
                raise
            return value_or_raise(done)
        done_well(tickets, now, ended)
        if keep is not None:
            keep(value, args, kwargs, ended)
        return value

    return has_call(guarded, pipeline="pipeline", tickets="tickets", began="now")


def _entry(when: float, terms: Terms, task: Any) -> TimeoutEntry:
    own = TimeoutEntry()
    own.when, own.terms, own.outer, own.open = when, terms, None, True
    own.task, own.cancelling, own.fired = task, 0, False
    return own
