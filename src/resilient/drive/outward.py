"""A call on its way out: how it ended, and who is told."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..errors import CallTimeoutError, RefusedError, ResilientError
from ..guards.base import RECOVER, Guard
from ..outcomes import CANCELLED, REFUSED
from ..stack import room
from .core import Core, tell_end
from .ending import NOBODY, WHOM, book, judge, served, tell_refused
from .state import DO_PAUSE, DO_RECOVER, DONE, State, Step


class Outward(State):
    """The part of a `Call` from the end of its body on."""

    __slots__ = ()
    answered: Exception | None
    booked: bool
    delay: float
    duration: float
    error: BaseException | None
    expired: int
    fell: int
    inherited: bool
    is_news: bool
    late: bool
    level: int
    origin: Exception | None
    outcome: int
    ran: bool
    refuser: str
    settled: bool
    value: Any

    def returned(self, value: Any) -> Step:
        """Report that the body, or the recovery, gave a value."""
        self.value, self.error = value, None
        return self._ended()

    def raised(self, error: BaseException) -> Step:
        """Report that the body, or the recovery, raised."""
        if self.origin is not None and isinstance(error, Exception):
            self.fell += 1
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
                self.late = True
                self.duration = float("inf")
            self.level = len(self.tickets) - 1
        else:
            self.answered = self.origin if self.error is None else None
            self.origin = None
            self.level -= 1
        return self.ascend()

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

    def told(self, which: Callable[[Guard], bool], outcomes: list[int], reason: str) -> None:
        """Tell some of the guards how it ended; the others keep their tickets until it is over."""
        room()
        if not self.core.owned():  # else in a finalizer or signal handler: told with the others
            self.core.locked(self._tell_some, which, outcomes, reason, self.core.now())

    def _tell_some(
        self, which: Callable[[Guard], bool], outcomes: list[int], reason: str, now: float
    ) -> None:
        if not (self.inherited or self.core.inherits(self.began)):
            return
        self.inherited = True
        for level in range(len(self.tickets) - 1, -1, -1):
            guard, ticket = self.plan.guards[level], self.tickets[level]
            if ticket is not None and which(guard):
                guard.after(ticket, now, outcomes[level], self.duration, reason, False)
                self.tickets[level] = None

    def drop(self) -> None:
        """Give everything back after an exception in code that is not the body: a listener, say."""
        if self.booked:
            return
        self.error = None  # it may have to wait for a shorter stack
        self.level = len(self.tickets) - 1
        if not self.settled:
            self.outcome = CANCELLED
        try:
            self._settle([CANCELLED] * (len(self.tickets) + 1), "", NOBODY)
        except RecursionError:
            self.core.outbox.append(self._drop_later)

    def _drop_later(self) -> None:
        if not self.booked:
            self._settle([CANCELLED] * (len(self.tickets) + 1), "", NOBODY)

    def ascend(self) -> Step:
        """Tell the guards from `level` outwards how it ended, until one wants something else."""
        outcomes, reason = judge(self)
        if self.outcome < 0:
            self.outcome = outcomes[-1]
        step = self._settle(outcomes, reason, served(self))
        kin = self.plan.kin
        if kin is not None and step == DONE and isinstance(self.error, ResilientError):
            self.error = kin(self.error, self.fn, self.args, self.kwargs)
        return step

    def _settle(self, outcomes: list[int], reason: str, whom: int) -> Step:
        room()
        core, now = self.core, self.core.now()
        if core.owned():
            return self._settle_inside(outcomes, reason, whom)
        step = core.locked(self._end, outcomes, reason, whom, now)
        if step is None:  # a parent process's call
            return DONE
        if self.is_news:
            tell_refused(self, now)
        if step == DONE and Core.on_end is not None:
            refuser = self.refuser if self.outcome == REFUSED else ""
            late = self.duration == float("inf")
            seconds = now - self.started if late else self.duration if self.ran else 0.0
            tell_end(core, self.outcome, WHOM[whom], refuser, seconds)
        if step == DO_RECOVER:
            self._begin_recovery()
        return step

    def _end(self, outcomes: list[int], reason: str, whom: int, now: float) -> Step | None:
        """Tell the guards, and count the call where it is over; None where it is not ours."""
        if not (self.inherited or self.core.inherits(self.began)):
            self.booked = True
            return None
        self.inherited = self.settled = True
        step = self._walk_out(outcomes, reason, now)
        if step == DONE:
            self._book(whom, now)
        return step

    def _book(self, whom: int, now: float) -> None:
        self.is_news = book(self, now, whom)
        self.core.mirror()

    def _book_later(self, whom: int) -> None:
        self.core.locked_or_later(self._book, whom, self.core.now())

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
