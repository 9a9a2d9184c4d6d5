"""What a method does, according to its bytecode: whether it only reads what its object holds."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from functools import cached_property
from types import CodeType, FunctionType
from typing import Any, Final

from ...callables import kind_of
from .reach import CONTAINERS

_NEXT: Final = ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER", "STORE_ATTR", "DELETE_ATTR", "RETURN_")
_SKIPPED: Final = frozenset({"CACHE", "EXTENDED_ARG", "NOP", "PRECALL", "PUSH_NULL", "RESUME"})
_ASKS: Final = frozenset({"id", "isinstance", "type"})
_NAMED: Final = frozenset({"getattr", "hasattr"})
_RECORDS: Final = frozenset({"attr", "attrs", "msgspec", "pydantic"})  # they hold no client


def only_reads(cls: type, name: str, live: frozenset[str], *, itself: bool = False) -> bool:
    """Return whether a method of a class touches none of the live attributes of its object.

    If in doubt, the answer is no: for a method written in C, one that passes its object to another
    function, one that is async. With `itself`, also for one that calls other methods of its
    object.
    """
    read: set[str] = set()
    found = _reads(cls, name, live, {name}, read) and bool(read)
    return found and not (itself and any(_is_function(cls, each) for each in read - {name}))


def returns_itself(cls: type, name: str) -> bool:
    """Return whether a special method does nothing but return its object."""
    fn = static(cls, name)
    if type(fn) is not FunctionType:
        return cls.__module__ in ("_io", "io") and name == "__enter__"
    plain = _async_itself if kind_of(fn) == "async" else _itself
    code = fn.__code__
    return code.co_code == plain.__code__.co_code and not code.co_names


def _itself(self: Any) -> Any:
    return self


async def _async_itself(self: Any) -> Any:
    return self


def _reads(cls: type, name: str, live: frozenset[str], seen: set[str], read: set[str]) -> bool:
    """Check all definitions of a name in a class; add the attributes that they read."""
    for base in cls.__mro__:
        fn = base.__dict__.get(name)
        if fn is None or base is object:
            continue
        if isinstance(fn, property):
            fn = fn.fget
        elif isinstance(fn, cached_property):
            fn = fn.func
        if base in CONTAINERS or base.__module__.partition(".")[0] in _RECORDS:
            read.add(name)
            continue
        if type(fn) is not FunctionType or kind_of(fn) in ("async", "async generator"):
            return False
        if not _code_reads(fn, cls, live, seen, read):
            return False
    return True


def _code_reads(
    fn: FunctionType, cls: type, live: frozenset[str], seen: set[str], read: set[str]
) -> bool:
    code = fn.__code__
    if not code.co_argcount or code.co_varnames[0] in code.co_cellvars:
        return False  # it has no self, or an inner function captures it
    if set(code.co_freevars) - {"__class__"}:
        return False
    names = _used(code)
    if names is None or names & live:
        return False
    for name in sorted(names - seen):
        seen.add(name)
        if _is_own(cls, name) and not _reads(cls, name, live, seen, read):
            return False
    read |= names
    return True


def static(cls: type, name: str) -> Any:
    """Return a class's attribute, unbound, without running any of its code."""
    return next((base.__dict__[name] for base in cls.__mro__ if name in base.__dict__), None)


def _is_function(cls: type, name: str) -> bool:
    return callable(static(cls, name)) or isinstance(static(cls, name), (classmethod, staticmethod))


def _is_own(cls: type, name: str) -> bool:
    return _is_function(cls, name) or isinstance(static(cls, name), (property, cached_property))


def _used(code: CodeType) -> set[str] | None:
    """Return the attributes of self that some code uses, None if self itself goes elsewhere."""
    import dis

    own, found = code.co_varnames[0], set[str]()
    steps = [step for step in dis.get_instructions(code) if step.opname not in _SKIPPED]
    if any(step.argval == "super" for step in steps):  # a method it calls there may have any name
        found |= {step.argval for step in steps if step.opname in ("LOAD_ATTR", "LOAD_METHOD")}
    for place, step in enumerate(steps):
        loaded = step.argval if isinstance(step.argval, tuple) else (step.argval,)
        if "LOAD_FAST" not in step.opname or own not in loaded:
            continue
        before = steps[place - 1].argval if place else None
        after = steps[place + 1] if place + 1 < len(steps) else None
        if loaded[-1] != own or own in loaded[:-1] or after is None:
            return None
        if after.opname.startswith(_NEXT):
            if isinstance(after.argval, str):
                found.add(after.argval)
        elif before in _NAMED and isinstance(after.argval, str) and "CONST" in after.opname:
            found.add(after.argval)
        elif before not in _ASKS and not _is_raised(steps[place + 1 :]):
            return None
    return found


def _is_raised(steps: list[Any]) -> bool:
    """Return whether the value on the stack only goes into an error that is raised at once."""
    for step in steps:
        if step.opname == "RAISE_VARARGS":
            return True
        if step.opname.startswith(("STORE", "RETURN", "POP", "JUMP", "YIELD")):
            return False
    return False
