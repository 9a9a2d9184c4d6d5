"""What wakes the thread that keeps a page up to date."""

from __future__ import annotations

import contextlib
import threading


class Wakeup:
    """Wakes a thread; may be rung in a signal handler, where an Event may not be set."""

    def __init__(self) -> None:
        self._silent = threading.Lock()
        self._silent.acquire()

    def ring(self) -> None:
        """Have the next wait, or the one under way, end."""
        with contextlib.suppress(RuntimeError):  # it rings already
            self._silent.release()

    def wait(self, seconds: float) -> bool:
        """Wait until it is rung, at the most so long; tell whether it was."""
        return self._silent.acquire(timeout=max(0.0, seconds))
