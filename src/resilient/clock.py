"""Time: the system's monotonic clock, and the clock that a policy is given in its place."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, Protocol


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


class Real:
    """The system's monotonic clock, also while a test has frozen the one in the module `time`.

    freezegun puts functions of its own in the place of the real ones, in every module that has
    them by a name. An attribute of an object it leaves alone.
    """

    __slots__ = ("now",)

    def __init__(self) -> None:
        frozen = sys.modules.get("freezegun.api")  # perhaps at this very moment
        self.now: Callable[[], float] = getattr(frozen, "real_monotonic", time.monotonic)

    def is_frozen(self) -> bool:
        """Return whether event loops go by another clock now, so that their timers stand still."""
        return time.monotonic is not self.now


real: Final = Real()


def alarm_at(when: float, callback: Callable[[], object]) -> Alarm:
    """Call callback from a thread of its own at a time of the real clock; where loops stand still.

    Args:
        when: the time.
        callback: safe to call from any thread. That its loop is closed by then is no error.
    """
    import threading

    def ring() -> None:
        try:
            callback()
        except RuntimeError:  # the loop is closed; trio.RunFinishedError is one too
            pass

    timer = threading.Timer(max(0.0, when - real.now()), ring)
    timer.daemon = True
    timer.start()
    return timer
