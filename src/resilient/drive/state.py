"""What is known of one call, and the steps that a driver can be asked to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

from ..deadline import Deadline
from .core import Core
from .plan import Plan

if TYPE_CHECKING:
    from .abandoning import Held

DO_RUN: Final = 0  # run the body
DO_PARK: Final = 1  # wait in the line of the guard at `level`
DO_PAUSE: Final = 2  # sleep for `delay`, then call again()
DO_RECOVER: Final = 3  # run recovery()
DONE: Final = 4
Step = Literal[0, 1, 2, 3, 4]

ENTRY: Final = "policy"


class State:
    """One call, as data: see `resilient.drive.call`."""

    enters: ClassVar[bool] = False  # its body enters a context manager

    # fmt: off
    __slots__ = (
        "__weakref__", "admitted", "answered", "args", "began", "booked", "callers", "core",
        "deadline", "delay", "duration", "error", "expired", "fell", "final", "fn", "handle",
        "held", "inherited", "is_news", "kwargs", "late", "level", "limits", "origin", "outcome",
        "plan", "ran", "refuser", "ruling", "settled", "spent", "started", "tickets", "value",
    )
    # fmt: on
    admitted: bool
    booked: bool
    callers: bool  # its error is the caller's own doing
    delay: float
    duration: float
    handle: Any  # of work that goes on when the body has returned; unset where there is none
    inherited: bool
    is_news: bool  # its refusal is the first after a quiet time
    late: bool  # its value came when its time was up
    ran: bool
    settled: bool  # some of its guards have been told how it ended
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
        self.refuser: str = ENTRY
        self.held: Held | None = None  # by the abandoned worker of this attempt
        self.ruling: tuple[int, str] | None = None  # outcome and reason, where somebody has said so
        self.spent: float | None = None  # seconds in the body, where that is not all of its life
        self.fell: int = 0  # fallbacks that have failed
        self.final: bool = False  # nothing can take the place of its answer any more
        self.ran = self.inherited = self.admitted = self.booked = self.callers = False
        self.late = self.settled = self.is_news = False
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
    ) -> Self:
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
