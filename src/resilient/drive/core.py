"""The state that a policy shares with its views, and the two critical sections of a call."""

from __future__ import annotations

import threading
import time
import weakref
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ..clock import Clock
from ..events import Event, bus
from ..guards.base import Guard, Waiter
from ..outcomes import DEFAULT_JUDGE, OUTCOMES, SUCCESS

# Upper edges of the duration buckets, in seconds: equal for every policy, so that sums make sense.
EDGES: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

BUSY: Final = 1  # bits of Core.gate: somebody is in the critical section
FORCED: Final = 2  # the policy's state is forced

PEAK_SPAN: Final = 60.0
QUIET: Final = 60.0  # a refusal after so long without one is an event


_living: Final[dict[int, weakref.ref[Core]]] = {}


def living() -> list[Core]:
    """Return all cores; in one step, so that another thread may make one meanwhile."""
    return [core for core in (ref() for ref in list(_living.values())) if core is not None]


class Core:
    """One policy's lock, guards and counts. `Policy` objects made by `with_` share it."""

    __slots__ = (
        "__weakref__",
        "abandoned",
        "abandoned_total",
        "acquire",
        "anonymous",
        "born",
        "buckets",
        "clock",
        "counts",
        "degraded",
        "duration_sum",
        "errors",
        "extra_full",
        "fallback_failures",
        "forced",
        "forced_why",
        "gate",
        "guards",
        "impact",
        "in_flight",
        "inherited",
        "late_values",
        "lock",
        "name",
        "now",
        "outbox",
        "owner",
        "peak",
        "peak_before",
        "peak_until",
        "refusals",
        "refused_at",
        "release",
        "tier",
        "timeouts",
        "viewed",
        "wait_buckets",
        "wait_sum",
    )  # fmt: skip

    def __init__(
        self, name: str, owner: str, tier: int | None, impact: str, clock: Clock | None
    ) -> None:
        self.name = name
        self.owner = owner
        self.tier = tier
        self.impact = impact
        self.clock = clock
        self.now: Callable[[], float] = time.monotonic if clock is None else clock.now
        # Re-entrant, so that a finalizer that lands inside finds the gate instead of a deadlock.
        # Its bound methods, because `with` costs twice as much as the two calls.
        self.lock = threading.RLock()
        self.acquire = self.lock.acquire
        self.release = self.lock.release
        self.gate = 0
        self.anonymous = False
        self.guards: tuple[Guard, ...] = ()
        self.viewed: list[weakref.ref[Guard]] = []  # those that only views have
        self.outbox: deque[Any] = deque()
        self.forced: str | None = None
        self.forced_why = ""
        self.born = float("-inf")
        self.inherited: set[float] = set()  # when the calls began that a forked child goes on with
        self.clear()
        own_id = id(self)
        _living[own_id] = weakref.ref(self, lambda _: _living.pop(own_id, None))

    def clear(self) -> None:
        """Set every count to zero."""
        self.in_flight = self.abandoned = self.abandoned_total = 0
        self.counts = [0] * len(OUTCOMES)
        self.extra_full = self.degraded = self.errors = 0
        self.timeouts = self.fallback_failures = self.late_values = 0
        self.refusals: dict[str, int] = {}
        self.refused_at: dict[str, float] = {}
        self.buckets = [0] * (len(EDGES) + 1)
        self.wait_buckets = [0] * (len(EDGES) + 1)
        self.duration_sum = self.wait_sum = 0.0
        self.peak = self.peak_before = 0
        self.peak_until = float("-inf")

    def adopt(self, guards: tuple[Guard, ...]) -> None:
        """Take in guards that belong to no policy yet, outside those that are here."""
        self.guards = guards + self.guards
        self._take(guards)

    def adopt_view(self, guards: tuple[Guard, ...]) -> None:
        """Take in guards that one view has and the policy itself has not."""
        alive = [ref for ref in self.viewed if ref() is not None]
        self.viewed = alive + [weakref.ref(guard) for guard in guards]
        self._take(guards)

    def _take(self, guards: tuple[Guard, ...]) -> None:
        emit = _emitter(self.name, self.outbox)
        for guard in guards:
            guard.belongs_to = self.name
            guard.emit = emit
            if guard.judge is not DEFAULT_JUDGE and guard.judge.on_fault is None:
                guard.judge.on_fault = _fault_logger(self.name, guard.kind)
            if self.clock is not None and guard.random is not None:
                guard.random = None  # who sets the time by hand wants no jitter

    def all_guards(self) -> tuple[Guard, ...]:
        """Return the guards of the policy and of its views."""
        viewed = [ref() for ref in self.viewed]
        return self.guards + tuple(guard for guard in viewed if guard is not None)

    def follow(self, clock: Clock) -> Callable[[], None]:
        """Take the time from another clock, without jitter; return what undoes it."""
        before = self.clock, self.now, [(guard, guard.random) for guard in self.all_guards()]

        def undo() -> None:
            self.clock, self.now, randoms = before
            for guard, random in randoms:
                guard.random = random

        self.clock, self.now = clock, clock.now
        for guard in self.all_guards():
            guard.random = None
        return undo

    def flush(self) -> None:
        """Do what the critical section left to be done outside it: wakes, events, late endings."""
        outbox = self.outbox
        while outbox:
            try:
                item = outbox.popleft()
            except IndexError:  # another thread took the last one
                return
            if isinstance(item, Waiter):
                if not item.wake():
                    self.quit(item)
            elif item is None:
                bus.deliver()
            else:
                item()

    def quit(self, waiter: Waiter) -> None:
        """Take a waiter out of its line, and hand on what it was granted."""
        now = self.now()
        with Section(self) as section:
            if section.free:
                waiter.guard.quit(waiter, now)
            else:
                self.outbox.append(partial(self.quit, waiter))

    @property
    def full(self) -> int:
        """Calls that the function itself answered."""
        return self.counts[SUCCESS] + self.extra_full

    def entered(self, now: float) -> None:
        """Count a call that all guards have let in; under the lock."""
        self.in_flight += 1
        if now >= self.peak_until:
            self.turn_peak(now)
        if self.in_flight > self.peak:
            self.peak = self.in_flight

    def ended(self, outcome: int, duration: float) -> None:
        """Count a call that had been let in; under the lock."""
        self.in_flight -= 1
        self.counts[outcome] += 1
        self.buckets[bisect_left(EDGES, duration)] += 1
        self.duration_sum += duration

    def inherits(self, started: float) -> bool:
        """Tell whether a call is this process's own: begun after a fork, or by its thread."""
        if started >= self.born:
            return True
        if started not in self.inherited:
            return False
        self.inherited.discard(started)
        return True

    def turn_peak(self, now: float) -> None:
        """Begin a new span of the rolling peak; under the lock."""
        recent = now < self.peak_until + PEAK_SPAN
        self.peak_before = self.peak if recent else self.in_flight
        self.peak = self.in_flight
        self.peak_until = now + PEAK_SPAN

    def resize(self, guards: tuple[Guard, ...], slots: int) -> bool:
        """Change the slots of the guard that bounds them; tell whether there is one."""
        bounded = [guard for guard in guards if guard.slots() is not None]
        now = self.now()
        with Section(self) as section:
            section.must_be_free()
            for guard in bounded:
                guard.resize(slots, now)
        return bool(bounded)

    def force(self, state: str | None, why: str) -> None:
        """Set or release a forced state."""
        now = self.now()
        with Section(self) as section:
            section.must_be_free()
            before = self.forced
            self.forced_why = why if state is not None else ""
            if state == before:
                return
            self.forced = state
            section.leave_gate = 0 if state is None else FORCED
            bus.enqueue(
                Event(
                    "released" if state is None else "forced", guard="policy", at=now, reason=why,
                    before=before or "", after=state or "", cause="operator", policy=self.name,
                )
            )  # fmt: skip
            self.outbox.append(None)
            for guard in self.all_guards():
                if before is not None and state is not None:
                    guard.force(None, now)
                guard.force(state, now)

    @property
    def state(self) -> str:
        """The forced state, or else that of the guard that has one."""
        states = [guard.state for guard in self.guards if guard.state]
        return self.forced or (states[0] if states else "closed")


