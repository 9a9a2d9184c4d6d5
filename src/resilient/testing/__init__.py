"""Helpers for tests of code that resilient protects: a manual clock, and flags turned off."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from datetime import timedelta

from .. import validation
from .assertions import assert_off
from .flag_overrides import flag_off, flag_on

__all__ = ("ManualClock", "assert_off", "flag_off", "flag_on")


class _Alarm:
    __slots__ = ("callback", "cancelled", "order", "when")

    def __init__(self, when: float, order: int, callback: Callable[[], object]) -> None:
        self.when: float = when
        self.order: int = order
        self.callback: Callable[[], object] = callback
        self.cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True

    def __lt__(self, other: _Alarm) -> bool:
        return (self.when, self.order) < (other.when, other.order)


class ManualClock:
    """A clock that stands still until `advance` moves it and runs the alarms that are due.

    Recovery times, windows, timeouts and waits of its policies follow it, in threads,
    asyncio and trio. A policy with this clock draws no jitter.

    Args:
        start: its first time, in seconds. Default 1000.

    Attributes:
        skips: a pause between two attempts of a retry takes no time: the clock moves on by itself,
            as far as the pause is long. Default False: such a call waits until `advance`.

    Example:
        >>> from resilient import CircuitOpenError, Policy, circuit_breaker
        >>> clock = ManualClock()
        >>> mail = Policy("mail", circuit_breaker(recovery_timeout=30), clock=clock)
        >>> for _ in range(5):
        ...     failed = mail.try_call(int, "x")
        >>> mail.state
        'open'
        >>> clock.advance(30)
        >>> mail.call(int, "1"), mail.state
        (1, 'closed')
    """

    def __init__(self, start: float = 1000.0) -> None:
        self.skips: bool = False
        self._now = float(start)
        self._lock = threading.Lock()
        self._alarms: list[_Alarm] = []
        self._orders = itertools.count()

    def now(self) -> float:
        """Return its time, in seconds."""
        return self._now

    def advance(self, seconds: float | timedelta) -> None:
        """Move on, then run every alarm that has become due, the earliest first.

        Woken code sees the new time, whichever thread it runs in, so that a test knows the result.

        Args:
            seconds: how far, at least 0.

        Raises:
            ValueError: seconds is negative.
        """
        step = validation.duration("seconds", seconds, zero=True)
        with self._lock:
            self._now += step
        while True:
            with self._lock:
                alarms = self._alarms
                while alarms and alarms[0].cancelled:
                    heapq.heappop(alarms)
                if not alarms or alarms[0].when > self._now:
                    return
                alarm = heapq.heappop(alarms)
            alarm.callback()

    def call_at(self, when: float, callback: Callable[[], object]) -> _Alarm:
        """Call callback once the clock reaches `when`; at once if it has already.

        Args:
            when: seconds on this clock.
            callback: runs in the thread that moves the clock.

        Returns:
            An alarm with a `cancel` method.
        """
        alarm = _Alarm(when, next(self._orders), callback)
        with self._lock:
            due = when <= self._now
            if not due:
                heapq.heappush(self._alarms, alarm)
        if due:
            callback()
        return alarm

    @property
    def waiting(self) -> int:
        """How many alarms are set: a test can wait until another thread waits."""
        with self._lock:
            return sum(not alarm.cancelled for alarm in self._alarms)
