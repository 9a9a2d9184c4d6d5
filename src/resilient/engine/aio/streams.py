"""Guard async generators, on asyncio and trio; see `engine.sync.streams`."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from functools import partial
from typing import Any, Protocol, cast

from ...deadline import Deadline, current, leave
from .. import interpreter, settlement
from ..call import DO_PARK, DO_RECOVER, DO_RUN, DONE
from ..detached_call import DetachedCall
from ..pipeline import Pipeline
from ..sync.streams import GIVEN, Flow, over_at
from ..time_limits import binding
from .deadline_scope import DeadlineScope
from .driver import pause, wait, within
from .timers import Timer


class AsyncFlow(Flow):
    """One guarded async generator."""

    __slots__ = ("_timer", "fresh")
    source: Any
    sent: Any
    thrown: BaseException | None

    def __init__(self, call: DetachedCall, source: Any = None) -> None:
        super().__init__(call, source)
        self._timer = Timer()
        self.fresh: bool = source is not None  # handed out, and not yet run

    async def step(self, first: Callable[[], int] | None = None) -> bool:
        """Advance to the next item, beginning with `first`; return False at the end."""
        call = self.call
        try:
            if first is not None:
                todo = first()
                first = None  # it may hold the error that this raises
            else:
                todo = interpreter.start(call) if self.source is None else await self._again()
            while todo not in (DONE, GIVEN):
                if todo == DO_RUN:
                    todo = await self._begin(call.fn, call.args, call.kwargs)
                elif todo == DO_RECOVER:
                    todo = await self._begin(*call.recovery(), {})
                elif todo == DO_PARK:
                    todo = await wait(call)
                else:
                    todo = await pause(call)
        except BaseException:
            self._timer.stop()
            settlement.abort(call)
            raise
        if todo == DONE:
            self._timer.stop()
        return todo == GIVEN

    def ended(self, error: BaseException, began: float) -> int:
        """Report what a step of a generator raised; return the next step."""
        if type(error) is StopAsyncIteration:
            return self.returned(None, began)
        return self.raised(error, began)

    async def close(self, reason: GeneratorExit) -> None:
        """End the stream early."""
        over = over_at(binding(self.call, self.level))
        own = self.call.deadline if over is None else None
        try:
            if own is not None:  # the code inside reads the deadline; nothing cuts its clean-up
                current.set(own)
            await self.source.aclose()
        except BaseException as error:
            self.gone(error)
            raise
        finally:
            if own is not None:
                leave(own)
            self._timer.stop()
        self.gone(reason)

    async def _begin(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> int:
        call = self.call
        bounds = DeadlineScope(call, self.level)
        over = bounds.over()
        if over is not None:
            return interpreter.not_run(call, over.error())
        try:
            if call.recovering_from is None:
                self.source = fn(*args, **kwargs)
            else:
                answer = await within(call, bounds, fn, args, kwargs)
                self.source = answer if hasattr(answer, "athrow") else self._each(answer)
        except BaseException as error:
            return self.raised(error)
        return await self._go_on(partial(first_step, self.source))

    def _each(self, answer: object) -> AsyncGenerator[Any]:
        if hasattr(type(answer), "__aiter__"):
            return _each_async(cast("AsyncIterable[Any]", answer))
        if not hasattr(type(answer), "__iter__"):
            raise self.not_iterable(answer)
        return _each_sync(cast("Iterable[Any]", answer))

    async def _again(self) -> int:
        self.age(paused=False)
        fresh, self.fresh = self.fresh, False
        return await self._go_on(partial(first_step, self.source) if fresh else self.source.asend)

    async def _go_on(self, send: Callable[[Any], Any]) -> int:
        call, sent = self.call, self.sent
        bounds, self.sent = DeadlineScope(call, self.level), None
        over = bounds.over()
        if over is not None:
            return await self._cut(over)
        began = call.core.now()
        try:
            if self.thrown is not None:
                item = await self._within(bounds, self._throw)
            else:
                item = await self._within(bounds, send, sent)
        except BaseException as error:
            return self.ended(error, began)
        self.thrown = None
        return self.given(item, began)

    async def _throw(self) -> Any:
        return await self.source.athrow(self.thrown)  # no local variable: it would make a cycle

    async def _within(self, bounds: DeadlineScope, fn: Callable[..., Any], *args: Any) -> Any:
        return await within(self.call, bounds, fn, args, {}, self._timer)

    async def _cut(self, over: Deadline) -> int:
        """Close a stream whose time is up; wait for its clean-up."""
        timeout = over.error()
        try:
            await self.source.aclose()
        except Exception as error:
            timeout.__cause__ = error
        except BaseExceptionGroup as group:  # a task group's, round the exit that closed it
            if group.split(GeneratorExit)[1] is not None:
                return self.raised(group)
        except BaseException as error:
            return self.raised(error)
        return self.raised(timeout)


class Steps(Protocol):
    """A guarded stream, as its consumer drives it."""

    sent: Any
    thrown: BaseException | None

    async def step(self) -> bool:
        """Advance to the next item; return False at the end."""
        ...

    def taken(self) -> Any:
        """Return the item, and drop the reference to it."""

    async def close(self, reason: GeneratorExit) -> None:
        """End the stream early."""

    def end(self) -> Any:
        """Raise the error that the stream ended with, if there is one."""


Begin = Callable[[tuple[Any, ...], dict[str, Any]], Steps]


def guard(
    pipeline: Pipeline, fn: Callable[..., Any], *, final: bool = False
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """Return an async generator function that guards fn's generators; see `streams.guard`."""
    return driven(beginning(pipeline, fn, final=final))


def beginning(pipeline: Pipeline, fn: Callable[..., Any], *, final: bool = False) -> Begin:
    """Return what begins a stream of fn."""

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncFlow:
        flow = AsyncFlow(DetachedCall(pipeline, fn, args, kwargs))
        flow.call.final = final
        return flow

    return begin


def driven(
    begin: Begin,
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """Return an async generator function that drives what `begin` returns for its arguments."""

    async def guarded(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        flow = begin(args, kwargs)
        while await flow.step():
            try:
                flow.sent = yield flow.taken()
            except GeneratorExit as reason:
                await flow.close(reason)
                raise
            except BaseException as error:
                flow.thrown = error
        flow.end()

    return guarded


def going_on(call: DetachedCall, source: Any) -> AsyncGenerator[Any, Any]:
    """Return an async generator that continues one which a guarded call has returned."""
    flow = AsyncFlow(call, source)
    flow.age(paused=True)
    return driven(lambda _args, _kwargs: flow)()


def first_step(source: Any, sent: Any) -> Any:
    """Return the first step of a generator that the event loop does not register.

    The guarded stream closes it, and the loop closes the guarded stream. If the loop registered
    both, each would find the other one running. The generator's own finalizer does nothing: when a
    cycle of both is collected, the loop revives the guarded stream, which closes the generator.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, _leave_alone)
    try:
        return source.asend(sent)
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _leave_alone(_: AsyncGenerator[Any, Any]) -> None:
    return None


async def _each_async(items: AsyncIterable[Any]) -> AsyncGenerator[Any]:
    iterator = aiter(items)
    try:
        async for item in iterator:
            yield item
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


async def _each_sync(items: Iterable[Any]) -> AsyncGenerator[Any]:
    for item in items:
        yield item
