"""The clock that a policy is given, where it is not the system's monotonic one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Alarm(Protocol):
    """A pending callback of a clock."""

    def cancel(self) -> None:
        """Forget the callback, if it has not run."""
        ...


class Clock(Protocol):
    """A source of time that can be injected: `resilient.testing.ManualClock` is one."""

    def now(self) -> float:
        """Return seconds on a clock that never goes back."""
        ...

    def call_at(self, when: float, callback: Callable[[], object]) -> Alarm:
        """Call callback, from any thread, once now() has reached when."""
        ...
