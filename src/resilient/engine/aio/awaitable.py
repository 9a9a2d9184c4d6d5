"""The awaitable that a guarded sync callable returns in place of the callable's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any

from .. import interpreter
from ..call import DO_RUN, LASTS, Call, Step, value_or_raise


class GuardedAwaitable:
    """A call that was admitted when it was made, and is judged when it is awaited.

    It has the methods of a coroutine, so that asyncio can make a task of it.
    """

    __slots__ = ("__weakref__", "_awaitable", "_call", "_hand_out", "_steps")

    def __init__(
        self,
        call: Call,
        awaitable: Awaitable[Any],
        hand_out: Callable[[Call, tuple[type, ...]], None],
    ) -> None:
        self._call: Call | None = call
        self._hand_out = hand_out  # called where the await returns work that has not ended
        self._awaitable = awaitable
        self._steps: Generator[Any, Any, Any] | None = None  # set once the awaitable runs

    def send(self, value: Any) -> Any:
        """Run to the next await, as a task does."""
        if self._steps is None:
            self._steps = self.__await__()
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        """Resume with an error, as a cancelled task does."""
        if self._steps is None:
            self._steps = self.__await__()
        return self._steps.throw(*error)

    def __await__(self) -> Generator[Any, Any, Any]:
        if self._call is None:
            raise RuntimeError("this guarded call was already awaited")
        return self._run()

    def _run(self) -> Generator[Any, Any, Any]:
        # A generator function: the call is taken over only once the awaitable runs, which may be
        # never.
        call, self._call = self._call, None
        if call is None:
            raise RuntimeError("this guarded call was already awaited")
        return (yield from self._finish(call).__await__())

    async def _finish(self, call: Call) -> Any:
        """Await what the sync callable returned, for a call that was admitted before."""
        from .driver import FUTURES, drive

        made, fn = [self._awaitable], call.fn

        def body(*args: Any, **kwargs: Any) -> Any:
            """Return what was made already, and in another attempt what is made then."""
            return made.pop() if made else fn(*args, **kwargs)

        call.fn = body
        if await drive(call, _run) == LASTS:
            self._hand_out(call, FUTURES)
        return value_or_raise(call)

    def close(self) -> None:
        """Give up a call that nobody will await: the outcome is neutral, its slot is given back."""
        if self._steps is not None:
            self._steps.close()
        call, self._call = self._call, None
        if call is not None:
            interpreter.raised(call, GeneratorExit())
            close = getattr(self._awaitable, "close", None)
            if close is not None:
                close()

    def __del__(self) -> None:
        call, self._call = self._call, None
        if call is not None:  # the inner awaitable warns that it was never awaited
            interpreter.raised(call, GeneratorExit())


def _run(_: Call) -> Step:
    return DO_RUN