class Section:
    """The critical section, where it need not be fast: one lock, one gate, and a flush at its end.

    `free` is False where this code runs inside the very section it enters: it is then a finalizer
    or a signal handler, must change nothing, and leaves its work in the outbox.
    """

    __slots__ = ("_core", "free", "leave_gate")

    def __init__(self, core: Core) -> None:
        self._core = core

    def __enter__(self) -> Section:
        core = self._core
        core.lock.acquire()
        self.leave_gate = core.gate
        self.free = not core.gate & BUSY
        core.gate |= BUSY
        return self

    def must_be_free(self) -> None:
        """Raise where an operator's change can't be made."""
        if not self.free:
            raise RuntimeError(f"{self._core.name}: not from inside its own bookkeeping")

    def __exit__(self, *exc: object) -> None:
        core, free = self._core, self.free
        core.gate = self.leave_gate
        core.lock.release()
        if free and core.outbox:
            core.flush()


def _emitter(name: str, outbox: deque[Any]) -> Callable[[Event | Waiter], None]:
    # Closes over neither core nor guard: a policy that is dropped is freed at once.
    def emit(item: Event | Waiter) -> None:
        if isinstance(item, Event):
            item.policy = name
            bus.enqueue(item)
            outbox.append(None)
        else:
            outbox.append(item)

    return emit


def _fault_logger(name: str, kind: str) -> Callable[[Exception], None]:
    logged: list[bool] = []

    def on_fault(fault: Exception) -> None:
        if not logged:
            logged.append(True)
            import logging

            logging.getLogger("resilient").error(
                "%s: a predicate of its %s raised; the default answer is used (logged once)",
                name,
                kind,
                exc_info=fault,
            )

    return on_fault
