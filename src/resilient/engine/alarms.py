"""What rings once at a time of a policy's clock, also where nobody calls."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..clock import Alarm, Clock


def alarm_at(
    when: float, now: float, clock: Clock | None, ring: Callable[[], object]
) -> Alarm | None:
    """Have ring called, in a thread of its own where the clock is the system's.

    Returns:
        What cancels it; None where the system gives no more threads.
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
