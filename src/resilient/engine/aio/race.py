"""Race copies of an attempt in tasks of asyncio or trio."""

from __future__ import annotations

import sys
from asyncio import CancelledError
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, Final

from .. import interpreter, waiting
from ..call import DO_RACE, Call, Step
from ..racing import Copy, Race, unwanted
from .waker import AsyncWaker, current_task

# Copies that run on: an event loop refers to its tasks weakly.
_running_on: Final[set[Copy]] = set()


async def race(call: Call, drive: Callable[..., Any], close: Callable[[Any], Any]) -> Step:
    """Run the copies of an attempt until one has a good answer, or all have failed."""
    racing = Race(call)
    first = racing.copy()
    if racing.is_run_alone:
        first.step = await drive(first, interpreter.admit, first.floor + 1)
        racing.finish(first)
        return racing.end()
    tasks = _Tasks(racing, drive, close)
    try:
        tasks.start(first)
        await tasks.until_over()
        racing.tell(racing.taken)
        await tasks.leave(racing.taken)
    except BaseException as error:
        racing.tell(None)
        await tasks.leave(None)
        return interpreter.raised(call, error)
    return racing.end()


class _Tasks:
    """Starts copies in tasks of their own, cancels them, and waits for them."""

    def __init__(
        self, racing: Race, drive: Callable[..., Any], close: Callable[[Any], Any]
    ) -> None:
        self._racing, self._drive, self._close = racing, drive, close
        self._bell = AsyncWaker()
        self._loop = current_task()[0]

    def start(self, copy: Copy) -> None:
        """Begin a copy."""
        if self._loop is not None:
            task = self._loop.create_task(self._run(copy))
            copy.handle = task.cancel
            task.add_done_callback(partial(self._done, copy))
            return
        trio = sys.modules["trio"]
        scope = trio.CancelScope()
        copy.handle = scope.cancel

        async def run() -> None:
            with scope:
                await self._run(copy)
            self._done(copy)

        trio.lowlevel.spawn_system_task(run, name="resilient copy", context=copy_context())

    async def until_over(self) -> None:
        """Wait until the race is over; begin the second copy when its time has come."""
        racing, core = self._racing, self._racing.original.core
        while not racing.is_over:
            await self._wait(min(racing.due, core.now() + waiting.CHOP))
            second = racing.second()
            if second is not None:
                self.start(second)

    async def leave(self, taken: Copy | None) -> None:
        """Cancel the other copies; wait for them, but not for ever."""
        for copy in self._racing.losers(taken):
            copy.handle()
        left = self._racing.running()
        if left and self._loop is None:
            with sys.modules["trio"].CancelScope(shield=True):
                await self._join(left)
        elif left:
            await self._join(left)
        for copy in self._racing.copies:
            if not copy.ended:
                self._ran_on(copy)
            elif copy.lost:
                await self._drop(copy)

    async def _run(self, copy: Copy) -> None:
        try:
            copy.step = await self._drive(copy, interpreter.admit, copy.floor + 1)
        except BaseException as fault:
            copy.fault = fault
        for other in self._racing.finish(copy):
            other.handle()
        self._bell.ring()
        if copy.on_end is not None:
            copy.on_end()
            await self._drop(copy)

    def _done(self, copy: Copy, task: Any = None) -> None:
        if copy.step == DO_RACE and copy.fault is None:  # cancelled before it began
            copy.fault = CancelledError()
        if not copy.ended:
            copy.ended = True
            self._bell.ring()

    async def _join(self, left: list[Copy]) -> None:
        now = self._racing.original.core.now
        until = now() + self._racing.guard.join_within
        while not all(copy.ended for copy in left) and now() < until:
            await self._wait(min(until, now() + waiting.CHOP))

    async def _wait(self, until: float) -> None:
        await self._bell.wait(self._racing.original, until)

    def _ran_on(self, copy: Copy) -> None:
        """Let a copy run on that does not end when it is cancelled; count it until it does."""
        guard, core = self._racing.guard, copy.core
        _running_on.add(copy)
        core.locked(guard.ran_on, core.now(), 1)

        def ended() -> None:
            _running_on.discard(copy)
            core.locked_or_later(guard.ran_on, core.now(), -1)

        copy.on_end = ended

    async def _drop(self, copy: Copy) -> None:
        answer = unwanted(copy)
        if answer is not None:
            await self._close(answer)
