"""Validation of options: each error names the parameter, the value and what is allowed."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

if TYPE_CHECKING:
    from datetime import timedelta

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def shown(value: object) -> str:
    """Return a short repr of any value, even if its repr raises."""
    try:
        text = reprlib.repr(value)
    except Exception:
        text = f"<{type(value).__name__} whose repr raises>"
    return text if len(text) <= 80 else text[:77] + "..."


def clean(text: object) -> str:
    """Return a text without characters that move a cursor, forge a line or can't be encoded."""
    said = str(text)
    return said if said.isprintable() else "".join(c if c.isprintable() else "?" for c in said)


def refuse(name: str, value: object, allowed: str) -> NoReturn:
    raise ValueError(f"{name} must be {allowed}; got {shown(value)}")


def refuse_type(name: str, value: object, allowed: str) -> NoReturn:
    raise TypeError(f"{name} must be {allowed}; got {shown(value)} ({type(value).__name__})")


def _plain_float(name: str, value: object, allowed: str) -> float:
    # Only the built-in numbers: a subclass may override comparisons, and a bool is a mistake.
    if type(value) is int or type(value) is float:
        try:
            number = float(value)
        except OverflowError:
            refuse(name, value, allowed)
        if isfinite(number):
            return number
        refuse(name, value, allowed)
    refuse_type(name, value, allowed)


def as_timedelta(value: object) -> timedelta | None:
    """Return value if it is a timedelta, without importing datetime."""
    module = sys.modules.get("datetime")
    if module is None or not isinstance(value, module.timedelta):
        return None
    return cast("timedelta", value)


def duration(name: str, value: object, *, zero: bool = False) -> float:
    """Return a duration in seconds, from int or float seconds or a timedelta."""
    allowed = f"a duration {'>= 0' if zero else '> 0'}, in seconds (int, float) or a timedelta"
    span = as_timedelta(value)
    number = _plain_float(name, value, allowed) if span is None else span.total_seconds()
    # Platform timers overflow above ten years.
    if number < 0 or (number == 0 and not zero):
        refuse(name, value, allowed)
    if number > 315_576_000 or 0 < number < 1e-6:
        refuse(name, value, allowed + ", between 1 microsecond and 10 years")
    return number


def count(name: str, value: object, *, least: int = 1, most: int = 1_000_000) -> int:
    """Return a whole number between least and most."""
    allowed = f"an int from {least} to {most:,}"
    if type(value) is not int:
        refuse_type(name, value, allowed)
    if not least <= value <= most:
        refuse(name, value, allowed)
    return value


def number(name: str, value: object, *, least: float, most: float) -> float:
    """Return a number between least and most."""
    allowed = f"a number from {least:g} to {most:g}"
    found = _plain_float(name, value, allowed)
    if not least <= found <= most:
        refuse(name, value, allowed)
    return found


def share(name: str, value: object) -> float:
    """Return a share of calls, above 0 and at most 1."""
    allowed = "a number > 0 and <= 1 (0.5 is half of the calls)"
    number = _plain_float(name, value, allowed)
    if not 0 < number <= 1:
        refuse(name, value, allowed)
    return number


def one_of(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """Return value if it is one of the allowed words."""
    if type(value) is not str or value not in allowed:
        refuse(name, value, "one of " + ", ".join(repr(word) for word in allowed))
    return value


def flag(name: str, value: object) -> bool:
    """Return value if it is a bool."""
    if type(value) is not bool:
        refuse_type(name, value, "True or False")
    return value


def methods(name: str, value: T, *needed: str) -> T:
    """Return value if it has the needed methods."""
    for method in needed:
        if not callable(getattr(value, method, None)):
            refuse_type(name, value, "an object with the methods " + " and ".join(needed))
    return value


def text(name: str, value: object, *, most: int = 500) -> str:
    """Return a printable, one-paragraph text of bounded length."""
    if type(value) is not str:
        refuse_type(name, value, "a str")
    if len(value) > most:
        refuse(name, value, f"at most {most} characters long (got {len(value)})")
    if not value.isprintable():
        refuse(name, value, "printable text, without line breaks or control characters")
    return value


NAME_ALLOWED = (
    "1 to 100 characters from A-Z a-z 0-9 and . _ - < > : #, beginning with a letter, digit or _"
)
_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-<>:#")


def name_of(parameter: str, value: object) -> str:
    """Return value if it is a valid name of a policy or flag."""
    if type(value) is not str:
        refuse_type(parameter, value, f"a str of {NAME_ALLOWED}")
    if not (1 <= len(value) <= 100 and _NAME.issuperset(value) and value[0] not in ".-<>:#"):
        refuse(parameter, value, NAME_ALLOWED)
    return value


def keywords(fn: F) -> F:
    """Decorate fn so that an unknown keyword is refused with the nearest known one.

    Python itself suggests none up to 3.12. The wrapper is slow, so it is for functions that run
    seldom; inspection shows fn's own signature.
    """
    code = fn.__code__
    names = code.co_varnames[code.co_posonlyargcount : code.co_argcount + code.co_kwonlyargcount]
    known = frozenset(names)
    name = fn.__qualname__.removesuffix(".__init__").removeprefix("Levers.")

    @wraps(fn)
    def called(*args: Any, **kwargs: Any) -> Any:
        for given in kwargs:
            if given not in known:
                raise TypeError(_unknown(name, given, [each for each in names if each != "self"]))
        return fn(*args, **kwargs)

    return cast("F", called)


def _unknown(name: str, given: str, known: list[str]) -> str:
    hint = did_you_mean(given, known) or "."
    return f"{name}() has no parameter {shown(given)}{hint} There is: {', '.join(known)}"


def nearest(given: object, known: Iterable[str]) -> str:
    """Return the known name most like an unknown one; "" if none is like it."""
    import difflib

    return next(iter(difflib.get_close_matches(str(given), list(known), n=1)), "")


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """Return the end of a sentence that suggests the nearest known name; "" without one."""
    near = nearest(given, known)
    return f"; did you mean {near!r}?" if near else ""
