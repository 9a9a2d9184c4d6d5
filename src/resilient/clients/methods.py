"""The methods of a proxy: each looks its original up on the client at every call.

So a method that is replaced on the client, or on its class, is replaced for those who hold the
proxy too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Generator
from contextlib import nullcontext
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any, Final

from ..clock import real
from ..deadline import bounded, raise_if_up
from ..drive.bell import here
from ..errors import CallTimeoutError, RefusedError
from ..shapes import Kind, kind_of
from .parts import close_unawaited, is_coroutine

if TYPE_CHECKING:
    from .guarding import Guarding
    from .wrapper import Wrapper

STEPS: Final = frozenset({"__enter__", "__next__"})
ASYNC_STEPS: Final = frozenset({"__aenter__", "__anext__"})
NAMELESS: Final = STEPS | ASYNC_STEPS | {"__await__", "__call__"}
_ITEMS: Final = frozenset({"__delitem__", "__getitem__"})


def forward(
    wrapper: Wrapper, name: str, kind: Kind, fn: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """Return a function of a proxy that calls the method of its client, or fn in its place."""
    if kind == "async":
        return _async_forward(wrapper, name, fn)
    if kind == "sync":
        return _sync_forward(wrapper, name, fn)
    opened, items = wrapper.all_opened, _Items if kind == "generator" else _AsyncItems

    def streams(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        method = getattr(self.__wrapped__, name) if fn is None else fn
        return items(wrapper, self, name, method(*opened(args), **opened(kwargs)))

    return streams


def _sync_forward(wrapper: Wrapper, name: str, fn: Callable[..., Any] | None) -> Callable[..., Any]:
    data, hand, timeouts, opened = wrapper.data, wrapper.hand, wrapper.timeouts, wrapper.all_opened

    def calls(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if wrapper.hands_out:  # else there is nothing to come back
            args, kwargs = opened(args), opened(kwargs)
        try:
            value = (getattr(self.__wrapped__, name) if fn is None else fn)(*args, **kwargs)
        except timeouts:
            raise_if_up()
            raise
        if type(value) in data:
            return value
        if is_coroutine(value):  # judged at its await, as that of every guarded function
            return _named(value, _handed(wrapper, self, name, value))
        return hand(self, name, value)

    calls.__name__ = name  # what a refusal tells of the request that it ended
    return calls


def _async_forward(
    wrapper: Wrapper, name: str, fn: Callable[..., Any] | None
) -> Callable[..., Any]:
    data, hand, opened = wrapper.data, wrapper.hand, wrapper.all_opened

    async def awaits(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if wrapper.hands_out:
            args, kwargs = opened(args), opened(kwargs)
        value = await (getattr(self.__wrapped__, name) if fn is None else fn)(*args, **kwargs)
        return value if type(value) in data else hand(self, name, value)

    awaits.__name__ = name
    return awaits


def free_stream(wrapper: Wrapper, name: str, fn: Callable[..., Any] | None) -> Callable[..., Any]:
    """Return a generator method that is not guarded, but whose items are handed out."""
    inner = forward(wrapper, name, "generator", fn)

    def generates(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return (yield from inner(self, *args, **kwargs))  # pyright: ignore[reportUnknownVariableType]

    return generates


def released(
    wrapper: Wrapper, name: str, kind: Kind, fn: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """Return a method that gives something back: never refused, but with a time limit."""
    inner = forward(wrapper, name, kind, fn)
    if kind == "async":

        async def awaits(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            fn = partial(inner, self, *args, **kwargs)
            exits = name == "__aexit__"
            try:
                return await in_time(wrapper.limit("async"), wrapper.name, fn, exits=exits)
            except Exception as error:
                if _is_beside_the_point(wrapper, name, args, error):
                    return None
                raise

        return awaits

    def calls(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        seconds = wrapper.limit("sync")
        try:
            with nullcontext() if seconds is None else bounded(seconds, wrapper.name, real.now):
                return inner(self, *args, **kwargs)
        except Exception as error:
            if _is_beside_the_point(wrapper, name, args, error):
                return None
            raise

    return calls


def _is_beside_the_point(wrapper: Wrapper, name: str, args: Any, error: Exception) -> bool:
    """Tell whether giving back what a timeout has broken failed only because of that."""
    leaving = name in ("__aexit__", "__exit__") and len(args) > 1
    return (leaving and isinstance(args[1], CallTimeoutError)) or wrapper.gave_up(error)


async def in_time(
    seconds: float | None, policy: str, fn: Callable[[], Any], *, exits: bool = False
) -> Any:
    """Await fn for at most so long, on asyncio and trio."""
    loop = None if seconds is None else here()[0]
    if seconds is None or (loop is None and exits):
        return await fn()  # what trio opened at the entry is left outside any new scope
    if loop is None:
        with sys.modules["trio"].move_on_after(seconds):
            return await fn()
    else:
        limit: Any = sys.modules["asyncio"].timeout(seconds)
        try:
            async with limit:
                with bounded(seconds, policy, real.now):
                    return await fn()
        except TimeoutError:
            if not limit.expired():
                raise
    why = f"{policy}: no answer within {seconds:g} s"
    raise CallTimeoutError(why, policy=policy, timeout=seconds)


def asynchronous(
    wrapper: Wrapper, guarding: Guarding, name: str, fn: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """Return a plain method of an async client: what it returns is guarded at its await."""

    def calls(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = wrapper.all_opened(args), wrapper.all_opened(kwargs)
        value = (getattr(self.__wrapped__, name) if fn is None else fn)(*args, **kwargs)
        if is_coroutine(value):
            return _named(value, _awaited(wrapper, guarding, self, name, value, args, kwargs))
        return wrapper.hand(self, name, value)

    return calls


def _named(inner: Any, outer: Any) -> Any:
    outer.__name__, outer.__qualname__ = inner.__name__, inner.__qualname__
    return outer


async def _handed(wrapper: Wrapper, proxy: Any, name: str, awaitable: Any) -> Any:
    return wrapper.hand(proxy, name, await awaitable)


async def _awaited(
    wrapper: Wrapper, guarding: Guarding, proxy: Any, name: str, value: Any, args: Any, kwargs: Any
) -> Any:
    return wrapper.hand(proxy, name, await guarding.awaited(value, args, kwargs))


def special(
    wrapper: Wrapper, guarding: Guarding, cls: type, name: str, *, is_async: bool
) -> Callable[..., Any]:
    """Return a guarded special method, such as ``__call__``."""
    original = getattr(cls, name)
    kind = kind_of(original)
    if kind == "sync" and is_async:
        return asynchronous(wrapper, guarding, name)
    what = "item" if name in _ITEMS else "call"
    guarded = guarding.function(kind, forward(wrapper, name, kind), what, skip=1)
    return update_wrapper(guarded, original, updated=())


def _in_our_terms(wrapper: Wrapper, fn: Callable[..., Any], *args: Any) -> Any:
    """Call fn, and tell its own timeout as that of the policy, where the deadline ran out."""
    try:
        return fn(*args)
    except wrapper.timeouts:
        raise_if_up()
        raise


def step(wrapper: Wrapper, guarding: Guarding | None, name: str) -> Callable[..., Any]:
    """Return a step of something that was handed out: entering it, or its next item."""
    # It is left in the caller's thread and context, so it has to be entered there.
    stays = name == "__enter__"

    def steps(self: Any, *args: Any) -> Any:
        body = partial(_in_our_terms, wrapper, getattr(self.__wrapped__, name), *args)
        value = body() if guarding is None else guarding.step(body, stays=stays)
        return wrapper.hand(self, name, value)

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


def either(
    at_once: Callable[[Any], bool], guarded: Callable[..., Any], plain: Callable[..., Any]
) -> Callable[..., Any]:
    """Return a method that goes to the dependency at some times, and is guarded at those."""

    def calls(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return (guarded if at_once(self.__wrapped__) else plain)(self, *args, **kwargs)

    return calls


def alone(
    kind: Kind, made: Callable[..., Any], proxy: Callable[[], Any], *, skip: int
) -> Callable[..., Any]:
    """Return a function of one proxy without that argument; skip those of a bound method."""
    if kind == "async":

        async def awaits(*args: Any, **kwargs: Any) -> Any:
            return await made(proxy(), *args[skip:], **kwargs)

        return awaits
    if kind == "generator":

        def generates(*args: Any, **kwargs: Any) -> Any:
            return (yield from made(proxy(), *args[skip:], **kwargs))  # pyright: ignore[reportUnknownVariableType]

        return generates

    def calls(*args: Any, **kwargs: Any) -> Any:
        return made(proxy(), *args[skip:], **kwargs)

    return calls


class _Items:
    """A generator whose items are handed out as a method's result is."""

    __slots__ = ("_name", "_proxy", "_source", "_wrapper")

    def __init__(self, wrapper: Wrapper, proxy: Any, name: str, source: Any) -> None:
        self._wrapper = wrapper
        self._proxy = proxy
        self._name = name
        self._source = source

    def __iter__(self) -> _Items:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        return self._given(self._source.send, value)

    def throw(self, error: BaseException) -> Any:
        return self._given(self._source.throw, error)

    def _given(self, step: Callable[[Any], Any], value: Any) -> Any:
        item = _in_our_terms(self._wrapper, step, value)
        return self._wrapper.hand(self._proxy, self._name, item)

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
