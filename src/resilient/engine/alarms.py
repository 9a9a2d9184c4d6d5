"""Alarms at a time of a policy's clock, which ring even if nobody calls the policy."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..clock import Alarm, Clock


def alarm_at(
    when: float, now: float, clock: Clock | None, ring: Callable[[], object]
) -> Alarm | None:
    """Have `ring` called at a time; with the system's clock in a thread of its own.

    Returns:
        The alarm, which can be cancelled; None if the system starts no more threads.
    """
    if clock is not None:
        return clock.call_at(when, ring)
    timer = threading.Timer(min(max(0.0, when - now), threading.TIMEOUT_MAX), ring)
    timer.name, timer.daemon = "resilient-alarm", True
    try:
        timer.start()
    except RuntimeError:
        return None
    return timer
