"""The contract between a guard and the drivers.

A guard is options and a pure state machine. The clock is passed in as a number; a guard never
sleeps, awaits, logs, reads a clock or takes a lock. All methods marked "under the lock" are called
in the policy's one critical section and do arithmetic only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    overload,
)  # fmt: skip

from ..errors import RefusedError
from ..events import Event
from ..measures import Metric, Sample
from ..outcomes import DEFAULT_JUDGE, SUCCESS, Judge

# What before() answers besides a ticket, which is >= 0.
REFUSE: Final = -1  # do not run the call
PARK: Final = -2  # there may be a place soon: get in line with park()
ANSWER: Final = -3  # do not run the call: recover() has the answer

# What after() answers besides None (keep the outcome) and a delay >= 0 (try again after it).
RECOVER: Final = -1.0  # run recover() instead

Mode = Literal["async", "cooperative", "thread"]
"""How the body is run: awaited, called in place, or called on a worker thread."""

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M", bound="classmethod[Any, Any, Any] | staticmethod[Any, Any]")


class Waiter:
    """One caller in a guard's line. The guard decides, the driver waits and wakes."""

    __slots__ = ("arrived", "deadline", "granted_at", "guard", "patience", "wake")

    def __init__(self, guard: Guard, wake: Callable[[], bool]) -> None:
        self.guard: Guard = guard
        self.wake: Callable[[], bool] = wake  # returns False where nobody is left to be woken
        self.arrived: float = 0.0
        self.deadline: float = 0.0
        self.patience: float = 0.0  # how long it would wait, when it got in line
        self.granted_at: float | None = None


class Gated(Protocol):
    """What a shutter knows of its policy."""

    def regate(self) -> None:
        """Look at the shutters again."""
        ...


