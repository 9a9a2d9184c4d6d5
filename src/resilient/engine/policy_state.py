"""The state that a policy shares with its views, and the two critical sections of a call."""

from __future__ import annotations

import weakref
from bisect import bisect_left
from collections.abc import Callable
from typing import Any, ClassVar, Final

from ..clock import Clock, real
from ..guards.base import Guard
from ..guards.facets import Stateful, Switch
from ..outcomes import DEFAULT_JUDGE
from .counters import EDGES
from .faults import fault_logger
from .forced_state import ForcedState
from .section import BUSY, SHUT

QUIET: Final = 60.0  # a refusal after so long without one is an event


_living: Final[dict[int, weakref.KeyedRef[int, PolicyState]]] = {}
_NONE: Final[frozenset[float]] = frozenset()


def _died(ref: weakref.KeyedRef[int, PolicyState]) -> None:
    _living.pop(ref.key, None)


def living() -> list[PolicyState]:
    """Return all cores; in one step, so that another thread may make one meanwhile."""
    return [core for core in (ref() for ref in list(_living.values())) if core is not None]


class PolicyState(ForcedState):
    """One policy's lock, guards and counts. `Policy` objects made by `with_` share it."""

    __slots__ = (
        "anonymous",
        "counting_since",
        "differs",
        "dropped",
        "guards",
        "impact",
        "inherited",
        "owner",
        "patience",
        "policy",
        "switches",
        "tier",
        "uncalled",
        "view_guards",
    )  # fmt: skip
    # Told of each call that was slow, or did not just go well, or took the long way: policy,
    # outcome, what the caller got, the guard that refused, seconds. In the caller's context.
    on_end: ClassVar[Callable[[PolicyState, str, str, str, float], None] | None] = None
    active: ClassVar[bool] = True  # else every call passes all but switches and forced states
    on_first_call: ClassVar[Callable[[PolicyState], bool] | None] = None  # set by `startup`

    def __init__(
        self, name: str, owner: str, tier: int | None, impact: str, clock: Clock | None
    ) -> None:
        super().__init__(name)
        self.owner: str = owner
        self.tier: int | None = tier
        self.impact: str = impact
        self.patience: float | None = None  # with a dependency, at a deadline of its callers'
        self.clock = clock
        self.now: Callable[[], float] = real.now if clock is None else clock.now
        self.uncalled: bool = True  # nobody has called yet, in this process
        self.anonymous: bool = False
        self.differs: bool = False  # it was declared again, otherwise
        self.dropped: bool = False
        self.policy: weakref.ref[Any] | None = None  # what users hold
        self.guards: tuple[Guard, ...] = ()
        self.switches: tuple[weakref.ref[Switch], ...] = ()
        self.view_guards: tuple[weakref.ref[Guard], ...] = ()  # those that only views have
        self.counting_since: float = float("-inf")
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
        alive = (ref for ref in self.view_guards if ref() is not None)
        self.view_guards = (*alive, *(weakref.ref(guard) for guard in guards))

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
            self.refresh_gate()

    def compute_gate(self, *, begun: bool = False) -> int:
        """Find out how the gate stands while nobody is inside: shut where a call needs more.

        Under the lock. Once begun, a first call needs no more than another.
        """
        shut = self.forced is not None or not PolicyState.active or (self.uncalled and not begun)
        for ref in self.switches:  # nothing is allocated: a finalizer must not run in here
            guard = ref()
            if guard is not None and guard.needs_asking():
                shut = True
        self.idle_gate = SHUT if shut else 0
        return self.idle_gate

    def refresh_gate(self) -> None:
        """Let the gate follow a guard that shuts it."""
        with self.lock:
            if self.gate & BUSY:
                self.outbox.append(self.refresh_gate)
            else:
                self.gate = self.compute_gate()

    def begin(self) -> None:
        """Do what the first call of a process needs done, outside the lock."""
        followed = PolicyState.on_first_call is None or PolicyState.on_first_call(self)
        with self.lock:
            if followed and not self.gate & BUSY:
                self.gate = self.compute_gate(begun=True)
                self.uncalled = False  # last: an interrupt before it only has this done again

    def all_guards(self) -> tuple[Guard, ...]:
        """Return the guards of the policy and of its views."""
        view_guards = [ref() for ref in self.view_guards]
        return self.guards + tuple(guard for guard in view_guards if guard is not None)

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

    def slow(self, duration: float) -> None:
        """Count a good call that took longer than most; under the lock."""
        self.buckets[bisect_left(EDGES, duration)] += 1
        self.write_shared_row()

    def inherits(self, started: float) -> bool:
        """Tell whether a call is this process's own: begun after a fork, or by its thread."""
        if started >= self.counting_since:
            return True
        if started not in self.inherited:
            return False
        self.inherited -= {started}
        return True

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
