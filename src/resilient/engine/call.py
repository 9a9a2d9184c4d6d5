"""The data of one call through a policy, and the steps that it can ask a driver for.

`interpreter` runs a call; `classify` and `accounting` determine and count how it ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, Literal, Self, cast

from ..deadline import Deadline
from ..guards.base import Guard
from ..guards.facets import Answers
from ..guards.tried import Tried
from ..outcomes import Result, Served
from .keeping import asking
from .pipeline import Pipeline
from .policy_state import PolicyState
from .stops import Stopped

DO_RACE: Final = -1  # run copies of the attempt, one beside the other
DO_RUN: Final = 0  # run the body
DO_PARK: Final = 1  # wait in the queue of the guard at `level`
DO_PAUSE: Final = 2  # sleep for `delay`, then begin another attempt
DO_RECOVER: Final = 3  # run the fallback in place of the body
DONE: Final = 4
LASTS: Final = 5  # the body returned work that has not ended: the call ends with that work
Step = Literal[-1, 0, 1, 2, 3, 4, 5]

ENTRY: Final = "policy"


class NotNeeded(BaseException):
    """Raised in place of the body of an attempt that nobody waits for any more."""


class AbandonedWorker:
    """What an abandoned worker thread holds until its body ends."""

    __slots__ = ("has_ended", "tickets")

    def __init__(self, levels: int) -> None:
        self.tickets: list[int | None] = [None] * levels
        self.has_ended: bool = False


class Retrying:
    """What is known between the attempts of a call."""

    __slots__ = (
        "dropped", "failed", "first", "paid_by", "payer", "pending", "since", "stopped", "tried",
        "why",
    )  # fmt: skip

    def __init__(self, since: float) -> None:
        self.since: float = since  # when its first attempt was let in
        self.tried: Tried | None = None  # of the newest failure, until the guard was asked
        self.pending: bool = False  # another attempt was asked for, and has not begun
        # How the last attempt ended, while another is pending.
        self.failed: tuple[Any, ...] | None = None
        self.dropped: Any = None  # a client's answer that nobody gets, until it is closed
        self.first: BaseException | None = None  # the error that the attempts after it came in
        # Another policy that is to pay for it too, since it is inside an attempt of that, and its
        # guard.
        self.payer: Any = None
        self.paid_by: Any = None  # the one that did, while it is pending
        self.stopped: bool = False
        self.why: str = ""  # there is no other attempt


class Call:
    """The state of one call."""

    enters: ClassVar[bool] = False  # whether its body enters a context manager
    may_race: ClassVar[bool] = True  # copies of its attempts can run one beside the other
    is_copy: ClassVar[bool] = False
    floor: int = -1  # the level outside of which its guards are another call's

    # fmt: off
    __slots__ = (
        "__weakref__", "abandoned", "active_seconds", "admitted", "answering", "args", "attempts",
        "began", "core", "counted", "deadline", "delay", "duration", "error", "expired_level",
        "fallbacks_failed", "final", "fn", "forced_outcome", "handle", "in_key", "is_callers",
        "is_late", "is_news", "kwargs", "lasted", "level", "limits", "ours_since", "outcome",
        "pipeline", "racing", "ran", "recovered_from", "recovering_from", "refuser", "retrying",
        "seen", "served", "settled", "stale_for", "started", "tickets", "value",
    )
    # fmt: on
    admitted: bool
    in_key: bool  # it is counted among the running ones of its key
    answering: bool  # a guard is asked for an answer before the body runs
    counted: bool
    delay: float
    duration: float
    handle: Any  # of work that goes on after the body returned; unset without such work
    is_callers: bool  # the error is the caller's own doing
    is_late: bool  # the value came after the time was up
    is_news: bool  # its refusal is the first after a quiet time
    ours_since: float | None  # the `counting_since` of the process that it is known to belong to
    lasted: bool  # its body returned work that had not ended
    racing: bool  # the guard at its level races copies of the attempt that begins now
    ran: bool
    seen: tuple[list[int], str]  # how it ended in the eyes of its guards, and the reason
    served: int  # what its caller got, once it is counted
    settled: bool  # some of its guards know how it ended
    stale_for: float | None  # how old the answer is that a guard recalled
    started: float

    def __init__(
        self,
        pipeline: Pipeline,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.pipeline: Pipeline = pipeline
        self.core: PolicyState = pipeline.core
        self.fn: Callable[..., Any] = fn
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        self.tickets: list[int | None] = [None] * len(pipeline.guards)
        self.limits: list[tuple[float, int]] = []  # (when, level) of the timeouts that bound it
        self.level: int = 0
        self.value: Any = None
        self.error: BaseException | None = None
        self.recovering_from: Exception | None = None
        self.recovered_from: Exception | None = None
        self.deadline: Deadline | None = None  # the newest of its own
        self.expired_level: int = -1  # level of its own timeout that ended it
        self.outcome: int = -1
        self.refuser: str = ENTRY
        self.abandoned: AbandonedWorker | None = None  # of this attempt
        self.forced_outcome: tuple[int, str] | None = None  # with its reason; set by a block
        # Seconds in the body, if that is not the whole call.
        self.active_seconds: float | None = None
        self.fallbacks_failed: int = 0
        self.final: bool = False  # nothing can replace its answer any more
        self.ran = self.admitted = self.counted = self.is_callers = False
        self.is_late = self.settled = self.is_news = False
        self.answering = self.lasted = self.racing = self.in_key = False
        self.ours_since = self.stale_for = None
        self.attempts: int = 1  # that have begun
        self.retrying: Retrying | None = None  # once an attempt failed that could be repeated
        self.served = 0
        self.delay = self.started = self.duration = 0.0
        self.began: float = self.core.now()

    @classmethod
    def entered(
        cls,
        pipeline: Pipeline,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tickets: Any,
        started: float,
        deadline: Deadline | None,
    ) -> Self:
        """Return a call that the fast path admitted and whose body has just ended."""
        call = cls(pipeline, fn, args, kwargs)
        given = (tickets,) if isinstance(tickets, int) else tickets
        for ticket, level in zip(given, pipeline.fast_levels, strict=False):
            call.tickets[level] = ticket
        call.began = call.started = started
        if deadline is None:
            call._set_limits(len(pipeline.guards))
        else:  # by the limit that it was let in with
            call.limits.append((deadline.when, deadline.level))
        call.deadline = deadline
        call.ran = call.admitted = True
        return call

    @classmethod
    def stopped(
        cls,
        pipeline: Pipeline,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        stop: Stopped,
    ) -> Self:
        """Return a call that a guard stopped on the fast path."""
        call = cls(pipeline, fn, args, kwargs)
        levels = pipeline.fast_levels
        for ticket, level in zip(stop.tickets, levels, strict=False):
            call.tickets[level] = ticket
        call.level = levels[stop.place]
        call.began = stop.now
        call._set_limits(call.level + 1)
        return call

    def _set_limits(self, levels: int) -> None:
        for level, guard in self.pipeline.limits:
            if level < levels:
                self.limits.append((self.began + guard.seconds, level))

    @property
    def guard(self) -> Guard:
        """The guard at the call's current level."""
        return self.pipeline.guards[self.level]

    def recovery(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return the fallback that runs in place of the body, and its arguments."""
        guard = cast("Answers", self.pipeline.guards[self.level])
        origin = self.recovering_from
        return asking(guard, self.pipeline, origin, self.fn, self.args, self.kwargs)

    @property
    def beside(self) -> tuple[Call, ...]:
        """The other copies of its attempt."""
        return ()

    @property
    def inside(self) -> tuple[Guard, ...]:
        """Guards inside whose probes its caller is known to be."""
        return ()

    @property
    def is_needed(self) -> bool:
        """Whether anybody waits for it; if not, it is not let in."""
        return True

    def let_in(self, now: float) -> None:
        """Learn that the guards have let it in; under the lock."""

    def begins(self) -> bool:
        """Note that the body begins; return False if nobody needs it any more."""
        return True

    @property
    def original(self) -> Call:
        """The call that is counted: itself, or the one it is a copy of."""
        return self

    @property
    def innermost(self) -> int:
        """The level of the innermost guard."""
        return len(self.tickets) - 1


def value_or_raise(call: Call) -> Any:
    """Return the call's value or raise its error."""
    error = call.error
    call.error = call.recovered_from = None  # a traceback that holds its own exception is a cycle
    if error is None:
        value, call.value = call.value, None  # an awaitable refers to its call
        return value
    del call
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context  # the one that is being handled here is not its own
        del context, error


def result_of(call: Call) -> Result[Any]:
    """Return the end of a call as a Result; raise an error that is not an Exception."""
    how: Served = "full"
    error = call.error
    if error is not None:
        if not isinstance(error, Exception):
            return value_or_raise(call)  # type: ignore[no-any-return]
        how = "caller_error" if call.is_callers else "error"
    elif call.recovered_from is not None:
        how, error = "degraded", call.recovered_from
    call.error = call.recovered_from = None
    why = None if call.retrying is None else call.retrying.why or None
    elapsed = call.core.now() - call.began
    attempts = call.attempts if call.ran or call.retrying is not None else 0
    stale = call.stale_for if how == "degraded" else None
    return Result(
        call.value, error, how, elapsed, attempts=attempts, why_no_retry=why, stale_for=stale
    )
