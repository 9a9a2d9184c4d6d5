"""Loops whose body is an attempt: ``for attempt in retry(...): with attempt: ...``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from . import attempts, interpreter, settlement
from .call import DO_PARK, DO_PAUSE, DO_RUN, DONE, Step, value_or_raise
from .detached_call import DetachedCall
from .pipeline import Pipeline
from .sync import driver

if TYPE_CHECKING:
    from typing import Self


class Attempt:
    """One attempt of a loop, for one ``with`` or ``async with`` block.

    An exception that leaves the block ends the attempt. If there is another one, the exception is
    dropped and the loop goes on after a pause; else it propagates.

    Attributes:
        number: which attempt of the loop it is, from 1 on.

    Example:
        >>> from resilient import retry
        >>> numbers = []
        >>> for attempt in retry(on=ConnectionError, wait_initial=0.001):
        ...     with attempt:
        ...         numbers.append(attempt.number)
        ...         if attempt.number < 3:
        ...             raise ConnectionError("reset")
        >>> numbers
        [1, 2, 3]
    """

    __slots__ = ("_loop", "_mark", "_turn", "number")

    def __init__(self, loop: _Loop, turn: _Turn, number: int) -> None:
        self.number: int = number
        self._loop = loop
        self._turn = turn
        self._mark: attempts.AttemptMark | None = None

    def __enter__(self) -> Self:
        if self._turn.state != "new":
            raise RuntimeError("this attempt was entered before: each turn of the loop has its own")
        self._turn.state = "entered"
        self._mark = attempts.begin(self._loop.call.pipeline)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        assert self._mark is not None
        attempts.end(self._mark)
        self._turn.state = "ended"
        return self._loop.ended(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        return self.__exit__(kind, error, trace)


class _Turn:
    """Where the block of an attempt is; its loop knows this, and not the attempt: no cycle."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: str = "new"


class _Loop:
    """One run of a loop: a call whose body is the block of each attempt."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.call: DetachedCall = DetachedCall(pipeline, _nothing, (), {})
        self._step: Step | None = None  # what is to be done before the next attempt
        self._turn: _Turn | None = None

    def ended(self, error: BaseException | None) -> bool:
        """Report the end of an attempt; return whether there is another one."""
        call = self.call
        try:
            if error is None:
                self._step = interpreter.returned(call, None)
            else:
                self._step = interpreter.raised(call, error)
        except BaseException:
            settlement.abort(call)
            raise
        if self._step == DO_PAUSE:
            return True
        call.error = None  # it propagates: a reference here would be a cycle
        return False

    def _begin(self) -> Step:
        """Return the first step of the next turn; DONE at the end of the loop."""
        if self._turn is None:
            return interpreter.start(self.call)
        if self._turn.state != "ended":
            raise RuntimeError(
                "the body of this loop must stand in a block of its attempt: "
                "for attempt in retry(...): with attempt: ..."
            )
        assert self._step is not None
        return self._step

    def _next(self, step: Step) -> Attempt | None:
        """Return the next attempt; None at the end of the loop; raise if it may not begin."""
        if step == DO_RUN:
            self._turn = _Turn()
            return Attempt(self, self._turn, self.call.attempts)
        value_or_raise(self.call)
        return None


class SyncLoop(_Loop, Iterator[Attempt]):
    """One run of a ``for`` loop."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Attempt:
        call = self.call
        step = self._begin()
        try:
            while step not in (DO_RUN, DONE):
                step = driver.wait(call) if step == DO_PARK else driver.pause(call)
        except BaseException:
            self._step = DONE
            settlement.abort(call)
            raise
        attempt = self._next(step)
        if attempt is None:
            raise StopIteration
        return attempt


class AsyncLoop(_Loop, AsyncIterator[Attempt]):
    """One run of an ``async for`` loop."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Attempt:
        from .aio import driver as aio_driver

        call = self.call
        step = self._begin()
        try:
            while step not in (DO_RUN, DONE):
                step = await (aio_driver.wait(call) if step == DO_PARK else aio_driver.pause(call))
        except BaseException:
            self._step = DONE
            settlement.abort(call)
            raise
        attempt = self._next(step)
        if attempt is None:
            raise StopAsyncIteration
        return attempt


def _nothing() -> None:
    return None
