"""The critical section of a policy: its lock, its gate, and what is left to do after it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar, TypeVarTuple, cast

from ..clock import Clock
from ..events import bus
from ..guards.base import Waiter
from ..guards.facets import Queueing
from ..stack import room, room_for_call
from .counters import Counters
from .outbox import Outbox

BUSY: Final = 1  # bits of the gate: somebody is in the critical section
SHUT: Final = 2  # every call takes the long way in: see `PolicyState.settle`

Args = TypeVarTuple("Args")
T = TypeVar("T")


class Section(Counters):
    """What only one thread at a time does with a policy's guards and counts."""

    __slots__ = ("clock", "gate", "idle_gate", "lock", "name", "now", "outbox")
    clock: Clock | None
    now: Callable[[], float]

    def __init__(self, name: str) -> None:
        self.name: str = name
        # Re-entrant, so that a finalizer that lands inside finds the gate instead of a deadlock.
        # Taken by `with`, and by the fast path: an interrupt may come between acquire() and a try.
        self.lock: threading.RLock = threading.RLock()
        self.gate: int = SHUT
        self.idle_gate: int = SHUT  # the gate while nobody is inside
        self.outbox: Outbox = Outbox(name)

    def flush(self) -> None:
        """Do what the critical section left to be done outside it: wakes, events, late endings.

        From inside a section nothing is done: what was interrupted does it at its end.
        """
        outbox = self.outbox
        while outbox and not self.holds_lock():
            try:
                room()
                item = outbox.pop(0)
            except (IndexError, RecursionError):  # another thread took the last one
                return
            try:
                self._do(item)
            except RecursionError:  # nothing may be lost: a shorter stack will do it
                outbox.append(item)
                return

    def _do(self, item: Waiter | Callable[[], object] | None) -> None:
        if item is None:
            room_for_call()  # or it is kept
            bus.deliver()
        elif not isinstance(item, Waiter):
            item()
        elif not item.wake():
            self.quit(item)

    def locked(self, step: Callable[[*Args], T], *args: *Args) -> T:
        """Return what a step gives in the section; then do what it left to be done outside.

        A finalizer or signal handler may come here from inside the section: `owned` tells.
        """
        with self.lock:
            gate = self.gate
            self.gate = gate | BUSY
            try:
                result = step(*args)
            finally:
                self.gate = gate if gate & BUSY else self.idle_gate
        if self.outbox and not gate & BUSY:
            self.flush()
        return result

    def locked_or_later(self, step: Callable[[*Args], object], *args: *Args) -> None:
        """Take a step in the section; from inside it, leave that to what was interrupted."""
        if self.holds_lock():
            self.outbox.append(partial(self.locked_or_later, step, *args))
        else:
            self.locked(step, *args)

    def must_be_free(self) -> None:
        """Raise where an operator's change comes from inside the section it wants to enter."""
        if self.holds_lock():
            raise RuntimeError(f"{self.name}: not from inside its own bookkeeping")

    def quit(self, waiter: Waiter) -> None:
        """Take a waiter out of its line, and hand on what it was granted."""
        self.locked_or_later(cast("Queueing", waiter.guard).quit, waiter, self.now())

    @property
    def holds_lock(self) -> Callable[[], bool]:
        """What tells whether this thread is in the section, without a frame of its own."""
        tell: Callable[[], bool] = cast("Any", self.lock)._is_owned
        return tell
