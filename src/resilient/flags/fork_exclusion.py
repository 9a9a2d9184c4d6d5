"""Exclusion between forks and work on files that other processes share.

A child inherits the memory of every library in use at the fork. SQLite, for one, then believes
that it holds locks which only the parent has. So all code that opens, uses or closes such a file
holds one lock; a fork waits for that lock, closes everything, and holds it until the child exists.

A fork that can't wait any longer, or that runs no hooks, goes on: its child never touches the
files that it inherited, neither by closing them nor by collecting them as garbage.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, Protocol
from weakref import ref

from ..process import at_fork

LONGEST: Final = 5.0  # seconds that a fork waits for work in progress
_MOMENT: Final = 0.5  # seconds that a call waits for the lock at most
PATIENCE: Final = 10.0  # seconds that work waits for a fork, or for other work


class Closable(Protocol):
    """A resource that is closed before a fork, and reopens itself on demand."""

    def close(self) -> None:
        """Close the resource; the caller has excluded all other users."""
        ...

    def inherited(self) -> None:
        """In a forked child: never touch the resource again; it is the parent's."""
        ...


class _Undisturbed:
    """A lock that a fork waits for, and the resources that are open."""

    def __init__(self) -> None:
        self._lock: Any = threading.RLock()
        self._gate = threading.RLock()  # passed on the way to the lock: a waiting fork is next
        self._open: dict[int, Closable] = {}  # strong, so that no other code collects them
        self._left: deque[Closable] = deque()  # resources whose users were collected
        self._forking = 0  # unfinished forks of the thread that holds the lock
        self._waited = True  # whether the last fork got the lock

    def __enter__(self) -> None:
        # A signal handler's thread may hold a lock that the fork in progress waits for.
        passed = self._lock._is_owned() or self._pass()
        if not (passed and self._lock.acquire(timeout=PATIENCE)):
            raise TimeoutError(f"a fork, or another thread, has been at it for {PATIENCE:.0f} s")
        while self._left:
            self._left.popleft().close()

    def __exit__(self, *_: object) -> None:
        try:
            if self._forking:  # a finalizer or a signal handler ran between the hooks of a fork
                self._close_all()
        finally:
            self._lock.release()

    def _pass(self) -> bool:
        gate = self._gate  # a forked child replaces the attribute
        passed = gate.acquire(timeout=PATIENCE)
        if passed:
            gate.release()
        return passed

    @contextmanager
    def briefly(self) -> Generator[None]:
        """Hold the lock during a short piece of work, unless it stays busy for a moment."""
        held = self._lock.acquire(timeout=_MOMENT)  # not through the gate: it could wait for itself
        try:
            yield
        finally:
            if held:
                self._lock.release()

    # -- what is open ---------------------------------------------

    def opened(self, what: Closable) -> None:
        """Register a resource to be closed before the next fork."""
        self._open[id(what)] = what

    def closed(self, what: Closable) -> None:
        """Deregister a closed resource."""
        self._open.pop(id(what), None)

    def belongs(self, what: Closable, user: object) -> ref[object]:
        """Close a resource some time after its user is collected; return the reference to keep."""
        return ref(user, lambda _: self._left.append(what))

    def _close_all(self) -> None:
        for what in list(self._open.values()):
            with contextlib.suppress(Exception):
                what.close()

    # -- the hooks ---------------------------------------------

    def before_fork(self) -> None:
        gate = self._gate
        first = gate.acquire(timeout=LONGEST)  # a thread that comes now waits for the fork
        try:
            self._waited = waited = self._lock.acquire(timeout=LONGEST)
        finally:
            if first:
                gate.release()
        if waited:
            self._forking += 1
            self._close_all()

    def in_parent(self) -> None:
        if self._forking and self._lock._is_owned():
            self._forking -= 1
            self._lock.release()

    def in_child(self) -> None:
        if self._lock._is_owned():  # this very thread holds it, maybe since before the fork
            self.in_parent()
        else:
            self._lock, self._forking = threading.RLock(), 0
        self._gate = threading.RLock()
        self._left.clear()
        for what in list(self._open.values()):
            what.inherited()


undisturbed: Final = _Undisturbed()


def install() -> None:
    """Make forks wait for work on files."""
    at_fork(
        "files",
        before=undisturbed.before_fork,
        in_parent=undisturbed.in_parent,
        in_child=undisturbed.in_child,
    )
