"""Wake one async task from any thread, on asyncio and trio."""

from __future__ import annotations

import asyncio
import sys
from asyncio import _get_running_loop
from collections.abc import Callable
from typing import Any

from ...clock import Alarm, alarm_at, real
from ..policy_state import PolicyState

# Up to 3.11, current_task() is a Python function round this dict.
_tasks: dict[Any, Any] | None = getattr(asyncio.tasks, "_current_tasks", None)
task_in: Callable[[Any], Any] = (
    asyncio.current_task if _tasks is None or sys.version_info >= (3, 12) else _tasks.get
)


def current_task() -> tuple[Any, Any]:
    """Return the running asyncio loop, or None under trio, and the current task."""
    loop = _get_running_loop()
    task = None if loop is None else task_in(loop)
    if task is not None:
        return loop, task
    trio = sys.modules.get("trio")
    if trio is None or not trio.lowlevel.in_trio_task():
        raise RuntimeError("this call through a policy needs a task of asyncio or trio")
    return None, trio.lowlevel.current_task()


def task_here() -> tuple[Any, Any]:
    """Return the running asyncio loop and its task; None for what there is not."""
    loop = _get_running_loop()
    return loop, None if loop is None else task_in(loop)


def in_trio() -> bool:
    """Return whether a task of trio runs, and none of asyncio."""
    if task_here()[1] is not None:
        return False
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)  # perhaps it is being imported
    return lowlevel is not None and lowlevel.in_trio_task()


def own_error(error: BaseException) -> BaseException:
    """Return what closed a coroutine outside trio, where no scope of it can be left; else error."""
    seen: BaseException | None = error
    # Of a scope that finds no task, the next one round it, and so on.
    while isinstance(seen, (AttributeError, RuntimeError)):
        seen = seen.__context__
    return seen if isinstance(seen, GeneratorExit) and not in_trio() else error


class AsyncWaker:
    """Wakes one task, in its own loop, from any thread."""

    __slots__ = ("_event", "_loop", "_soon")

    def __init__(self) -> None:
        import anyio

        self._event = anyio.Event()
        self._loop, _ = current_task()
        self._soon: Callable[[Callable[[], object]], object] = (
            sys.modules["trio"].lowlevel.current_trio_token().run_sync_soon
            if self._loop is None
            else self._loop.call_soon_threadsafe
        )

    def ring(self) -> bool:
        """Wake the task; return False if its loop is closed."""
        try:
            self._soon(self._set)
        except RuntimeError:  # of a closed loop; trio.RunFinishedError is a RuntimeError too
            return False
        return True

    def _set(self) -> None:
        self._event.set()

    async def wait(self, core: PolicyState, until: float) -> None:
        """Wait until somebody rings, or until this time of the policy's clock."""
        left = max(0.0, until - core.now())
        if core.clock is not None or real.is_frozen():
            call_at = alarm_at if core.clock is None else core.clock.call_at
            await self._wait_for_alarm(call_at(until, self.ring))
        elif self._loop is not None:
            # No cancel scope: a coroutine that is closed in another task could not exit it.
            await self._wait_for_alarm(self._loop.call_later(left, self._set))
        else:
            with sys.modules["trio"].move_on_after(left):
                await self._event.wait()
        if self._event.is_set():
            import anyio

            self._event = anyio.Event()

    async def _wait_for_alarm(self, alarm: Alarm) -> None:
        try:
            await self._event.wait()
        finally:
            alarm.cancel()
