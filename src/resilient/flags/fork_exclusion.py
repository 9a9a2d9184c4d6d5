"""What must not be half done when the process forks: work on files that other processes share.

A child inherits the memory of every library that is at work at that moment, SQLite's too, which
then believes in locks that only the parent has. So whoever opens, uses or closes such a file does
it under one lock; a fork waits for that lock, has everything closed, and holds it until it is made.

A fork that can't wait any longer, or that tells nobody, goes on: its child never touches what it
inherited so, neither by closing it nor by collecting it as garbage.
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

LONGEST: Final = 5.0  # seconds that a fork waits for what is under way
_MOMENT: Final = 0.5  # seconds that a call is kept waiting
PATIENCE: Final = 10.0  # seconds that work waits for a fork, or for other work


class Closable(Protocol):
    """What is closed before a fork, and opens itself again."""

    def close(self) -> None:
        """Let go of what it holds; nobody else is at it."""
        ...

    def inherited(self) -> None:
        """Never touch again what it holds: this is a child, and it is its parent's."""
        ...


class _Undisturbed:
    """A lock that a fork waits for, and what is open meanwhile."""

    def __init__(self) -> None:
        self._lock: Any = threading.RLock()
        self._gate = threading.RLock()  # passed on the way to the lock, so that a fork comes next
        self._open: dict[int, Closable] = {}  # held here, so that nobody else collects it
        self._left: deque[Closable] = deque()  # whose users are gone
        self._forking = 0  # forks of the thread that holds the lock
        self._waited = True  # the last fork did

    def __enter__(self) -> None:
        # In a signal handler the thread may hold a lock that the fork under way waits for.
        passed = self._lock._is_owned() or self._pass()
        if not (passed and self._lock.acquire(timeout=PATIENCE)):
            raise TimeoutError(f"a fork, or another thread, has been at it for {PATIENCE:.0f} s")
        while self._left:
            self._left.popleft().close()

    def __exit__(self, *_: object) -> None:
        try:
            if self._forking:  # a finalizer, or a signal handler, between the hooks of a fork
                self._close_all()
        finally:
            self._lock.release()

    def _pass(self) -> bool:
        gate = self._gate  # a forked child has another one
        passed = gate.acquire(timeout=PATIENCE)
        if passed:
            gate.release()
        return passed

    @contextmanager
    def briefly(self) -> Generator[None]:
        """Have a fork wait for what takes a moment, and wait no longer than one for that."""
        held = self._lock.acquire(timeout=_MOMENT)  # at the gate it might wait for itself
        try:
            yield
        finally:
            if held:
                self._lock.release()

    # -- what is open ---------------------------------------------

    def opened(self, what: Closable) -> None:
        """Close something before the next fork."""
        self._open[id(what)] = what

    def closed(self, what: Closable) -> None:
        """Leave alone what was closed."""
        self._open.pop(id(what), None)

    def belongs(self, what: Closable, user: object) -> ref[object]:
        """Close something some time after its user has gone; return what is to be kept by it."""
        return ref(user, lambda _: self._left.append(what))

    def _close_all(self) -> None:
        for what in list(self._open.values()):
            with contextlib.suppress(Exception):
                what.close()

    # -- the hooks ---------------------------------------------

    def before_fork(self) -> None:
        gate = self._gate
        first = gate.acquire(timeout=LONGEST)  # whoever comes now waits for the fork
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
        if self._lock._is_owned():  # by this very thread, maybe from before the fork on
            self.in_parent()
        else:
            self._lock, self._forking = threading.RLock(), 0
        self._gate = threading.RLock()
        self._left.clear()
        for what in list(self._open.values()):
            what.inherited()


undisturbed: Final = _Undisturbed()


def install() -> None:
    """Have forks wait for work on files."""
    at_fork(
        "files",
        before=undisturbed.before_fork,
        in_parent=undisturbed.in_parent,
        in_child=undisturbed.in_child,
    )
