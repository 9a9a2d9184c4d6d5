"""The errors and answers of known libraries, by the package of their class.

`integrations` sets how to find them; nothing is imported before such an error or answer exists.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, cast
from weakref import WeakKeyDictionary

Predicates = tuple[Callable[[Any], bool], Callable[[Any], bool] | None]


FAILED: Final = "failed_result"  # the reason of a value that only a predicate knows


class Found:
    """Where a module's predicates come from: for the caller's own errors and failed answers."""

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
    except Exception:  # an unknown version of the library, or no stack left for the import
        return False


def is_known(kind: type) -> bool:
    """Return whether a class belongs to a known library."""
    try:
        return _predicates(kind) is not None
    except Exception:
        return True


def is_answer(value: object) -> bool:
    """Return whether a value belongs to a library whose answers may be failures."""
    try:
        found = _predicates(type(value))
    except Exception:
        return False
    return found is not None and found[1] is not None


def name_of_failed(value: object) -> str:
    """Return what an operator reads of a failed value: ``Response 503``, or ``failed_result``."""
    if not is_answer(value):  # nothing of it is asked
        return FAILED
    try:
        found = (getattr(value, word, None) for word in ("status_code", "status"))
        status = next((each for each in found if type(each) is int), None)
    except Exception:
        return FAILED
    return FAILED if status is None else f"{type(value).__name__} {status}"


def failed_answer(value: object) -> bool:
    """Return whether a value is a known library's answer, and a failure."""
    if not is_answer(value):
        return False
    found = _predicates(type(value))
    try:
        return found is not None and found[1] is not None and found[1](value)
    except Exception:
        return False
