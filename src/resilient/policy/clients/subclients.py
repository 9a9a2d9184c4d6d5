"""What a client hands out: data, or a part of the client that still talks to the dependency.

A value is a part if it reaches back, that is, holds, at any depth, the client or something that
the client itself holds and works by (its connection pool, its transport); if it has the client's
own class; if it is a generator, an awaitable or a context manager, whose work is still to come.
What a context manager's entry or an attribute gives is a part, too, if it belongs to the
client's own package and compares by identity, as clients do, rather than by value, as settings
and headers do.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
from __future__ import annotations

import sys
import weakref
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import cached_property
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

from ...callables import kind_of, returns_awaitable
from .reach import Target, named_fields, reaches
from .touching import returns_itself

# These special methods call the dependency.
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
# Iterators over existing data; not those of generators, files and pages.
_CONTAINERS: Final[frozenset[type[Any]]] = frozenset(type(iter(each)) for each in _CONTAINERS_SEEN)
_HEAP: Final = 1 << 9  # set for types that a class statement made
# These types of the standard library are work still to be done.
_LAZY: Final = frozenset({
    ("contextlib", "_GeneratorContextManager"), ("contextlib", "_AsyncGeneratorContextManager"),
    ("contextlib", "closing"), ("contextlib", "aclosing"),
    ("multiprocessing.pool", "ApplyResult"), ("multiprocessing.pool", "MapResult"),
})  # fmt: skip
# By class: whether it looks like a client's, and whether it does whatever the instance holds.
_CLIENTS: Final[weakref.WeakKeyDictionary[type, tuple[bool, bool]]] = weakref.WeakKeyDictionary()
_ENDINGS: Final = ("aclose", "close", "disconnect", "dispose", "shutdown")


def is_data_type(cls: type) -> bool:
    """Return whether instances of a class look like data."""
    if is_plain_type(cls):
        return True
    if _is_lazy_type(cls) or hasattr(cls, "__await__"):
        return False
    if issubclass(cls, (Iterator, Generator, AsyncGenerator)):
        return False
    return issubclass(cls, (Mapping, Sequence, AbstractSet)) or is_record(cls)


def is_plain_type(cls: type) -> bool:
    """Return whether no instance of a class can be a part of a client, whatever it holds."""
    if issubclass(cls, _DATA) or cls in _CONTAINERS:
        return True
    if issubclass(cls, (Iterator, Generator, AsyncGenerator)) or hasattr(cls, "__await__"):
        return False
    # A class that exec() makes in a namespace without __name__ claims the module builtins.
    named = cls.__module__ != "builtins" or not cls.__flags__ & _HEAP
    return named and _root(cls) in sys.stdlib_module_names and not _is_lazy_type(cls)


def _is_lazy_type(cls: type) -> bool:
    return (cls.__module__, cls.__name__) in _LAZY


def _root(cls: type) -> str:
    return str(cls.__module__).partition(".")[0]


def is_record(cls: type) -> bool:
    """Return whether a class declares its instances records, in the way of several libraries."""
    marks = "__pydantic_fields__", "__attrs_attrs__", "__struct_fields__", "DESCRIPTOR"
    return any(hasattr(cls, mark) for mark in marks)


def is_lazy(value: object) -> bool:
    """Return whether a value's work is still to come: an awaitable, a context manager."""
    cls: type[Any] = type(value)
    if _is_lazy_type(cls) or returns_awaitable(value):
        return True
    if hasattr(cls, "add_done_callback") and hasattr(cls, "result"):
        return True
    return any(
        hasattr(cls, name) and not returns_itself(cls, name) for name in ("__aenter__", "__enter__")
    )


def is_iterator(cls: type) -> bool:
    """Return whether instances of a class are iterators."""
    return hasattr(cls, "__next__") or hasattr(cls, "__anext__")


def is_part(value: Any, owner: Any, is_target: Target, *, how: str) -> bool:
    """Return whether a value that is not plain data is a part of the client that owns it.

    `how` is "attribute", or the name of the method that returned it.
    """
    cls: type[Any] = type(value)
    if isinstance(value, type(owner)) or is_lazy(value):
        return True
    if is_iterator(cls):
        # An iterator in C hides what it holds; it may have a connection of its own.
        return (
            _is_connection(value)
            or (_root(cls) not in sys.stdlib_module_names and not _is_python(cls))
            or reaches(value, lambda each: is_target(each) or _is_connection(each))
        )
    if reaches(value, is_target):
        return True
    if how in ("__aenter__", "__enter__"):
        return is_client(value)
    same = how == "attribute" and _root(cls) in _packages(type(owner))
    return same and (is_client(value) or (not is_data_type(cls) and _has_properties(cls)))


def _is_python(cls: type) -> bool:
    steps = (base.__dict__.get(name) for base in cls.__mro__ for name in ("__next__", "__anext__"))
    return any(isinstance(step, FunctionType) for step in steps)


