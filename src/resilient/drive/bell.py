"""Waking one async task from any thread, on asyncio and trio."""

from __future__ import annotations

import sys
from asyncio import _get_running_loop, current_task
from collections.abc import Callable
from typing import Any

from .call import Call


def here() -> tuple[Any, Any]:
    """Return the running asyncio loop, or None under trio, and the running task."""
    loop = _get_running_loop()
    task = None if loop is None else current_task(loop)
    if task is not None:
        return loop, task
    trio = sys.modules.get("trio")
    if trio is None:
        raise RuntimeError("async calls through a policy need a task of asyncio or trio")
    return None, trio.lowlevel.current_task()


class Bell:
    """Wakes one task, in its own loop, from any thread."""

    __slots__ = ("_event", "_soon")

    def __init__(self) -> None:
        import anyio

        self._event = anyio.Event()
        loop, _ = here()
        self._soon: Callable[[Callable[[], object]], object] = (
            sys.modules["trio"].lowlevel.current_trio_token().run_sync_soon
            if loop is None
            else loop.call_soon_threadsafe
        )

    def ring(self) -> bool:
        """Wake the task; False where its loop is gone."""
        try:
            self._soon(self._set)
        except RuntimeError:  # closed; trio.RunFinishedError is one too
            return False
        return True

    def _set(self) -> None:
        self._event.set()

    async def wait(self, call: Call, until: float) -> None:
        """Wait for a ring or until the policy's clock says so, whichever is first."""
        import anyio

        clock = call.core.clock
        if clock is None:
            with anyio.move_on_after(max(0.0, until - call.core.now())):
                await self._event.wait()
        else:
            alarm = clock.call_at(until, self.ring)
            try:
                await self._event.wait()
            finally:
                alarm.cancel()
        if self._event.is_set():
            self._event = anyio.Event()
