"""What an object leads back to, found without running any of its code.

A handed-out object reaches back if it holds the client, or something that the client works by:
in its attributes, in a partial or a bound method, in the closure of a function, in a weak
reference. The search also looks through data that came with it, but not far.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import gc
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FrameType,
    FunctionType,
    MethodType,
    ModuleType,
    TracebackType,
)
from typing import Any, Final

Target = Callable[[Any], bool]

_MOST: Final = 64  # objects that one search visits
_ITEMS: Final = 8  # of a container, the first ones
_ATOMS: Final = (type(None), bool, int, float, complex, str, bytes, bytearray, memoryview)
_ENDS: Final = (
    *_ATOMS, type, ModuleType, CodeType, FrameType, TracebackType, BaseException, range, slice,
)  # fmt: skip
CONTAINERS: Final[tuple[type[Any], ...]] = (dict, list, tuple, set, frozenset, deque)
# The standard library's own objects lead nowhere, except those that hold what they call.
_LEADING: Final = frozenset({
    "_asyncio", "_collections_abc", "_functools", "_operator", "builtins", "collections",
    "concurrent", "contextlib", "functools", "itertools", "operator", "types", "weakref",
})  # fmt: skip
# Attributes with these words describe the request, not its answer.
_WISHES: Final = (
    *("arg", "codec", "concern", "config", "encod", "header", "log", "option", "param"),
    *("preference", "query", "request_", "retry", "serial", "setting"),
)
_DEPTH: Final = 3  # levels of the search for what a client works by


def named_fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Return what an object's own attributes hold, by name."""
    try:
        own: dict[str, Any] = object.__getattribute__(value, "__dict__")
    except AttributeError:
        own = {}
    yield from list(own.items())
    for base in type(value).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            descriptor = base.__dict__.get(_mangled(base, name))
            if descriptor is None or name in ("__dict__", "__weakref__"):
                continue
            try:
                held = descriptor.__get__(value)
            except AttributeError:
                continue
            if name.startswith("__") and type(held) is dict:  # such as those of pydantic
                yield from list(held.items())
            yield name, held


def _mangled(base: type, name: str) -> str:
    private = name.startswith("__") and not name.endswith("__")
    return f"_{base.__name__.lstrip('_')}{name}" if private else name


def reaches(value: Any, is_target: Target, *, through_data: bool = True) -> bool:
    """Return whether an object leads to a target, with or without a search of its data."""
    todo, seen = deque([value]), {id(value)}
    for _ in range(_MOST):
        if not todo:
            return False
        for inner in _held(todo.popleft()):
            if isinstance(type(inner), type) and issubclass(type(inner), _ATOMS):
                continue
            if is_target(inner):
                return True
            if id(inner) in seen or not _leads(type(inner), through_data=through_data):
                continue
            seen.add(id(inner))
            todo.append(inner)
    return False


def _leads(cls: type, *, through_data: bool) -> bool:
    if issubclass(cls, _ENDS) or (not through_data and issubclass(cls, CONTAINERS)):
        return False
    root = str(cls.__module__).partition(".")[0]
    return root in _LEADING or root not in sys.stdlib_module_names


def _held(value: Any) -> Iterable[Any]:  # noqa: PLR0911 - one for each kind of object
    """Return what an object holds."""
    cls: type[Any] = type(value)
    if cls is FunctionType:  # not its globals, which hold everything
        given = value.__closure__, value.__defaults__, value.__kwdefaults__
        return [each for each in given if each is not None]
    if cls is MethodType:
        return value.__self__, value.__func__
    if cls is BuiltinFunctionType:
        return (value.__self__,)
    if cls is CellType:
        return gc.get_referents(value)
    if issubclass(cls, weakref.ref):
        return (weakref.ref.__call__(value),)
    held: list[Any] = []
    if issubclass(cls, dict):
        held += islice(dict.values(value), _ITEMS)
    else:
        kind = next((each for each in CONTAINERS if issubclass(cls, each)), None)
        if kind is not None:
            held += islice(kind.__iter__(value), _ITEMS)
    if cls in CONTAINERS:
        return held
    if str(cls.__module__).partition(".")[0] in sys.stdlib_module_names:
        return chain(held, gc.get_referents(value))  # such as a partial, a map
    return chain(held, (each for _, each in named_fields(value)))


def live_fields(value: Any, is_target: Target) -> frozenset[str]:
    """Return the names of the attributes by which an object reaches back."""
    return frozenset(
        name
        for name, held in named_fields(value)
        if is_target(held)
        or (_leads(type(held), through_data=False) and reaches(held, is_target, through_data=False))
    )


def works_by(client: Any, is_client: Target) -> list[Any]:
    """Return what a client works by: its transport, its pool, and what those work by."""
    found: list[Any] = []
    seen = {id(client)}
    level = [client]
    for _ in range(_DEPTH):
        inner: list[Any] = []
        for each in level:
            for name, held in named_fields(each):
                if id(held) in seen or is_wish(name) or not is_client(held):
                    continue
                seen.add(id(held))
                inner.append(held)
        found += inner
        level = inner
        if len(found) >= _MOST:
            break
    return found


def is_wish(name: str) -> bool:
    """Return whether an attribute, by its name, describes a request rather than its answer."""
    lower = name.lower()
    return any(word in lower for word in _WISHES)


def has_brought(value: Any, given: Iterable[Any], is_shared: Target, *, deep: bool = True) -> bool:
    """Return whether an object that reaches back holds data besides its call's arguments.

    What it shares with its client does not count.
    """
    if isinstance(value, CONTAINERS):
        return True
    known = {id(each) for each in given}
    fields = [(name, held) for name, held in named_fields(value)
              if not is_wish(name) and id(held) not in known and not is_shared(held)]  # fmt: skip
    if any(_is_new(held, known) for _, held in fields):
        return True
    return deep and any(
        _leads(type(held), through_data=False)
        and not callable(held)
        and has_brought(held, (), is_shared, deep=False)
        for _, held in fields
    )


def _is_new(held: Any, known: set[int]) -> bool:
    if type(held) is bytes:
        return bool(held)
    if type(held) not in (dict, list, tuple, deque, set, frozenset):
        return False
    items = list(islice(held.values() if type(held) is dict else held, _ITEMS))
    return any(isinstance(each, (*_ATOMS, *CONTAINERS)) and id(each) not in known for each in items)
