"""The driver for synchronous calls: the only code that blocks a thread."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, cast

from ...callables import PLAIN_VALUES, returns_awaitable, returns_work
from ...deadline import Deadline, abandoned, current, leave
from ...errors import CallTimeoutError, WorkersBusyError
from ...guards.base import Waiter
from ...guards.facets import Admission
from .. import attempts, interpreter, settlement, waiting
from ..call import DO_PARK, DO_RACE, DO_RECOVER, DO_RUN, DONE, LASTS, Call, NotNeeded, Step
from ..frames import has_call
from ..misuse import not_awaited
from ..policy_state import PolicyState
from ..time_limits import binding, pause_end
from .abandoned import abandon
from .race import race
from .workers import Job, Signal, pool


def drive(call: Call, first: Callable[..., Step], *args: Any) -> Step:
    """Run the steps of a call, beginning with `first`, until one is DONE or LASTS."""
    try:
        step = first(call, *args)
        while step < DONE:
            if step == DO_RUN and not call.begins():
                step = interpreter.raised(call, NotNeeded())
            elif step == DO_RUN:
                step = _body(call)
            elif step == DO_RACE:
                step = race(call, drive, _sleep, alone=in_event_loop())
            elif step == DO_PARK:
                step = wait(call)
            elif step == DO_RECOVER:
                step = _recover(call)
            else:
                step = pause(call)
    except BaseException:
        settlement.abort(call)
        raise
    return step


has_call(drive, call="call")


def _body(call: Call) -> Step:
    answer = attempts.dropped(call)
    if answer is not None:
        with contextlib.suppress(Exception):
            answer.close()
    return limited(call, len(call.tickets), call.fn, call.args, call.kwargs)


def _recover(call: Call) -> Step:
    return limited(call, call.level, *call.recovery(), {})


def limited(
    call: Call, level: int, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Step:
    """Run fn under the time limits of the guards outside the given level."""
    bound = call.limits or current.get() is not None
    deadline = binding(call, level) if bound else None
    own = call.deadline
    if deadline is not None and deadline.now() >= deadline.when:
        return interpreter.not_run(call, deadline.error())
    if attempts.is_one(call):
        fn = attempts.inside(call.pipeline, fn)
    if call.pipeline.threaded and deadline is not None:
        return _on_worker(call, partial(fn, *args, **kwargs), deadline)
    if own is not None:
        current.set(own)
    try:
        value = fn(*args, **kwargs)
    except BaseException as error:
        return interpreter.raised(call, error)
    finally:
        if own is not None:
            leave(own)
    return took(call, value)


def took(call: Call, value: Any) -> Step:
    """Accept the value that the body or a fallback returned."""
    neutral = call.pipeline.neutral
    if (
        type(value) in PLAIN_VALUES
        or call.enters
        or not returns_work(value)
        or (neutral is not None and neutral(value))
    ):
        return interpreter.returned(call, value)
    if call.recovering_from is None:
        call.value, call.lasted = value, True
        return LASTS
    if not returns_awaitable(value):
        return interpreter.returned(call, value)  # a fallback's answer
    return interpreter.raised(call, not_awaited(call.core.name, value))


# -- on a worker thread ---------------------------------------------


def _on_worker(call: Call, body: Callable[[], Any], deadline: Deadline) -> Step:
    own, context = call.deadline, copy_context()
    if own is not None:
        context.run(current.set, own)
    job, reason = Job(context, body), None
    try:
        pool.submit(job)
    except RuntimeError as fault:
        return no_thread(call, fault)
    except BaseException as interrupt:  # such as KeyboardInterrupt, while a new thread starts
        if job.withdraw():
            raise
        reason = interrupt
    return job_done(call, job, deadline, reason or _wait_for(call, job, deadline))


def no_thread(call: Call, fault: RuntimeError) -> Step:
    why = f"{call.core.name}: the system gives no more threads ({fault})"
    call.ran = False
    kind = call.pipeline.worker_guard
    return interpreter.not_run(call, WorkersBusyError(why, policy=call.core.name, guard=kind))


def job_done(call: Call, job: Job, deadline: Deadline, reason: BaseException | None) -> Step:
    """Report the end of a job, or that its caller gives up on it, and why."""
    own = call.deadline
    if reason is None and not job.ended:
        reason = deadline.error()
    if reason is not None and job.abandon():
        step, on_end = abandon(call, reason)
        job.when_ended(partial(_end, own, on_end))  # until then the body sees an expired deadline
        abandoned(deadline)
        return step
    if own is not None:
        own.open = False
    if reason is not None and (call.core.clock is not None or not _is_timeout(reason)):
        return interpreter.raised(call, reason)
    error, job.error = job.error, None  # it has ended, perhaps just now
    return took(call, job.value) if error is None else interpreter.raised(call, error)


def _end(own: Deadline | None, on_end: Callable[[], None]) -> None:
    if own is not None:
        own.open = False
    on_end()


def _is_timeout(reason: BaseException) -> bool:
    return isinstance(reason, CallTimeoutError)


def _wait_for(call: Call, job: Job, deadline: Deadline) -> BaseException | None:
    """Wait for a job; return why its caller gives up, or None if the job has ended."""
    try:
        while not job.ended and deadline.now() < deadline.when:
            _sleep(call, deadline.when, job.signal)
    except BaseException as interrupt:  # such as KeyboardInterrupt
        return interrupt
    # By a manual clock a body that overran is late, however soon its thread ended.
    overran = call.core.clock is not None and deadline.now() >= deadline.when
    return None if job.ended and not overran else deadline.error()


# -- waiting ---------------------------------------------


def _sleep(call: Call, until: float, signal: Signal) -> None:
    sleep(call.core, until, signal)


def sleep(core: PolicyState, until: float, signal: Signal) -> None:
    """Wait for the signal, or until this time of the policy's clock."""
    clock = core.clock
    if clock is None:
        signal.wait(max(0.0, until - core.now()))
        return
    alarm = clock.call_at(until, signal.set)
    try:
        signal.wait(-1)
    finally:
        alarm.cancel()


def wait(call: Call) -> Step:
    """Wait in the queue of the guard at the call's level."""
    signal = Signal()
    waiter = Waiter(call.guard, signal.set)
    limit = binding(call, call.level)
    step = waiting.park(call, waiter, limit)
    if step == DO_PARK and in_event_loop():
        call.core.quit(waiter)
        return interpreter.refused(
            call,
            cast("Admission", call.guard),
            "a sync call may not wait in a thread whose event loop is running: it would stop every "
            "task there; make the call async, or call from a worker thread",
            None,
        )
    while step == DO_PARK:
        until = min(waiter.deadline, call.core.now() + waiting.CHOP)
        try:
            _sleep(call, until if limit is None else min(until, limit.when), signal)
        except BaseException as error:
            return waiting.leave(call, waiter, error)
        if not call.is_needed:
            return waiting.leave(call, waiter, NotNeeded())
        step = waiting.unpark(call, waiter)
        if step == DO_PARK and limit is not None and limit.now() >= limit.when:
            return waiting.leave(call, waiter, limit.error())
    return step


def pause(call: Call) -> Step:
    """Sleep before the next attempt."""
    limit = binding(call, call.level)
    until = pause_end(call, limit)
    try:
        _sleep(call, until, Signal())
    except BaseException as error:
        return interpreter.woken(call, error)
    if limit is not None and limit.when <= until:
        return interpreter.woken(call, limit.error())
    return interpreter.try_again(call)


def in_event_loop() -> bool:
    """Return whether an event loop runs in this thread."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        return True
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_task())
