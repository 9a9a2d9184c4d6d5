"""Copies of an attempt that run one beside the other; both drivers share it.

Each copy is a call of its own for the guards inside the one that races: they admit it, and learn
how it ended. For the guards outside there is one attempt, which ends as the copy did whose answer
was taken. The driver starts copies and waits; a `Race` says what comes next.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, ClassVar, Final

from ..guards.races import Races
from ..knowledge.libraries import is_answer
from ..knowledge.repeats import READ_ONCE
from ..outcomes import CANCELLED, IGNORED, REFUSED, SUCCESS
from . import settlement
from .call import DO_RACE, LASTS, Call, Step

_GOOD: Final = (SUCCESS, IGNORED)  # an ignored error is an answer, too
_MINE: Final = (
    "error", "expired_level", "is_callers", "is_late", "outcome", "ran", "recovered_from",
    "refuser", "stale_for", "value",
)  # fmt: skip


class Copy(Call):
    """One copy of an attempt.

    Attributes:
        number: 1 or 2.
        begun: its body was begun.
        ended: it has ended, and its guards know how.
        fault: what the engine itself raised in it.
        handle: what runs it; set by the driver.
        lost: nobody waits for it any more.
        on_end: called once it has ended, where it runs on; set by the driver.
        step: what its driver ended with.
    """

    __slots__ = (
        "_copies", "_original", "begun", "ended", "fault", "floor", "lost", "number", "on_end",
        "step",
    )  # fmt: skip
    may_race: ClassVar[bool] = False
    is_copy: ClassVar[bool] = True
    began: float
    begun: bool
    ended: bool
    floor: int
    limits: list[tuple[float, int]]
    lost: bool
    number: int
    step: Step

    def __init__(self, original: Call, number: int, copies: list[Copy]) -> None:
        super().__init__(original.pipeline, original.fn, original.args, original.kwargs)
        self._original, self._copies = original, copies
        self.number, self.floor = number, original.level
        self.limits = list(original.limits)
        self.began = original.began
        self.begun = self.ended = self.lost = False
        self.fault: BaseException | None = None
        self.on_end: Callable[[], object] | None = None
        self.step = DO_RACE

    @property
    def original(self) -> Call:
        return self._original

    @property
    def beside(self) -> tuple[Call, ...]:
        return tuple(copy for copy in self._copies if copy is not self)

    def begins(self) -> bool:
        self.begun = not self.lost
        return self.begun

    @property
    def is_good(self) -> bool:
        """Whether it, which has ended, has an answer that can be taken."""
        if self.fault is not None or not self.begun:
            return False
        return self.step == LASTS or self.seen[0][self.floor] in _GOOD


class Race:
    """The copies of one attempt.

    Attributes:
        copies: those that were begun, in order.
        due: when a second one may begin, by the policy's clock; infinite if none may.
    """

    __slots__ = ("_asked", "_told", "_won", "copies", "due", "guard", "original")

    def __init__(self, original: Call) -> None:
        assert original.pipeline.races is not None
        self.original: Call = original
        self.guard: Races = original.pipeline.races[1]
        self.copies: list[Copy] = []
        self._asked = False  # whether a second copy may begin
        self._told = False
        self._won: dict[int, Copy] = {}  # at 0 the winner: two threads may end at the same time
        core = original.core
        after = None if self._is_read_once() else core.locked(self.guard.copies_after, core.now())
        self.due: float = inf if after is None else original.started + after

    @property
    def is_run_alone(self) -> bool:
        """Whether there will be one copy: it needs no task or thread of its own."""
        return self.due == inf

    def copy(self) -> Copy:
        """Return a new copy, for the driver to run."""
        made = Copy(self.original, len(self.copies) + 1, self.copies)
        self.copies.append(made)
        return made

    def second(self) -> Copy | None:
        """Return the second copy if it may begin now; it is paid."""
        core, now = self.original.core, self.original.core.now()
        if self._asked or now < self.due or self.is_over:
            return None
        self._asked, self.due = True, inf
        return self.copy() if core.locked(self.guard.copies, now) else None

    @property
    def is_over(self) -> bool:
        """Whether there is an answer to take, or no copy that runs."""
        return self.winner is not None or all(copy.ended for copy in self.copies)

    @property
    def winner(self) -> Copy | None:
        """The copy whose answer is taken, the first good one; None if there is none yet."""
        return self._won.get(0)

    def finish(self, copy: Copy) -> list[Copy]:
        """Note that a copy has ended; return those that have to be stopped now.

        At once: a copy that waits for the slot which is free now must not begin.
        """
        won = copy.is_good and not copy.lost and self._won.setdefault(0, copy) is copy
        copy.ended = True
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
        core = self.original.core
        core.locked(self.guard.not_copied, core.now(), why)

    def end(self) -> Step:
        """Settle the guards outside, as the copy ended whose answer is taken."""
        call, taken = self.original, self.taken
        self.tell(taken)
        if taken.fault is not None:
            raise taken.fault
        call.attempts += max(0, sum(each.begun for each in self.copies) - 1)
        call.fallbacks_failed += taken.fallbacks_failed
        if taken.step == LASTS:
            return _go_on_as(call, taken)
        known = call.retrying
        if taken.outcome == REFUSED and known is not None and known.failed is not None:
            return settlement.failed_before(call, f"its {taken.refuser} refuses")
        for name in _MINE:
            setattr(call, name, getattr(taken, name))
        taken.error = taken.value = taken.recovered_from = None
        call.duration = inf if taken.is_late else call.core.now() - call.started
        call.level = taken.floor
        return settlement.concluded(call, *taken.seen)

    @property
    def taken(self) -> Copy:
        """The copy as which the attempt ends: the winner, or else the first that was begun."""
        winner = self.winner
        if winner is not None:
            return winner
        for copy in self.copies:
            if copy.fault is not None or -1 < copy.expired_level < copy.floor:
                return copy
        return next((copy for copy in self.copies if copy.begun), self.copies[0])

    def tell(self, taken: Copy | None) -> None:
        """Tell the guard how the race ended, and whether the second copy was let in."""
        if self._told:
            return
        self._told = True
        call, first = self.original, self.copies[0]
        core, now = call.core, call.core.now()
        second = self.copies[1] if len(self.copies) > 1 else None
        if second is not None and not second.begun:
            refused = second.ended and second.forced_outcome is None
            core.locked(self.guard.not_copied, now, str(second.error) if refused else "")
            second = None
        seconds: float | None = None
        if taken is first and self._won:
            seconds = None if first.step == LASTS else first.duration
        elif taken is not None and first.lost and first.begun:
            seconds = inf  # it was slower than the second one
        winner = None
        if second is not None:
            core.locked(self.guard.copied, now)
            winner = taken.number if taken is not None and self._won else 0
        core.locked(self.guard.raced, now, seconds, winner)

    def _is_read_once(self) -> bool:
        """Return whether an argument can be read only once, so that one copy would find nothing."""
        call = self.original
        why = call.pipeline.once
        if why is None:
            return False
        try:
            return why(call.fn, call.args[call.pipeline.skip :], call.kwargs) == READ_ONCE
        except Exception:  # an argument may be anything
            return True


def _go_on_as(call: Call, copy: Copy) -> Step:
    """Go on as a copy whose body returned work that has not ended."""
    first = copy.floor + 1
    call.tickets[first:] = copy.tickets[first:]
    copy.tickets = [None] * len(copy.tickets)
    copy.counted = True
    call.value, call.deadline, call.ran = copy.value, copy.deadline, copy.ran
    call.started, call.limits = copy.started, copy.limits
    call.level, call.lasted = call.innermost, True
    return LASTS


def unwanted(copy: Copy) -> Any:
    """Return a known client's answer that nobody gets: it may hold a connection."""
    value, copy.value, copy.error = copy.value, None, None
    return value if is_answer(value) else None
