"""Copies of an attempt that run one beside the other; both drivers share it.

Each copy is a call of its own for the guards inside the one that races: they admit it, and learn
how it ended. For the guards outside there is one attempt, which ends as the copy did whose answer
was taken. The driver starts copies and waits; a `Race` says what comes next.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import inf
from typing import Any, ClassVar, Final

from ..guards.base import Guard
from ..guards.facets import Switch
from ..guards.races import Races
from ..knowledge.repeats import read_once
from ..outcomes import CANCELLED, IGNORED, REFUSED, SUCCESS
from . import settlement
from .call import DO_RACE, LASTS, Call, Step
from .own_calls import is_inside
from .policy_state import PolicyState
from .raced_values import EXITS, give_up, go_on_as

_GOOD: Final = (SUCCESS, IGNORED)  # an ignored error is an answer, too
_MINE: Final = (
    "abandoned", "error", "expired_level", "is_callers", "is_late", "outcome", "ran",
    "recovered_from", "refuser", "stale_for", "value",
)  # fmt: skip


class Copy(Call):
    """One copy of an attempt.

    Attributes:
        number: 1 or 2.
        begun: when its body began, by the policy's clock; None if it did not.
        ended: it has ended, and its guards know how.
        fault: what the engine itself raised in it.
        handle: what runs it; set by the driver.
        lost: nobody waits for it any more.
        on_end: called once it has ended, where it runs on; set by the driver.
        step: what its driver ended with.
    """

    __slots__ = (
        "_original", "_race", "begun", "ended", "fault", "floor", "lost", "number", "on_end",
        "step",
    )  # fmt: skip
    may_race: ClassVar[bool] = False
    is_copy: ClassVar[bool] = True
    began: float
    begun: float | None
    ended: bool
    floor: int
    limits: list[tuple[float, int]]
    lost: bool
    number: int
    step: Step

    def __init__(self, race: Race, number: int) -> None:
        original = race.original
        super().__init__(original.pipeline, original.fn, original.args, original.kwargs)
        self._original, self._race = original, race
        self.number, self.floor = number, original.level
        self.limits = list(original.limits)
        self.began = original.began
        self.begun, self.ended, self.lost = None, False, False
        self.handle: Any = None
        self.fault: BaseException | None = None
        self.on_end: Callable[[], object] | None = None
        self.step = DO_RACE

    @property
    def original(self) -> Call:
        return self._original

    @property
    def beside(self) -> tuple[Call, ...]:
        return tuple(copy for copy in self._race.copies if copy is not self)

    @property
    def inside(self) -> tuple[Guard, ...]:
        return self._race.inside

    @property
    def is_needed(self) -> bool:
        return not (self.lost or self._original.counted or self._race.winner is not None)

    def let_in(self, now: float) -> None:
        if self.number > 1:
            self._race.guard.copied(now)

    def begins(self) -> bool:
        if self.is_needed:
            self.begun = self.core.now()
            if self._race.stalled and self.number == 1:
                self._race.go_on(self.begun)
        return self.begun is not None

    @property
    def is_good(self) -> bool:
        """Whether it, which has ended, has an answer that can be taken."""
        if self.fault is not None or self.begun is None:
            return False
        return self.step == LASTS or self.seen[0][self.floor] in _GOOD

    @property
    def is_out_of_time(self) -> bool:
        """Whether it has ended by a time limit round the race, which is up for all copies."""
        return self.ended and -1 < self.expired_level < self.floor


class Race:
    """The copies of one attempt.

    Attributes:
        copies: those that were begun, in order.
        due: when a second one may begin, by the policy's clock; infinite if none may.
        inside: guards inside whose probes the caller is; they do not refuse its calls.
        is_released: it is over for its driver.
        stalled: the driver waits for the first one to begin.
        wake: wakes the driver.
    """

    __slots__ = (
        "_after", "_asked", "_told", "_won", "copies", "due", "guard", "inside", "is_released",
        "original", "since", "stalled", "wake",
    )  # fmt: skip

    def __init__(self, original: Call, wake: Callable[[], object]) -> None:
        pipeline, core = original.pipeline, original.core
        assert pipeline.races is not None
        self.original: Call = original
        self.guard: Races = pipeline.races[1]
        self.copies: list[Copy] = []
        self.since: float = core.counting_since  # of the process that it is in
        self.inside: tuple[Guard, ...] = tuple(
            guard
            for _, guard in pipeline.watchers
            if guard.is_probing and is_inside(sys._getframe(1), core, guard)
        )
        self._asked = self._told = False
        self.stalled: bool = False
        self.is_released: bool = False
        self.wake: Callable[[], object] = wake
        self._won: dict[int, Copy] = {}  # at 0 the winner: two threads may end at the same time
        after = core.locked(self.guard.copies_after, core.now())
        if after is None or read_once(original.args, original.kwargs, pipeline.skip):
            after = inf
        self._after: float = after
        self.due: float = core.now() + after

    @property
    def is_run_alone(self) -> bool:
        """Whether there will be one copy."""
        return self._after == inf

    def copy(self) -> Copy:
        """Return a new copy, for the driver to run."""
        made = Copy(self, len(self.copies) + 1)
        self.copies.append(made)
        return made

    def second(self) -> Copy | None:
        """Return the second copy if it may begin now; it is paid."""
        core, now = self.original.core, self.original.core.now()
        if self._asked or now < self.due or self.is_over:
            return None
        if self.copies[0].begun is None:  # a wait in a queue is not the dependency's time
            self.due, self.stalled = inf, True
        begun = self.copies[0].begun  # once more: its thread may have come between
        if begun is None:
            return None
        self.due = begun + self._after
        if now < self.due:
            return None
        self.due, self._asked = inf, True
        return self.copy() if core.locked(self._is_paid, now) else None

    def _is_paid(self, now: float) -> bool:
        """Return whether a second copy may begin, and is paid; under the lock."""
        outside = self.original.pipeline.guards[: self.original.level]
        if not PolicyState.active or any(
            isinstance(guard, Switch) and guard.is_off() for guard in outside
        ):
            return False
        return self.guard.copies(now)

    @property
    def is_over(self) -> bool:
        """Whether there is an answer to take, or nothing to wait for."""
        return (
            self.winner is not None
            or all(copy.ended for copy in self.copies)
            or any(copy.is_out_of_time for copy in self.copies)
        )

    @property
    def winner(self) -> Copy | None:
        """The copy whose answer is taken, the first good one; None if there is none yet."""
        return self._won.get(0)

    def go_on(self, begun: float) -> None:
        """Have the driver wait for the time of the second copy: the first has begun at last."""
        self.stalled, self.due = False, begun + self._after
        self.wake()

    def finish(self, copy: Copy) -> list[Copy]:
        """Note that a copy has ended; return those that have to be stopped now.

        At once: a copy that waits for the slot which is free now must not begin.
        """
        won = copy.is_good and not copy.lost and self._won.setdefault(0, copy) is copy
        copy.ended = True
        if copy.begun is None and copy.number > 1:
            core, refused = copy.core, copy.outcome == REFUSED and not copy.lost
            why = str(copy.error) if refused else ""
            core.locked_or_later(self.guard.not_copied, core.now(), why)
        if copy.step == LASTS and not won:
            give_up(copy)
        return self.losers(copy) if won else []

    def losers(self, but: Copy | None) -> list[Copy]:
        """Have nobody wait for the other copies; return those that have to be stopped now."""
        found: list[Copy] = []
        for copy in self.copies:
            if copy is but or copy.lost:
                continue
            copy.lost = True
            if not copy.ended:  # then its outcome says nothing of the dependency
                copy.forced_outcome = CANCELLED, ""
                found.append(copy)
        return found

    def running(self) -> list[Copy]:
        """Return the copies that have not ended."""
        return [copy for copy in self.copies if not copy.ended]

    def unstarted(self, copy: Copy, why: str) -> None:
        """Forget the second copy, which no thread could be had for."""
        self.copies.remove(copy)
        copy.core.locked(self.guard.not_copied, copy.core.now(), why)

    @property
    def taken(self) -> Copy:
        """The copy as which the attempt ends: the winner, or else the first that was begun."""
        winner = self.winner
        if winner is not None:
            return winner
        for copy in self.copies:
            if copy.fault is not None or copy.is_out_of_time:
                return copy
        return next((copy for copy in self.copies if copy.begun is not None), self.copies[0])

    def end(self) -> Step:
        """Settle the guards outside, as the copy ended whose answer is taken."""
        # Who interrupts the program interrupts no copy alone.
        exits = [copy for copy in self.copies if isinstance(copy.fault or copy.error, EXITS)]
        call, taken = self.original, exits[0] if exits else self.taken
        if taken.fault is not None:
            raise taken.fault
        call.attempts += max(0, sum(copy.begun is not None for copy in self.copies) - 1)
        call.fallbacks_failed += taken.fallbacks_failed
        if taken.step == LASTS:
            return go_on_as(call, taken)
        known = call.retrying
        if taken.outcome == REFUSED and known is not None and known.failed is not None:
            return settlement.failed_before(call, f"its {taken.refuser} refuses")
        for name in _MINE:
            setattr(call, name, getattr(taken, name))
        taken.error = taken.value = taken.recovered_from = None
        call.duration = inf if taken.is_late else call.core.now() - call.started
        call.level = taken.floor
        return settlement.concluded(call, *taken.seen)

    def release(self) -> None:
        """Let go of the copies that have ended: they refer to their race."""
        self.is_released = True
        self.copies = self.running()
        self._won.clear()  # what runs on has been told that it is lost

    def tell(self, taken: Copy | None) -> None:
        """Tell the guard how the attempt has ended; taken is None if its caller went away."""
        if self._told:
            return
        self._told = True
        core, first = self.original.core, self.copies[0]
        seconds: float | None = None
        if taken is first and self._won:
            seconds = None if first.step == LASTS else first.duration
        elif taken is not None and first.begun is not None and first.forced_outcome is not None:
            seconds = inf  # it was slower than the second one
        winner = None
        if len(self.copies) > 1 and self.copies[1].begun is not None:
            winner = taken.number if taken is not None and self._won else 0
        core.locked(self.guard.raced, core.now(), seconds, winner)
