"""Find the calls in the frames of a stack: a forked child must know its own calls.

A function that runs foreign code for a call declares here which of its variables hold what. The
declaration looks up each name at once, so that a renamed variable fails at import.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

ROLES: Final[dict[CodeType, dict[str, str]]] = {}
"""For the code of a function, the name of the variable in each role."""


def has_call(fn: Callable[P, T], **names: str) -> Callable[P, T]:
    """Declare that the frames of fn have a call; return fn.

    Args:
        fn: the function.
        names: the variables that hold ``call``, a call of the interpreter; or ``pipeline``,
            ``tickets`` and ``began`` of a call on the fast path; or ``entered``, its compiled
            pass; or ``core`` and ``ended``, the
            begin of a call whose end is being counted.
    """
    code: CodeType = fn.__code__
    if code not in ROLES:
        known = {*code.co_varnames, *code.co_cellvars, *code.co_freevars}
        for role, name in names.items():
            if name not in known:
                raise NameError(f"{fn.__qualname__} has no variable {name!r} to be its {role}")
        ROLES[code] = names
    return fn


def variables(frame: Any) -> dict[str, Any]:
    """Return the values of a frame's declared variables by role; empty without a call."""
    names = ROLES.get(frame.f_code)
    if names is None:
        return {}
    held = frame.f_locals
    return {role: held[name] for role, name in names.items() if name in held}
