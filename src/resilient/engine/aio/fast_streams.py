"""Guard async generators on a compiled path."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any

from ...deadline import leave as close
from ..compiled import path_of
from ..detached_call import DetachedCall
from ..fast_flow import FastFlow
from ..frames import has_call
from ..keeping import Fn
from ..pipeline import Pipeline
from . import streams
from .functions import AsyncEnds
from .streams import AsyncFlow, first_step
from .timers import TimeoutEntry
from .twins import lifted
from .waker import task_here


def guard(pipeline: Pipeline, fn: Fn) -> Callable[..., AsyncGenerator[Any, Any]]:
    """Return an async generator function that guards fn's generators."""
    return streams.driven(beginning(pipeline, fn))


def beginning(pipeline: Pipeline, fn: Fn) -> streams.Begin:
    """Return what begins a stream of fn."""
    path = None
    if pipeline.fast_detached:
        ends = AsyncEnds(pipeline, fn)
        path = path_of(pipeline, fn, ends, None, None, TimeoutEntry, detached=True)
    if path is None:
        return streams.beginning(pipeline, fn)
    enter, leave = path.enter, path.leave

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> streams.Steps:
        entered = enter()
        if entered is None:
            return AsyncFlow(DetachedCall(pipeline, fn, args, kwargs))
        return AsyncFastFlow(leave, entered, (fn, args, kwargs))

    return begin


class AsyncFastFlow(FastFlow):
    """One guarded async generator as long as each step is usual."""

    __slots__ = ("_loop",)
    sent: Any

    async def step(self) -> bool:
        """Advance to the next item; return False at the end."""
        source, entered = self._source, self._entered
        if self._rest is not None or not (source is None or self._is_usual()):
            again: bool = await self._slow().step()
            return again
        own, sent, self.sent = entered.deadline, self.sent, None
        try:
            if source is None:
                fn, args, kwargs = self._called
                self._loop = None if own is None else own.task.get_loop()
                self._source = source = fn(*args, **kwargs)
                self._item = await first_step(source, sent)
            else:
                self._item = await source.asend(sent)
        except BaseException as error:
            if type(error) is StopAsyncIteration and self._is_booked(None):
                return False
            rest = self._go_over()
            if own is not None:
                error = own.reason(error)
            return await rest.step(partial(rest.ended, error, entered.step))  # type: ignore[no-any-return]
        if own is not None:
            if own.fired:
                lifted(own)
            own.task = None
        entered.end_step(True)
        self._given = True
        return True

    async def close(self, reason: GeneratorExit) -> None:
        """End the stream early."""
        await self._slow().close(reason)

    def _is_usual(self) -> bool:
        """Begin another step, and return True; False where the flow that goes on has to."""
        own = self._entered.deadline
        if self.thrown is not None:
            return False
        if own is not None:
            loop, task = task_here()
            if task is None or loop is not self._loop:
                return False  # the timer is the first loop's
            own.task, own.cancelling = task, task.cancelling()
        usual: bool = self._entered.begin_step()
        return usual

    def _new_rest(self, call: DetachedCall, source: Any) -> AsyncFlow:
        own = self._entered.deadline
        if own is not None:
            self._entered.lift()
            close(own)
        rest = AsyncFlow(call, source)
        rest.fresh = False
        return rest


has_call(AsyncFastFlow.step, entered="entered")
