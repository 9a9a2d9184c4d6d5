"""Locks that belong to no policy, and are renewed in a forked child."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

_made: Final[list[Any]] = []


def made_anew() -> threading.RLock:
    """Return a lock that is free in a forked child, whoever held it in the parent.

    It is re-entrant: a signal handler or finalizer may interrupt the code that holds it.
    """
    lock = threading.RLock()
    _made.append(lock)
    return lock


def reset_locks() -> None:
    """Renew all of these locks, in a forked child."""
    for lock in _made:
        lock._at_fork_reinit()


@contextmanager
def held(lock: Any, patience: float) -> Generator[bool]:
    """Try to hold a lock while the body runs; yield whether that succeeded.

    It yields False if this thread holds the lock: in a finalizer, a listener, or a signal handler.
    """
    if lock._is_owned():
        yield False
        return
    release = lock.release
    try:  # an interrupt may come after any call, but not before the first in a `finally`
        yield lock.acquire(timeout=patience)
    finally:
        try:
            release()
        except RuntimeError:  # the lock was not acquired
            pass


tally: Final = made_anew()
"""For counts that no policy's lock covers."""
