"""Find out the kind of a callable or of a value, without calling anything."""

from __future__ import annotations

import contextlib
import functools
import weakref
from types import AsyncGeneratorType, FunctionType, GeneratorType, MethodType
from typing import Any, Final, Literal, cast

Kind = Literal["sync", "async", "generator", "async generator"]
STREAMS: Final = ("generator", "async generator")

_GENERATOR, _COROUTINE, _ITERABLE_COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x100, 0x200


def kind_of(fn: object) -> Kind:
    """Return the kind of fn: a call gives a value, an awaitable or a stream of values."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    if isinstance(fn, MethodType):
        return kind_of(fn.__func__)
    if type(fn) is FunctionType:
        flags = fn.__code__.co_flags
        if flags & _ASYNC_GENERATOR:
            return "async generator"
        if flags & _GENERATOR and not flags & _ITERABLE_COROUTINE:
            return "generator"
        if flags & _COROUTINE:
            return "async"
        return "async" if _marked_async(fn) else "sync"
    return _kind_of_object(fn)


def _marked_async(fn: object) -> bool:
    if not hasattr(fn, "_is_coroutine_mark"):
        return False
    import inspect

    return inspect.iscoroutinefunction(fn)


def _kind_of_object(fn: object) -> Kind:
    import inspect

    candidates = [fn]
    call = getattr(type(fn), "__call__", None)  # noqa: B004 - the function itself is wanted
    if not isinstance(fn, type) and call is not None:
        candidates.append(call)
    for candidate in candidates:
        if inspect.isasyncgenfunction(candidate):
            return "async generator"
        if inspect.isgeneratorfunction(candidate):
            return "generator"
        if inspect.iscoroutinefunction(candidate):
            return "async"
    return "sync"


def named_part(fn: object) -> Any:
    """Return what names a callable: the function in a partial, or the type of an object."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn if hasattr(fn, "__qualname__") else type(fn)


def label(fn: object) -> str:
    """Return ``module.qualname`` of a callable, or of the type of a callable object."""
    named = named_part(fn)
    module = getattr(named, "__module__", None) or "?"
    return f"{module}.{getattr(named, '__qualname__', '?')}"


def returns_awaitable(value: object) -> bool:
    """Return True if value can be awaited."""
    kind = type(value)
    if hasattr(kind, "__await__"):
        return True
    # Look only at the type: a proxy or mock would claim any attribute.
    return kind is GeneratorType and _is_coroutine(cast("GeneratorType[Any, Any, Any]", value))


_HANDLES: Final[dict[type, str]] = {
    GeneratorType: "generator",
    AsyncGeneratorType: "async generator",
    contextlib._GeneratorContextManager: "manager",
    contextlib._AsyncGeneratorContextManager: "async manager",
}
_futures: Final[weakref.WeakSet[type]] = weakref.WeakSet()
_FUTURE: Final = "concurrent.futures._base", "Future"


def handle_of(value: object) -> str:
    """Return the kind of unended work that a value stands for; "" for a plain value.

    This knows only objects of exactly these types: an iterator or a context manager of another
    class may be an answer that is complete.
    """
    kind = type(value)
    try:
        known = _HANDLES.get(kind)
        if known is None:
            return "future" if _name_of(kind) == _FUTURE or kind in _futures else ""
    except RecursionError:
        raise
    except Exception:  # a class without a module, or a metaclass that can't be hashed
        return ""
    return "" if known == "generator" and _is_coroutine(cast("Any", value)) else known


def is_future(kind: type) -> bool:
    """Return True if a class derives from the standard library's Future for threads."""
    return any(_name_of(base) == _FUTURE for base in kind.__mro__)


def note_future(kind: type) -> None:
    """Treat objects of a class that a wrapped client has returned as Futures."""
    _futures.add(kind)


def _name_of(kind: type) -> tuple[str, str]:
    return kind.__module__, kind.__qualname__


PLAIN_VALUES: Final = frozenset(
    {type(None), bool, int, float, str, bytes, list, tuple, dict, set, frozenset}
)
"""Types of values that never stand for unended work."""


def returns_work(value: object) -> bool:
    """Return True if a value stands for work that has not ended: an awaitable, or a handle."""
    if type(value) in PLAIN_VALUES:
        return False
    return returns_awaitable(value) or handle_of(value) != ""


_MANAGERS: Final = {
    contextlib.contextmanager(cast("Any", kind_of)).__code__: "manager",
    contextlib.asynccontextmanager(cast("Any", kind_of)).__code__: "async manager",
}


def manager_of(fn: object) -> str:
    """Return the kind of context managers that a contextlib function makes; "" for any other."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    if isinstance(fn, MethodType):
        fn = fn.__func__
    return _MANAGERS.get(fn.__code__, "") if type(fn) is FunctionType else ""


def _is_coroutine(generator: GeneratorType[Any, Any, Any]) -> bool:
    return bool(generator.gi_code.co_flags & _ITERABLE_COROUTINE)
