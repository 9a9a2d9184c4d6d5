"""Guards that are made anew on each call or request: their state lives shorter than what it counts.

Each such guard begins with nothing and is gone before it has seen enough to act. It looks on, and
is off. So the policies are counted that were made for the code of one function, each after the one
before was gone.
"""

from __future__ import annotations

import functools
from collections import deque
from types import CodeType, MethodType
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary, ref

from .errors import DeclarationWarning
from .locks import made_anew
from .place import Place

if TYPE_CHECKING:
    from .drive.core import Core

ENOUGH: Final = 10  # of them are no chance
_BACK: Final = 3  # the very last may live on for a moment, in the traceback of an error

_lock: Final = made_anew()
_seen: Final[WeakKeyDictionary[CodeType, _Row]] = WeakKeyDictionary()


class _Row:
    """The policies that were made for one function, in a row."""

    __slots__ = ("last", "lost")

    def __init__(self) -> None:
        self.last: deque[ref[Core]] = deque(maxlen=_BACK)
        self.lost = 0


def function_in(fn: object) -> Any:
    """Return the function in a partial or bound method."""
    while isinstance(fn, (functools.partial, MethodType)):
        fn = cast("Any", fn).func if isinstance(fn, functools.partial) else fn.__func__
    return fn


def notice(fn: object, core: Core, kind: str) -> None:
    """Take note of a policy that a decorator has made, and warn, once, of a row that got lost."""
    code = getattr(function_in(fn), "__code__", None)
    if not isinstance(code, CodeType):
        return
    with _lock:
        row = _seen.setdefault(code, _Row())
        gone = len(row.last) == _BACK and row.last[0]() is None
        row.last.append(ref(core))
        row.lost += gone
        if not gone or row.lost != ENOUGH:
            return
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
