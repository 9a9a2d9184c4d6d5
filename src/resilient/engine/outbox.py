"""What a critical section leaves to be done outside it: wakes, events, late endings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..events import Event, bus
from ..guards.base import Waiter


class Outbox(list[Any]):
    """Waiters to wake, None for events to deliver, functions to call; oldest first.

    It is a list because every operation of a list is atomic. It holds the policy's name, but
    neither its state nor a guard, so that a dropped policy is freed at once.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name: str = name

    def emit(self, item: Event | Waiter | Callable[[], object]) -> None:
        """Accept an event, a waiter or a function from a guard."""
        if isinstance(item, Event):
            item.policy = self.name
            bus.enqueue(item)
            self.append(None)
        else:
            self.append(item)
