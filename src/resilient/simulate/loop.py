"""An event loop of asyncio whose time is virtual, and the clock of policies that reads it.

Where a real loop would sleep until its next timer, this one sets its time to that of the timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import nextafter
from typing import Any, Final

from ..clock import Alarm


class DeadlockError(RuntimeError):
    """Every task waits for something that nobody will do."""


class _Nobody:
    """Stands where a loop has its selector: there is no socket, only time that passes."""

    def __init__(self) -> None:
        self.time: float = 0.0

    def select(self, timeout: float | None) -> tuple[()]:
        """Return at once, and let so many seconds have passed."""
        if timeout is None:
            raise DeadlockError(
                "nothing is ready and no timer is set: every task waits for something that nobody "
                "will do. Simulated code can't wait for threads, sockets or processes"
            )
        if timeout > 0:
            # The next number up: a sum that was rounded down would be a little before the timer.
            self.time = nextafter(self.time + timeout, float("inf"))
        return ()


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop that begins at 0 and never sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self._selector: Final = _Nobody()
        self.fault: BaseException | None = None  # the first that nobody has caught
        self.set_exception_handler(self._note)

    def time(self) -> float:
        """Return its virtual time, in seconds."""
        return self._selector.time

    def _process_events(self, event_list: Any) -> None:
        pass

    def _write_to_self(self) -> None:  # it never sleeps, so that nobody has to wake it
        pass

    def _note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.fault = self.fault or context.get("exception")

    def shut(self) -> None:
        """Cancel every task that is left, let them end, and close the loop."""
        left = asyncio.all_tasks(self)
        for task in left:
            task.cancel()
        try:
            if left:
                self.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        finally:
            self.close()


class LoopClock:
    """The clock of simulated policies: the loop's time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.now: Callable[[], float] = loop.time

    def call_at(self, when: float, callback: Callable[[], object]) -> Alarm:
        """Call callback once the loop's time has reached `when`."""
        return self._loop.call_at(when, callback)
