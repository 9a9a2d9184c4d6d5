"""The awaitable that a guarded sync callable hands out in place of the callable's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

from .call import Call
from .interpreter import raised


class GuardedAwaitable:
    """A call that was let in at the call and is judged at the await.

    It is a coroutine to asyncio, which makes tasks of it.
    """

    __slots__ = ("__weakref__", "_awaitable", "_call", "_finish", "_steps")

    def __init__(
        self,
        call: Call,
        awaitable: Awaitable[Any],
        finish: Callable[[Call, Awaitable[Any]], Coroutine[Any, Any, Any]],
    ) -> None:
        self._call: Call | None = call
        self._finish = finish  # it drives the call to its end
        self._awaitable = awaitable
        self._steps: Generator[Any, Any, Any] | None = None  # once a task runs it

    def send(self, value: Any) -> Any:
        """Run it on, as a task does."""
        if self._steps is None:
            self._steps = self.__await__()
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        """Run it on with an error, as a task that is cancelled does."""
        if self._steps is None:
            self._steps = self.__await__()
        return self._steps.throw(*error)

    def __await__(self) -> Generator[Any, Any, Any]:
        if self._call is None:
            raise RuntimeError("this guarded call was already awaited")
        return self._run()

    def _run(self) -> Generator[Any, Any, Any]:
        # A generator: nothing is taken over before it is run, and it may never be.
        call, self._call = self._call, None
        if call is None:
            raise RuntimeError("this guarded call was already awaited")
        return (yield from self._finish(call, self._awaitable).__await__())

    def close(self) -> None:
        """Give up a call that nobody will await: neutral, its slot comes back."""
        if self._steps is not None:
            self._steps.close()
        call, self._call = self._call, None
        if call is not None:
            raised(call, GeneratorExit())
            close = getattr(self._awaitable, "close", None)
            if close is not None:
                close()

    def __del__(self) -> None:
        call, self._call = self._call, None
        if call is not None:  # the awaitable inside gives the warning that it was never awaited
            raised(call, GeneratorExit())
