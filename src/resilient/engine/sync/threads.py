"""The guarded function whose body runs on a worker thread."""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import Any

from ...deadline import Deadline, Terms, current
from .. import interpreter, settlement
from ..call import Call, Step, value_or_raise
from ..fast_refusal import answer
from ..frames import has_call
from ..keeping import Fn
from ..pipeline import Pipeline
from ..stops import TURNED, Stopped
from .driver import job_done, no_thread
from .twins import call, is_slow, run, stopped
from .workers import Job, exchange, pool


def threaded(pipeline: Pipeline, fn: Fn, bare: Fn) -> Fn:
    core, enter, done_well = pipeline.core, pipeline.enter, pipeline.leave
    assert pipeline.single is not None
    level, limit = pipeline.single
    plain: type[Any] = type(None)
    slow = partial(is_slow, pipeline.odd)
    terms = Terms(0.0, level, core.name, core.now)

    def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal plain, terms
        outer, clock, reason = current.get(), core.now, None
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
                else stopped(pipeline, bare, args, kwargs, tickets)
            )
        own = job = done = mail = None
        try:
            own = Deadline.made(now + seconds, terms, None)
            context = copy_context()
            context.run(current.set, own)
            job = Job(context, partial(fn, *args, **kwargs))
            mail = pool.hire(job)
            exchange(mail, job.signal, seconds)
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
            run(done, _hired, job, own, reason)
            if mail is not None and reason is not None:  # the interrupt may have come before it
                mail.set()
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
) -> Step:
    """Report how a call ended whose body was given to a worker, or could not be."""
    if job is None or own is None:
        assert reason is not None
        return interpreter.raised(call, reason)
    if reason is None or not job.withdraw():
        return job_done(call, job, own, reason)
    if isinstance(reason, RuntimeError) and not isinstance(reason, RecursionError):
        return no_thread(call, reason)
    return interpreter.raised(call, reason)
