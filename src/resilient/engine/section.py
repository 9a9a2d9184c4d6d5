"""The critical section of a policy: its lock, its gate, and the outbox that is run after it."""

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

BUSY: Final = 1  # bits of the gate: a thread is in the critical section
SHUT: Final = 2  # every call takes the slow path: see `PolicyState.compute_gate`

Args = TypeVarTuple("Args")
T = TypeVar("T")


class Section(Counters):
    """What only one thread at a time may do with a policy's guards and counters."""

    __slots__ = ("clock", "idle_gate", "lock", "name")
    clock: Clock | None

    def __init__(self, name: str) -> None:
        self.name: str = name
        # Re-entrant, so that a finalizer that lands inside finds the gate instead of a deadlock.
        # Taken by `with`, or as the fast path does: an interrupt may come between acquire() and a
        # try.
        self.lock: threading.RLock = threading.RLock()
        self.gate: int = SHUT
        self.idle_gate: int = SHUT  # the gate while no thread is inside
        self.outbox: Outbox = Outbox(name)

    def flush(self) -> None:
        """Run what the critical section left in the outbox: wakes, events, late endings.

        Inside a section this does nothing: the interrupted section does it at its end.
        """
        outbox = self.outbox
        while outbox and not self.holds_lock():
            try:
                room()
                item = outbox.pop(0)
            except (IndexError, RecursionError):  # another thread took the last item
                return
            try:
                self._do(item)
            except RecursionError:  # lose nothing: a shorter stack will run it
                outbox.append(item)
                return

    def _do(self, item: Waiter | Callable[[], object] | None) -> None:
        if item is None:
            room_for_call()  # raises before the events are taken
            bus.deliver()
        elif not isinstance(item, Waiter):
            item()
        elif not item.wake():
            self.quit(item)

    def locked(self, step: Callable[[*Args], T], *args: *Args) -> T:
        """Run a step in the section, return its result, then run the outbox.

        A finalizer or signal handler may call this from inside the section: `holds_lock` says so.
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
        """Run a step in the section; inside a section, leave it to the interrupted one."""
        if self.holds_lock():
            self.outbox.append(partial(self.locked_or_later, step, *args))
        else:
            self.locked(step, *args)

    def must_be_free(self) -> None:
        """Raise if an operator's change comes from inside the section that it needs."""
        if self.holds_lock():
            raise RuntimeError(f"{self.name}: not from inside its own bookkeeping")

    def quit(self, waiter: Waiter) -> None:
        """Remove a waiter from its queue, and pass on what it was granted."""
        self.locked_or_later(cast("Queueing", waiter.guard).quit, waiter, self.now())

    @property
    def holds_lock(self) -> Callable[[], bool]:
        """A function that returns True if this thread holds the lock; it needs no stack frame."""
        tell: Callable[[], bool] = cast("Any", self.lock)._is_owned
        return tell
