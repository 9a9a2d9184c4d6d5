"""The driver for synchronous calls: the only code that blocks a thread."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

from ..deadline import Deadline, Terms, abandoned, current, enclosing, leave
from ..errors import CallTimeoutError, WorkersBusyError
from ..guards.base import Waiter
from ..shapes import returns_awaitable
from . import line
from .abandoning import abandon
from .call import DO_PARK, DO_RECOVER, DO_RUN, DONE, Call, Step, give_back
from .ending import conclude
from .pending import GuardedAwaitable
from .plan import Plan
from .turned import TURNED, answer, not_awaited
from .workers import Job, Signal, pool


def run(call: Call) -> None:
    """Drive a call to its end."""
    _drive(call, call.start)


def _drive(call: Call, first: Callable[[], Step]) -> None:
    try:
        step = first()
        while step != DONE:
            if step == DO_RUN:
                step = _body(call)
            elif step == DO_PARK:
                step = wait(call)
            elif step == DO_RECOVER:
                step = _recover(call)
            else:
                step = pause(call)
    except BaseException:
        call.drop()
        raise


def _body(call: Call) -> Step:
    return _limited(call, len(call.tickets), call.fn, call.args, call.kwargs)


def _recover(call: Call) -> Step:
    fn, args = call.recovery()
    return _limited(call, call.level, fn, args, {})


def _limited(
    call: Call, level: int, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Step:
    """Run what stands at a level under the time limits outside it."""
    deadline = call.limit(level)
    own = call.deadline
    if deadline is not None and deadline.now() >= deadline.when:
        return call.not_run(deadline.error())
    if call.plan.threaded and deadline is not None:
        return _on_worker(call, partial(fn, *args, **kwargs), deadline)
    if own is not None:
        current.set(own)
    try:
        value = fn(*args, **kwargs)
    except BaseException as error:
        return call.raised(error)
    finally:
        if own is not None:
            leave(own)
    return _returned(call, value)


def _returned(call: Call, value: Any) -> Step:
    neutral = call.plan.neutral
    if not returns_awaitable(value) or (neutral is not None and neutral(value)):
        return call.returned(value)
    if call.origin is None:
        call.value = GuardedAwaitable(call, value)  # judged at the await
        return DONE
    close = getattr(value, "close", None)
    if close is not None:
        close()
    return call.raised(TypeError(not_awaited(call.core.name, value)))


# -- on a worker thread ---------------------------------------------


def _on_worker(call: Call, body: Callable[[], Any], deadline: Deadline) -> Step:
    own, context = call.deadline, copy_context()
    if own is not None:
        context.run(current.set, own)
    job = Job(context, body)
    try:
        pool.submit(job)
    except RuntimeError as fault:
        return _no_thread(call, fault)
    return _job_done(call, job, deadline, _wait_for(call, job, deadline))


def _no_thread(call: Call, fault: RuntimeError) -> Step:
    why = f"{call.core.name}: the system gives no more threads ({fault})"
    call.ran = False
    return call.not_run(WorkersBusyError(why, policy=call.core.name, guard="timeout"))


def _job_done(call: Call, job: Job, deadline: Deadline, reason: BaseException | None) -> Step:
    """Report the end of a job, or that its caller gives up on it, and why."""
    own = call.deadline
    if reason is None and not job.ended:
        reason = deadline.error()
    if reason is not None and job.abandon():
        step, on_end = abandon(call, reason)
        job.when_ended(partial(_end, own, on_end))  # until then the body reads that its time is up
        abandoned(deadline)
        return step
    if own is not None:
        own.open = False
    if reason is not None and (call.core.clock is not None or not _is_timeout(reason)):
        return call.raised(reason)
    error, job.error = job.error, None  # it has ended, perhaps this very moment
    return _returned(call, job.value) if error is None else call.raised(error)


def _end(own: Deadline | None, on_end: Callable[[], None]) -> None:
    if own is not None:
        own.open = False
    on_end()


def _is_timeout(reason: BaseException) -> bool:
    return isinstance(reason, CallTimeoutError)


def _wait_for(call: Call, job: Job, deadline: Deadline) -> BaseException | None:
    """Wait for the end of a job; return why its caller gives up, None where it has ended."""
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
    """Wait for the signal or until the policy's clock says so, whichever is first."""
    clock = call.core.clock
    if clock is None:
        signal.wait(max(0.0, until - call.core.now()))
        return
    alarm = clock.call_at(until, signal.set)
    try:
        signal.wait(-1)
    finally:
        alarm.cancel()


