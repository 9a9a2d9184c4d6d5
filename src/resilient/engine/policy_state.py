"""The state that a policy shares with its views, and the two critical sections of a call."""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final, TypeVar, TypeVarTuple, cast

from ..clock import Alarm, Clock, real
from ..events import Cause, Event, bus
from ..guards.base import Guard, Waiter
from ..guards.facets import Queueing, Stateful, Switch
from ..outcomes import DEFAULT_JUDGE, OUTCOMES, SUCCESS
from ..stack import room, room_for_call
from .alarms import alarm_at
from .counters import EDGES, Counts
from .outbox import Outbox

BUSY: Final = 1  # bits of Core.gate: somebody is in the critical section
SHUT: Final = 2  # every call takes the long way in: see Core.settle

Args = TypeVarTuple("Args")
T = TypeVar("T")

QUIET: Final = 60.0  # a refusal after so long without one is an event


_living: Final[dict[int, weakref.KeyedRef[int, Core]]] = {}
_NONE: Final[frozenset[float]] = frozenset()
_NEVER: Final = float("inf")


def _died(ref: weakref.KeyedRef[int, Core]) -> None:
    _living.pop(ref.key, None)


def living() -> list[Core]:
    """Return all cores; in one step, so that another thread may make one meanwhile."""
    return [core for core in (ref() for ref in list(_living.values())) if core is not None]


