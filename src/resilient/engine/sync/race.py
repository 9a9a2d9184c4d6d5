"""Race copies of an attempt on worker threads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

from ...deadline import abandoned
from .. import interpreter, settlement, waiting
from ..call import Call, Step
from ..raced_values import unwanted
from ..racing import Copy, Race
from .abandoned import left_behind
from .workers import Job, Signal, pool

Sleep = Callable[[Call, float, Signal], None]


def race(call: Call, drive: Callable[..., Any], sleep: Sleep, *, alone: bool) -> Step:
    """Run the copies of an attempt until one has a good answer, or all have failed.

    Args:
        call: the call.
        drive: runs a copy.
        sleep: waits for a signal until a time.
        alone: run one copy, in this thread.
    """
    signal = Signal()
    racing = Race(call, signal.set)
    first = racing.copy()
    try:
        if alone or racing.is_run_alone or not _start(racing, first, drive, signal):
            first.step = drive(first, interpreter.admit, first.floor + 1)
            racing.finish(first)
        while not racing.is_over:
            sleep(call, min(racing.due, call.core.now() + waiting.CHOP), signal)
            second = racing.second()
            if second is not None and not _start(racing, second, drive, signal):
                racing.unstarted(second, "the system gives no more threads")
    except BaseException as error:  # such as KeyboardInterrupt
        racing.tell(None)
        _leave(racing, None)
        racing.release()
        return interpreter.raised(call, error)
    taken = racing.taken
    racing.tell(taken)
    _leave(racing, taken)
    del taken
    try:
        return racing.end()
    finally:
        racing.release()


def _start(racing: Race, copy: Copy, drive: Callable[..., Any], signal: Signal) -> bool:
    """Begin a copy on a worker; return False if the system has no thread for it."""
    copy.handle = job = Job(copy_context(), partial(_run, racing, copy, drive, signal))
    try:
        pool.submit(job)
    except RuntimeError:
        return False
    return True


def _run(racing: Race, copy: Copy, drive: Callable[..., Any], signal: Signal) -> None:
    try:
        copy.step = drive(copy, interpreter.admit, copy.floor + 1)
    except BaseException as fault:
        copy.fault = fault
    racing.finish(copy)
    signal.set()
    if racing.since != copy.core.counting_since:  # its body forked: who waits is not here
        settlement.abort(copy.original)
    if copy.lost:
        _drop(copy)
    if racing.is_released:
        racing.release()


def _leave(racing: Race, taken: Copy | None) -> None:
    """Give up on the other copies: a thread can't be stopped, so they keep what they hold."""
    racing.losers(taken)
    for copy in racing.running():
        job = copy.handle
        if isinstance(job, Job) and job.abandon():
            job.when_ended(_left(racing, copy))
            if copy.deadline is not None:
                abandoned(copy.deadline)
    for copy in racing.copies:
        if copy.lost and copy.ended:
            _drop(copy)


def _left(racing: Race, copy: Copy) -> Callable[[], None]:
    """Count a copy that runs on; return what to call when it has ended."""
    core, guard = copy.core, racing.guard
    ended = left_behind(copy)
    core.locked(guard.ran_on, core.now(), 1)

    def on_end() -> None:
        ended()
        if racing.since == core.counting_since:
            core.locked_or_later(guard.ran_on, core.now(), -1)

    return on_end


def _drop(copy: Copy) -> None:
    answer = unwanted(copy)
    if answer is not None:
        with contextlib.suppress(Exception):
            answer.close()
