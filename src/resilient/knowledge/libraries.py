"""What is known of the errors and answers of real libraries, by the package of their class.

A floor above says how to find it; nothing is imported before such an error or answer is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, cast
from weakref import WeakKeyDictionary

Predicates = tuple[Callable[[Any], bool], Callable[[Any], bool] | None]


class Found:
    """Where the predicates of a module's library come from: whose fault, and which answer."""

    of: ClassVar[Callable[[str], Predicates | None]]


def _nothing(_: str) -> Predicates | None:
    return None


Found.of = _nothing
_of_types: Final[WeakKeyDictionary[type, Predicates | None]] = WeakKeyDictionary()


def _predicates(kind: type) -> Predicates | None:
    try:
        return _of_types[kind]
    except KeyError:
        pass
    found: Predicates | None = None
    for base in kind.__mro__:
        found = Found.of(str(base.__module__))
        if found is not None:
            break
    _of_types[kind] = found
    return found


def callers_fault(error: Exception) -> bool:
    """Return whether an error of a known library is the caller's own doing."""
    if isinstance(error, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", error)
        return all(callers_fault(leaf) for leaf in group.exceptions)
    try:
        found = _predicates(type(error))
        return found is not None and found[0](error)
    except Exception:  # of an odd version of it, or no room to import: nothing is known
        return False


def is_known(kind: type) -> bool:
    """Return whether a class is of a library of which something is known."""
    try:
        return _predicates(kind) is not None
    except Exception:
        return True


def is_answer(value: object) -> bool:
    """Return whether a value is of a library whose answers may be failures."""
    try:
        found = _predicates(type(value))
    except Exception:
        return False
    return found is not None and found[1] is not None


def failed_answer(value: object) -> bool:
    """Return whether a value is the answer of a known library, and a failure."""
    if not is_answer(value):
        return False
    found = _predicates(type(value))
    try:
        return found is not None and found[1] is not None and found[1](value)
    except Exception:
        return False
