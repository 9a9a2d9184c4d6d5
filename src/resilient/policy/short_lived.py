"""Guards that are made anew on each call or request: their state lives shorter than what it counts.

Each such guard begins with nothing and is gone before it has seen enough to act. It looks on, and
is off. So the policies are counted that were made for the code of one function, and are gone.
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

ENOUGH: Final = 10  # of them are no chance

_lock: Final = made_anew()
_seen: Final[WeakKeyDictionary[CodeType, _Row]] = WeakKeyDictionary()


class _Row:
    """The policies that were made for one function, in a row."""

    __slots__ = ("alive", "lost", "told")

    def __init__(self) -> None:
        self.alive: set[ref[PolicyState]] = set()
        self.lost = 0
        self.told = False

    def died(self, core: ref[PolicyState]) -> None:
        """Take note that one is gone, in a finalizer."""
        self.alive.discard(core)
        self.lost += 1


def function_in(fn: object) -> Any:
    """Return the function in a partial or bound method."""
    while isinstance(fn, (functools.partial, MethodType)):
        fn = cast("Any", fn).func if isinstance(fn, functools.partial) else fn.__func__
    if manager_of(fn):  # the code of all of them is contextlib's
        return cast("Any", fn).__wrapped__
    return fn


def notice(fn: object, core: PolicyState, kind: str) -> None:
    """Take note of a policy that a decorator has made, and warn, once, of a row that got lost."""
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
    """Begin to count anew: for tests, whose functions are made again and again."""
    with _lock:
        _seen.clear()
