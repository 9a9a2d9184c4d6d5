"""The awaitable that a guarded sync callable hands out in place of the callable's own."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from types import CoroutineType
from typing import Any

from .call import Call


def pending(call: Call, awaitable: Awaitable[Any]) -> Awaitable[Any]:
    """Return what is awaited instead: a coroutine in the place of one, as tasks are made of."""
    guarded = GuardedAwaitable(call, awaitable)
    if type(awaitable) is not CoroutineType:
        return guarded
    coroutine: Any = _coroutine(guarded)
    coroutine.__name__, coroutine.__qualname__ = awaitable.__name__, awaitable.__qualname__
    return coroutine  # type: ignore[no-any-return]


async def _coroutine(guarded: GuardedAwaitable) -> Any:
    return await guarded


class GuardedAwaitable:
    """A call that was let in at the call and is judged at the await."""

    __slots__ = ("_awaitable", "_call")

    def __init__(self, call: Call, awaitable: Awaitable[Any]) -> None:
        self._call: Call | None = call
        self._awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, Any]:
        if self._call is None:
            raise RuntimeError("this guarded call was already awaited")
        return self._run()

    def _run(self) -> Generator[Any, Any, Any]:
        # A generator: nothing is taken over before it is run, and it may never be.
        call, self._call = self._call, None
        if call is None:
            raise RuntimeError("this guarded call was already awaited")
        from .aio import finish

        return (yield from finish(call, self._awaitable).__await__())

    def close(self) -> None:
        """Give up a call that nobody will await: neutral, its slot comes back."""
        call, self._call = self._call, None
        if call is not None:
            call.raised(GeneratorExit())
            close = getattr(self._awaitable, "close", None)
            if close is not None:
                close()

    def __del__(self) -> None:
        call, self._call = self._call, None
        if call is not None:  # that it was never awaited is told by the coroutine outside or inside
            call.raised(GeneratorExit())
