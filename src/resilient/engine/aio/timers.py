"""Time limits of async calls on asyncio: one timer for each loop and duration.

`asyncio.timeout` makes a timer for every call and cancels nearly all of them. Calls with the same
limit expire in the order in which they began, so one dict of them and one timer are enough.
"""

from __future__ import annotations

import weakref
from asyncio import (
    AbstractEventLoop,
    CancelledError,
    Task,
)
from collections.abc import Callable
from typing import Any, Final, overload

from ...clock import Alarm, alarm_at, real
from ...deadline import Deadline, TaskDeadline
from ...state_types import TimeoutQueueState
from ..policy_state import PolicyState

_EARLY: Final = 0.01  # seconds; a loop fires a timer at most this early


class TimeoutEntry(TaskDeadline):
    """A deadline that cancels an asyncio task when it passes."""

    __slots__ = ()
    cancelling: int
    fired: bool
    task: Any  # an asyncio task; None once the call has ended

    @staticmethod
    def of(own: Deadline, task: Task[Any]) -> TimeoutEntry:
        """Return an entry for a deadline."""
        entry = TimeoutEntry()
        entry.when, entry.terms, entry.outer, entry.open = own.when, own.terms, own.outer, True
        entry.task, entry.cancelling, entry.fired = task, task.cancelling(), False
        return entry

    def fire(self) -> None:
        """Cancel the task, once. Runs in the task's loop."""
        if not self.open or self.fired or self.task is None:
            return
        left = self.when - self.now()
        if left > _EARLY:  # the loop's clock jumped: perhaps a test has frozen it
            later(self.task.get_loop(), left, self.fire)
            return
        self.fired = True
        self.task.cancel()

    @overload
    def reason(self, error: BaseException) -> BaseException: ...
    @overload
    def reason(self, error: BaseException | None) -> BaseException | None: ...
    def reason(self, error: BaseException | None) -> BaseException | None:
        """Return the error for the caller: the timeout, if this entry ended the call."""
        ours = self.fired and self.took_back(error)
        self.task = None  # the contexts of tasks that were started inside still refer to this entry
        if not ours:
            return error
        timeout = self.error()
        timeout.__cause__ = error
        return timeout

    def took_back(self, error: BaseException | None) -> bool:
        """Take back the cancellation that `fire` made; return True if there was no other."""
        assert self.task is not None
        return self.task.uncancel() <= self.cancelling and isinstance(error, CancelledError)


class TimeoutQueue(TimeoutQueueState):
    """The calls of one loop that have the same time limit, oldest first."""

    __slots__ = ("__weakref__", "_now", "seconds")

    def __init__(self, loop: AbstractEventLoop, seconds: float, now: Callable[[], float]) -> None:
        self.loop: AbstractEventLoop = loop
        self._now = now
        self.seconds: float = seconds
        self.entries: dict[TimeoutEntry, None] = {}
        self.handle: Alarm | None = None

    def start(self) -> None:
        """Start the timer, for the first entry."""
        self._again(self.seconds)

    def _again(self, left: float) -> None:
        self.handle = later(self.loop, left, self._fire)

    def _fire(self) -> None:
        self.handle = None
        entries = self.entries
        while entries:
            entry = next(iter(entries))
            left = entry.when - self._now()
            if left > 0:
                self._again(left)
                return
            del entries[entry]
            entry.fire()


# Weak: a queue lives as long as its timer, and keeps no abandoned loop alive.
_wheels: weakref.WeakValueDictionary[tuple[int, float], TimeoutQueue] = (
    weakref.WeakValueDictionary()
)


def wheel_of(loop: AbstractEventLoop, seconds: float) -> TimeoutQueue:
    """Return the loop's queue for calls with this time limit."""
    wheel = _wheels.get((id(loop), seconds))
    if wheel is None or wheel.loop is not loop:
        wheel = _wheels[id(loop), seconds] = TimeoutQueue(loop, seconds, real.now)
    return wheel


def arm(entry: TimeoutEntry, loop: AbstractEventLoop, core: PolicyState) -> Alarm:
    """Start a timer for one entry alone: its limit is partly used up, or the clock is manual."""
    if core.clock is not None:
        return core.clock.call_at(entry.when, lambda: loop.call_soon_threadsafe(entry.fire))
    return later(loop, entry.when - core.now(), entry.fire)


def later(loop: AbstractEventLoop, seconds: float, fire: Callable[[], object]) -> Alarm:
    """Have a loop call `fire` after so many seconds, even if the loop's clock stands still."""
    if real.is_frozen():
        return alarm_at(real.now() + seconds, lambda: loop.call_soon_threadsafe(fire))
    return loop.call_later(max(0.0, seconds), fire)


class Timer:
    """One timer for all the steps of a stream; it keeps running between them.

    It refers only to the step that is running, so that it does not keep a dropped stream alive.
    """

    __slots__ = ("_alarm", "_entry", "_loop", "_when", "scope")

    def __init__(self) -> None:
        self.scope: Any = None  # a trio scope that could not be exited yet
        self._alarm: Alarm | None = None
        self._entry: TimeoutEntry | None = None
        self._loop: AbstractEventLoop | None = None
        self._when = 0.0

    def arm(self, entry: TimeoutEntry, loop: AbstractEventLoop, core: PolicyState) -> Alarm:
        """Have the timer cancel this step; `cancel` detaches the step and keeps the timer."""
        if self._alarm is None or self._loop is not loop or self._when != entry.when:
            self.stop()
            self._loop, self._when = loop, entry.when
            if core.clock is None:
                self._alarm = later(loop, entry.when - core.now(), self._ring)
            else:
                self._alarm = core.clock.call_at(
                    entry.when, lambda: loop.call_soon_threadsafe(self._ring)
                )
        self._entry = entry
        return self

    def cancel(self) -> None:
        self._entry = None

    def stop(self) -> None:
        """Stop the timer for good; any thread may call this."""
        scope, self.scope = self.scope, None
        if scope is not None:
            scope.__exit__(None, None, None)
        alarm, self._alarm, self._loop, self._entry = self._alarm, None, None, None
        if alarm is not None:
            alarm.cancel()

    def _ring(self) -> None:
        self._alarm = None  # a loop may fire a little early, between two steps
        entry, self._entry = self._entry, None
        if entry is not None:
            entry.fire()
