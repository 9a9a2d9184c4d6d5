"""A bounded queue for slots.

The queue grants a freed slot to one waiter. If the waiter does not take the slot within a second,
the queue grants it to the next.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from ..state_types import WaitQueueState
from .base import PARK, REFUSE, Waiter

GRANT_LIFE: Final = 1.0  # seconds within which a waiter must take a granted slot


class WaitQueue(WaitQueueState):
    """The waiters, and those that were granted a slot. The caller of every method holds the lock.

    Args:
        places: the most that may wait.
        max_wait: seconds after which a waiter is refused.
        order: "fifo" or "lifo".
        wake: called with each waiter that is granted a slot: a method of the guard that gives it to
            `emit`, which is another one when the guard belongs to a policy.
    """

    __slots__ = ("_wake", "max_wait", "order", "places", "why")
    _line: OrderedDict[Waiter, None]
    _granted: OrderedDict[Waiter, None]

    def __init__(
        self, places: int, max_wait: float, order: str, wake: Callable[[Waiter], object]
    ) -> None:
        self.places: int = places
        self.max_wait: float = max_wait
        self.order: str = order
        self.why: str = ""  # of the refusal that was just returned
        self._wake = wake
        self._line = OrderedDict()
        self._granted = OrderedDict()

    def __len__(self) -> int:
        return len(self._line)

    @property
    def granted(self) -> int:
        """Slots that are granted and not yet taken."""
        return len(self._granted)

    def park(self, waiter: Waiter, now: float) -> int:
        """Add a waiter to the queue."""
        waiter.patience = self.max_wait
        waiter.deadline = now + self.max_wait
        self._line[waiter] = None
        return PARK

    def holds_grant(self, waiter: Waiter) -> bool:
        """Return True if a waiter has been granted a slot."""
        return waiter in self._granted

    def takes_grant(self, waiter: Waiter) -> bool:
        """Take the slot that a waiter was granted; return False without a grant."""
        if waiter not in self._granted:
            return False
        del self._granted[waiter]
        return True

    def waits_on(self, waiter: Waiter, now: float) -> int:
        """Return PARK for a waiter without a grant, or REFUSE if its time is up."""
        if waiter not in self._line:  # the queue reclaimed its grant
            self.why = f"the granted slot was not taken within {GRANT_LIFE:g} s"
            return REFUSE
        if now >= waiter.deadline:
            del self._line[waiter]
            self.why = f"no slot became free within {waiter.patience:g} s"
            return REFUSE
        return PARK

    def quit(self, waiter: Waiter) -> bool:
        """Remove a waiter; return True if it had been granted a slot."""
        self._line.pop(waiter, None)
        return self.takes_grant(waiter)

    def grant(self, free: int, now: float) -> None:
        """Grant free slots to waiters."""
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
        """Return this queue with another wake function."""
        self._wake = wake
        return self

    def clear(self) -> None:
        """Forget all waiters."""
        self._line.clear()
        self._granted.clear()
