"""Race copies of an attempt in tasks of asyncio or trio."""

from __future__ import annotations

import sys
from asyncio import CancelledError, _get_running_loop
from collections.abc import Callable, Coroutine
from contextlib import nullcontext, suppress
from contextvars import copy_context
from functools import partial
from typing import Any

from .. import interpreter, waiting
from ..call import DO_RACE, Call, Step
from ..raced_values import unwanted
from ..racing import Copy, Race
from .waker import AsyncWaker, current_task


async def race(call: Call, drive: Callable[..., Any], close: Callable[[Any], Any]) -> Step:
    """Run the copies of an attempt until one has a good answer, or all have failed."""
    racing = Race(call, _nobody)
    first = racing.copy()
    if racing.is_run_alone:
        first.step = await drive(first, interpreter.admit, first.floor + 1)
        racing.finish(first)
        racing.tell(racing.taken)
        return _ended(racing, None)
    tasks = _Tasks(racing, drive, close)
    try:
        tasks.start(first)
        await tasks.until_over()
    except BaseException as error:
        racing.tell(None)
        tasks.cancel(None)
        if isinstance(error, GeneratorExit):  # it may not await any more
            tasks.leave()
            raise
        await tasks.join()
        tasks.leave()
        return _ended(racing, error)
    racing.tell(racing.taken)
    tasks.cancel(racing.taken)
    gone = await tasks.join()
    tasks.leave()
    return _ended(racing, gone)


def _nobody() -> None:
    """Wake nobody: there is one copy, which its caller runs."""


def _ended(racing: Race, gone: BaseException | None) -> Step:
    try:
        return racing.end() if gone is None else interpreter.raised(racing.original, gone)
    finally:
        racing.release()


class _Tasks:
    """Starts copies in tasks of their own, cancels them, and waits for them."""

    def __init__(
        self, racing: Race, drive: Callable[..., Any], close: Callable[[Any], Any]
    ) -> None:
        self._racing, self._drive, self._close = racing, drive, close
        self._bell = AsyncWaker()
        racing.wake = self._bell.ring
        self._loop = current_task()[0]

    def start(self, copy: Copy) -> None:
        """Begin a copy."""
        if self._loop is not None:
            task = self._loop.create_task(self._run(copy))
            copy.handle = task.cancel
            task.add_done_callback(partial(self._done, copy))
            return
        scope = sys.modules["trio"].CancelScope()
        copy.handle = scope.cancel

        async def run() -> None:
            with scope:
                await self._run(copy)
            self._done(copy)

        self._begin(run)

    async def until_over(self) -> None:
        """Wait until the race is over; begin the second copy when its time has come."""
        racing, core = self._racing, self._racing.original.core
        while not racing.is_over:
            await self._wait(min(racing.due, core.now() + waiting.CHOP))
            second = racing.second()
            if second is not None:
                self.start(second)

    def cancel(self, but: Copy | None) -> None:
        """Cancel the other copies."""
        _stop(self._racing.losers(but))

    async def join(self) -> BaseException | None:
        """Wait for the copies that were cancelled, but not for ever.

        Returns:
            The cancellation of the caller that came meanwhile; None without one.
        """
        now, gone = self._racing.original.core.now, None
        until = now() + self._racing.guard.join_within
        with self._shield():
            while self._racing.running() and now() < until:
                try:
                    await self._wait(min(until, now() + waiting.CHOP))
                except CancelledError as error:
                    gone = error
        return gone

    def _shield(self) -> Any:
        """Return a scope in which the scopes of trio and anyio cancel nothing."""
        if self._loop is not None and _get_running_loop() is None:
            return nullcontext()  # in a forked child asyncio knows of no loop
        return sys.modules["anyio"].CancelScope(shield=True)  # the waker has loaded it

    def leave(self) -> None:
        """Leave copies that do not end when they are cancelled; close what nobody gets."""
        for copy in self._racing.copies:
            if not copy.ended:
                self._ran_on(copy)
            elif copy.lost:
                self._drop(copy)

    async def _run(self, copy: Copy) -> None:
        try:
            copy.step = await self._drive(copy, interpreter.admit, copy.floor + 1)
        except BaseException as fault:
            copy.fault = fault
        _stop(self._racing.finish(copy))
        self._bell.ring()
        if copy.on_end is not None:
            copy.on_end()
            self._drop(copy)
        if self._racing.is_released:
            self._racing.release()

    def _done(self, copy: Copy, task: Any = None) -> None:
        if copy.step == DO_RACE and copy.fault is None:  # cancelled before it began
            copy.fault = CancelledError()
        if not copy.ended:
            self._racing.finish(copy)
            self._bell.ring()

    async def _wait(self, until: float) -> None:
        await self._bell.wait(self._racing.original.core, until)

    def _ran_on(self, copy: Copy) -> None:
        """Let a copy run on; count it until it ends."""
        racing, core = self._racing, copy.core
        core.locked_or_later(racing.guard.ran_on, core.now(), 1)

        def ended() -> None:
            if racing.since == core.counting_since:  # else it is a parent process's
                core.locked_or_later(racing.guard.ran_on, core.now(), -1)

        copy.on_end = ended

    def _drop(self, copy: Copy) -> None:
        """Close an answer that nobody gets, in a task of its own: that may take its time."""
        answer = unwanted(copy)
        if answer is None:
            return
        if self._loop is None:
            self._begin(partial(self._close, answer))
        elif not self._loop.is_closed():
            closing = self._loop.create_task(self._close(answer))
            closing.add_done_callback(_seen)

    def _begin(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        lowlevel = sys.modules["trio"].lowlevel
        lowlevel.spawn_system_task(run, name="resilient copy", context=copy_context())


def _stop(copies: list[Copy]) -> None:
    for copy in copies:
        if copy.handle is not None:  # else it was interrupted before it was started
            with suppress(RuntimeError):  # its loop is closed
                copy.handle()


def _seen(task: Any) -> None:
    """Take the error of a task that nobody waits for."""
    if not task.cancelled():
        task.exception()
