"""What a client hands out: data, or a part of the client that still talks to the dependency.

A value is a part where it holds the client, or something the client itself holds (its connection
pool, its transport); where it is of the client's own class; where it is a generator, an iterator,
a context manager or an awaitable, whose work is still to be done. What a context manager gives is
one too, and what is kept in an attribute, where it is an object of the client's own package that is
told apart by identity, as clients are, and not by its value, as settings and headers are.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from types import (
    AsyncGeneratorType,
    BuiltinMethodType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
)
from typing import Any, Final

from ..shapes import kind_of, returns_awaitable

# The special methods that are calls of the dependency.
GUARDED: Final = frozenset(
    {"__call__", "__contains__", "__delitem__", "__getitem__", "__setitem__"}
)
FUNCTIONS: Final = (FunctionType, MethodType, BuiltinMethodType)
STREAMS: Final = (GeneratorType, AsyncGeneratorType)
ATOMS: Final = (
    *(type(None), bool, int, float, complex, str, bytes, bytearray, memoryview, range, slice),
    *(list, dict, tuple, set, frozenset),
)
_DATA: Final = (*ATOMS, type, ModuleType, BaseException, Enum, *FUNCTIONS)
_CONTAINERS_SEEN: Final[tuple[Any, ...]] = (
    *([], (), {}, {}.items(), {}.values(), set(), "", b"", bytearray(), range(0), range(2**70)),
    reversed([]),
)
# Iterators over what is there already; those of generators, files and pages are not among them.
_CONTAINERS: Final[frozenset[type[Any]]] = frozenset(type(iter(each)) for each in _CONTAINERS_SEEN)
_HEAP: Final = 1 << 9  # of types that were made by a class statement
_LAZY: Final = frozenset({"_GeneratorContextManager", "_AsyncGeneratorContextManager", "closing",
                          "aclosing"})  # fmt: skip
_ENDINGS: Final = ("aclose", "close", "disconnect", "dispose", "shutdown")


def is_data_type(cls: type) -> bool:
    """Tell whether no instance of a class can be a part of a client."""
    if issubclass(cls, _DATA) or cls in _CONTAINERS:
        return True
    if cls.__module__ == "contextlib" and cls.__name__ in _LAZY:
        return False
    if issubclass(cls, (Iterator, Generator, AsyncGenerator)) or hasattr(cls, "__await__"):
        return False
    if issubclass(cls, (Mapping, Sequence, AbstractSet)):
        return True
    # A class that was made in a namespace without a name says that it is a built-in one.
    named = cls.__module__ != "builtins" or not cls.__flags__ & _HEAP
    return (named and _root(cls) in sys.stdlib_module_names) or _is_record(cls)


def _root(cls: type) -> str:
    return str(cls.__module__).partition(".")[0]


def _is_record(cls: type) -> bool:
    """Tell whether a class says that its instances are records, as several libraries do."""
    marks = "__pydantic_fields__", "__attrs_attrs__", "__struct_fields__", "DESCRIPTOR"
    return any(hasattr(cls, mark) for mark in marks)


def is_lazy(value: object) -> bool:
    """Tell whether a value's work is still to be done: an iterator, awaitable, context manager."""
    cls: type[Any] = type(value)
    lazy = "__next__", "__anext__", "__aenter__"
    return (
        any(hasattr(cls, name) for name in lazy)
        or returns_awaitable(value)
        or (cls.__module__ == "contextlib" and cls.__name__ in _LAZY)
    )


def is_part(value: Any, owner: Any, *, how: str) -> bool:
    """Tell whether a value that is not of a data type is a part of the client that owns it.

    How it was come by is an attribute, or the name of a method.
    """
    if isinstance(value, type(owner)) or is_lazy(value) or _holds(value, owner):
        return True
    if how in ("__aenter__", "__enter__"):
        return is_client(value)
    same = how == "attribute" and _root(type(value)) in _packages(type(owner))
    return same and is_client(value)


def is_client(value: Any) -> bool:
    """Tell whether a value is an object with methods that is told apart by identity."""
    cls: type[Any] = type(value)
    if is_data_type(cls) or getattr(cls, "__eq__") is not object.__eq__:  # noqa: B009 - for mypy
        return False
    return callable(value) or bool(public_names(value))