def wait(call: Call) -> Step:
    """Stand in a line."""
    if _in_event_loop():
        return call.refused(
            call.here,
            "a sync call may not wait in a thread whose event loop is running: it would stop every "
            "task there; make the call async, or call from a worker thread",
            None,
        )
    signal = Signal()
    waiter = Waiter(call.here, signal.set)
    limit = call.limit(call.level)
    step = line.park(call, waiter)
    while step == DO_PARK:
        until = min(waiter.deadline, call.core.now() + line.CHOP)
        try:
            _sleep(call, until if limit is None else min(until, limit.when), signal)
        except BaseException as error:
            return line.leave(call, waiter, error)
        step = line.unpark(call, waiter)
        if step == DO_PARK and limit is not None and limit.now() >= limit.when:
            return line.leave(call, waiter, limit.error())
    return step


def pause(call: Call) -> Step:
    """Sleep between two attempts."""
    limit = call.limit(call.level)
    until = call.core.now() + call.delay
    try:
        _sleep(call, until if limit is None else min(until, limit.when), Signal())
    except BaseException as error:
        return call.raised(error)
    if limit is not None and limit.when <= until:
        return call.not_run(limit.error())
    return call.again()


def _in_event_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        return True
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_task())


# -- the wrappers that users call ---------------------------------------------


