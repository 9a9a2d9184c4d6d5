"""How late the machine is: what a test may compare the time that something took with."""

from __future__ import annotations

import threading
import time
from types import TracebackType

PULSE = 0.01  # seconds between two looks
MANY = 20  # so many times may what is watched have been as late as a look ever was


class Lateness:
    """A thread that asks to be woken all the time, and knows how late it was at worst."""

    def __init__(self) -> None:
        self._worst = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lateness", daemon=True)

    def __enter__(self) -> Lateness:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def allowance(self) -> float:
        """Return how many seconds the machine may have cost, once it is over."""
        return MANY * self._worst

    def _watch(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            time.sleep(PULSE)
            self._worst = max(self._worst, time.monotonic() - began - PULSE)
