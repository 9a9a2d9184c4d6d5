"""The contract between a guard and the engine. Provisional: a minor version may change it.

A guard is options and a pure state machine. It gets the time as a number; it never sleeps, awaits,
logs, reads a clock or takes a lock. The engine calls the methods that say "under the lock" in the
policy's one critical section: they do arithmetic only, and assign last, after all that can raise.

`Guard` is what all guards have. A guard says what else it takes part in by inheriting from facets
(`resilient.guards.facets`); the engine sorts the guards of a policy by them, once.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, ParamSpec, TypeVar, overload

from ..events import Event
from ..metric_types import Metric, Sample
from ..outcomes import DEFAULT_JUDGE, Judge

# What admit() answers besides a ticket, which is at least 0.
REFUSE: Final = -1
"""What `admit` answers where the call must not run."""

PARK: Final = -2
"""What `admit` answers where the caller shall wait; the engine goes on with `park`."""

ANSWER: Final = -3
"""What `admit` answers where the guard answers by itself; the engine goes on with `recover`."""

RECOVER: Final = -1.0
"""What `settle` answers where `recover` shall answer in place of the function."""

RULED: Final = ("admit", "settle", "settle_success")
"""The methods that the compiled core has rules for."""

Mode = Literal["async", "cooperative", "thread"]
"""How the body is run, which is awaited, called in place, or called on a worker thread."""

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M", bound="classmethod[Any, Any, Any] | staticmethod[Any, Any]")


class NoAnswer(Exception):  # noqa: N818 - it says that there is none, and is no error
    """Raised by `recover` where the guard has no answer: the call goes on, or its error stands."""


class Waiter:
    """One caller in a guard's queue: the guard decides when it goes on, the driver sleeps for it.

    The driver makes it, and a test may: ``Waiter(guard, lambda: True)``. It is the same waiter from
    `park` on until `unpark` has answered with a ticket or `REFUSE`, or `quit` has taken it out; it
    is equal to none but itself, so that a dict can have it as a key.

    Attributes:
        arrived: when it got in the queue, by the policy's clock; set by the engine.
        deadline: when the driver asks the guard again, if nobody has woken it; set by `park`, and
            anew by `unpark` where it answers `PARK`. The driver asks each second in any case.
        granted_at: when it was granted a slot; None where it was not, or where there are no slots.
        guard: whose queue it is in.
        left: the seconds that its caller had when it arrived, until the tightest time limit round
            it; infinite without one. Set by the driver.
        patience: for how many seconds it would wait; set by `park`, for messages alone.
        wake: wakes it, and returns False where the caller has gone. A guard never calls it, but
            gives the waiter to its `emit`: the policy wakes it when the lock is free.
    """

    __slots__ = ("arrived", "deadline", "granted_at", "guard", "left", "patience", "wake")

    def __init__(self, guard: Guard, wake: Callable[[], bool]) -> None:
        self.guard: Guard = guard
        self.wake: Callable[[], bool] = wake
        self.arrived: float = 0.0
        self.deadline: float = 0.0
        self.left: float = inf
        self.patience: float = 0.0
        self.granted_at: float | None = None


class Guard:
    """One pattern in a policy; also a decorator, which makes a policy of its own.

    Attributes:
        kind: its name in errors, events, metrics, settings and commands; the same word as nobody
            else's.
        rank: its place in the recommended order, outermost lowest; None fits anywhere.
        unique: a policy may have one of its kind, and no more.
        misplaced: what is lost where it stands too far inside; a sentence for the warning.
        metrics: those that `measure` may give.
        judges_health: its judge decides the outcome that the policy counts.
        judge: decides which exceptions and values are failures to it.
        emit: hands an event, a waiter to be woken, or a function to be called to the policy, which
            does it when the lock is free again. It does nothing until the guard belongs to one; so
            it is read when it is needed, and not kept.
        in_core: the compiled core has a rule for this very class, and not for those that inherit
            from it, which does what `admit` and `settle_success` do where they only count.
        adds_counts: counts of the policy that mean something with this guard: `"line"` (time in a
            queue), `"fallback"`, `"thread"`.

    Example:
        >>> from resilient import Policy
        >>> from resilient.guards.base import REFUSE
        >>> from resilient.guards.facets import Admission
        >>> class AtMost(Admission):
        ...     kind = "at_most"
        ...     def __init__(self, calls):
        ...         super().__init__()
        ...         self.left = calls
        ...     def admit(self, now):
        ...         if not self.left:
        ...             self.why = "there were enough"
        ...             return REFUSE
        ...         self.left -= 1
        ...         return 0
        >>> offers = Policy("offers", AtMost(1))
        >>> offers.call(len, "abc")
        3
        >>> offers.try_call(len, "abc").error
        RefusedError('offers: refused by its at_most (there were enough)')
    """

    kind: ClassVar[str]
    rank: ClassVar[float | None] = None
    unique: ClassVar[bool] = True
    misplaced: ClassVar[str] = ""
    metrics: ClassVar[tuple[Metric, ...]] = ()
    judges_health: ClassVar[bool] = False
    in_core: ClassVar[bool] = False

    judge: Judge = DEFAULT_JUDGE
    emit: Callable[[Event | Waiter | Callable[[], object]], object]
    adds_counts: tuple[str, ...] = ()  # of `resilient.telemetry.schema.WORDS`

    # Set by the policy that it belongs to.
    _policy_name: str = ""  # "" while it belongs to none
    _layers: dict[str, dict[str, Any]] | None = None  # its options, by who set them
    _revision: int = 0  # how often its options were changed
    _decorated: tuple[Callable[[], Any], Any] | None = None  # what it made, weakly; the code of it
    _faults_logged: tuple[tuple[str, str], ...] = ()  # what, and the type of the fault
    _policy: object = None  # which it keeps alive, where it decorates again and again
    _decorate: ClassVar[Callable[[Any, Guard], Any]]  # set by `resilient.policy.decoration`
    _ruled: ClassVar[tuple[Any, ...]] = ()  # the methods that the core has a rule for
    _facet_of: ClassVar[dict[str, type[Guard]]] = {}  # by the name of a method

    def __init__(self) -> None:
        self.emit = _drop

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse a class with a method that the engine would never call.

        Raises:
            TypeError: the class has a method of a facet, and does not inherit from that facet.
        """
        super().__init_subclass__(**options)
        cls.in_core = vars(cls).get("in_core", False)
        if cls.in_core:
            cls._ruled = tuple(getattr(cls, name) for name in RULED)
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
        """Take back the ticket of an attempt, and how it ended; under the lock.

        The engine calls it, or `settle_success`, once for each ticket, but for one that `confirm`
        refused. A guard without `Admission` has none, and gets 0. It must not raise: the guards
        further out would not get their tickets back.

        Args:
            ticket: what `admit` gave.
            now: the policy's clock, in seconds.
            outcome: `SUCCESS`, `FAILURE`, `IGNORED`, `CANCELLED` or `REFUSED` of
                `resilient.outcomes`, as this guard's judge sees it.
            duration: seconds from the start of the body, 0 with `REFUSED` where it was not begun;
                infinite for a value that came late.
            reason: the name of the exception's type; "" for a success.
            held: the body goes on, on a worker thread that its caller has given up: its slot stays
                taken until `release`.

        Returns:
            None to keep the outcome, or `RECOVER` (only from a guard that inherits from `Answers`).
        """
        return None

    def after_fork(self, now: float, own: int) -> None:
        """Begin counts anew in a forked child; drop tickets and waiters but those of `own` calls.

        What is kept for further calls stays.
        """

    def options(self) -> dict[str, Any]:
        """Return the options in force, by the names that the constructor takes them by."""
        return {}

    def describe(self) -> str:
        """Return what it does, as a clause in plain English for the printed plan."""
        return self.kind

    def live(self, now: float) -> str:
        """Return its numbers at this instant for the printed plan, or ""; under the lock."""
        return ""

    def snapshot(self, now: float) -> dict[str, Any]:
        """Return options and state as plain data that JSON can hold; under the lock."""
        options = {name: _plain(value) for name, value in self.options().items()}
        return {"guard": self.kind, "options": options}

    def measure(self, now: float) -> list[Sample]:
        """Return its metrics at this instant, the same series each time; under the lock.

        Returns:
            For each series the metric, the values of its labels, and its value.
        """
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
