"""Build the functions that users call in place of their sync ones, with their fast paths."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

from ...callables import returns_work
from ...deadline import Deadline, Terms, current, enclosing
from ...state_types import core
from .. import interpreter, settlement
from ..attempts import inside
from ..booking import give_back_stopped
from ..call import LASTS, Call, Step, value_or_raise
from ..compiled import RAISE, Ends, path_of
from ..fast_refusal import answer
from ..frames import has_call
from ..handles import hand_out
from ..keeping import Fn, keeper
from ..pipeline import Pipeline
from ..stops import AGAIN, TURNED, Stopped
from .driver import drive, job_done, no_thread, took
from .workers import Job, pool


def run(call: Call, first: Callable[..., Step] = interpreter.start, *args: Any) -> None:
    """Drive a call to its end, or until the value it returned carries it on."""
    try:
        if drive(call, first, *args) == LASTS:
            hand_out(call)
    except BaseException:
        settlement.abort(call)
        raise


def guard(pipeline: Pipeline, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls fn through the pipeline."""
    threaded = pipeline.fast_threaded
    if not pipeline.fast and not threaded:
        return _interpreted(pipeline, fn)
    if threaded:
        return _threaded(pipeline, inside(pipeline, fn), fn)
    body, ends = inside(pipeline, fn), SyncEnds(pipeline, fn)
    path = path_of(pipeline, body, ends, keeper(pipeline, fn), Deadline)
    return ends.twin() if path is None else _through(path)


