"""What must not be half done when the process forks: work on files that other processes share.

A child inherits every lock that is held at that moment, SQLite's own too, and never lets go of it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final, Protocol
from weakref import KeyedRef

LONGEST: Final = 1.0  # seconds that a fork waits for what is under way


class Closable(Protocol):
    """What is closed before a fork, and opens itself again."""

    def close(self) -> None:
        """Let go of what it holds."""
        ...


class _Undisturbed:
    """A lock that a fork waits for."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._open: dict[int, KeyedRef[int, Closable]] = {}
        self._waited = False

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def close_before_fork(self, what: Closable) -> None:
        """Close something before every fork, as long as it lives."""
        forget: Callable[[KeyedRef[int, Closable]], object] = lambda r: self._open.pop(r.key, None)  # noqa: E731
        self._open[id(what)] = KeyedRef(what, forget, id(what))

    def before_fork(self) -> None:
        self._waited = self._lock.acquire(timeout=LONGEST)
        if self._waited:
            for what in [ref() for ref in list(self._open.values())]:
                if what is not None:
                    what.close()

    def in_parent(self) -> None:
        if self._waited:
            self._lock.release()

    def in_child(self) -> None:
        self._lock = threading.RLock()


undisturbed: Final = _Undisturbed()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=undisturbed.before_fork,
        after_in_parent=undisturbed.in_parent,
        after_in_child=undisturbed.in_child,
    )