def _packages(cls: type) -> set[str]:
    return {_root(base) for base in cls.__mro__} - sys.stdlib_module_names


def _holds(value: Any, owner: Any) -> bool:
    """Tell whether a value holds its owner, or what its owner holds and works by."""
    mine = {id(each) for each in fields(owner) if is_client(each)} | {id(owner)}
    for each in fields(value):
        held = each.__self__ if isinstance(each, MethodType) else each
        if id(held) in mine:
            return True
    return False


def fields(value: Any) -> list[Any]:
    """Return what an object holds in its own attributes, without running any code of it."""
    found: list[Any] = []
    try:
        found += object.__getattribute__(value, "__dict__").values()
    except AttributeError:
        pass
    for base in type(value).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            descriptor = base.__dict__.get(_mangled(base, name))
            try:
                if descriptor is not None and name not in ("__dict__", "__weakref__"):
                    found.append(descriptor.__get__(value))
            except AttributeError:
                pass
    return found


def _mangled(base: type, name: str) -> str:
    private = name.startswith("__") and not name.endswith("__")
    return f"_{base.__name__.lstrip('_')}{name}" if private else name


def public_names(client: Any) -> list[str]:
    """Return the names of an object's public callables, without running any code of it."""
    cls: type[Any] = type(client)
    names = {
        name
        for base in cls.__mro__
        if base is not object
        for name, value in base.__dict__.items()
        if not name.startswith("_") and _is_method(value)
    }
    try:
        own: dict[str, Any] = object.__getattribute__(client, "__dict__")
    except AttributeError:
        own = {}
    names |= {n for n, v in own.items() if not n.startswith("_") and isinstance(v, FUNCTIONS)}
    return sorted(names)


def _is_method(value: object) -> bool:
    return (callable(value) and not isinstance(value, type)) or isinstance(
        value, (classmethod, staticmethod)
    )  # fmt: skip


def is_async_client(cls: type) -> bool:
    """Tell whether a class is that of an async client, whose plain methods do no I/O themselves."""
    if hasattr(cls, "__aenter__") and not hasattr(cls, "__enter__"):
        return True
    mocking = sys.modules.get("unittest.mock")
    if mocking is not None and issubclass(cls, mocking.AsyncMock):
        return True
    endings = [getattr(cls, name) for name in _ENDINGS if hasattr(cls, name)]
    return bool(endings) and all(kind_of(each) == "async" for each in endings)


def is_coroutine(value: object) -> bool:
    """Tell whether a value is a coroutine, native or made of a generator."""
    return type(value) is CoroutineType or (
        type(value) is GeneratorType and returns_awaitable(value)
    )


def is_thread_bound(client: Any) -> bool:
    """Tell whether an object keeps state of its own for each thread."""
    threading = sys.modules.get("threading")
    if threading is None:
        return False
    return isinstance(client, threading.local) or any(
        isinstance(each, threading.local) for each in fields(client)
    )


def is_builtin(value: object) -> bool:
    """Tell whether a value is of a built-in type of data, or of a class made from one."""
    return isinstance(value, _DATA)


def close_unawaited(awaitable: Any) -> None:
    """Close an awaitable whose await was refused, and that nobody else would await."""
    close = getattr(awaitable, "close", None)
    if hasattr(type(awaitable), "__await__") and close is not None and kind_of(close) == "sync":
        close()


def makes_async(fn: Any) -> bool:
    """Tell whether a plain function only makes something to be entered by ``async with``."""
    inner = getattr(fn, "__wrapped__", None)
    return inner is not None and kind_of(fn) == "sync" and kind_of(inner) == "async generator"


def has_async_methods(client: Any) -> bool:
    """Tell whether an object has public methods that are async."""
    found = (getattr(type(client), name, None) for name in public_names(client))
    return any(
        each is not None and (kind_of(each) in ("async", "async generator") or makes_async(each))
        for each in found
    )


def is_mocks_own(client: Any, name: str) -> bool:
    """Tell whether a method is a mock's own, such as ``assert_called_once``, and not mocked."""
    mocking = sys.modules.get("unittest.mock")
    if mocking is None or not issubclass(type(client), mocking.NonCallableMock):
        return False
    return not name.startswith("__") and hasattr(mocking.AsyncMock, name)
