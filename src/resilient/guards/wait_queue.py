"""A queue for slots: bounded, with a grant for each that is freed.

A freed slot is granted to one waiter, who has a second to take it; then it is handed on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from .base import PARK, REFUSE, Waiter

GRANT_LIFE: Final = 1.0  # seconds in which a granted slot must be taken


class WaitQueue:
    """Who waits for a slot, and who has been granted one. Everything is done under the lock.

    Args:
        places: how many may wait.
        max_wait: seconds after which who waits is refused.
        order: "fifo" or "lifo".
        wake: takes a waiter that was granted a slot.
    """

    __slots__ = ("_granted", "_line", "_wake", "max_wait", "order", "places", "why")

    def __init__(
        self, places: int, max_wait: float, order: str, wake: Callable[[Waiter], object]
    ) -> None:
        self.places: int = places
        self.max_wait: float = max_wait
        self.order: str = order
        self.why: str = ""  # of the refusal made now
        self._wake = wake
        self._line: OrderedDict[Waiter, None] = OrderedDict()
        self._granted: OrderedDict[Waiter, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._line)

    @property
    def granted(self) -> int:
        """Slots that are granted, and not taken yet."""
        return len(self._granted)

    def park(self, waiter: Waiter, now: float) -> int:
        """Put a waiter in the queue."""
        waiter.patience = self.max_wait
        waiter.deadline = now + self.max_wait
        self._line[waiter] = None
        return PARK

    def holds_grant(self, waiter: Waiter) -> bool:
        """Return whether a waiter has been granted a slot."""
        return waiter in self._granted

    def takes_grant(self, waiter: Waiter) -> bool:
        """Take the slot that a waiter was granted; False where it was not."""
        if waiter not in self._granted:
            return False
        del self._granted[waiter]
        return True

    def waits_on(self, waiter: Waiter, now: float) -> int:
        """Return PARK for a waiter without a grant, or REFUSE where it has waited long enough."""
        if waiter not in self._line:  # its grant had grown too old and was handed on
            self.why = f"the granted slot was not taken within {GRANT_LIFE:g} s"
            return REFUSE
        if now >= waiter.deadline:
            del self._line[waiter]
            self.why = f"no slot became free within {waiter.patience:g} s"
            return REFUSE
        return PARK

    def quit(self, waiter: Waiter) -> bool:
        """Take a waiter out; return whether it had been granted a slot."""
        self._line.pop(waiter, None)
        return self.takes_grant(waiter)

    def grant(self, free: int, now: float) -> None:
        """Grant free slots to those who wait."""
        line = self._line
        while line and free > 0:
            waiter, _ = line.popitem(last=self.order == "lifo")
            waiter.granted_at = now
            self._granted[waiter] = None
            self._wake(waiter)
            free -= 1

    def reclaim(self, now: float) -> None:
        """Take back the grants that nobody has taken in time."""
        while self._granted:
            waiter, _ = self._granted.popitem(last=False)
            if waiter.granted_at is not None and now - waiter.granted_at < GRANT_LIFE:
                self._granted[waiter] = None
                self._granted.move_to_end(waiter, last=False)
                return

    def given_to(self, wake: Callable[[Waiter], object]) -> WaitQueue:
        """Return this queue, with another that wakes."""
        self._wake = wake
        return self

    def clear(self) -> None:
        """Forget all."""
        self._line.clear()
        self._granted.clear()
