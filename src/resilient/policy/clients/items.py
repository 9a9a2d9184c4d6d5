"""Streams of a client, whose items are handed out like the results of its methods."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from ...deadline import raise_if_up


class Hands(Protocol):
    """The part of a wrapper that a stream uses."""

    timeouts: tuple[type[Exception], ...]

    def hand(self, proxy: Any, name: str, value: Any) -> Any: ...


def in_our_terms(wrapper: Hands, fn: Callable[..., Any], *args: Any) -> Any:
    """Call fn; if the deadline is up, raise the client's own timeout as the policy's."""
    try:
        return fn(*args)
    except wrapper.timeouts:
        raise_if_up()
        raise


class Items:
    """A generator whose items are handed out like a method's result."""

    __slots__ = ("_name", "_proxy", "_source", "_wrapper")

    def __init__(self, wrapper: Hands, proxy: Any, name: str, source: Any) -> None:
        self._wrapper = wrapper
        self._proxy = proxy
        self._name = name
        self._source = source

    def __iter__(self) -> Items:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        return self._given(self._source.send, value)

    def throw(self, error: BaseException) -> Any:
        return self._given(self._source.throw, error)

    def _given(self, step: Callable[[Any], Any], value: Any) -> Any:
        item = in_our_terms(self._wrapper, step, value)
        return self._wrapper.hand(self._proxy, self._name, item)

    def close(self) -> None:
        self._source.close()


class AsyncItems(Items):
    """The same for an async generator."""

    __slots__ = ()

    def __aiter__(self) -> AsyncItems:
        return self

    def __anext__(self) -> Any:
        return self.asend(None)

    # Not async themselves: the guarded generator must see its first step when asend() is called.
    def asend(self, value: Any) -> Coroutine[Any, Any, Any]:
        return self._handed(self._source.asend(value))

    def athrow(self, error: BaseException) -> Coroutine[Any, Any, Any]:
        return self._handed(self._source.athrow(error))

    async def _handed(self, item: Any) -> Any:
        return self._wrapper.hand(self._proxy, self._name, await item)

    async def aclose(self) -> None:
        await self._source.aclose()
