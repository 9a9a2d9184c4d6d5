"""Guard async generators on a compiled path; `streams` takes over where a step is not usual."""

from __future__ import annotations

from asyncio import _get_running_loop
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any

from ...deadline import current, leave
from ..compiled import path_of, taken
from ..detached_call import DetachedCall
from ..frames import has_call
from ..keeping import Fn
from ..pipeline import Pipeline
from . import streams
from .functions import AsyncEnds
from .streams import AsyncFlow, first_step
from .timers import TimeoutEntry
from .twins import lifted
from .waker import task_in


def guard(pipeline: Pipeline, fn: Fn) -> Callable[..., AsyncGenerator[Any, Any]]:
    """Return an async generator function that guards fn's generators."""
    path = None
    if pipeline.fast_detached:
        path = path_of(pipeline, fn, AsyncEnds(pipeline, fn), None, None, TimeoutEntry)
    if path is None:
        return streams.guard(pipeline, fn)
    enter = path.enter

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncFlow | FastFlow:
        entered = enter()
        if entered is None:
            return AsyncFlow(DetachedCall(pipeline, fn, args, kwargs))
        return FastFlow(path, entered, (fn, args, kwargs))

    return streams.driven(begin)


class FastFlow:
    """One guarded async generator as long as each step is usual; then an `AsyncFlow` goes on."""

    __slots__ = (
        "_began", "_called", "_entered", "_item", "_loop", "_path", "_rest", "_source", "_spent",
        "sent", "thrown",
    )  # fmt: skip

    def __init__(
        self, path: Any, entered: Any, called: tuple[Fn, tuple[Any, ...], dict[str, Any]]
    ) -> None:
        self._path = path
        self._entered = entered
        self._called = called
        self._began: float = entered.began
        self._spent = 0.0
        self._source: Any = None
        self._rest: AsyncFlow | None = None
        self.sent: Any = None
        self.thrown: BaseException | None = None

    async def step(self) -> bool:
        """Advance to the next item; return False at the end."""
        entered, source = self._entered, self._source
        if source is not None and not self._goes_on():
            return await self._slow().step()
        try:
            if source is None:
                fn, args, kwargs = self._called
                self._loop = _get_running_loop()
                self._source = source = fn(*args, **kwargs)
                self._item = await first_step(source, None)
            else:
                self._item = await source.asend(self.sent)
        except BaseException as error:
            idle = self._began - entered.began - self._spent
            if type(error) is StopAsyncIteration and self._path.leave(entered, None, idle):
                return False
            rest, own = self._go_over(), entered.deadline
            return await rest.step(partial(_ended, rest, own, error, self._began))
        self._spent += entered.pipeline.core.now() - self._began
        if entered.deadline is not None:
            lifted(entered.deadline)
        return True

    def taken(self) -> Any:
        """Return the item, and drop the reference to it."""
        if self._rest is not None:
            return self._rest.taken()
        item, self._item = self._item, None
        return item

    def end(self) -> None:
        """Raise the error that the stream ended with, if there is one."""
        if self._rest is not None:
            self._rest.end()

    async def close(self, reason: GeneratorExit) -> None:
        """End the stream early."""
        await self._slow().close(reason)

    def _goes_on(self) -> bool:
        """Set the limit of the next step, and return True; False where `streams` has to do it."""
        outer = current.get()
        if self._rest is not None or self.thrown is not None:
            return False
        if outer is not None and (outer.open or outer.outer is not None):
            return False
        own = self._entered.deadline
        self._began = now = self._entered.pipeline.core.now()
        if own is None:
            return True
        task = task_in(self._loop) if self._loop is _get_running_loop() else None
        if task is None or now >= own.when:
            return False
        own.open, own.task, own.cancelling = True, task, task.cancelling()
        current.set(own)
        return True

    def _slow(self) -> AsyncFlow:
        """Return what goes on in its place, told of what the consumer gave."""
        rest = self._go_over() if self._rest is None else self._rest
        rest.sent, self.sent = self.sent, None
        rest.thrown, self.thrown = self.thrown, None
        return rest

    def _go_over(self) -> AsyncFlow:
        """Take the pass over as a stream that the interpreter judges."""
        entered = self._entered
        if entered.deadline is not None:
            entered.lift()
            leave(entered.deadline)
        self._rest = rest = AsyncFlow(taken(DetachedCall, entered, *self._called), self._source)
        rest.fresh = False
        rest.call.active_seconds, rest.call.final = self._spent, self._spent > 0.0
        return rest


has_call(FastFlow.step, entered="entered")


def _ended(rest: AsyncFlow, own: TimeoutEntry | None, error: BaseException, began: float) -> int:
    """Report what a step raised; return the next step."""
    return rest.ended(error if own is None else own.reason(error), began)
