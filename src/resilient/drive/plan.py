"""An ordered stack of guards over one core, compiled for one mode of running the body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..guards.base import Guard, Mode
from ..known import is_answer
from ..outcomes import DEFAULT_JUDGE, Judge
from .core import Core
from .fast_path import Enter, Leave, fast_path

# Of an error, the function, and the arguments of the call that it ends.
Kin = Callable[[Exception, Any, tuple[Any, ...], dict[str, Any]], Exception]


class Plan:
    """What a driver needs to know to run calls of one mode through a policy."""

    __slots__ = (
        "admits", "answers", "core", "enter", "fast_levels", "guard_judges", "guards", "is_plain",
        "judge", "judges", "judges_health", "judges_values", "kin", "leave", "limits", "neutral",
        "odd", "reacts", "single", "skip", "threaded",
    )  # fmt: skip
    enter: Enter
    leave: Leave

    def __init__(
        self,
        core: Core,
        guards: tuple[Guard, ...],
        mode: Mode,
        *,
        judges: tuple[Judge, ...] = (),
        skip: int = 0,
        neutral: Callable[[object], bool] | None = None,
        kin: Kin | None = None,
    ) -> None:
        self.core: Core = core
        # A wrapped client's, who are asked before those of the guards.
        self.judges: tuple[Judge, ...] = judges
        # Tells a value that says nothing of the dependency: a part of a client, not yet at work.
        self.neutral: Callable[[object], bool] | None = neutral
        # Tells a value that the fast path leaves to the interpreter, by its type alone.
        self.odd: Callable[[object], bool] = is_answer if neutral is None else neutral
        # Makes an error of ours one of a wrapped client's library as well, for its caller.
        self.kin: Kin | None = kin
        self.skip: int = skip  # so many leading arguments are no business of a fallback
        self.guards: tuple[Guard, ...] = guards
        self.admits: tuple[bool, ...] = tuple(guard.admits(mode) for guard in guards)
        # Of those that the fast path asks: a shutter keeps calls off it instead.
        self.fast_levels: tuple[int, ...] = tuple(
            level for level, guard in enumerate(guards) if self.admits[level] and not guard.shutter
        )
        # These never admit anything but want to know how it ended, such as a fallback.
        self.reacts: tuple[bool, ...] = tuple(
            type(guard).before is Guard.before for guard in guards
        )
        self.limits: tuple[tuple[int, Guard], ...] = tuple(
            (level, guard) for level, guard in enumerate(guards) if guard.seconds is not None
        )
        # The fast paths know one limit; with more, the interpreter finds the tightest each time.
        self.single: tuple[int, Guard] | None = self.limits[0] if len(self.limits) == 1 else None
        self.threaded: bool = mode == "thread"
        self.judge: Judge = next(
            (guard.judge for guard in reversed(guards) if guard.judges_health), DEFAULT_JUDGE
        )
        self.guard_judges: tuple[Judge, ...] = (*(guard.judge for guard in guards), self.judge)
        # None of them was told anything, and there is no client's.
        self.is_plain: bool = (
            set(self.guard_judges) == {DEFAULT_JUDGE} and not judges and neutral is None
        )
        self.judges_health: bool = any(guard.judges_health for guard in guards)
        self.judges_values: bool = any(
            judge.failed_result is not None
            for judge in (*judges, *(guard.judge for guard in guards))
        )
        self.answers: Guard | None = _answerer(guards)
        self.enter, self.leave = fast_path(
            core, guards, mode, blind_fallback=self.answers is not None
        )

    @property
    def fast_guards(self) -> tuple[Guard, ...]:
        """The guards that the fast path asks."""
        return tuple(self.guards[level] for level in self.fast_levels)

    @property
    def one_limit(self) -> bool:
        """Tell whether there is one time limit, and no predicate of the value."""
        return self.single is not None and not self.judges_values

    @property
    def fast(self) -> bool:
        """Tell whether a call that goes well needs no interpreter."""
        return not (self.judges_values or self.threaded or len(self.limits) > 1)


def _answerer(guards: tuple[Guard, ...]) -> Guard | None:
    """Return the guard that answers every refusal without looking at it, if there is one."""
    inside = [guard for guard in guards if not guard.shutter]
    recovering = [guard for guard in inside if type(guard).recover is not Guard.recover]
    alone = len(recovering) == 1 and recovering[0] is inside[0]
    # An answer of a switch inside is not reached: the switch keeps its calls off the fast path.
    return inside[0] if alone and inside[0].blind else None
