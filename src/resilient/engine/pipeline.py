"""A stack of guards over one policy's state, compiled for one mode of running the body."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from ..guards.base import Guard, Mode
from ..guards.facets import Admission, Answers, InFlight, Keeps, Retries, Slots, Switch, TimeLimit
from ..guards.races import Races
from ..guards.recalls import Recalls
from ..guards.sorting import answering
from ..knowledge.libraries import is_answer
from ..outcomes import DEFAULT_JUDGE, Judge
from .fast_path import fast_path
from .policy_state import PolicyState
from .stops import Enter, Leave

if TYPE_CHECKING:
    from .key_states import Key

# Takes an error, and the function and arguments of the call that it ends.
Kin = Callable[[Exception, Any, tuple[Any, ...], dict[str, Any]], Exception]

# Takes the function and arguments of a client's call; returns why it must not be repeated, or "".
Once = Callable[[Any, tuple[Any, ...], dict[str, Any]], str]

# Takes the same; returns whether the call is known to change something.
Writes = Callable[[Any, tuple[Any, ...], dict[str, Any]], bool]


class Pipeline:
    """What a driver needs to know to run calls of one mode through a policy."""

    __slots__ = (
        "admissions",
        "always",
        "answers",
        "core",
        "enter",
        "fast_guards",
        "fast_levels",
        "guard_judges",
        "guards",
        "handed_out",
        "is_plain",
        "judge",
        "judges",
        "judges_health",
        "judges_values",
        "keepers",
        "key",
        "kin",
        "leave",
        "lends",
        "limits",
        "neutral",
        "odd",
        "once",
        "plain",
        "races",
        "reacts",
        "recalls",
        "retries",
        "single",
        "skip",
        "threaded",
        "throws",
        "watchers",
        "worker_guard",
        "writes",
    )  # fmt: skip
    enter: Enter
    leave: Leave

    def __init__(
        self,
        core: PolicyState,
        guards: tuple[Guard, ...],
        mode: Mode,
        *,
        judges: tuple[Judge, ...] = (),
        skip: int = 0,
        neutral: Callable[[object], bool] | None = None,
        kin: Kin | None = None,
        once: Once | None = None,
        writes: Writes | None = None,
        handed_out: Callable[[Any], bool] | None = None,
        key: Key | None = None,
    ) -> None:
        self.core: PolicyState = core
        core.shaped = True
        core.keyless = core.keyless or key is None
        self.key: Key | None = key  # whose guards these are
        # A wrapped client's judges, asked before those of the guards.
        self.judges: tuple[Judge, ...] = judges
        # Recognises a value that says nothing of the dependency: a part of a client, not yet at
        # work.
        self.neutral: Callable[[object], bool] | None = neutral
        # Recognises, by its type alone, a value that the fast path leaves to the interpreter.
        self.odd: Callable[[object], bool] = is_answer if neutral is None else neutral
        # Turns an error of ours into one that is also of a wrapped client's library.
        self.kin: Kin | None = kin
        # Says of a wrapped client's call why it must not be repeated.
        self.once: Once | None = once
        self.writes: Writes | None = writes
        # Recognises a part of a client that another call has handed out.
        self.handed_out: Callable[[Any], bool] | None = handed_out
        # The last type of a blind fallback's answers that proved not to be awaitable.
        self.plain: type[Any] = type(None)
        self.skip: int = skip  # number of leading arguments that fallbacks do not get
        self._sort(guards, mode)
        self.threaded: bool = mode == "thread"
        self._judge(guards, judges, neutral)
        # The outermost levels whose refusal is thrown at once: nobody outside them learns of it.
        alone = self.is_plain and key is None and kin is None
        self.throws: int = (*self.reacts, True).index(True) if alone else 0
        # Of a key, refusals are counted one by one.
        self.answers: Answers | None = _answerer(guards) if key is None else None
        self.recalls: Recalls | None = self.answers if isinstance(self.answers, Recalls) else None
        self.enter, self.leave = fast_path(
            core, self.fast_guards, blind_fallback=self.answers is not None
        )

    def _judge(
        self,
        guards: tuple[Guard, ...],
        judges: tuple[Judge, ...],
        neutral: Callable[[object], bool] | None,
    ) -> None:
        """Note who decides what a failure is."""
        self.judge: Judge = next(
            (guard.judge for guard in reversed(guards) if guard.judges_health), DEFAULT_JUDGE
        )
        self.guard_judges: tuple[Judge, ...] = (*(guard.judge for guard in guards), self.judge)
        # No guard has options that classify, and no client has judges.
        self.is_plain: bool = (
            set(self.guard_judges) == {DEFAULT_JUDGE} and not judges and neutral is None
        )
        self.judges_health: bool = any(guard.judges_health for guard in guards)
        self.judges_values: bool = any(
            judge.failed_result is not None
            for judge in (*judges, *(guard.judge for guard in guards))
        )

    def _sort(self, guards: tuple[Guard, ...], mode: Mode) -> None:
        """Sort the guards by their facets."""
        self.guards: tuple[Guard, ...] = guards
        # By level: the guard, if it admits calls of this mode, else None.
        self.admissions: tuple[Admission | None, ...] = tuple(
            guard if _admits(guard, mode) else None for guard in guards
        )
        # The levels that the fast path asks; a switch closes the gate instead.
        self.fast_levels: tuple[int, ...] = tuple(
            level
            for level, guard in enumerate(self.admissions)
            if guard is not None and not isinstance(guard, Switch)
        )
        asked = (self.admissions[level] for level in self.fast_levels)
        self.fast_guards: tuple[Admission, ...] = tuple(each for each in asked if each is not None)
        # By level: guards that act even while guards are off, and guards that lend slots.
        self.always: tuple[bool, ...] = _are(guards, Switch, Answers)
        self.lends: tuple[bool, ...] = _are(guards, Slots)
        # By level: guards that admit nothing but learn how a call ended, such as a fallback.
        self.reacts: tuple[bool, ...] = tuple(not isinstance(guard, Admission) for guard in guards)
        self.watchers: tuple[tuple[int, InFlight], ...] = _levels(guards, InFlight)
        self.keepers: tuple[tuple[int, Keeps], ...] = _levels(guards, Keeps)
        # A policy has at most one.
        self.retries: tuple[int, Retries] | None = next(iter(_levels(guards, Retries)), None)
        self.races: tuple[int, Races] | None = next(iter(_levels(guards, Races)), None)
        self.limits: tuple[tuple[int, TimeLimit], ...] = _levels(guards, TimeLimit)
        # The kind of the guard whose limit is kept by a worker.
        bounding = [guard for level, guard in self.limits if self.admissions[level] is not None]
        self.worker_guard: str = bounding[0].kind if bounding else ""
        # The fast paths know one limit; with more, the interpreter finds the tightest each time.
        self.single: tuple[int, TimeLimit] | None = (
            self.limits[0] if len(self.limits) == 1 else None
        )

    @property
    def fast_threaded(self) -> bool:
        """Whether a call on a worker thread that goes well needs no interpreter."""
        plain = self.threaded and self.single is not None and not self.judges_values
        return plain and not (self.keepers or self.races or self._is_shut)

    @property
    def fast(self) -> bool:
        """Whether a call that goes well needs no interpreter."""
        many = len(self.limits) > 1
        return not (self.judges_values or self.threaded or self.races or many or self._is_shut)

    @property
    def _is_shut(self) -> bool:
        """Whether the key is forced open, which the interpreter alone looks at."""
        return self.key is not None and self.key.forced == "forced_open"

    @property
    def fast_detached(self) -> bool:
        """Whether a block or stream that goes well needs no interpreter."""
        # Of a key, the interpreter counts those that run.
        plain = self.retries is None and not self.keepers and self.recalls is None
        return self.fast and plain and self.key is None


class Pipelines:
    """The pipelines of a policy or a view, each made when it is first needed."""

    __slots__ = ("_made", "core", "guards", "key")

    def __init__(
        self, core: PolicyState, guards: tuple[Guard, ...], key: Key | None = None
    ) -> None:
        self.core: PolicyState = core
        self.key: Key | None = key
        self.guards: tuple[Guard, ...] = guards
        self._made: dict[Mode, Pipeline] = {}

    def of(self, mode: Mode) -> Pipeline:
        """Return the one for calls of a mode."""
        pipeline = self._made.get(mode)
        if pipeline is None:
            pipeline = self._made[mode] = Pipeline(self.core, self.guards, mode, key=self.key)
        return pipeline


F = TypeVar("F", bound=Guard)


def _levels(guards: tuple[Guard, ...], facet: type[F]) -> tuple[tuple[int, F], ...]:
    """Return the guards with a facet, and their levels."""
    return tuple((level, guard) for level, guard in enumerate(guards) if isinstance(guard, facet))


def _are(guards: tuple[Guard, ...], *facets: type[Guard]) -> tuple[bool, ...]:
    return tuple(isinstance(guard, facets) for guard in guards)


def _admits(guard: Guard, mode: Mode) -> TypeGuard[Admission]:
    """Return True if a guard admits calls of a mode."""
    if not isinstance(guard, Admission):
        return False
    return guard.admits(mode)


def _answerer(guards: tuple[Guard, ...]) -> Answers | None:
    """Return the guard that answers every refusal without looking at it, if there is one."""
    inside = [guard for guard in guards if not isinstance(guard, Switch)]
    found = [guard for guard in inside if isinstance(guard, Answers)]
    outermost = len(found) == 1 and found[0] is inside[0] and found == answering(inside)
    # An answer of a switch inside is not reached: the switch keeps its calls off the fast path.
    return found[0] if outermost and found[0].is_blind else None
