"""The methods of a proxy: each looks its original up on the client at every call.

So a method that is replaced on the client, or on its class, is replaced for those who hold the
proxy too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import nullcontext
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any, Final, Literal

from ..clock import real
from ..deadline import bounded, raise_if_up
from ..drive.bell import here
from ..errors import CallTimeoutError, RefusedError
from ..shapes import Kind, kind_of
from .items import AsyncItems, Items, in_our_terms
from .parts import close_unawaited, is_coroutine

if TYPE_CHECKING:
    from .guarding import Guarding
    from .wrapper import Wrapper

STEPS: Final = frozenset({"__enter__", "__next__"})
ASYNC_STEPS: Final = frozenset({"__aenter__", "__anext__"})
NAMELESS: Final = STEPS | ASYNC_STEPS | {"__await__", "__call__"}
_ITEMS: Final = frozenset({"__delitem__", "__getitem__"})
_BINARY: Final = ("add", "and", "divmod", "floordiv", "lshift", "matmul", "mod", "mul", "or", "pow",
                  "rshift", "sub", "truediv", "xor")  # fmt: skip
# What the language asks of an object by an operator or a function of its own.
OPERATIONS: Final = frozenset({
    "__abs__", "__aiter__", "__bool__", "__bytes__", "__ceil__", "__complex__", "__float__",
    "__floor__", "__ge__", "__gt__", "__index__", "__int__", "__invert__", "__iter__", "__le__",
    "__len__", "__lt__", "__neg__", "__pos__", "__reversed__", "__round__", "__trunc__",
    *(f"__{side}{name}__" for name in _BINARY for side in ("", "i", "r")),
})  # fmt: skip


def forward(
    wrapper: Wrapper,
    name: str,
    kind: Kind,
    fn: Callable[..., Any] | None = None,
    home: Any = None,
) -> Callable[..., Any]:
    """Return a function of a proxy that calls the method of its client, or fn in its place.

    Home is the class that it is put on. A proxy that has left it has a function of its own there.
    """
    if kind == "async":
        return _async_forward(wrapper, name, fn, home)
    if kind == "sync":
        return _sync_forward(wrapper, name, fn, home)
    opened, items = wrapper.all_opened, Items if kind == "generator" else AsyncItems

    def streams(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        method = wrapper.original(self, name) if fn is None else fn
        return items(wrapper, self, name, method(*opened(args), **opened(kwargs)))

    return streams


def _sync_forward(
    wrapper: Wrapper, name: str, fn: Callable[..., Any] | None, home: Any
) -> Callable[..., Any]:
    data, hand, timeouts, opened = wrapper.data, wrapper.hand, wrapper.timeouts, wrapper.all_opened
    original = wrapper.original

    def calls(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if wrapper.hands_out:  # else there is nothing to come back
            args, kwargs = opened(args), opened(kwargs)
        method: Any
        if fn is not None:
            method = fn
        elif type(self) is home:
            method = getattr(self.__wrapped__, name)
        else:
            method = original(self, name)
        try:
            value = method(*args, **kwargs)
        except timeouts:
            raise_if_up()
            raise
        if type(value) in data:
            return value
        if is_coroutine(value):  # judged at its await, as that of every guarded function
            return _named(value, _handed(wrapper, self, name, value, args, kwargs))
        return hand(self, name, value, args, kwargs)

    calls.__name__ = name  # what a refusal tells of the request that it ended
    return calls


def _async_forward(
    wrapper: Wrapper, name: str, fn: Callable[..., Any] | None, home: Any
) -> Callable[..., Any]:
    data, hand, opened, original = wrapper.data, wrapper.hand, wrapper.all_opened, wrapper.original

    async def awaits(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if wrapper.hands_out:
            args, kwargs = opened(args), opened(kwargs)
        method: Any
        if fn is not None:
            method = fn
        elif type(self) is home:
            method = getattr(self.__wrapped__, name)
        else:
            method = original(self, name)
        value = await method(*args, **kwargs)
        return value if type(value) in data else hand(self, name, value, args, kwargs)

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
        value = (wrapper.original(self, name) if fn is None else fn)(*args, **kwargs)
        if is_coroutine(value):
            return _named(value, _awaited(wrapper, guarding, self, name, value, args, kwargs))
        return wrapper.hand(self, name, value, args, kwargs)

    return calls


def _named(inner: Any, outer: Any) -> Any:
    outer.__name__, outer.__qualname__ = inner.__name__, inner.__qualname__
    return outer


async def _handed(
    wrapper: Wrapper, proxy: Any, name: str, value: Any, args: Any, kwargs: Any
) -> Any:
    return wrapper.hand(proxy, name, await value, args, kwargs)


async def _awaited(
    wrapper: Wrapper, guarding: Guarding, proxy: Any, name: str, value: Any, args: Any, kwargs: Any
) -> Any:
    return wrapper.hand(proxy, name, await guarding.awaited(value, args, kwargs), args, kwargs)


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


def step(wrapper: Wrapper, guarding: Guarding, name: str) -> Callable[..., Any]:
    """Return a step of something that was handed out: its next item, or an operation on it."""

    def steps(self: Any, *args: Any) -> Any:
        args = wrapper.all_opened(args)
        body = partial(in_our_terms, wrapper, getattr(self.__wrapped__, name), *args)
        # It is left in the caller's thread and context, so it has to be entered there.
        return wrapper.hand(self, name, guarding.step(body, stays=name == "__enter__"))

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


def entry(wrapper: Wrapper, guarding: Guarding) -> Callable[..., Any]:
    """Return the entry of a context manager that a call has handed out."""

    def enters(self: Any) -> Any:
        made = guarding.enter(partial(in_our_terms, wrapper, self.__wrapped__.__enter__))
        value = made.run()
        _entries(self).append(made)
        return wrapper.hand(self, "__enter__", value)

    return enters


def async_entry(wrapper: Wrapper, guarding: Guarding) -> Callable[..., Any]:
    """Return the async entry of a context manager that a call has handed out."""

    async def enters(self: Any) -> Any:
        made = guarding.async_enter(self.__wrapped__.__aenter__)
        try:
            value = await made.arun()
        except RefusedError:
            close_unawaited(self.__wrapped__)
            raise
        _entries(self).append(made)
        return wrapper.hand(self, "__aenter__", value)

    return enters


def _entries(proxy: Any) -> list[Any]:
    """Return the entries of a context manager that are not left yet; it may be entered twice."""
    found: list[Any] | None = proxy._resilient_entries
    if found is None:
        found = []
        object.__setattr__(proxy, "_resilient_entries", found)
    return found


def exit_of(wrapper: Wrapper, name: str, kind: Literal["sync", "async"]) -> Callable[..., Any]:
    """Return the exit of a context manager: never refused, and its slot is given back."""
    inner = released(wrapper, name, kind)
    if kind == "async":

        async def leaves_async(self: Any, *args: Any) -> Any:
            held = _entries(self)
            made = held.pop() if held else None
            try:
                return await inner(self, *args)
            finally:
                if made is not None:
                    made.left()

        return leaves_async

    def leaves(self: Any, *args: Any) -> Any:
        held = _entries(self)
        made = held.pop() if held else None
        try:
            return inner(self, *args)
        finally:
            if made is not None:
                made.left()

    return leaves


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
