"""Locks that are not a policy's own, and are made anew in a forked child."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

_made: Final[list[Any]] = []


def made_anew() -> threading.RLock:
    """Return a lock that a forked child finds free, whoever held it in its parent.

    Re-entrant: a signal handler or finalizer may come in the middle of what it covers.
    """
    lock = threading.RLock()
    _made.append(lock)
    return lock


def reset_locks() -> None:
    """Make all of them anew, in a forked child."""
    for lock in _made:
        lock._at_fork_reinit()


@contextmanager
def held(lock: Any, patience: float) -> Generator[bool]:
    """Hold a lock while the body runs, which learns whether it got it.

    Not where this very thread has it: in a finalizer, a listener, or a signal handler.
    """
    if lock._is_owned():
        yield False
        return
    release = lock.release
    try:  # an interrupt may come after any call, but not before the first of a `finally`
        yield lock.acquire(timeout=patience)
    finally:
        try:
            release()
        except RuntimeError:  # it was not ours
            pass


tally: Final = made_anew()
"""For counts that no policy's own lock covers."""