def guard(plan: Plan, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls fn under the plan."""
    if plan.threaded and plan.one_limit:
        return _threaded(plan, fn)
    if not plan.fast:
        return _interpreted(plan, fn)
    return _plain(plan, fn) if plan.single is None else _timed(plan, fn)


def call(plan: Plan, fn: Callable[..., Any], args: Any, kwargs: Any, *, final: bool = False) -> Any:
    """Call fn once, by the interpreter; where final, no fallback can answer."""
    done = Call(plan, fn, args, kwargs)
    done.final = final
    run(done)
    return conclude(done)


def _ended(call: Call, value: Any) -> Any:
    """Return the value of a body that has ended well, but not in the plainest way."""
    _drive(call, partial(call.returned, value))
    return conclude(call)


def _slow(neutral: Callable[[object], bool], value: object) -> bool:
    return neutral(value) or returns_awaitable(value)


def _interpreted(plan: Plan, fn: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(*args: Any, **kwargs: Any) -> Any:
        return call(plan, fn, args, kwargs)

    return guarded


def _plain(plan: Plan, fn: Callable[..., Any]) -> Callable[..., Any]:
    core, enter, done_well, around = plan.core, plan.enter, plan.leave, current.get
    neutral = plan.neutral
    plain: type[Any] = type(None)  # the newest type of value that was seen to be no awaitable

    def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal plain
        clock = core.now  # a local: a call through a slot costs as much as the clock itself
        now = clock()
        if around() is not None and (outer := enclosing()) is not None and now >= outer.when:
            return call(plan, fn, args, kwargs)  # no time is left
        tickets = enter(now)
        if tickets is None or tickets is TURNED:
            return call(plan, fn, args, kwargs) if tickets is None else answer(plan, args, kwargs)
        try:
            value = fn(*args, **kwargs) if kwargs else fn(*args)
        except BaseException as error:
            done = None
            try:
                done = Call.entered(plan, fn, args, kwargs, tickets, now, None)
                _drive(done, partial(done.raised, error))
            except RecursionError:
                core.outbox.append(partial(give_back, plan, tickets, now, done))
                raise
            if done.error is error:
                done.error = None
                raise
            return conclude(done)
        if type(value) is not plain:
            if neutral is not None and neutral(value):
                return _ended(Call.entered(plan, fn, args, kwargs, tickets, now, None), value)
            if returns_awaitable(value):
                return GuardedAwaitable(
                    Call.entered(plan, fn, args, kwargs, tickets, now, None), value
                )
            plain = type(value)  # pyright: ignore[reportUnknownVariableType]
        done_well(tickets, now, clock())
        return value

    return guarded


def _timed(plan: Plan, fn: Callable[..., Any]) -> Callable[..., Any]:
    core, enter, done_well = plan.core, plan.enter, plan.leave
    around, put, neutral = current.get, current.set, plan.neutral
    assert plan.single is not None
    level, limit = plan.single
    plain: type[Any] = type(None)
    terms = Terms(0.0, level, core.name, core.now)

    def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal plain, terms
        outer, clock = around(), core.now
        if outer is not None and (outer.open or outer.outer is not None):  # a nested limit
            return call(plan, fn, args, kwargs)
        if terms.seconds != limit.seconds or terms.now is not clock:
            terms = Terms(limit.seconds or 0.0, level, core.name, clock)
        now = clock()
        tickets = enter(now)
        if tickets is None or tickets is TURNED:
            return call(plan, fn, args, kwargs) if tickets is None else answer(plan, args, kwargs)
        own = Deadline()
        own.when = when = now + terms.seconds
        own.terms = terms
        own.outer = None
        own.open = True
        try:
            put(own)
            value = fn(*args, **kwargs) if kwargs else fn(*args)
            own.open = False
        except BaseException as error:
            leave(own)
            done = None
            try:
                done = Call.entered(plan, fn, args, kwargs, tickets, now, own)
                _drive(done, partial(done.raised, error))
            except RecursionError:
                core.outbox.append(partial(give_back, plan, tickets, now, done))
                raise
            if done.error is error:
                done.error = None
                raise
            return conclude(done)
        no_news = False
        if type(value) is not plain:
            no_news = neutral is not None and neutral(value)
            if not no_news and returns_awaitable(value):
                return GuardedAwaitable(
                    Call.entered(plan, fn, args, kwargs, tickets, now, None), value
                )
            plain = plain if no_news else type(value)  # pyright: ignore[reportUnknownVariableType]
        ended = clock()
        if ended >= when or no_news:
            return _ended(Call.entered(plan, fn, args, kwargs, tickets, now, own), value)
        done_well(tickets, now, ended)
        return value

    return guarded


def _threaded(plan: Plan, fn: Callable[..., Any]) -> Callable[..., Any]:
    core, enter, done_well = plan.core, plan.enter, plan.leave
    assert plan.single is not None
    level, limit = plan.single
    plain: type[Any] = type(None)
    slow = returns_awaitable if plan.neutral is None else partial(_slow, plan.neutral)
    terms = Terms(0.0, level, core.name, core.now)

    def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal plain, terms
        outer, clock, reason, woken = current.get(), core.now, None, False
        nested = outer is not None and (outer.open or outer.outer is not None)
        if nested or core.clock is not None:  # a nested limit, a manual clock
            return call(plan, fn, args, kwargs)
        if terms.seconds != limit.seconds or terms.now is not clock:
            terms = Terms(limit.seconds or 0.0, level, core.name, clock)
        now, seconds = clock(), terms.seconds
        tickets = enter(now)
        if tickets is None or tickets is TURNED:
            return call(plan, fn, args, kwargs) if tickets is None else answer(plan, args, kwargs)
        own = Deadline.made(now + seconds, terms, None)
        context = copy_context()
        context.run(current.set, own)
        job = Job(context, partial(fn, *args, **kwargs))
        try:
            wake, wait = pool.hire(job), job.signal.take
            wake()
            woken = True
            wait(True, seconds)
        except BaseException as interrupt:
            reason = interrupt
        ended = clock()
        good = job.ended and job.error is None and reason is None and ended < own.when
        if good and (type(job.value) is plain or not slow(job.value)):
            plain = type(job.value)  # pyright: ignore[reportUnknownVariableType]
            own.open = False
            done_well(tickets, now, ended)
            return job.value
        done = Call.entered(plan, fn, args, kwargs, tickets, now, own)
        try:
            if isinstance(reason, RuntimeError) and not woken:
                _drive(done, partial(_no_thread, done, reason))
            else:
                _drive(done, partial(_job_done, done, job, own, reason))
        finally:
            del reason  # it holds this frame
        return conclude(done)

    return guarded