class Core(Counts):
    """One policy's lock, guards and counts. `Policy` objects made by `with_` share it."""

    __slots__ = (
        "__weakref__", "alarm", "anonymous", "born", "clock", "differs", "dropped", "forced",
        "forced_why", "fresh", "gate", "guards", "impact", "inherited", "lock", "name", "now",
        "outbox", "owner", "patience", "policy", "rest", "switches", "tier", "until", "viewed",
    )  # fmt: skip
    # Told of each call that was slow, or did not just go well, or took the long way: policy,
    # outcome, what the caller got, the guard that refused, seconds. In the caller's context.
    on_end: ClassVar[Callable[[Core, str, str, str, float], None] | None] = None
    active: ClassVar[bool] = True  # else every call passes all but switches and forced states
    on_first_call: ClassVar[Callable[[Core], bool] | None] = None  # set by the levers' floor
    on_expired: ClassVar[Callable[[Core], object] | None] = None  # the same

    def __init__(
        self, name: str, owner: str, tier: int | None, impact: str, clock: Clock | None
    ) -> None:
        self.name: str = name
        self.owner: str = owner
        self.tier: int | None = tier
        self.impact: str = impact
        self.patience: float | None = None  # with a dependency, at a deadline of its callers'
        self.clock = clock
        self.now: Callable[[], float] = real.now if clock is None else clock.now
        # Re-entrant, so that a finalizer that lands inside finds the gate instead of a deadlock.
        # Taken by `with`, and by the fast path: an interrupt may come between acquire() and a try.
        self.lock: threading.RLock = threading.RLock()
        self.gate: int = SHUT
        self.rest: int = SHUT  # the gate while nobody is inside
        self.fresh: bool = True  # nobody has called yet, in this process
        self.anonymous: bool = False
        self.differs: bool = False  # it was declared again, otherwise
        self.dropped: bool = False
        self.policy: weakref.ref[Any] | None = None  # what users hold
        self.guards: tuple[Guard, ...] = ()
        self.switches: tuple[weakref.ref[Switch], ...] = ()
        self.viewed: tuple[weakref.ref[Guard], ...] = ()  # those that only views have
        self.outbox: Outbox = Outbox(name)
        self.forced: str | None = None
        self.forced_why: str = ""
        self.until: float = _NEVER  # when the forced state ends by itself
        self.alarm: Alarm | None = None  # that ends it then
        self.born: float = float("-inf")
        self.inherited: set[float] | frozenset[float] = _NONE  # when they began: see forking
        self.clear()
        _living[id(self)] = weakref.KeyedRef(self, _died, id(self))

    def adopt(self, guards: tuple[Guard, ...]) -> None:
        """Take in guards that belong to no policy yet, outside those that are here."""
        self.guards = guards + self.guards
        self._take(guards)

    def adopt_view(self, guards: tuple[Guard, ...]) -> None:
        """Take in guards that one view has and the policy itself has not."""
        self.locked(self._add_views, guards)
        self._take(guards)
        if self.forced is not None:
            for guard in guards:
                if isinstance(guard, Stateful):
                    guard.force(self.forced, self.now())

    def _add_views(self, guards: tuple[Guard, ...]) -> None:
        alive = (ref for ref in self.viewed if ref() is not None)
        self.viewed = (*alive, *(weakref.ref(guard) for guard in guards))

    def _take(self, guards: tuple[Guard, ...]) -> None:
        self.outbox.name = self.name
        emit = self.outbox.emit
        for guard in guards:
            guard._policy_name = self.name
            guard.emit = emit
            if isinstance(guard, Switch):
                guard.attach(self)
            if guard.judge is not DEFAULT_JUDGE and guard.judge.on_fault is None:
                guard.judge.on_fault = fault_logger(self.name, guard.kind)
            if self.clock is not None and isinstance(guard, Stateful):
                guard.jitter(False)  # who sets the time by hand wants none
        switches = [weakref.ref(guard) for guard in guards if isinstance(guard, Switch)]
        if switches:
            self.switches = (*(ref for ref in self.switches if ref() is not None), *switches)
            self.regate()

    def settle(self, *, begun: bool = False) -> int:
        """Find out how the gate stands while nobody is inside: shut where a call needs more.

        Under the lock. Once begun, a first call needs no more than another.
        """
        shut = self.forced is not None or not Core.active or (self.fresh and not begun)
        for ref in self.switches:  # nothing is allocated: a finalizer must not run in here
            guard = ref()
            if guard is not None and guard.needs_asking():
                shut = True
        self.rest = SHUT if shut else 0
        return self.rest

    def regate(self) -> None:
        """Let the gate follow a guard that shuts it."""
        with self.lock:
            if self.gate & BUSY:
                self.outbox.append(self.regate)
            else:
                self.gate = self.settle()

    def begin(self) -> None:
        """Do what the first call of a process needs done, outside the lock."""
        followed = Core.on_first_call is None or Core.on_first_call(self)
        with self.lock:
            if followed and not self.gate & BUSY:
                self.gate = self.settle(begun=True)
                self.fresh = False  # last: an interrupt before it only has this done again

    def all_guards(self) -> tuple[Guard, ...]:
        """Return the guards of the policy and of its views."""
        viewed = [ref() for ref in self.viewed]
        return self.guards + tuple(guard for guard in viewed if guard is not None)

    def stateful(self) -> list[Stateful]:
        """Return those of its guards, and of its views', that have a state."""
        return [guard for guard in self.all_guards() if isinstance(guard, Stateful)]

    def follow(self, clock: Clock | None) -> None:
        """Take the time from another clock, without jitter, or from the system's (None)."""
        self.clock = clock
        self.now = real.now if clock is None else clock.now
        for guard in self.stateful():
            guard.jitter(clock is None)
        self.arm()

    def flush(self) -> None:
        """Do what the critical section left to be done outside it: wakes, events, late endings.

        From inside a section nothing is done: what was interrupted does it at its end.
        """
        outbox = self.outbox
        while outbox and not self.owned():
            try:
                room()
                item = outbox.pop(0)
            except (IndexError, RecursionError):  # another thread took the last one
                return
            try:
                self._do(item)
            except RecursionError:  # nothing may be lost: a shorter stack will do it
                outbox.append(item)
                return

    def _do(self, item: Waiter | Callable[[], object] | None) -> None:
        if item is None:
            room_for_call()  # or it is kept
            bus.deliver()
        elif not isinstance(item, Waiter):
            item()
        elif not item.wake():
            self.quit(item)

    # -- the critical section ---------------------------------------------

    def locked(self, step: Callable[[*Args], T], *args: *Args) -> T:
        """Return what a step gives in the section; then do what it left to be done outside.

        A finalizer or signal handler may come here from inside the section: `owned` tells.
        """
        with self.lock:
            gate = self.gate
            self.gate = gate | BUSY
            try:
                result = step(*args)
            finally:
                self.gate = gate if gate & BUSY else self.rest
        if self.outbox and not gate & BUSY:
            self.flush()
        return result

    def locked_or_later(self, step: Callable[[*Args], object], *args: *Args) -> None:
        """Take a step in the section; from inside it, leave that to what was interrupted."""
        if self.owned():
            self.outbox.append(partial(self.locked_or_later, step, *args))
        else:
            self.locked(step, *args)

    def must_be_free(self) -> None:
        """Raise where an operator's change comes from inside the section it wants to enter."""
        if self.owned():
            raise RuntimeError(f"{self.name}: not from inside its own bookkeeping")

    def quit(self, waiter: Waiter) -> None:
        """Take a waiter out of its line, and hand on what it was granted."""
        self.locked_or_later(cast("Queueing", waiter.guard).quit, waiter, self.now())

    @property
    def owned(self) -> Callable[[], bool]:
        """What tells whether this thread is in the section, without a frame of its own."""
        tell: Callable[[], bool] = cast("Any", self.lock)._is_owned
        return tell

    def slow(self, duration: float) -> None:
        """Count a good call that took longer than most; under the lock."""
        self.buckets[bisect_left(EDGES, duration)] += 1
        self.mirror()

    def inherits(self, started: float) -> bool:
        """Tell whether a call is this process's own: begun after a fork, or by its thread."""
        if started >= self.born:
            return True
        if started not in self.inherited:
            return False
        self.inherited -= {started}
        return True

    def force(
        self, state: str | None, why: str, seconds: float = _NEVER, *, cause: Cause = "operator"
    ) -> None:
        """Set a forced state, for good or for so many seconds, or release it.

        By itself (auto) only one is released whose time is up.
        """
        room_for_call()
        self.must_be_free()
        try:
            self.locked(self._force, state, why, seconds, cause, self.now())
        finally:
            self.arm()

    def _force(self, state: str | None, why: str, seconds: float, cause: Cause, now: float) -> None:
        if cause == "auto" and now < self.until:
            return
        before, known = self.forced, (self.forced_why, self.until)
        self.until = _NEVER if state is None else now + seconds
        told, self.forced_why = why, why if state is not None else ""
        if state == before and (state is None or (why, self.until) == known):
            return
        if seconds < _NEVER:
            told = f"{why} (for {seconds:g} s)" if why else f"for {seconds:g} s"
        self.forced = state
        self.settle()
        event = Event(
            "released" if state is None else "forced",
            guard="policy",
            at=now,
            reason=told,
            before=before or "",
            after=state or "",
            cause=cause,
            policy=self.name,
        )
        bus.enqueue(event)
        self.outbox.append(None)
        for guard in self.stateful():
            if before is not None and state is not None:
                guard.force(None, now)
            guard.force(state, now)

    def expire(self) -> None:
        """End a forced state whose time is up; where an order holds, that is in force then."""
        if self.until == _NEVER or self.owned() or self.now() < self.until:
            return
        self.force(None, f"its time was up: {self.forced_why}".removesuffix(": "), cause="auto")
        if Core.on_expired is not None:
            Core.on_expired(self)

    def left(self, now: float) -> float | None:
        """Return the seconds until a forced state ends by itself, None where it does not."""
        return self.until - now if self.until < _NEVER else None

    def arm(self) -> None:
        """Have a forced state end also where nobody calls or looks."""
        alarm, self.alarm = self.alarm, None
        if alarm is not None:
            alarm.cancel()
        if self.until < _NEVER:
            self.alarm = alarm_at(self.until, self.now(), self.clock, _expiring(self))

    @property
    def why(self) -> str:
        """Why it is forced, or why its breaker is not closed."""
        whys = [guard.why for guard in self.guards if isinstance(guard, Stateful) and guard.state]
        return self.forced_why if self.forced else whys[0] if whys else ""

    @property
    def state(self) -> str:
        """The forced state, or else that of the guard that has one."""
        self.expire()
        own = (guard.state for guard in self.guards if isinstance(guard, Stateful))
        states = [state for state in own if state]
        return self.forced or (states[0] if states else "closed")


def _expiring(core: Core) -> Callable[[], None]:
    """Return what ends a forced state at its time, and keeps no policy alive."""
    ref = weakref.ref(core)

    def expire() -> None:
        living = ref()
        if living is not None:
            living.expire()

    return expire


def tell_end(core: Core, outcome: int, served: str, guard: str, seconds: float) -> None:
    """Tell whoever traces calls how one ended; what goes wrong there is not the call's business."""
    hook = Core.on_end
    if hook is not None:
        try:
            hook(core, OUTCOMES[outcome], served, guard, seconds)
        except RecursionError:  # the stack's end, and not the hook's fault
            return
        except Exception:
            Core.on_end = None
            import logging

            logging.getLogger("resilient").exception("calls are traced no more: the tracing raised")


def tell_slow(core: Core, seconds: float) -> None:
    """Tell whoever traces calls of a good one that took longer than most."""
    if Core.on_end is not None:
        tell_end(core, SUCCESS, "full", "", seconds)


def fault_logger(name: str, kind: str) -> Callable[[Exception], None]:
    """Return what logs the first fault of the predicates of a guard, or of a wrapped client."""
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
