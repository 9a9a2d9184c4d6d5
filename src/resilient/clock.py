"""Time: the system's monotonic clock, and the manual clock that may replace it in a policy."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, Protocol


class Alarm(Protocol):
    """A pending callback of a clock."""

    def cancel(self) -> None:
        """Cancel the callback, if it has not run."""
        ...


class Clock(Protocol):
    """A source of time that a policy can be given, such as `resilient.testing.ManualClock`."""

    def now(self) -> float:
        """Return seconds on a clock that never goes back."""
        ...

    def call_at(self, when: float, callback: Callable[[], object]) -> Alarm:
        """Call callback, from any thread, once now() has reached when."""
        ...


class Real:
    """The system's monotonic clock, even while a test has frozen the one in the module `time`.

    freezegun replaces the real functions in every module that has them by a name. It leaves an
    attribute of an object alone.
    """

    __slots__ = ("now",)

    def __init__(self) -> None:
        frozen = sys.modules.get("freezegun.api")  # a test may have frozen the time already
        self.now: Callable[[], float] = getattr(frozen, "real_monotonic", time.monotonic)

    def is_frozen(self) -> bool:
        """Return True if event loops use a frozen clock, so that their timers stand still."""
        return time.monotonic is not self.now


real: Final = Real()


def epoch(clock: Clock | None) -> float:
    """Return the time on which processes agree, in seconds since 1970; a given clock's own."""
    return time.time() if clock is None else clock.now()


def alarm_at(when: float, callback: Callable[[], object]) -> Alarm:
    """Call callback in a thread of its own at a time of the real clock; for frozen event loops.

    Args:
        when: the time, in seconds.
        callback: safe to call from any thread; a closed event loop is no error.
    """
    import threading

    def ring() -> None:
        try:
            callback()
        except RuntimeError:  # the loop is closed; trio.RunFinishedError is a RuntimeError too
            pass

    timer = threading.Timer(max(0.0, when - real.now()), ring)
    timer.daemon = True
    timer.start()
    return timer
