"""Enforce deadlines in async code: by a timer on asyncio, by a cancel scope on trio."""

from __future__ import annotations

from typing import Any, Protocol

from ...clock import Alarm, alarm_at, real
from ...deadline import Deadline, TaskDeadline, Terms, current, leave
from ..call import Call
from ..time_limits import binding
from .timers import TimeoutEntry, Timer, arm
from .waker import current_task, own_error


class Limit(Protocol):
    """A time limit on the code that runs from its creation to `end`."""

    def end(self, error: BaseException | None) -> BaseException | None:
        """Lift the limit, and return the error to raise in place of the given one."""
        ...


class DeadlineScope:
    """The deadline that binds a call in the current task, and the policy that set it."""

    __slots__ = ("_bound", "_call", "_loop", "_own", "_task")

    def __init__(self, call: Call, level: int) -> None:
        self._call = call
        self._loop: Any
        self._task: Any
        self._loop, self._task = current_task() if call.limits else (None, None)
        self._bound = bound = binding(call, level, self._task)
        self._own = call.deadline
        if self._own is None and call.limits and bound is not None and bound.task is None:
            # An enclosing sync call set this limit: enforce it in this loop.
            terms = Terms(bound.seconds, -1, bound.policy, bound.terms.now)
            self._own = own = TaskDeadline()
            own.when, own.terms, own.outer, own.open = bound.when, terms, bound, True
            own.task = self._task

    def over(self) -> Deadline | None:
        """Return the deadline if it has passed."""
        own = self._own
        return (self._bound or own) if own is not None and own.now() >= own.when else None

    def begin(self, timer: Timer | None = None) -> Limit | None:
        """Begin to enforce the limit, if there is one. All steps of a stream share one timer."""
        own, call = self._own, self._call
        if own is None:
            return None
        if self._loop is None or self._task is None:
            if call.enters:  # the body may enter a scope that stays open: ours can't be round it
                return _Told(own)
            return _InTrio(call, own, self._bound or own, timer)
        entry = TimeoutEntry.of(own, self._task)
        bound = self._bound
        if call.deadline is own:
            call.deadline = bound = entry
        if timer is None:
            alarm = arm(entry, self._loop, call.core)
        else:
            alarm = timer.arm(entry, self._loop, call.core)
        return _InAsyncio(entry, bound or entry, alarm)


class _InAsyncio:
    __slots__ = ("_alarm", "_bound", "_entry")

    def __init__(self, entry: TimeoutEntry, bound: Deadline, alarm: Alarm) -> None:
        self._entry = entry
        self._bound = bound
        self._alarm = alarm
        current.set(entry)

    def end(self, error: BaseException | None) -> BaseException | None:
        entry = self._entry
        self._alarm.cancel()
        leave(entry)
        ours = entry.fired and entry.took_back(error)
        entry.task = None  # the contexts of tasks that were started inside still refer to the entry
        if ours:
            timeout = self._bound.error()
            timeout.__cause__ = error
            return timeout
        return error


class _Told:
    """A limit that the code inside can read, and that nothing enforces."""

    __slots__ = ("_own",)

    def __init__(self, own: Deadline) -> None:
        self._own = own
        current.set(own)

    def end(self, error: BaseException | None) -> BaseException | None:
        leave(self._own)
        return error


class _InTrio:
    __slots__ = ("_alarm", "_bound", "_own", "_scope", "_timer")

    def __init__(
        self, call: Call, own: Deadline, bound: Deadline, timer: Timer | None = None
    ) -> None:
        import trio

        core, parked = call.core, None if timer is None else timer.scope
        scope = trio.CancelScope() if parked is None else parked
        self._timer = timer
        self._own, self._bound, self._scope = own, bound, scope
        self._alarm: Alarm | None = None
        if core.clock is None and not real.is_frozen():
            scope.deadline = trio.current_time() + own.when - core.now()
        else:
            trio_token = trio.lowlevel.current_trio_token()

            def cancel() -> None:
                if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is trio_token:
                    scope.cancel()
                else:
                    trio_token.run_sync_soon(scope.cancel)

            call_at = alarm_at if core.clock is None else core.clock.call_at
            self._alarm = call_at(own.when, cancel)
        current.set(own)
        if parked is None:
            scope.__enter__()

    def end(self, error: BaseException | None) -> BaseException | None:
        kind, trace = (None, None) if error is None else (type(error), error.__traceback__)
        if self._alarm is not None:
            self._alarm.cancel()
        leave(self._own)
        if isinstance(self._own, TaskDeadline):
            self._own.task = None
        if self._timer is not None:
            import trio

            task = trio.lowlevel.current_task()
            # Private. Without it every scope would look exited, and trio has no other way to ask.
            inner, mine = (getattr(it, "_cancel_status", None) for it in (task, self._scope))
            if inner is not mine:
                # The body holds a scope or nursery open across its yield: exit our scope after that
                # one.
                self._scope.deadline = float("inf")
                self._timer.scope = self._scope
                return error
            self._timer.scope = None
        try:
            swallowed = self._scope.__exit__(kind, error, trace)
        except BaseException as other:
            return own_error(other)  # or the rest of a group without trio's cancellations
        return self._bound.error() if swallowed and error is not None else error
