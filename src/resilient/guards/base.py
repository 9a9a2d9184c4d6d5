"""The contract between a guard and the engine.

A guard is options and a pure state machine. The clock is passed in as a number; a guard never
sleeps, awaits, logs, reads a clock or takes a lock. All methods marked "under the lock" are called
in the policy's one critical section and do arithmetic only.

`Guard` is what all have. What a guard takes part in besides, it says by inheriting from facets
(`resilient.guards.facets`); the engine sorts the guards of a policy by them, once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, ParamSpec, TypeVar, overload

from ..events import Event
from ..metric_types import Metric, Sample
from ..outcomes import DEFAULT_JUDGE, Judge

# What admit() answers besides a ticket, which is >= 0.
REFUSE: Final = -1  # do not run the call
PARK: Final = -2  # there may be a place soon: get in the queue with park()
ANSWER: Final = -3  # do not run the call: recover() has the answer

# What settle() answers besides None (keep the outcome).
RECOVER: Final = -1.0  # run recover() instead

Mode = Literal["async", "cooperative", "thread"]
"""How the body is run: awaited, called in place, or called on a worker thread."""

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M", bound="classmethod[Any, Any, Any] | staticmethod[Any, Any]")


class NoAnswer(Exception):  # noqa: N818 - it says that there is none, and is no error
    """What recover() raises where it has no answer: the call goes on, or its error is raised."""


class Waiter:
    """One caller in a guard's queue. The guard decides, the driver waits and wakes."""

    __slots__ = ("arrived", "deadline", "granted_at", "guard", "patience", "wake")

    def __init__(self, guard: Guard, wake: Callable[[], bool]) -> None:
        self.guard: Guard = guard
        self.wake: Callable[[], bool] = wake  # returns False where nobody is left to be woken
        self.arrived: float = 0.0
        self.deadline: float = 0.0
        self.patience: float = 0.0  # how long it would wait, when it got in the queue
        self.granted_at: float | None = None


class Guard:
    """Base of every guard."""

    kind: ClassVar[str]
    rank: ClassVar[float | None] = None  # place in the recommended order; None fits anywhere
    unique: ClassVar[bool] = True  # at most one in a policy
    misplaced: ClassVar[str] = ""  # what is lost where it stands too far inside
    metrics: ClassVar[tuple[Metric, ...]] = ()  # those that measure() may give
    judges_health: ClassVar[bool] = False  # its judge names the outcome that the policy counts

    judge: Judge = DEFAULT_JUDGE
    emit: Callable[[Event | Waiter | Callable[[], object]], object]
    adds_counts: tuple[str, ...] = ()  # those of `rows.WORDS` that mean something with it

    # What the policy knows of it.
    _policy_name: str = ""  # "" while it belongs to none
    _layers: dict[str, dict[str, Any]] | None = None  # its options, by who set them
    _revision: int = 0  # how often its options were changed
    _decorated: tuple[Callable[[], Any], Any] | None = None  # weakly, with the code of what
    _fault_logged: bool = False
    _policy: object = None  # that it keeps alive, where it decorates again and again
    _decorate: ClassVar[Callable[[Any, Guard], Any]]  # set by the floor that makes policies
    _facet_of: ClassVar[dict[str, type[Guard]]] = {}  # by the name of a method

    def __init__(self) -> None:
        self.emit = _drop

    def __init_subclass__(cls, **options: Any) -> None:
        """Raise a TypeError where it has a method that nobody would ever call."""
        super().__init_subclass__(**options)
        for name, facet in cls._facet_of.items():
            if not issubclass(cls, facet) and hasattr(cls, name):
                raise TypeError(
                    f"{cls.__name__}.{name} would never be asked: a guard that has it inherits "
                    f"from {facet.__module__}.{facet.__name__}. For something else take another "
                    "name: this one belongs to the contract"
                )

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> float | None:
        """Take an attempt's outcome, and its ticket back; under the lock.

        A guard without admission is asked too, with the ticket 0.

        Args:
            ticket: what admit() gave.
            now: the clock.
            outcome: one of the outcome codes.
            duration: seconds from the start of the body; infinite for a value that came late.
            reason: the name of the exception's type, or "" for a success.
            held: the body still runs on an abandoned worker, so its slot stays taken until
                release() is called.

        Returns:
            None to keep the outcome, or RECOVER.
        """
        return None

    def options(self) -> dict[str, Any]:
        """Return what its constructor was given, or has been given since, by name."""
        return {}

    def describe(self) -> str:
        """Return what it does, as a clause in plain English."""
        return self.kind

    def live(self, now: float) -> str:
        """Return its live numbers for the printed plan, or ""; under the lock."""
        return ""

    def snapshot(self, now: float) -> dict[str, Any]:
        """Return options and state as plain data; under the lock."""
        options = {name: _plain(value) for name, value in self.options().items()}
        return {"guard": self.kind, "options": options}

    def measure(self, now: float) -> list[Sample]:
        """Return its metrics at this instant: the same ones every time, from the start."""
        return []

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
            return type(self)._decorate(given[0], self)

    def __copy__(self) -> Guard:
        if self._policy_name:
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


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
