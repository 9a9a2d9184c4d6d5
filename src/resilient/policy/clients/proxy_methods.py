"""The methods of a proxy: each looks its original up on the client at every call.

So replacing a method on the client, or on its class, also replaces it for holders of the proxy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial, update_wrapper
from typing import Any, Final

from ...callables import Kind, kind_of
from ...clock import real
from ...deadline import bounded, raise_if_up
from ...engine.aio.waker import current_task
from ...engine.compiled import Frameless
from ...errors import CallTimeoutError
from ...state_types import compiled
from .client_policy import ClientPolicy
from .items import AsyncItems, Items
from .proxy import Proxy, Wrapping
from .subclients import is_coroutine

_CLIENT: Final[Any] = vars(Proxy)["__wrapped__"]  # the slot of it
_ITEMS: Final = frozenset({"__delitem__", "__getitem__"})


def forward(
    wrapper: Wrapping,
    name: str,
    kind: Kind,
    fn: Callable[..., Any] | None = None,
    home: Any = None,
) -> Callable[..., Any]:
    """Return a function of a proxy that calls its client's method, or fn instead.

    Home is the class that holds the function. A proxy of another class by now has its own function.
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


def frameless(
    wrapper: Wrapping, name: str, kind: Kind, forward: Callable[..., Any], home: type
) -> Frameless | None:
    """Return the same function compiled; None where Python has to forward the call."""
    if compiled is None or kind not in ("sync", "async"):
        return None
    made = partial(
        compiled.Forward, name=name, home=home, client=_CLIENT, wrapper=wrapper,
        hands_out=type(wrapper).hands_out, timed_out=raise_if_up,
        hand=partial(_hand, wrapper, name),
    )  # fmt: skip
    if kind == "sync":
        return Frameless(made(data=wrapper.data, timeouts=wrapper.timeouts, python=forward))

    def begins(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        method = wrapper.original(self, name)
        return method(*wrapper.all_opened(args), **wrapper.all_opened(kwargs))

    def hands(self: Any, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return wrapper.hand(self, name, value, args, kwargs)

    return Frameless(made(data=None, timeouts=(), python=begins), wrapper.data, hands)


def _hand(wrapper: Wrapping, name: str, proxy: Any, value: Any, args: Any, kwargs: Any) -> Any:
    if is_coroutine(value):  # judged at its await, like that of every guarded function
        return _named(value, _handed(wrapper, proxy, name, value, args, kwargs))
    return wrapper.hand(proxy, name, value, args, kwargs)


def _sync_forward(
    wrapper: Wrapping, name: str, fn: Callable[..., Any] | None, home: Any
) -> Callable[..., Any]:
    data, timeouts, opened, original = (
        wrapper.data, wrapper.timeouts, wrapper.all_opened, wrapper.original,
    )  # fmt: skip

    def calls(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if wrapper.hands_out:  # otherwise no argument can be a proxy
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
        return value if type(value) in data else _hand(wrapper, name, self, value, args, kwargs)

    calls.__name__ = name  # refusals name the call by it
    return calls


def _async_forward(
    wrapper: Wrapping, name: str, fn: Callable[..., Any] | None, home: Any
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


def free_stream(wrapper: Wrapping, name: str, fn: Callable[..., Any] | None) -> Callable[..., Any]:
    """Return an unguarded generator method whose items are handed out."""
    inner = forward(wrapper, name, "generator", fn)

    def generates(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return (yield from inner(self, *args, **kwargs))  # pyright: ignore[reportUnknownVariableType]

    return generates


def released(
    wrapper: Wrapping, name: str, kind: Kind, fn: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """Return a method that releases something: never refused, but with a time limit."""
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


def _is_beside_the_point(wrapper: Wrapping, name: str, args: Any, error: Exception) -> bool:
    """Return whether a release failed only because a timeout broke what it releases."""
    leaving = name in ("__aexit__", "__exit__") and len(args) > 1
    return (leaving and isinstance(args[1], CallTimeoutError)) or wrapper.gave_up(error)


async def in_time(
    seconds: float | None, policy: str, fn: Callable[[], Any], *, exits: bool = False
) -> Any:
    """Await fn for at most so long, on asyncio and trio."""
    loop = None if seconds is None else current_task()[0]
    if seconds is None or (loop is None and exits):
        return await fn()  # the exit must not run in a new scope: trio opened its own at the entry
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
    wrapper: Wrapping, guarding: ClientPolicy, name: str, fn: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """Return a plain method of an async client; the await of its result is guarded."""

    def calls(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = wrapper.all_opened(args), wrapper.all_opened(kwargs)
        method = wrapper.original(self, name) if fn is None else fn
        value = method(*args, **kwargs)
        if is_coroutine(value):
            made = value, method
            return _named(value, _awaited(wrapper, guarding, self, name, made, args, kwargs))
        return wrapper.hand(self, name, value, args, kwargs)

    return calls


def _named(inner: Any, outer: Any) -> Any:
    outer.__name__, outer.__qualname__ = inner.__name__, inner.__qualname__
    return outer


async def _handed(
    wrapper: Wrapping, proxy: Any, name: str, value: Any, args: Any, kwargs: Any
) -> Any:
    return wrapper.hand(proxy, name, await value, args, kwargs)


async def _awaited(
    wrapper: Wrapping,
    guarding: ClientPolicy,
    proxy: Any,
    name: str,
    made: tuple[Any, Callable[..., Any]],
    args: Any,
    kwargs: Any,
) -> Any:
    def hand(value: Any) -> Any:
        return wrapper.hand(proxy, name, value, args, kwargs)

    return await guarding.awaited(*made, hand, args, kwargs)


def special(
    wrapper: Wrapping, guarding: ClientPolicy, cls: type, name: str, *, is_async: bool
) -> Callable[..., Any]:
    """Return a guarded special method, such as ``__call__``."""
    original = getattr(cls, name)
    kind = kind_of(original)
    if kind == "sync" and is_async:
        return asynchronous(wrapper, guarding, name)
    what = "item" if name in _ITEMS else "call"
    guarded = guarding.function(kind, forward(wrapper, name, kind), what, skip=1)
    return update_wrapper(guarded, original, updated=())


def either(
    at_once: Callable[[Any], bool], guarded: Callable[..., Any], plain: Callable[..., Any]
) -> Callable[..., Any]:
    """Return a method that is guarded only when it calls the dependency."""

    def calls(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return (guarded if at_once(self.__wrapped__) else plain)(self, *args, **kwargs)

    return calls


def alone(
    kind: Kind, made: Callable[..., Any], proxy: Callable[[], Any], *, skip: int
) -> Callable[..., Any]:
    """Return a function bound to one proxy; drop the first `skip` arguments."""
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
