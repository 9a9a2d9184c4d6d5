"""What the compiled fast path leaves to Python: see ``core/path.h``.

A path calls a function in C where all is usual: each guard lets the call in, and its end only adds
to counts. What is not usual at the entry runs the twin, the same function in Python; what is not
usual at the end comes here, with the pass that the path took.
"""

from __future__ import annotations

from collections.abc import Callable
from types import GeneratorType
from typing import Any, Final, TypeVar

from ..callables import returns_awaitable, returns_work
from ..clock import real
from ..deadline import Deadline, Terms, current
from ..guards.base import RULED, Guard, NoAnswer
from ..outcomes import REFUSED
from ..state_types import compiled
from . import fast_refusal, settlement
from .call import Call
from .counters import DEGRADED, DURATION_SUM, ENDED, IN_FLIGHT, QUICK, SHORTEST
from .fast_failure import Fails
from .misuse import not_awaited
from .pipeline import Pipeline
from .policy_state import QUIET

RAISE: Final = object()
"""What `SyncEnds.raised` and `AsyncEnds.ended` return to have the body's error raised as it is."""


class Ends:
    """The ends of calls of one function, in any colour."""

    __slots__ = ("fn", "pipeline")

    def __init__(self, pipeline: Pipeline, fn: Callable[..., Any]) -> None:
        self.pipeline: Pipeline = pipeline
        self.fn: Callable[..., Any] = fn

    def twin(self) -> Callable[..., Any]:
        """Return the function in Python."""
        raise NotImplementedError

    def terms(self, seconds: float, clock: Callable[[], float]) -> Terms:
        """Return what deadlines of so many seconds share."""
        assert self.pipeline.single is not None
        return Terms(seconds, self.pipeline.single[0], self.pipeline.core.name, clock)

    def is_unusual(self, value: object) -> bool:
        """Return whether a value needs the interpreter."""
        return returns_work(value) or self.pipeline.odd(value)

    def taken(self, entered: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Take a pass over as a call whose body has just ended."""
        return taken(Call, entered, self.fn, args, kwargs)

    # -- a refusal that a fallback answers ---------------------------------------------

    def answer(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the fallback's answer."""
        return fast_refusal.answer(self.pipeline, self.fn, args, kwargs)

    def is_answer(self, value: object) -> bool:
        """Return whether other answers of the same type need no look.

        Raises:
            TypeError: it is to be awaited.
        """
        if returns_awaitable(value):
            raise not_awaited(self.pipeline.core.name, value)
        return type(value) is not GeneratorType  # one of them can be awaited, another not

    def degraded(self) -> None:
        """Count an answer."""
        fast_refusal.degraded(self.pipeline)

    def answer_failed(self, error: BaseException) -> None:
        """Count a fallback that failed."""
        if isinstance(error, NoAnswer):
            raise fast_refusal.unanswered(self.pipeline) from None
        fast_refusal.failed(self.pipeline, error)


class Frameless:
    """A compiled function that stands for one in Python, which a twin still calls.

    Attributes:
        fn: it. What an async one returns is awaited.
        plain: types of values that are given as they are; None: all are.
        hand: called with the first argument, another value, and the other arguments; it returns
            what is given in its place.
    """

    __slots__ = ("fn", "hand", "plain")

    def __init__(self, fn: Any, plain: set[type] | None = None, hand: Any = None) -> None:
        self.fn: Callable[..., Any] = fn
        self.plain: set[type] | None = plain
        self.hand: Callable[..., Any] = hand


C = TypeVar("C", bound=Call)


def taken(kind: type[C], entered: Any, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> C:
    """Take a pass over as a call that has run, and has not been booked.

    Raises:
        RuntimeError: it was booked, or handed over, before.
    """
    if entered.booked:  # before there is a call, which would give it back once more
        raise RuntimeError("it was booked, or handed over, before")
    try:
        tickets, began, own = entered.tickets, entered.began, entered.deadline
        call = kind.entered(entered.pipeline, fn, args, kwargs, tickets, began, own)
    except BaseException:
        entered.give_back()
        raise
    entered.hand_over()  # not before there is a call, which is ended whatever comes
    return call


def has_rule(guard: Guard) -> bool:
    """Return whether the core may do a guard's part: nobody has put another in its place."""
    kind = type(guard)
    anew = any(name in vars(guard) for name in RULED)
    return kind.in_core and not anew and kind._ruled == tuple(getattr(kind, n) for n in RULED)


def path_of(
    pipeline: Pipeline,
    body: Callable[..., Any],
    ends: Ends,
    keep: Callable[..., Any] | None,
    fails: Fails | None,
    deadline_type: type[Deadline],
    *,
    detached: bool = False,
) -> Any:
    """Return the compiled path of a function; None where Python has to call it.

    `detached`: of a block or stream.
    """
    guards = pipeline.fast_guards
    if compiled is None or len(guards) > compiled.MOST_GUARDS or not all(map(has_rule, guards)):
        return None
    answers, direct, constant = pipeline.answers, None, None
    if answers is not None and not pipeline.skip:
        direct, constant = answers.shortcut()
    _set_up()
    return compiled.FastPath(
        core=pipeline.core, guards=guards, kinds=tuple(guard.kind for guard in guards),
        limit=None if pipeline.single is None else pipeline.single[1],
        deadline_type=deadline_type, fn=body, ends=ends, pipeline=pipeline, leave=pipeline.leave,
        fails=fails, keep=keep, answers=answers is not None, direct=direct,
        constant=constant, detached=detached,
    )  # fmt: skip


_is_set_up: Final[list[bool]] = []


def _set_up() -> None:
    """Give the core what it needs of Python, at the first path."""
    if not _is_set_up:
        clock: Any = real.now
        known = getattr(clock, "__module__", "") == "time" and clock.__name__ == "monotonic"
        compiled.set_up(
            current=current, monotonic=clock if known else None, give_back=settlement.give_back,
            raise_it=RAISE, refused=REFUSED, shortest=SHORTEST, quiet=QUIET,
            row=(QUICK, DURATION_SUM, IN_FLIGHT, ENDED + REFUSED, DEGRADED),
        )  # fmt: skip
        _is_set_up.append(True)
