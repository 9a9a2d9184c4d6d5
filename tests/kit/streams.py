"""One test body for generators and for async generators on asyncio and trio.

Test bodies are ``async def`` and written once; `Kind` takes the steps of a stream in its own way.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel

from tests.kit.colours import ASYNC_COLOURS, SYNC, Colour


class End:
    """What a step gives at the end of a stream."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, End) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"End({self.value!r})"


END = End()


class Kind:
    """One kind of stream, and how to take its steps."""

    def __init__(self, colour: Colour) -> None:
        self.colour = colour
        self.name = colour.name
        self.is_async = colour.is_async

    def run(self, body: Callable[..., Any], *args: Any) -> Any:
        """Run a test's body to its end."""
        return self.colour.run(body, *args)

    def source(self, *script: Any, log: list[Any] | None = None) -> Callable[..., Any]:
        """Return a stream function that follows a script.

        An exception, or a type of one, is raised; a function is called, and what it returns is
        awaited if it can be; an `End` returns; anything else is handed out. The log is told when
        the body begins, what is sent to it, what is thrown at it, and when it ends.
        """
        seen: list[Any] = [] if log is None else log

        def told(op: Any) -> Any:
            if isinstance(op, type) and issubclass(op, BaseException):
                raise op("down")
            if isinstance(op, BaseException):
                raise op
            return op()

        def plain(*args: Any, **kwargs: Any) -> Any:
            seen.append("began")
            try:
                for op in script:
                    if isinstance(op, End):
                        return op.value
                    if isinstance(op, BaseException) or callable(op):
                        told(op)
                    elif (sent := (yield op)) is not None:
                        seen.append(sent)
            except BaseException as error:
                seen.append(type(error).__name__)
                raise
            finally:
                seen.append("ended")

        async def waits(*args: Any, **kwargs: Any) -> Any:
            seen.append("began")
            try:
                for op in script:
                    if isinstance(op, End):
                        return
                    if isinstance(op, BaseException) or callable(op):
                        value = told(op)
                        if inspect.isawaitable(value):
                            await value
                    elif (sent := (yield op)) is not None:
                        seen.append(sent)
            except BaseException as error:
                seen.append(type(error).__name__)
                raise
            finally:
                seen.append("ended")

        return waits if self.is_async else plain

    async def next(self, stream: Any) -> Any:
        """Take a step; `END` where there is no more."""
        return await self.send(stream, None)

    async def send(self, stream: Any, value: Any) -> Any:
        """Take a step and send a value with it."""
        if self.is_async:
            try:
                return await stream.asend(value)
            except StopAsyncIteration:
                return END
        try:
            return stream.send(value)
        except StopIteration as end:
            return End(end.value)

    async def throw(self, stream: Any, error: BaseException) -> Any:
        """Throw an exception into the stream."""
        if self.is_async:
            try:
                return await stream.athrow(error)
            except StopAsyncIteration:
                return END
        try:
            return stream.throw(error)
        except StopIteration as end:
            return End(end.value)

    async def close(self, stream: Any) -> None:
        """Close the stream early."""
        if self.is_async:
            await stream.aclose()
        else:
            stream.close()

    async def items(self, stream: Any) -> list[Any]:
        """Exhaust the stream."""
        if self.is_async:
            return [item async for item in stream]
        return list(stream)

    async def settle(self) -> None:
        """Collect what is not referenced, and let the loop close it."""
        for _ in range(2):
            gc.collect()
            await self.rest()

    async def rest(self) -> None:
        """Let the loop do what it has to do."""
        if self.is_async:
            for _ in range(5):
                await anyio.lowlevel.checkpoint()


SYNC_KIND = Kind(SYNC)
ASYNC_KINDS = [Kind(colour) for colour in ASYNC_COLOURS]
KINDS = [SYNC_KIND, *ASYNC_KINDS]


class quiet(warnings.catch_warnings):  # type: ignore[type-arg]
    """Let trio say, as of any async generator, that one was collected before its end."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self._kind = kind

    def __enter__(self) -> None:
        super().__enter__()
        if self._kind.name == "trio":
            warnings.simplefilter("ignore", ResourceWarning)


class Unraised:
    """Collects what is raised in finalizers, and what a loop has nobody to tell of."""

    def __enter__(self) -> list[str]:
        self.seen: list[str] = []
        self._before = sys.unraisablehook
        self._told = asyncio.BaseEventLoop.call_exception_handler
        seen = self.seen

        def hook(what: Any) -> None:
            seen.append(f"{what.exc_value!r} in {what.object!r}")

        def told(_: Any, context: dict[str, Any]) -> None:
            seen.append(f"{context.get('message')}: {context.get('exception')!r}")

        class Logged(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                seen.append(f"{record.getMessage()} {record.exc_info}")

        self._handler = Logged()
        logging.getLogger("trio.async_generator_errors").addHandler(self._handler)
        sys.unraisablehook = hook
        asyncio.BaseEventLoop.call_exception_handler = told  # type: ignore[method-assign]
        return seen

    def __exit__(self, *exc: object) -> None:
        gc.collect()
        logging.getLogger("trio.async_generator_errors").removeHandler(self._handler)
        sys.unraisablehook = self._before
        asyncio.BaseEventLoop.call_exception_handler = self._told  # type: ignore[method-assign]
