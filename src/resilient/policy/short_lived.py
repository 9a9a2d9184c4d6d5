"""Detection of guards that are made again on each call or request, and die before they can act.

Such a guard starts empty and is collected before it has seen enough calls, so it never acts. This
module counts, by the code of the decorated function, policies that were made and collected.
"""

from __future__ import annotations

import functools
from types import CodeType, MethodType
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary, ref

from ..callables import manager_of
from ..errors import DeclarationWarning
from ..locks import made_anew
from ..place import Place

if TYPE_CHECKING:
    from ..engine.policy_state import PolicyState

ENOUGH: Final = 10  # so many are not a coincidence

_lock: Final = made_anew()
_seen: Final[WeakKeyDictionary[CodeType, _Row]] = WeakKeyDictionary()


class _Row:
    """The policies made for one function."""

    __slots__ = ("alive", "lost", "told")

    def __init__(self) -> None:
        self.alive: set[ref[PolicyState]] = set()
        self.lost = 0
        self.told = False

    def died(self, core: ref[PolicyState]) -> None:
        """Count a collected policy; runs in a finalizer."""
        self.alive.discard(core)
        self.lost += 1


def function_in(fn: object) -> Any:
    """Return the function in a partial or bound method."""
    while isinstance(fn, (functools.partial, MethodType)):
        fn = cast("Any", fn).func if isinstance(fn, functools.partial) else fn.__func__
    if manager_of(fn):  # all of them share contextlib's code
        return cast("Any", fn).__wrapped__
    return fn


def notice(fn: object, core: PolicyState, kind: str) -> None:
    """Record a decorator's new policy; warn once if too many of its predecessors were collected."""
    code = getattr(function_in(fn), "__code__", None)
    if not isinstance(code, CodeType):
        return
    with _lock:
        row = _seen.setdefault(code, _Row())
        row.alive.add(ref(core, row.died))
        if row.told or row.lost < ENOUGH:
            return
        row.told = True
    import warnings

    warnings.warn(
        f"{code.co_qualname}: a {kind} was made for it again and again, each time after those "
        "before were gone: what it has seen is lost, and it never acts. Decorate the function "
        "once, where it is defined, or make one Policy and use its call(). In method_decorator() "
        "use a Policy, or a guard that was made outside",
        DeclarationWarning,
        stacklevel=Place.depth(),
    )


def forget() -> None:
    """Reset the counts: for tests, which make their functions again and again."""
    with _lock:
        _seen.clear()