class Guard:
    """Base of every guard; a guard overrides what it takes part in and inherits the rest."""

    kind: ClassVar[str]
    rank: ClassVar[float | None] = None  # place in the recommended order; None fits anywhere
    unique: ClassVar[bool] = True  # at most one in a policy
    judges_health: ClassVar[bool] = False  # its judge names the outcome that the policy counts
    error: ClassVar[type[RefusedError]] = RefusedError

    decorate: ClassVar[Callable[[Any, Guard], Any]]  # set by the floor that makes policies

    changeable: ClassVar[tuple[str, ...]] = ()  # the options that can change at run time
    afresh: ClassVar[tuple[str, ...]] = ()  # those among them that cost the state
    layers: dict[str, dict[str, Any]] | None = None  # its options, by who set them
    revision: int = 0  # how often its options were changed

    metrics: ClassVar[tuple[Metric, ...]] = ()  # those that measure() may give

    judge: Judge = DEFAULT_JUDGE
    seconds: float | None  # the time limit that a driver enforces on all that is inside
    sync: str | None = None  # how it is enforced on sync calls
    belongs_to: str = ""  # the name of its policy
    decorated: tuple[Callable[[], Any], Any] | None = (
        None  # weakly what it made, and the code of what
    )
    policy: object = None  # that it keeps alive, where it decorates again and again
    blind: bool = False  # it answers every refusal, without looking at the error
    aged: bool = False  # it watches how long attempts are in flight: paused() and continued()
    only_async: bool = False  # it can't serve sync calls
    only_streams: bool = False  # it can't serve calls that are not generators
    at_entry: bool = False  # its refusal is answered by every fallback, also by those inside
    shutter: ClassVar[bool] = False  # it shuts the gate while it would refuse: see shut()
    misplaced: ClassVar[str] = ""  # what is lost where it stands too far inside
    emit: Callable[[Event | Waiter | Callable[[], object]], object]
    random: Callable[[], float] | None  # draws from [0, 1); None means no jitter
    state: str = ""  # such as "open", where it has one
    why: str = ""  # the reason of a refusal made now

    def __init__(self) -> None:
        self.seconds = None
        self.emit = _drop
        self.random = None

    @property
    def probing(self) -> bool:
        """Whether it lets few in, the calls of whose bodies are not to be refused."""
        return False

    # -- the life of an attempt, under the lock ---------------------------------------------

    def admits(self, mode: Mode) -> bool:
        """Tell whether before() and after() are needed for calls run in this mode."""
        return type(self).before is not Guard.before

    def before(self, now: float) -> int:
        """Let an attempt in: a ticket >= 0, or REFUSE, PARK or ANSWER."""
        return 0

    def resume(self, ticket: int, now: float) -> int:
        """Confirm the ticket of an attempt that waited further inside: a ticket or REFUSE."""
        return ticket

    def paused(self, ticket: int, now: float) -> None:
        """Learn that an attempt waits for something that is not the dependency: its age stops."""

    def continued(self, ticket: int, now: float) -> None:
        """Learn that a paused attempt goes on: its age begins anew."""

    def after(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> float | None:
        """Take an attempt's outcome.

        The ticket is given back by the answer None or RECOVER. With a delay it is kept: after() is
        asked again, with the outcome of the next attempt, or CANCELLED if there is none.

        Args:
            ticket: what before() gave.
            now: the clock.
            outcome: one of the outcome codes.
            duration: seconds from the start of the body; infinite for a value that came late.
            reason: the name of the exception's type, or "" for a success.
            held: the body still runs on an abandoned worker, so its slot stays taken until
                release() is called.

        Returns:
            None to keep the outcome, RECOVER, or the delay in seconds before another attempt.
        """
        return None

    def succeeded(self, ticket: int, now: float, duration: float) -> None:
        """Take a success: after(), for those to whom each good call's nanoseconds matter."""
        self.after(ticket, now, SUCCESS, duration, "", False)

    def release(self, ticket: int, now: float) -> None:
        """Take back the slot of an abandoned worker that has ended."""

    # -- waiting, under the lock ---------------------------------------------

    def park(self, waiter: Waiter, now: float) -> int:
        """Put a waiter in line: PARK, or a ticket or REFUSE where no wait is needed any more."""
        return REFUSE

    def unpark(self, waiter: Waiter, now: float) -> int:
        """Answer a waiter that woke: a ticket, REFUSE, or PARK to wait on."""
        return REFUSE

    def quit(self, waiter: Waiter, now: float) -> None:
        """Take a waiter out of the line, and hand on what it had been granted."""

    # -- capacity ---------------------------------------------

    def slots(self) -> int | None:
        """Return how many calls it lets run at once, where it bounds that."""
        return None

    def places(self) -> int:
        """Return how many callers may wait in its line."""
        return 0

    # -- options ---------------------------------------------

    def options(self) -> dict[str, Any]:
        """Return what its constructor was given, or has been given since, by name."""
        return {}

    def adopt(self, fresh: Guard, now: float) -> None:
        """Take over the options named in `changeable` from another of its kind. Under the lock."""

    def memory(self) -> float:
        """Return the seconds for which it remembers a call, besides in its counts."""
        return 0.0

    # -- refusals and answers ---------------------------------------------

    def retry_after(self, now: float) -> float | None:
        """Return the seconds until a new call may pass, under the lock."""
        return None

    def recover(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer instead of the function; called outside the lock, may return an awaitable."""
        raise NotImplementedError

    # -- the policy it belongs to ---------------------------------------------

    def joins(self, core: Gated) -> None:
        """Learn whose gate it is to have looked at anew, if it is a shutter."""

    def shut(self) -> bool:
        """Tell whether calls have to ask it. While not, none does. Under the lock."""
        return True

    def is_off(self) -> bool:
        """Tell whether it refuses every call now, whatever else there is. Under the lock."""
        return False

    def replaces(self, old: Guard) -> None:
        """Share with the guard of its kind whose place it takes in a view what is one policy's."""

    def joined(self, guards: tuple[Guard, ...]) -> None:
        """Learn which guards stand in the same policy."""

    def retuned(self) -> None:
        """Learn that options of those guards, or its own, have changed. Under the lock."""

    def check_signature(self, fn: Callable[..., Any]) -> None:
        """Raise a TypeError if it can't serve calls of fn."""

    def force(self, state: str | None, now: float) -> None:
        """Follow a forced state of the policy; None releases it. Under the lock."""

    def reset(self, now: float, why: str) -> bool:
        """Begin anew, if it is a breaker; tell whether it is one. Under the lock."""
        return False

    def jitter(self, on: bool) -> None:
        """Draw from the random source, or leave it out."""

    def forked(self, now: float, own: int) -> None:
        """Keep only what the forking thread's own calls hold. Under the lock, in the child."""

    # -- showing ---------------------------------------------

    def describe(self) -> str:
        """Return what it does, as a clause in plain English."""
        return self.kind

    def live(self, now: float) -> str:
        """Return its live numbers for the printed plan, or ""."""
        return ""

    def snapshot(self, now: float) -> dict[str, Any]:
        """Return options and state as plain data."""
        return {"guard": self.kind}

    def measure(self, now: float) -> list[Sample]:
        """Return its metrics at this instant: the same ones every time, from the start."""
        return []

    def save(self) -> dict[str, Any]:
        """Return its state, for restore(); options that can change at run time are part of it."""
        return {}

    def restore(self, saved: dict[str, Any]) -> None:
        """Set the state that save() returned."""

    if TYPE_CHECKING:

        @overload
        def __call__(self, fn: M, /) -> M: ...  # type: ignore[overload-overlap]
        @overload
        def __call__(self, fn: Callable[P, T], /) -> Callable[P, T]: ...
        def __call__(self, fn: Any, /) -> Any:
            """Decorate fn; guards that are stacked on one function become one policy."""
            ...

    else:

        def __call__(self, *given, **options):
            """Decorate fn; guards that are stacked on one function become one policy."""
            if len(given) != 1 or options:
                raise TypeError(
                    f"this is a {self.kind} guard, which decorates one function, and not that "
                    f"function. Was @{self.kind} written without its parentheses?"
                )
            return type(self).decorate(given[0], self)

    def __copy__(self) -> Guard:
        if self.belongs_to:
            return self
        raise TypeError(f"a {self.kind} guard can't be copied: its state belongs to one policy")

    def __deepcopy__(self, memo: object) -> Guard:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"a {self.kind} guard can't be pickled: build it in each process")

    def __repr__(self) -> str:
        return f"<{self.kind}: {self.describe()}>"


def _drop(_: object) -> None:
    return None
