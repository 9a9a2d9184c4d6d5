"""Wait at a fork for imports that are under way.

A child inherits the locks of half imported modules, but none of the threads that would finish them:
an import of its own would wait for ever. So a fork waits briefly until no other thread is
importing, and keeps others from beginning until the fork is made.
"""

from __future__ import annotations

import _imp
import threading
import time
from importlib import _bootstrap as bootstrap
from typing import Any, Final
from weakref import WeakSet

from .process import at_fork

_LONGEST: Final = 1.0  # seconds that a fork waits
_LOCKS: Final[dict[str, Any]] = getattr(bootstrap, "_module_locks", {})
_endless: Final[WeakSet[Any]] = WeakSet()  # of imports that took longer, such as a whole program


class _Forks(threading.local):
    def __init__(self) -> None:
        self.held: list[bool] = []  # of the forks that this thread is making


_forks: Final = _Forks()


def _hold() -> None:
    _forks.held.append(_held())


def _held() -> bool:
    """Keep other threads from importing; return False if one does not finish."""
    until = time.monotonic() + _LONGEST
    while True:
        _imp.acquire_lock()
        others = _of_others()
        if not others:
            return True
        _imp.release_lock()
        if time.monotonic() >= until:
            _endless.update(others)
            return False
        time.sleep(0.001)


def _release() -> None:
    if _forks.held and _forks.held.pop():
        _imp.release_lock()


def _of_others() -> list[Any]:
    """Return the locks of the imports that other threads are doing."""
    me = threading.get_ident()
    locks = [ref() for ref in list(_LOCKS.values())]
    return [
        lock for lock in locks if lock is not None and lock.owner != me and lock not in _endless
    ]


def install() -> None:
    """Have forks wait for imports."""
    at_fork("imports", before=_hold, in_parent=_release, in_child=_release)