def _through(path: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls a compiled path, without a frame where Python allows that."""

    def guarded(*args: Any, **kwargs: Any) -> Any:
        return path(*args, **kwargs)

    return core.quicken(guarded)  # type: ignore[no-any-return]


class SyncEnds(Ends):
    """What a compiled path leaves to Python, of a plain function."""

    __slots__ = ()

    def twin(self) -> Fn:
        make = _plain if self.pipeline.single is None else _timed
        return make(self.pipeline, inside(self.pipeline, self.fn), self.fn)

    def returned(
        self, entered: Any, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any
    ) -> Any:
        """End a call whose value came late, or needs the interpreter."""
        return _ended(self.taken(entered, args, kwargs), value)

    def raised(
        self, entered: Any, args: tuple[Any, ...], kwargs: dict[str, Any], error: BaseException
    ) -> Any:
        """End a call whose body raised: raise, or return a value, or RAISE for the same error."""
        done = _failed(
            self.pipeline, self.fn, args, kwargs, entered.tickets, entered.began, entered.deadline,
            error, entered,
        )  # fmt: skip
        if done.error is error:
            done.error = None
            return RAISE
        return value_or_raise(done)


def call(
    pipeline: Pipeline, fn: Callable[..., Any], args: Any, kwargs: Any, *, final: bool = False
) -> Any:
    """Call fn once, by the interpreter; if final, no fallback can answer."""
    done = Call(pipeline, fn, args, kwargs)
    done.final = final
    run(done)
    return value_or_raise(done)


def _stopped(
    pipeline: Pipeline, fn: Callable[..., Any], args: Any, kwargs: Any, stop: Stopped
) -> Any:
    """Continue a call that the fast path neither admitted nor answered."""
    if stop is AGAIN or pipeline.core.outbox:  # a slot may wait there: all are asked again
        if stop.tickets:
            give_back_stopped(pipeline.core, pipeline.fast_guards, stop)
        return call(pipeline, fn, args, kwargs)
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


def _ended(call: Call, value: Any) -> Any:
    """Return the value of a body that succeeded but needs the interpreter."""
    try:
        run(call, took, value)
    except RecursionError:
        call.core.outbox.append(partial(settlement.give_back, call.pipeline, (), 0.0, call))
        raise
    return value_or_raise(call)


def _failed(
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
        if entered is not None:
            entered.hand_over()
        done = Call.entered(pipeline, fn, args, kwargs, tickets, now, own)
        drive(done, interpreter.raised, error)
    except RecursionError:
        if entered is None or entered.booked:  # else it gives itself back
            pipeline.core.outbox.append(partial(settlement.give_back, pipeline, tickets, now, done))
        raise
    return done


def _slow(odd: Callable[[object], bool], value: object) -> bool:
    return returns_work(value) or odd(value)


def _interpreted(pipeline: Pipeline, fn: Fn) -> Fn:
    def guarded(*args: Any, **kwargs: Any) -> Any:
        return call(pipeline, fn, args, kwargs)

    return guarded


def _plain(pipeline: Pipeline, fn: Fn, bare: Fn) -> Fn:
    core, enter, done_well, around = pipeline.core, pipeline.enter, pipeline.leave, current.get
    unusual, keep = partial(_slow, pipeline.odd), keeper(pipeline, bare)
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
                else _stopped(pipeline, bare, args, kwargs, tickets)
            )
        done = None
        try:
            value = fn(*args, **kwargs) if kwargs else fn(*args)
            if type(value) is not plain:
                if unusual(value):
                    done = Call.entered(pipeline, bare, args, kwargs, tickets, now, None)
                    return _ended(done, value)
                plain = type(value)  # pyright: ignore[reportUnknownVariableType]
        except BaseException as error:
            if done is not None:
                raise
            done = _failed(pipeline, bare, args, kwargs, tickets, now, None, error)
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


def _timed(pipeline: Pipeline, fn: Fn, bare: Fn) -> Fn:  # noqa: C901
    core, enter, done_well = pipeline.core, pipeline.enter, pipeline.leave
    around, put = current.get, current.set
    unusual, keep = partial(_slow, pipeline.odd), keeper(pipeline, bare)
    assert pipeline.single is not None
    level, limit = pipeline.single
    plain: type[Any] = type(None)
    terms = Terms(0.0, level, core.name, core.now)

    def guarded(*args: Any, **kwargs: Any) -> Any:
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
                else _stopped(pipeline, bare, args, kwargs, tickets)
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
                    return _ended(done, value)
                plain = type(value)  # pyright: ignore[reportUnknownVariableType]
            ended = clock()
            if ended >= when:
                done = Call.entered(pipeline, bare, args, kwargs, tickets, now, own)
                return _ended(done, value)
        except BaseException as error:
            if done is not None:
                raise
            own.open = False
            if around() is own:
                put(None)
            done = _failed(pipeline, bare, args, kwargs, tickets, now, own, error)
            if done.error is error:
                done.error = None
                raise
            return value_or_raise(done)
        done_well(tickets, now, ended)
        if keep is not None:
            keep(value, args, kwargs, ended)
        return value

    return has_call(guarded, pipeline="pipeline", tickets="tickets", began="now")


def _threaded(pipeline: Pipeline, fn: Fn, bare: Fn) -> Fn:
    core, enter, done_well = pipeline.core, pipeline.enter, pipeline.leave
    assert pipeline.single is not None
    level, limit = pipeline.single
    plain: type[Any] = type(None)
    slow = partial(_slow, pipeline.odd)
    terms = Terms(0.0, level, core.name, core.now)

    def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal plain, terms
        outer, clock, reason, woken = current.get(), core.now, None, False
        nested = outer is not None and (outer.open or outer.outer is not None)
        if nested or core.clock is not None:  # a nested limit, a manual clock
            return call(pipeline, bare, args, kwargs)
        if terms.seconds != limit.seconds or terms.now is not clock:
            terms = Terms(limit.seconds, level, core.name, clock)
        now, seconds = clock(), terms.seconds
        tickets = enter(now)
        if tickets.__class__ is Stopped:
            return (
                answer(pipeline, bare, args, kwargs)
                if tickets is TURNED
                else _stopped(pipeline, bare, args, kwargs, tickets)
            )
        own = job = done = None
        try:
            own = Deadline.made(now + seconds, terms, None)
            context = copy_context()
            context.run(current.set, own)
            job = Job(context, partial(fn, *args, **kwargs))
            wake, wait = pool.hire(job), job.signal.take
            wake()
            woken = True
            wait(True, seconds)
        except BaseException as interrupt:
            reason = interrupt
        try:
            ended = clock()
            if job is not None and job.ended and job.error is None and reason is None:
                value = job.value
                if (
                    own is not None
                    and ended < own.when
                    and (type(value) is plain or not slow(value))
                ):
                    plain = type(value)  # pyright: ignore[reportUnknownVariableType]
                    own.open = False
                    done_well(tickets, now, ended)
                    return value
            done = Call.entered(pipeline, bare, args, kwargs, tickets, now, own)
            run(done, _hired, job, own, reason, woken)
        except RecursionError:
            core.outbox.append(partial(settlement.give_back, pipeline, tickets, now, done))
            raise
        finally:
            del reason  # it refers to this frame
        return value_or_raise(done)

    return has_call(guarded, pipeline="pipeline", tickets="tickets", began="now")


def _hired(
    call: Call,
    job: Job | None,
    own: Deadline | None,
    reason: BaseException | None,
    woken: bool,
) -> Step:
    """Report how a call ended whose body was given to a worker, or could not be."""
    if job is None or own is None:
        assert reason is not None
        return interpreter.raised(call, reason)
    lacks_stack = isinstance(reason, RecursionError)
    if isinstance(reason, RuntimeError) and not (woken or lacks_stack):
        return no_thread(call, reason)
    if reason is not None and not woken and (lacks_stack or not job.begun):
        job.abandon()  # if a worker takes it up, the worker does not run it
        return interpreter.raised(call, reason)
    return job_done(call, job, own, reason)
