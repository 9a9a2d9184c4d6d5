"""The steps of a handed-out object: its next item, its await, its entry and its exit."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Final, Literal

from ...errors import RefusedError
from . import proxy_methods
from .client_policy import ClientPolicy
from .items import in_our_terms
from .proxy import Wrapping
from .subclients import close_unawaited

STEPS: Final = frozenset({"__enter__", "__next__"})
ASYNC_STEPS: Final = frozenset({"__aenter__", "__anext__"})
NAMELESS: Final = STEPS | ASYNC_STEPS | {"__await__", "__call__"}
_BINARY: Final = ("add", "and", "divmod", "floordiv", "lshift", "matmul", "mod", "mul", "or", "pow",
                  "rshift", "sub", "truediv", "xor")  # fmt: skip
# Operators and built-in functions call these.
OPERATIONS: Final = frozenset({
    "__abs__", "__aiter__", "__bool__", "__bytes__", "__ceil__", "__complex__", "__float__",
    "__floor__", "__ge__", "__gt__", "__index__", "__int__", "__invert__", "__iter__", "__le__",
    "__len__", "__lt__", "__neg__", "__pos__", "__reversed__", "__round__", "__trunc__",
    *(f"__{side}{name}__" for name in _BINARY for side in ("", "i", "r")),
})  # fmt: skip


def step(wrapper: Wrapping, guarding: ClientPolicy, name: str) -> Callable[..., Any]:
    """Return a step of a handed-out object: its next item, or an operation on it."""

    def steps(self: Any, *args: Any) -> Any:
        args = wrapper.all_opened(args)
        body = partial(in_our_terms, wrapper, getattr(self.__wrapped__, name), *args)
        # The exit runs in the caller's thread and context, so the entry must, too.
        return wrapper.hand(self, name, guarding.step(body, stays=name == "__enter__"))

    return steps


def async_step(wrapper: Wrapping, guarding: ClientPolicy | None, name: str) -> Callable[..., Any]:
    """Return an async step of a handed-out object."""

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


def entry(wrapper: Wrapping, guarding: ClientPolicy) -> Callable[..., Any]:
    """Return the entry of a context manager that a call has handed out."""

    def enters(self: Any) -> Any:
        made = guarding.enter(partial(in_our_terms, wrapper, self.__wrapped__.__enter__))
        value = made.run()
        _entries(self).append(made)
        return wrapper.hand(self, "__enter__", value)

    return enters


def async_entry(wrapper: Wrapping, guarding: ClientPolicy) -> Callable[..., Any]:
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
    """Return the entries of a context manager without an exit yet; it may be entered twice."""
    found: list[Any] | None = proxy._resilient_entries
    if found is None:
        found = []
        object.__setattr__(proxy, "_resilient_entries", found)
    return found


def exit_of(wrapper: Wrapping, name: str, kind: Literal["sync", "async"]) -> Callable[..., Any]:
    """Return the exit of a context manager: it is never refused, and releases the slot."""
    inner = proxy_methods.released(wrapper, name, kind)
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


def awaiting(wrapper: Wrapping, guarding: ClientPolicy | None) -> Callable[..., Any]:
    """Return the ``__await__`` of a handed-out awaitable."""

    async def handed(self: Any) -> Any:
        return wrapper.hand(self, "__await__", await self.__wrapped__)

    async def awaits(self: Any) -> Any:
        if guarding is None:
            return await handed(self)
        try:
            return await guarding.async_step(partial(handed, self))
        except RefusedError:
            close_unawaited(self.__wrapped__)
            raise

    def __await__(self: Any) -> Generator[Any, Any, Any]:  # noqa: N807
        return awaits(self).__await__()

    return __await__
