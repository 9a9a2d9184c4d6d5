"""What a critical section leaves to be done outside it: wakes, events, late endings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..events import Event, bus
from ..guards.base import Waiter


class Outbox(list[Any]):
    """Waiters to wake, None for events to deliver, functions to call; oldest first.

    A list, whose every operation is one step. It knows the policy's name, and neither the core nor
    a guard, so that a policy that is dropped is freed at once.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name: str = name

    def emit(self, item: Event | Waiter | Callable[[], object]) -> None:
        """Take what a guard has to say."""
        if isinstance(item, Event):
            item.policy = self.name
            bus.enqueue(item)
            self.append(None)
        else:
            self.append(item)
