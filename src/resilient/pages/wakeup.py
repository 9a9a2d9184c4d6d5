"""Wake the thread that updates a page."""

from __future__ import annotations

import contextlib
import threading


class Wakeup:
    """Wakes a thread. Unlike an Event, it may be rung in a signal handler."""

    def __init__(self) -> None:
        self._silent = threading.Lock()
        self._silent.acquire()

    def ring(self) -> None:
        """End the current wait, or else the next one."""
        with contextlib.suppress(RuntimeError):  # it has been rung already
            self._silent.release()

    def wait(self, seconds: float) -> bool:
        """Wait until it is rung, or for so many seconds; return True if it was rung."""
        return self._silent.acquire(timeout=max(0.0, seconds))
