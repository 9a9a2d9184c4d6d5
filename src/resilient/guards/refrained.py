"""Attempts that a guard does not make, by the reason: counted, and now and then an event."""

from __future__ import annotations

from typing import Final

from ..events import Event
from .base import Guard

QUIET: Final = 60.0  # seconds without one for a reason, after which the first is an event


class Refrained:
    """What a guard has refrained from.

    Attributes:
        by_reason: how many attempts were not made, by what stood against them.
    """

    __slots__ = ("_told", "by_reason")

    def __init__(self, reasons: tuple[str, ...]) -> None:
        self.by_reason: dict[str, int] = dict.fromkeys(reasons, 0)
        self._told: dict[str, float] = {}  # when each reason came up last

    def note(self, guard: Guard, now: float, reason: str, why: str) -> None:
        """Count an attempt that is not made; under the lock."""
        last = self._told.get(reason)
        if last is None or now - last >= QUIET:
            guard.emit(Event("not_retried", guard=guard.kind, at=now, reason=why))
        self._told[reason] = now
        self.by_reason[reason] += 1