def _is_connection(value: object) -> bool:
    """Return whether a value reads data from outside the process."""
    cls = type(value)
    module, name = cls.__module__.partition(".")[0], cls.__name__
    if module in ("_io", "io"):
        return name not in ("BytesIO", "StringIO")
    sockets = sys.modules.get("socket")
    if sockets is not None and issubclass(cls, sockets.socket):
        return True
    return module in ("asyncio", "http") and name in ("HTTPResponse", "StreamReader")


def _has_properties(cls: type) -> bool:
    """Return whether a class is a namespace: its public properties make objects."""
    return any(
        isinstance(held, (property, cached_property)) and not name.startswith("_")
        for base in cls.__mro__
        for name, held in base.__dict__.items()
    )


def is_client(value: Any) -> bool:
    """Return whether a value is an object with methods that compares by identity."""
    cls: type[Any] = type(value)
    known = _CLIENTS.get(cls)
    if known is None:
        alike = not is_data_type(cls) and getattr(cls, "__eq__") is object.__eq__  # noqa: B009
        known = _CLIENTS[cls] = (alike, alike and (callable(value) or bool(methods_of(cls))))
    return known[1] or (known[0] and bool(public_names(value)))


def is_foreign(value: Any, owner: Any) -> bool:
    """Return whether a value's class is of another package than its owner's, and it has no work."""
    cls: type[Any] = type(value)
    if is_lazy(value) or is_iterator(cls) or _root(cls) in sys.stdlib_module_names:
        return False
    return _root(cls) not in _packages(type(owner))


def _packages(cls: type) -> set[str]:
    return {_root(base) for base in cls.__mro__} - sys.stdlib_module_names


def fields(value: Any) -> list[Any]:
    """Return what an object's own attributes hold, without running any of its code."""
    return [held for _, held in named_fields(value)]


def public_names(client: Any) -> list[str]:
    """Return the names of an object's public callables, without running any of its code."""
    names = methods_of(type(client))
    try:
        own: dict[str, Any] = object.__getattribute__(client, "__dict__")
    except AttributeError:
        own = {}
    names |= {n for n, v in own.items() if not n.startswith("_") and isinstance(v, FUNCTIONS)}
    return sorted(names)


def own_attributes(client: Any) -> list[tuple[str, Any]]:
    """Return an object's own attributes, by name, without running any of its code."""
    return [(name, held) for name, held in named_fields(client) if not name.startswith("__")]


def methods_of(cls: type) -> set[str]:
    """Return the names of the public methods of a class."""
    return {
        name
        for base in cls.__mro__
        if base is not object
        for name, value in base.__dict__.items()
        if not name.startswith("_") and _is_method(value)
    }


def _is_method(value: object) -> bool:
    return (callable(value) and not isinstance(value, type)) or isinstance(
        value, (classmethod, staticmethod)
    )  # fmt: skip


def is_async_client(cls: type) -> bool:
    """Return whether instances of a class are async clients, whose plain methods do no I/O."""
    if hasattr(cls, "__aenter__") and not hasattr(cls, "__enter__"):
        return True
    mocking = sys.modules.get("unittest.mock")
    if mocking is not None and issubclass(cls, mocking.AsyncMock):
        return True
    endings = [getattr(cls, name) for name in _ENDINGS if hasattr(cls, name)]
    return bool(endings) and all(kind_of(each) == "async" for each in endings)


def is_coroutine(value: object) -> bool:
    """Return whether a value is a coroutine, native or made from a generator."""
    return type(value) is CoroutineType or (
        type(value) is GeneratorType and returns_awaitable(value)
    )


def is_thread_bound(client: Any) -> bool:
    """Return whether an object keeps separate state for each thread."""
    threading = sys.modules.get("threading")
    if threading is None:
        return False
    return isinstance(client, threading.local) or any(
        isinstance(each, threading.local) for each in fields(client)
    )


def is_builtin(value: object) -> bool:
    """Return whether a value has a built-in data type, or a subclass of one."""
    return isinstance(value, _DATA)


def close_unawaited(awaitable: Any) -> None:
    """Close an awaitable whose await was refused, and which no other code will await."""
    close = getattr(awaitable, "close", None)
    if hasattr(type(awaitable), "__await__") and close is not None and kind_of(close) == "sync":
        close()


def makes_async(fn: Any) -> bool:
    """Return whether a plain function only makes an async context manager."""
    inner = getattr(fn, "__wrapped__", None)
    return inner is not None and kind_of(fn) == "sync" and kind_of(inner) == "async generator"


def has_async_methods(client: Any) -> bool:
    """Return whether an object has public methods that are async."""
    found = (getattr(type(client), name, None) for name in public_names(client))
    return any(
        each is not None and (kind_of(each) in ("async", "async generator") or makes_async(each))
        for each in found
    )


def is_mocks_own(client: Any, name: str) -> bool:
    """Return whether a method is a mock's own, such as ``assert_called_once``, and not mocked."""
    mocking = sys.modules.get("unittest.mock")
    if mocking is None or not issubclass(type(client), mocking.NonCallableMock):
        return False
    return not name.startswith("__") and hasattr(mocking.AsyncMock, name)
