"""One call through a policy, as a state machine that never waits: the interpreter of both colours.

A driver asks `Call.start`, does what the answer says (run the body, park in a line, pause,
recover), reports how that ended, and does what the next answer says, until it is done.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..deadline import Deadline, TaskDeadline, Terms, current, enclosing
from ..errors import CircuitOpenError, ReentrantCallError, RefusedError
from ..guards.base import ANSWER, PARK, REFUSE, Guard
from ..outcomes import REFUSED
from ..stack import room_for_call
from .core import Core
from .ending import refusal_by
from .leases import borrows
from .outward import Outward
from .own_calls import is_inside
from .plan import Plan
from .state import DO_PARK, DO_PAUSE, DO_RECOVER, DO_RUN, DONE, ENTRY, Step

__all__ = (
    "ANY_TASK", "DONE", "DO_PARK", "DO_PAUSE", "DO_RECOVER", "DO_RUN", "Call", "Step", "give_back",
)  # fmt: skip

if TYPE_CHECKING:
    from .abandoning import Held
    from .turned import Stopped

ANY_TASK: Final = object()
_INSIDE: Final = "called inside its own bookkeeping, by a finalizer or signal handler"


class Call(Outward):
    """The state of one call; see the module."""

    __slots__ = ()
    admitted: bool
    answered: Exception | None
    deadline: Deadline | None
    error: BaseException | None
    expired: int
    held: Held | None
    late: bool
    level: int
    limits: list[tuple[float, int]]
    origin: Exception | None
    outcome: int
    ran: bool
    refuser: str
    settled: bool
    started: float
    value: Any

    # -- going in ---------------------------------------------

    def start(self) -> Step:
        """Begin: ask every guard, outermost first."""
        room_for_call()
        if self.core.outbox:  # perhaps a slot that could not be given back
            self.core.flush()
        if self.core.fresh:
            self.core.begin()
        return self.descend(0)

    def again(self) -> Step:
        """Begin another attempt, after the pause that a guard asked for."""
        first = self.level + 1
        self.tickets[first:] = [None] * (len(self.tickets) - first)
        self.limits = [limit for limit in self.limits if limit[1] < first]
        self.error = self.value = self.answered = self.held = None
        self.outcome = self.expired = -1
        self.ran = self.late = self.settled = False
        return self.descend(first)

    def descend(self, first: int) -> Step:
        """Ask the guards from a level inwards."""
        core = self.core
        if core.owned():
            self.level = first
            return self.refused_at_entry(ReentrantCallError, _INSIDE)
        core.expire()
        verdict, level, why, retry_after = core.locked(self._ask, first, core.now())
        self.level = max(level, 0)
        if verdict >= 0:
            return DO_RUN
        if verdict == PARK:
            return DO_PARK
        if level < 0:
            return self.refused_at_entry(CircuitOpenError, why, retry_after)
        return self._stopped(level, verdict, why, retry_after)

    def turned_away(self, stop: Stopped) -> Step:
        """Begin with the refusal that stopped the fast path."""
        self.level = level = self.plan.first
        self.limits = [
            (self.began + guard.seconds, at)
            for at, guard in self.plan.limits
            if at < level and guard.seconds is not None
        ]
        return self._stopped(level, REFUSE, stop.why, stop.retry_after)

    def _stopped(self, level: int, verdict: int, why: str, retry_after: float | None) -> Step:
        guard = self.plan.guards[level]
        if verdict == REFUSE and guard.probing and is_inside(sys._getframe(1), self.core, guard):
            return self.descend(level + 1)  # its outcome is part of that call's
        answers = verdict == ANSWER and not self.final
        return self.refused(guard, why, retry_after, answers=answers)

    def _ask(self, first: int, now: float) -> tuple[int, int, str, float | None]:
        """Return the verdict, its level (-1 is the policy's entry), and why it refuses."""
        core = self.core
        if core.forced == "forced_open":
            first = self._switch_off(now)
            if first < 0:
                why = f"forced open: {core.forced_why}".removesuffix(": ")
                return REFUSE, first, why, core.left(now)
        verdict, level = self._walk_in(first, now)
        if verdict >= 0:
            self._admitted(now)
        elif verdict != PARK:
            guard = self.plan.guards[level]
            return verdict, level, guard.why, guard.retry_after(now)
        return verdict, level, "", None

    def _switch_off(self, now: float) -> int:
        """Return the level of the outermost switch that is off, -1 where none is; under the lock.

        A switch goes before a forced state, which goes before all other guards.
        """
        for level, guard in enumerate(self.plan.guards):
            if guard.shutter and guard.is_off():
                return level
        return -1

    def _walk_in(self, first: int, now: float) -> tuple[int, int]:
        """Ask the guards from first inwards: the verdict and its level; under the lock."""
        guards, admits = self.plan.guards, self.plan.admits
        for level in range(first, len(guards)):
            guard = guards[level]
            if not (Core.active or guard.shutter or type(guard).recover is not Guard.recover):
                continue
            if guard.seconds is not None:
                self.limits.append((now + guard.seconds, level))
            if admits[level]:
                verdict = guard.before(now)
                if verdict < 0:
                    if guard.slots() is None or guard.seconds is not None or not borrows(self):
                        return verdict, level
                    continue
                self.tickets[level] = verdict
        return 0, len(guards)

    def _admitted(self, now: float) -> None:
        self.started = now
        if not self.admitted:
            self.core.entered(now)
            self.admitted = True

    @property
    def here(self) -> Guard:
        """The guard at the level that the call has come to."""
        return self.plan.guards[self.level]

    def refused(
        self, guard: Guard, why: str, retry_after: float | None, *, answers: bool = False
    ) -> Step:
        """Report that a guard refused; go out from there."""
        self.refuser = guard.kind
        self.error = error = refusal_by(guard, self.core, why, retry_after)
        if answers:
            self.origin, self.outcome = error, REFUSED
            return DO_RECOVER
        if guard.at_entry:
            self.level = len(self.tickets) - 1  # so every fallback has its chance
        return self.ascend()

    def refused_at_entry(
        self, kind: type[RefusedError], why: str, left: float | None = None
    ) -> Step:
        """Report that the policy itself refused; go out as if from inside."""
        name = self.core.name
        error = kind(f"{name}: refused ({why})", policy=name, guard=ENTRY, retry_after=left)
        error._core = self.core
        self.error, self.refuser = error, ENTRY
        self.level = len(self.tickets) - 1  # so every fallback has its chance
        return self.ascend()

    # -- the body, and what runs in its place ---------------------------------------------

    def limit(self, level: int, task: object = ANY_TASK) -> Deadline | None:
        """Return the tightest deadline that binds what runs at a level.

        One of this policy is made `deadline` as well; a tighter one of an enclosing call is not. An
        async caller names its task: a deadline that cancels another task does not bind this one.
        """
        self.deadline = None
        outer = enclosing() if Core.active else None
        limits = [limit for limit in self.limits if limit[1] < level and Core.active]
        if not limits:
            return outer
        when, at = min(limits)
        binds = outer is not None and (task is ANY_TASK or outer.task in (None, task))
        if outer is not None and binds and outer.when <= when:
            return outer
        core, seconds = self.core, self.plan.guards[at].seconds or 0.0
        around = current.get()
        while around is not None and not around.open:  # or a chain of dead ones would grow for ever
            around = around.outer
        terms = Terms(seconds, at, core.name, core.now)
        if task is ANY_TASK or task is None:
            own = Deadline.made(when, terms, around)
        else:
            own = TaskDeadline()
            own.when, own.terms, own.outer, own.open, own.task = when, terms, around, True, task
        self.deadline = own
        return own

    def recovery(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return what to run instead of the body, and its arguments."""
        error = self.origin
        assert error is not None
        return self.here.recover, (error, self.args[self.plan.skip :], self.kwargs)


def give_back(plan: Plan, tickets: Any, started: float, call: Call | None) -> None:
    """End a call for whose end the stack was too short: nothing is known of the dependency."""
    room_for_call()
    if call is None:
        call = Call.entered(plan, plan.enter, (), {}, tickets, started, None)
    call.drop()
