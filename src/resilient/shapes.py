"""What kind of callable something is, told without calling it."""

from __future__ import annotations

import functools
from types import FunctionType, GeneratorType, MethodType
from typing import Any, Final, Literal, cast

Kind = Literal["sync", "async", "generator", "async generator"]
STREAMS: Final = ("generator", "async generator")

_GENERATOR, _COROUTINE, _ITERABLE_COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x100, 0x200


def kind_of(fn: object) -> Kind:
    """Tell whether calling fn gives a value, an awaitable or a stream of values."""
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
    """Return what gives a callable its name: the function in a partial, the type of an object."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn if hasattr(fn, "__qualname__") else type(fn)


def label(fn: object) -> str:
    """Return ``module.qualname`` of a callable, or of the type of a callable object."""
    named = named_part(fn)
    module = getattr(named, "__module__", None) or "?"
    return f"{module}.{getattr(named, '__qualname__', '?')}"


def returns_awaitable(value: object) -> bool:
    """Tell whether value can be awaited."""
    kind = type(value)
    if hasattr(kind, "__await__"):
        return True
    # Nothing is asked of the value itself: a proxy or mock would answer anything.
    return kind is GeneratorType and _is_coroutine(cast("GeneratorType[Any, Any, Any]", value))


def _is_coroutine(generator: GeneratorType[Any, Any, Any]) -> bool:
    return bool(generator.gi_code.co_flags & _ITERABLE_COROUTINE)
