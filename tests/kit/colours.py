"""One test body for every colour: sync, sync on worker threads, asyncio and trio.

Test bodies and protected functions are written once, as ``async def``. In a sync colour they are
driven by a single ``send``: nothing in them may suspend, which `Colour.call` takes care of.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeVar

import anyio
import trio

import resilient
from resilient import Policy, Result
from resilient.testing import ManualClock

T = TypeVar("T")
AsyncFn = Callable[..., Coroutine[Any, Any, T]]


class Gone(BaseException):
    """Stands for what is no Exception: the caller went away."""


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    coroutine.close()
    raise AssertionError("a sync test body suspended")


class Colour:
    """One way to run a protected call."""

    def __init__(
        self, name: str, is_async: bool, sync: Literal["cooperative", "thread"] = "cooperative"
    ) -> None:
        self.name = name
        self.is_async = is_async
        self.sync: Literal["cooperative", "thread"] = sync

    @property
    def threaded(self) -> bool:
        return self.sync == "thread"

    def run(self, body: AsyncFn[T], *args: Any) -> T:
        """Run a test's body to its end."""
        if not self.is_async:
            return drive(body(*args))
        if self.name == "trio":
            value: T = trio.run(body, *args)
            return value
        if self.name == "asyncio":
            return asyncio.run(body(*args))
        return asyncio.run(_eagerly(body, *args))

    def fn(self, body: AsyncFn[Any]) -> Callable[..., Any]:
        """Return body as a function of this colour."""
        if self.is_async:
            return body

        @functools.wraps(body)
        def plain(*args: Any, **kwargs: Any) -> Any:
            return drive(body(*args, **kwargs))

        return plain

    async def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a decorated function."""
        return await fn(*args, **kwargs) if self.is_async else fn(*args, **kwargs)

    async def through(
        self, policy: Policy, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """Call a function by `Policy.call` or `Policy.acall`."""
        if self.is_async:
            return await policy.acall(fn, *args, **kwargs)
        return policy.call(fn, *args, **kwargs)

    async def attempt(
        self, policy: Policy, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Result[Any]:
        """Call a function by `Policy.try_call` or `Policy.atry_call`."""
        if self.is_async:
            return await policy.atry_call(fn, *args, **kwargs)
        return policy.try_call(fn, *args, **kwargs)

    async def in_block(
        self, policy: Policy, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """Call a function inside a guarded block."""
        if self.is_async:
            async with policy.block():
                return await fn(*args, **kwargs)
        with policy.block():
            return fn(*args, **kwargs)

    async def as_stream(
        self, policy: Policy, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """Take the one item of a guarded stream that calls a function."""
        if self.is_async:

            async def one() -> Any:
                yield await fn(*args, **kwargs)

            (item,) = [item async for item in policy.call(one)]
            return item

        def single() -> Any:
            yield fn(*args, **kwargs)

        (item,) = policy.call(single)
        return item

    async def error_of(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> BaseException:
        """Return what calling a decorated function raises."""
        try:
            await self.call(fn, *args, **kwargs)
        except BaseException as error:
            return error
        raise AssertionError("nothing was raised")

    async def checkpoint(self, hold: threading.Event | None = None) -> None:
        """Be told, in a body, that the time is up, as this colour tells it."""
        if self.is_async:
            over = resilient.remaining() == 0
            await anyio.sleep(5 if over else 0)
            assert not over, "the time is up, and the body was not cancelled"
        elif not self.threaded:
            resilient.check()
        elif resilient.remaining() == 0:
            assert hold is not None
            hold.wait(10)


async def _eagerly(body: AsyncFn[T], *args: Any) -> T:
    factory = getattr(asyncio, "eager_task_factory")  # noqa: B009 - new in Python 3.12
    asyncio.get_running_loop().set_task_factory(factory)
    return await asyncio.create_task(body(*args))


SYNC = Colour("sync", False)
THREAD = Colour("thread", False, "thread")
ASYNCIO = Colour("asyncio", True)
TRIO = Colour("trio", True)
EAGER = [Colour("asyncio-eager", True)] if sys.version_info >= (3, 12) else []
ASYNC_COLOURS = [ASYNCIO, TRIO, *EAGER]
COLOURS = [SYNC, *ASYNC_COLOURS]
TIMED_COLOURS = [SYNC, THREAD, *ASYNC_COLOURS]


async def overrun(
    colour: Colour, clock: ManualClock, seconds: float, hold: threading.Event | None = None
) -> None:
    """Let time pass in a body, and let it be told so."""
    clock.advance(seconds)
    await colour.checkpoint(hold)
