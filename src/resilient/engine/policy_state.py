"""The state that a policy shares with its views, and the gate of its calls."""

from __future__ import annotations

import weakref
from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ..clock import Clock, real
from ..events import Cause
from ..guards.attached import Attached
from ..guards.base import Guard
from ..guards.facets import Jitters, Stateful, Switch
from ..outcomes import DEFAULT_JUDGE
from .counters import EDGES
from .faults import fault_logger
from .forced_state import NEVER, ForcedState
from .section import BUSY, SHUT

if TYPE_CHECKING:
    from .flights import Collapsed
    from .key_table import KeyTable

QUIET: Final = 60.0  # seconds; the first refusal after such a quiet time is an event


_living: Final[dict[int, weakref.KeyedRef[int, PolicyState]]] = {}
_NONE: Final[frozenset[float]] = frozenset()


def _died(ref: weakref.KeyedRef[int, PolicyState]) -> None:
    _living.pop(ref.key, None)


def living() -> list[PolicyState]:
    """Return all living states. The copy is atomic: another thread may create one meanwhile."""
    return [core for core in (ref() for ref in list(_living.values())) if core is not None]


class PolicyState(ForcedState):
    """One policy's lock, guards and counters. Its views, made by `with_`, share it."""

    __slots__ = (
        "anonymous",
        "collapsed",
        "differs",
        "dropped",
        "guards",
        "impact",
        "inherited",
        "keyless",
        "keys",
        "owner",
        "patience",
        "policy",
        "shaped",
        "switches",
        "tier",
        "uncalled",
        "view_guards",
    )  # fmt: skip
    # Called in the caller's context at the end of every call that was slow, unsuccessful, or run by
    # the interpreter: state, outcome, what the caller got, refusing guard, seconds.
    on_end: ClassVar[Callable[[PolicyState, str, str, str, float], None] | None] = None
    active: ClassVar[bool] = True  # if False, only switches and forced states act
    on_first_call: ClassVar[Callable[[PolicyState], bool] | None] = None  # set by `startup`
    on_keys_due: ClassVar[Callable[[PolicyState], object] | None] = None  # likewise
    on_fleet_asked: ClassVar[Callable[[PolicyState, Guard], object] | None] = None  # likewise

    gate: int

    def __init__(
        self, name: str, owner: str, tier: int | None, impact: str, clock: Clock | None
    ) -> None:
        super().__init__(name)
        self.owner: str = owner
        self.tier: int | None = tier
        self.impact: str = impact
        self.patience: float | None = None  # seconds until a failure at a caller's deadline counts
        self.clock = clock
        self.now: Callable[[], float] = real.now if clock is None else clock.now
        self.uncalled: bool = True  # no call has been made in this process
        self.anonymous: bool = False
        self.differs: bool = False  # it was declared again with other options
        self.dropped: bool = False
        self.policy: weakref.ref[Any] | None = None  # the object that users hold
        self.shaped: bool = False  # a pipeline was made of its guards
        self.keyless: bool = False  # and one not of a key's
        self.guards: tuple[Guard, ...] = ()
        self.switches: tuple[weakref.ref[Switch], ...] = ()
        self.view_guards: tuple[weakref.ref[Guard], ...] = ()  # guards that only views have
        self.keys: KeyTable | None = None  # once it was keyed
        self.collapsed: Collapsed | None = None  # once callers may share calls
        self.counting_since: float = float("-inf")
        # Begin times of calls from before the fork: see fork.
        self.inherited: set[float] | frozenset[float] = _NONE
        self.clear()
        _living[id(self)] = weakref.KeyedRef(self, _died, id(self))

    def adopt(self, guards: tuple[Guard, ...]) -> None:
        """Add guards that belong to no policy yet, outside the present ones."""
        self.guards = guards + self.guards
        self._take(guards)

    def adopt_among(self, guards: tuple[Guard, ...]) -> None:
        """Take these guards, new ones among the present ones, before anything was made of them."""
        new = tuple(guard for guard in guards if guard not in self.guards)
        self.guards = guards
        self._take(new)

    def adopt_view(self, guards: tuple[Guard, ...]) -> None:
        """Add guards that a view has and the policy itself has not."""
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
            if isinstance(guard, Attached):
                guard.attach(self)
            if guard.judge is not DEFAULT_JUDGE and guard.judge.on_fault is None:
                guard.judge.on_fault = fault_logger(self.name, guard.kind)
            if self.clock is not None and isinstance(guard, Jitters):
                guard.jitter(False)  # a manual clock should give exact times
        switches = [weakref.ref(guard) for guard in guards if isinstance(guard, Switch)]
        if switches:
            self.switches = (*(ref for ref in self.switches if ref() is not None), *switches)
            self.refresh_gate()

    def compute_gate(self, *, begun: bool = False) -> int:
        """Compute the idle gate: SHUT if calls must take the slow path. The caller holds the lock.

        If begun, the first-call setup of the process no longer shuts it.
        """
        shut = self.forced is not None or not PolicyState.active or (self.uncalled and not begun)
        for ref in self.switches:  # allocates nothing, so that no finalizer runs here
            guard = ref()
            if guard is not None and guard.needs_asking():
                shut = True
        self.idle_gate = SHUT if shut else 0
        return self.idle_gate

    def refresh_gate(self) -> None:
        """Recompute the gate after a guard's need to be asked has changed."""
        with self.lock:
            if self.gate & BUSY:
                self.outbox.append(self.refresh_gate)
            else:
                self.gate = self.compute_gate()

    def begin(self) -> None:
        """Run the first-call setup of this process. The caller does not hold the lock."""
        followed = PolicyState.on_first_call is None or PolicyState.on_first_call(self)
        with self.lock:
            if followed and not self.gate & BUSY:
                self.gate = self.compute_gate(begun=True)
                self.uncalled = False  # last: an interrupt before it only repeats the setup

    def ask_fleet(self, guard: Guard) -> None:
        """Have another thread ask the store of the fleet for what a rate limit needs."""
        if PolicyState.on_fleet_asked is not None:
            PolicyState.on_fleet_asked(self, guard)

    def expire(self) -> None:
        """End forced states whose time is up, the policy's and those of its keys."""
        super().expire()
        keys, end = self.keys, PolicyState.on_keys_due
        if keys is None or keys.due == NEVER or end is None or self.holds_lock():
            return
        if self.now() >= keys.due:
            end(self)

    def shared_guards(self) -> tuple[Guard, ...]:
        """Return the guards of the policy and of its views, without those of single keys."""
        view_guards = [ref() for ref in self.view_guards]
        return self.guards + tuple(guard for guard in view_guards if guard is not None)

    def all_guards(self) -> tuple[Guard, ...]:
        """Return the guards of the policy, of its views and of its keys."""
        states = [] if self.keys is None else self.keys.all()
        return self.shared_guards() + tuple(guard for state in states for guard in state.own)

    def stateful(self) -> list[Stateful]:
        """Return the guards that follow the policy's forced state, not one of a single key."""
        states = [] if self.keys is None else self.keys.all()
        own = [guard for state in states if state.key.forced is None for guard in state.own]
        return [guard for guard in (*self.shared_guards(), *own) if isinstance(guard, Stateful)]

    def _force(self, state: str | None, why: str, seconds: float, cause: Cause, now: float) -> None:
        """Force the state; what is released and gets no calls is closed: no probe would come."""
        before = self.forced
        super()._force(state, why, seconds, cause, now)
        if self.keys is None or self.forced is not None or before != "forced_open":
            return
        uncalled = () if self.keyless else self.guards
        shared = () if self.keys.overflowed else self.keys.overflow.own
        for guard in (*uncalled, *shared):
            if isinstance(guard, Stateful):
                guard.reset(now, "released, and all calls have keys")

    def follow(self, clock: Clock | None) -> None:
        """Take the time from a manual clock, without jitter, or from the system's (None)."""
        self.clock = clock
        self.now = real.now if clock is None else clock.now
        for guard in self.all_guards():
            if isinstance(guard, Jitters):
                guard.jitter(clock is None)
        self.arm()

    def slow(self, duration: float) -> None:
        """Count a success above the first bucket. The caller holds the lock."""
        self.buckets[bisect_left(EDGES, duration)] += 1
        self.write_shared_row()

    def inherits(self, started: float) -> bool:
        """Return True for a call of this process: begun after the fork, or by its own thread."""
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
        """The forced state, else the state of the guard that has one."""
        self.expire()
        own = (guard.state for guard in self.guards if isinstance(guard, Stateful))
        states = [state for state in own if state]
        return self.forced or (states[0] if states else "closed")
