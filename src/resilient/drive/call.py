"""One call through a policy, as a state machine that never waits: the interpreter of both colours.

A driver asks `Call.start`, does what the answer says (run the body, park in a line, pause,
recover), reports how that ended, and does what the next answer says, until it is done.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from ..deadline import Deadline, TaskDeadline, Terms, current, enclosing
from ..errors import (
    CallTimeoutError,
    CircuitOpenError,
    ReentrantCallError,
    RefusedError,
    ResilientError,
)
from ..guards.base import ANSWER, PARK, RECOVER, REFUSE, Guard
from ..outcomes import CANCELLED, REFUSED
from .core import BUSY, Core, tell_end
from .ending import NOBODY, WHOM, book, judge, refusal_by, served, tell_refused
from .plan import Plan

if TYPE_CHECKING:
    from .abandoning import Held

DO_RUN: Final = 0  # run the body
DO_PARK: Final = 1  # wait in the line of the guard at `level`
DO_PAUSE: Final = 2  # sleep for `delay`, then call again()
DO_RECOVER: Final = 3  # run recovery()
DONE: Final = 4
Step = Literal[0, 1, 2, 3, 4]

ANY_TASK: Final = object()

_ENTRY: Final = "policy"


class Call:
    """The state of one call; see the module."""

    # fmt: off
    __slots__ = (
        "admitted", "answered", "args", "began", "booked", "callers", "core", "deadline", "delay",
        "duration", "error", "expired", "final", "fn", "held", "inherited", "kwargs",
        "level", "limits", "origin", "outcome", "plan", "ran", "refuser", "ruling", "spent",
        "started", "tickets", "value",
    )
    # fmt: on
    admitted: bool
    booked: bool
    callers: bool  # its error is the caller's own doing
    delay: float
    duration: float
    inherited: bool
    ran: bool
    started: float

    def __init__(
        self, plan: Plan, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.plan: Plan = plan
        self.core: Core = plan.core
        self.fn: Callable[..., Any] = fn
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        self.tickets: list[int | None] = [None] * len(plan.guards)
        self.limits: list[tuple[float, int]] = []  # (when, level) of the timeouts it is under
        self.level: int = 0
        self.value: Any = None
        self.error: BaseException | None = None
        self.origin: Exception | None = None  # what the recovery under way answers
        self.answered: Exception | None = None  # what a recovery has answered
        self.deadline: Deadline | None = None  # the newest of its own
        self.expired: int = -1  # level of the own timeout that ended it
        self.outcome: int = -1
        self.refuser: str = _ENTRY
        self.held: Held | None = None  # by the abandoned worker of this attempt
        self.ruling: tuple[int, str] | None = None  # outcome and reason, where somebody has said so
        self.spent: float | None = None  # seconds in the body, where that is not all of its life
        self.final: bool = False  # nothing can take the place of its answer any more
        self.ran = self.inherited = self.admitted = self.booked = self.callers = False
        self.delay = self.started = self.duration = 0.0
        self.began: float = self.core.now()

    @classmethod
    def entered(
        cls,
        plan: Plan,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tickets: Any,
        started: float,
        deadline: Deadline | None,
    ) -> Call:
        """Return the call that the fast path has let in and whose body has just ended."""
        call = cls(plan, fn, args, kwargs)
        given = iter((tickets,) if type(tickets) is int else tickets)
        call.tickets = [next(given) if quick else None for quick in plan.quick]
        call.began = call.started = started
        call.limits = [
            (started + guard.seconds, level)
            for level, guard in plan.limits
            if guard.seconds is not None
        ]
        call.deadline = deadline
        call.ran = call.admitted = True
        return call

    # -- going in ---------------------------------------------

    def start(self) -> Step:
        """Begin: ask every guard, outermost first."""
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
        self.ran = False
        return self.descend(first)

    def descend(self, first: int) -> Step:
        """Ask the guards from a level inwards."""
        core, guards, verdict, level = self.core, self.plan.guards, REFUSE, first
        now, retry_after, why = core.now(), None, ""
        with core.lock:
            gate = core.gate
            core.gate = gate | BUSY
            try:
                forced = core.forced == "forced_open"
                if gate & BUSY:
                    why = (
                        "called from inside its own bookkeeping, by a finalizer or a signal handler"
                    )
                else:
                    switch = self._switch_off(now) if forced else first
                    forced = switch < 0
                    if forced:
                        why = (
                            f"forced open: {core.forced_why}" if core.forced_why else "forced open"
                        )
                    else:
                        verdict, level = self._walk_in(switch, now)
                    if verdict >= 0:
                        self._admitted(now)
                    elif not forced and verdict in (REFUSE, ANSWER):
                        why, retry_after = guards[level].why, guards[level].retry_after(now)
            finally:
                core.gate = gate
        core.flush_after(gate)
        self.level = level
        if verdict >= 0:
            return DO_RUN
        if verdict == PARK:
            return DO_PARK
        if gate & BUSY:
            return self.refused_at_entry(ReentrantCallError, why)
        if forced:
            return self.refused_at_entry(CircuitOpenError, why)
        answers = verdict == ANSWER and not self.final
        return self.refused(guards[level], why, retry_after, answers=answers)

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
            if guard.seconds is not None:
                self.limits.append((now + guard.seconds, level))
            if admits[level]:
                verdict = guard.before(now)
                if verdict < 0:
                    return verdict, level
                self.tickets[level] = verdict
        return 0, len(guards)

    def _admitted(self, now: float) -> None:
        self.started = now
        if not self.admitted:
            self.admitted = True
            self.core.entered(now)

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

    def refused_at_entry(self, kind: type[RefusedError], why: str) -> Step:
        """Report that the policy itself refused; go out as if from inside."""
        error = kind(f"{self.core.name}: refused ({why})", policy=self.core.name, guard=_ENTRY)
        error._core = self.core
        self.error, self.refuser = error, _ENTRY
        self.level = len(self.tickets) - 1  # so every fallback has its chance
        return self.ascend()

    # -- the body, and what runs in its place ---------------------------------------------

    def limit(self, level: int, task: object = ANY_TASK) -> Deadline | None:
        """Return the tightest deadline that binds what runs at a level.

        One of this policy is made `deadline` as well; a tighter one of an enclosing call is not. An
        async caller names its task: a deadline that cancels another task does not bind this one.
        """
        self.deadline = None
        outer = enclosing()
        limits = [limit for limit in self.limits if limit[1] < level]
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

    def returned(self, value: Any) -> Step:
        """Report that the body, or the recovery, gave a value."""
        self.value, self.error = value, None
        return self._ended()

    def raised(self, error: BaseException) -> Step:
        """Report that the body, or the recovery, raised."""
        if self.origin is not None and isinstance(error, Exception):
            self.core.fallback_failures += 1
            if error is not self.origin and error.__cause__ is None:
                error.__cause__ = self.origin
        self.error = error
        return self._ended()

    def _ended(self) -> Step:
        if self.origin is None:
            now, own = self.core.now(), self.deadline
            self.ran = True
            self.duration = now - self.started if self.spent is None else self.spent
            if self.error is None and own is not None and now >= own.when:
                self.core.late_values += 1
                self.duration = float("inf")
            self.level = len(self.tickets) - 1
        else:
            self.answered = self.origin if self.error is None else None
            self.origin = None
            self.level -= 1
        return self.ascend()

    def recovery(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return what to run instead of the body, and its arguments."""
        error = self.origin
        assert error is not None
        return self.here.recover, (error, self.args[self.plan.skip :], self.kwargs)

    # -- going out ---------------------------------------------

    def not_run(self, error: ResilientError) -> Step:
        """Report that the body, or the recovery, was not begun."""
        if isinstance(error, CallTimeoutError):
            if error._deadline is self.deadline and self.deadline is not None:
                self.expired, self.refuser = self.deadline.level, "timeout"
        elif isinstance(error, RefusedError):
            error._core, self.refuser = self.core, error.guard
        self.error = error
        if self.origin is None:
            self.level = len(self.tickets) - 1
        else:
            self.origin, self.level = None, self.level - 1
        return self.ascend()

    def drop(self) -> None:
        """Give everything back after an exception in code that is not the body: a listener, say."""
        if not self.booked:
            self.level, self.outcome = len(self.tickets) - 1, CANCELLED
            self._settle([CANCELLED] * (len(self.tickets) + 1), "", NOBODY)

    def ascend(self) -> Step:
        """Tell the guards from `level` outwards how it ended, until one wants something else."""
        outcomes, reason = judge(self)
        if self.outcome < 0:
            self.outcome = outcomes[-1]
        return self._settle(outcomes, reason, served(self))

    def _settle(self, outcomes: list[int], reason: str, whom: int) -> Step:
        core, now = self.core, self.core.now()
        step: Step = DONE
        tell = False
        with core.lock:
            gate = core.gate
            core.gate = gate | BUSY
            try:
                if gate & BUSY:
                    return self._settle_inside(outcomes, reason, whom)
                if not (self.inherited or core.inherits(self.began)):
                    self.booked = True
                    return DONE
                self.inherited = True
                step = self._walk_out(outcomes, reason, now)
                if step == DONE:
                    tell = book(self, now, whom)
                    core.mirror()
            finally:
                core.gate = gate
        core.flush_after(gate)
        if tell:
            tell_refused(self, now)
        if step == DONE and Core.on_end is not None:
            refuser = self.refuser if self.outcome == REFUSED else ""
            late = self.duration == float("inf")
            seconds = now - self.started if late else self.duration if self.ran else 0.0
            tell_end(core, self.outcome, WHOM[whom], refuser, seconds)
        if step == DO_RECOVER:
            self._begin_recovery()
        return step

    def _settle_inside(self, outcomes: list[int], reason: str, whom: int) -> Step:
        """Settle in a finalizer or signal handler: what it interrupted books it at its end."""
        later = self.core.outbox.append
        if any(ticket is not None for ticket in self.tickets):
            later(partial(self._settle, outcomes, reason, whom))
            return DONE
        step = self._walk_out(outcomes, reason, self.core.now())  # asks the fallbacks alone
        if step == DONE:
            later(partial(self._book_later, whom))
        elif step == DO_RECOVER:
            self._begin_recovery()
        return step

    def _book_later(self, whom: int) -> None:
        now = self.core.now()
        with self.core.lock:
            gate = self.core.gate
            self.core.gate = gate | BUSY
            try:
                book(self, now, whom)
                self.core.mirror()
            finally:
                self.core.gate = gate
        self.core.flush_after(gate)

    def _begin_recovery(self) -> None:
        error = self.error
        self.origin = error if isinstance(error, Exception) else ValueError("a failed result")

    def _walk_out(self, outcomes: list[int], reason: str, now: float) -> Step:
        guards, reacts = self.plan.guards, self.plan.reacts
        held = self.held is not None and not self.held.ended
        for level in range(self.level, -1, -1):
            ticket = self.tickets[level]
            if ticket is None and not reacts[level]:
                continue
            after, outcome = guards[level].after, outcomes[level]
            verdict = after(ticket or 0, now, outcome, self.duration, reason, held)
            if verdict is not None and (self.final or -1 < self.expired < level):
                # A timeout that stands further out leaves no time for what a guard inside wants.
                if verdict != RECOVER:
                    after(ticket or 0, now, CANCELLED, self.duration, "", held)
                verdict = None
            if verdict is None:
                if held and self.held is not None:
                    self.held.tickets[level] = ticket
                self.tickets[level] = None
                continue
            self.level = level
            if verdict == RECOVER:
                self.tickets[level] = None
                return DO_RECOVER
            self.delay = verdict
            return DO_PAUSE
        return DONE


def give_back(plan: Plan, tickets: Any, started: float, call: Call | None) -> None:
    """End a call for whose end the stack was too short: nothing is known of the dependency."""
    if call is None:
        call = Call.entered(plan, plan.enter, (), {}, tickets, started, None)
    call.drop()
