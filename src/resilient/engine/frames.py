"""Which frames have a call in them: a forked child reads its own calls from its stack.

A function that runs somebody else's code for a call says here which of its variables hold what.
Each name is looked for when the function is declared, so that a renamed one fails then and there.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

ROLES: Final[dict[CodeType, dict[str, str]]] = {}
"""By the code of a function: the name of the variable that has each role."""


def has_call(fn: Callable[P, T], **names: str) -> Callable[P, T]:
    """Declare that a frame of fn has a call in it; return fn.

    Args:
        fn: the function.
        names: of the variables that hold ``call``, a call of the interpreter; or ``plan``,
            ``tickets`` and ``began`` of one on the fast path; or ``core`` and ``ended``, when one
            began whose end is being counted.
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
    """Return what a frame's variables hold, by role; nothing where it has no call."""
    names = ROLES.get(frame.f_code)
    if names is None:
        return {}
    held = frame.f_locals
    return {role: held[name] for role, name in names.items() if name in held}
