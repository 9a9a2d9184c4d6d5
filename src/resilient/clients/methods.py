"""The methods of a proxy: each looks its original up on the client at every call.

So a method that is replaced on the client, or on its class, is replaced for those who hold the
proxy too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Generator
from contextlib import nullcontext
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from ..deadline import bounded, raise_if_up
from ..errors import CallTimeoutError, RefusedError
from ..shapes import Kind, kind_of
from .parts import close_unawaited, is_async_client, is_coroutine

if TYPE_CHECKING:
    from .guarding import Guarding
    from .wrapper import Wrapper

GUARDED: Final = frozenset(
    {"__call__", "__contains__", "__delitem__", "__getitem__", "__setitem__"}
)
STEPS: Final = frozenset({"__enter__", "__next__"})
ASYNC_STEPS: Final = frozenset({"__aenter__", "__anext__"})
NAMELESS: Final = STEPS | ASYNC_STEPS | {"__await__", "__call__"}
_ITEMS: Final = frozenset({"__delitem__", "__getitem__"})


def forward(wrapper: Wrapper, name: str, kind: Kind) -> Callable[..., Any]:
    """Return a function of a proxy that calls the method of its client."""
    data, hand, timeouts = wrapper.data, wrapper.hand, wrapper.timeouts
    if kind == "async":

        async def awaits(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            value = await getattr(self.__wrapped__, name)(*args, **kwargs)
            return value if type(value) in data else hand(self, name, value)

        return awaits
    if kind in ("generator", "async generator"):

        def streams(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            items = _Items if kind == "generator" else _AsyncItems
            return items(wrapper, self, name, getattr(self.__wrapped__, name)(*args, **kwargs))

        return streams

    def calls(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        try:
            value = getattr(self.__wrapped__, name)(*args, **kwargs)
        except timeouts:
            raise_if_up()
            raise
        return value if type(value) in data else hand(self, name, value)

    return calls


def free(wrapper: Wrapper, name: str, kind: Kind) -> Callable[..., Any]:
    """Return the same without a guard, for a method that does no I/O or is not selected."""
    return forward(wrapper, name, "async" if kind == "async" else "sync")


def released(wrapper: Wrapper, name: str) -> Callable[..., Any]:
    """Return a plain method that gives something back: never refused, but with a time limit."""

    def calls(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        seconds = wrapper.seconds
        try:
            with nullcontext() if seconds is None else bounded(seconds, wrapper.name, monotonic):
                return wrapper.hand(self, name, getattr(self.__wrapped__, name)(*args, **kwargs))
        except Exception:
            # What is left after a timeout is broken perhaps, but that is not what has to be told.
            if name == "__exit__" and len(args) > 1 and isinstance(args[1], CallTimeoutError):
                return None
            raise

    return calls


def asynchronous(wrapper: Wrapper, guarding: Guarding, name: str) -> Callable[..., Any]:
    """Return a plain method of an async client: what it returns is guarded at its await."""

    def calls(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        value = getattr(self.__wrapped__, name)(*args, **kwargs)
        if is_coroutine(value):
            return _awaited(wrapper, guarding, self, name, value, args, kwargs)
        return wrapper.hand(self, name, value)

    return calls


async def _awaited(
    wrapper: Wrapper, guarding: Guarding, proxy: Any, name: str, value: Any, args: Any, kwargs: Any
) -> Any:
    return wrapper.hand(proxy, name, await guarding.awaited(value, args, kwargs))


def special(wrapper: Wrapper, guarding: Guarding, cls: type, name: str) -> Callable[..., Any]:
    """Return a guarded special method, such as ``__call__``."""
    original = getattr(cls, name)
    kind = kind_of(original)
    if kind == "sync" and is_async_client(cls):
        return asynchronous(wrapper, guarding, name)
    what = "item" if name in _ITEMS else "call"
    guarded = guarding.function(kind, forward(wrapper, name, kind), what, skip=1)
    return functools.update_wrapper(guarded, original, updated=())


def step(wrapper: Wrapper, guarding: Guarding | None, name: str) -> Callable[..., Any]:
    """Return a step of something that was handed out: entering it, or its next item."""

    def steps(self: Any) -> Any:
        body = getattr(self.__wrapped__, name)
        return wrapper.hand(self, name, body() if guarding is None else guarding.step(body))

    return steps


def async_step(wrapper: Wrapper, guarding: Guarding | None, name: str) -> Callable[..., Any]:
    """Return an async step of something that was handed out."""

    async def steps(self: Any) -> Any:
        body = getattr(self.__wrapped__, name)
        if guarding is None:
            return wrapper.hand(self, name, await body())
        try:
            value = await guarding.async_step(body, enters=name == "__aenter__")
        except RefusedError:
            close_unawaited(self.__wrapped__)
            raise
        return wrapper.hand(self, name, value)

    return steps


def awaiting(wrapper: Wrapper, guarding: Guarding | None) -> Callable[..., Any]:
    """Return the ``__await__`` of an awaitable that was handed out."""

    async def awaits(self: Any) -> Any:
        value = await _closing(self.__wrapped__, guarding)
        return wrapper.hand(self, "__await__", value)

    def __await__(self: Any) -> Generator[Any, Any, Any]:  # noqa: N807
        return awaits(self).__await__()

    return __await__


async def _closing(awaitable: Any, guarding: Guarding | None) -> Any:
    if guarding is None:
        return await awaitable
    try:
        return await guarding.async_step(lambda: awaitable)
    except RefusedError:
        close_unawaited(awaitable)
        raise


class _Items:
    """A generator whose items are handed out as a method's result is."""

    __slots__ = ("_name", "_proxy", "_source", "_wrapper")

    def __init__(self, wrapper: Wrapper, proxy: Any, name: str, source: Any) -> None:
        self._wrapper = wrapper
        self._proxy = proxy
        self._name = name
        self._source = source

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        return self._wrapper.hand(self._proxy, self._name, self._source.send(value))

    def throw(self, error: BaseException) -> Any:
        return self._wrapper.hand(self._proxy, self._name, self._source.throw(error))

    def close(self) -> None:
        self._source.close()


class _AsyncItems(_Items):
    """The same of an async generator."""

    __slots__ = ()

    def __aiter__(self) -> _AsyncItems:
        return self

    def __anext__(self) -> Any:
        return self.asend(None)

    # Not async themselves: the generator learns of its first step when asend() is called.
    def asend(self, value: Any) -> Coroutine[Any, Any, Any]:
        return self._handed(self._source.asend(value))

    def athrow(self, error: BaseException) -> Coroutine[Any, Any, Any]:
        return self._handed(self._source.athrow(error))

    async def _handed(self, item: Any) -> Any:
        return self._wrapper.hand(self._proxy, self._name, await item)

    async def aclose(self) -> None:
        await self._source.aclose()
