"""Locks that are not a policy's own, and are made anew in a forked child."""

from __future__ import annotations

import threading
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


tally: Final = made_anew()
"""For counts that no policy's own lock covers."""
