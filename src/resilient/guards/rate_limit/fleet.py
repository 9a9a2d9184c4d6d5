"""The turns of a limit that a fleet shares: a store gives them, when asked by another thread.

A call that finds none waits for the answer, for at most `ANSWER_WITHIN`; then this process goes on
alone, as `when_away` says, until the store answers again, and tells it then what began meanwhile.
"""

from __future__ import annotations

from collections import deque
from math import floor, inf
from typing import Final, NamedTuple

from .pace import Pace, Smooth
from .quota import Quota

ANSWER_WITHIN: Final = 0.1  # seconds that a call waits for an answer
KEPT: Final = 0.1  # seconds that a turn is kept for one who comes late
LOST: Final = 1.0  # seconds after which no answer comes: a fork, an interrupt lost the request
AGAIN: Final = 0.25  # seconds until a store that is away is asked again
LATE_ANSWER: Final = f"it did not answer within {ANSWER_WITHIN:g} s"
_ROUNDING: Final = 1e-6  # seconds: rounding has it never asked for what was just not given
MOST_ASKED: Final = 1000  # turns at once

SCOPES: Final = ("process", "fleet")
WHEN_AWAY: Final = ("local", "open", "refuse")


class Answer(NamedTuple):
    """What a store answered.

    Attributes:
        turns: in how many seconds each turn that it gave comes; 0 or less: at once.
        following: in how many seconds the next one comes that it has not given.
        processes: how many have asked lately, with this one.
    """

    turns: tuple[float, ...]
    following: float
    processes: int


class FleetPace:
    """Lets those begin who have a turn, and says when the next turn could come at the earliest."""

    __slots__ = (
        "_burst", "_number", "_period", "_quota", "_turn", "_turns", "_when_away", "again_at",
        "alone", "asked_at", "away", "following", "last", "max_calls", "processes", "untold",
    )  # fmt: skip

    def __init__(
        self, max_calls: int, period: float, burst: int, *, quota: bool, when_away: str
    ) -> None:
        self.max_calls: int = max_calls
        self._period, self._burst, self._quota = period, burst, quota
        self._when_away: str = when_away
        self._turns: deque[tuple[float, float]] = deque()  # from and until when to be taken
        self._turn: tuple[float, float] | None = None  # the one that was taken last
        self._number: int = -1  # or the number of the last call that was let in alone
        self.last: int = 0
        self.following: float = -inf  # no turn that it has not comes before
        self.asked_at: float | None = None  # since when an answer is due
        self.again_at: float = -inf
        self.away: str = ""  # why it goes on alone
        self.untold: int = 0  # calls that began alone, of which the store has not heard
        self.processes: int = 1
        self.alone: Pace = self._share()

    def _share(self) -> Pace:
        """Return the pace of one of so many processes."""
        parts = self.processes
        if not self._quota:
            return Smooth(self.max_calls, self._period * parts, max(1, self._burst // parts))
        calls = max(1, self.max_calls // parts)
        return Quota(calls, self._period * max(1.0, calls * parts / self.max_calls))

    # -- as a pace ---------------------------------------------

    def take(self, now: float) -> int:
        """Let a call begin, and return its number; -1 if it may not."""
        turn, number = None, -1
        if not self.away:
            if self.at_hand(now) == 0 or self._turns[0][0] > now:
                return -1
            turn = self._turns.popleft()
            self.alone.take(now)  # it has no burst left when it goes alone
        elif self._when_away == "refuse":
            return -1
        else:
            number = self.alone.take(now)
            if number < 0 and self._when_away == "local":
                return -1
            self.untold += 1
        self._turn, self._number = turn, number
        self.last += 1
        return self.last

    def turn(self, place: int, now: float) -> float:
        """Return when the call after so many others may begin at the earliest."""
        if self.away:
            if self._when_away == "refuse":
                return inf
            return now if self._when_away == "open" else self.alone.turn(place, now)
        known = len(self._turns)
        if place < known:
            return self._turns[place][0]
        if self._quota:
            return self.following
        step = self._period / self.max_calls
        return max(self.following, now - (self._burst - 1) * step) + (place - known) * step

    def undo(self, number: int) -> bool:
        """Take back the turn of a call that did not run, if it is the last."""
        if number != self.last:
            return False
        self.last += 1  # which no call has: it is undone once
        if self._turn is not None:  # of use to another until its end; the store takes none back
            self._turns.appendleft(self._turn)
            return True
        self.untold = max(0, self.untold - 1)
        return self._number >= 0 and self.alone.undo(self._number)

    def ready(self, now: float) -> int:
        """Return how many calls may begin at once, as far as is known."""
        if self.away:
            most = {"refuse": 0, "open": self.max_calls}
            return most.get(self._when_away, self.alone.ready(now))
        known = self.at_hand(now)
        spare = now - self.turn(known, now)
        if spare < 0 or self._quota:
            return known + (spare >= 0)
        more = floor(spare * self.max_calls / self._period + _ROUNDING)
        return min(self._burst, known + more + 1)

    def debt(self, now: float) -> int:
        """Return how many of the calls that began alone the limit has not made up for by now."""
        most = self.alone.max_calls if self._quota else max(1, self._burst // self.processes)
        return min(self.untold, most - self.alone.ready(now), MOST_ASKED)

    def at_rest(self, now: float) -> bool:
        """Return whether a new one would do as well."""
        most = self.alone.max_calls if self._quota else max(1, self._burst // self.processes)
        asks = self.asked_at is not None or self.at_hand(now) > 0
        return not asks and self.debt(now) <= 0 and self.alone.ready(now) >= most

    def follow(self, old: FleetPace, now: float) -> None:
        """Remember what another one had, asked and knew."""
        if self.limit == old.limit:  # else other turns come, at another pace
            self._turns, self.following = old._turns, old.following
        self.last, self.untold = old.last + 1, old.untold
        self.asked_at, self.again_at, self.away = old.asked_at, old.again_at, old.away
        self.processes = old.processes
        self.alone = self._share()
        self.alone.follow(old.alone, now)

    @property
    def limit(self) -> tuple[int, float, int, bool]:
        """The options by which a store gives turns."""
        return self.max_calls, self._period, self._burst, self._quota

    def copy(self) -> FleetPace:
        """Return another one that remembers the same."""
        made = FleetPace(
            self.max_calls, self._period, self._burst,
            quota=self._quota, when_away=self._when_away,
        )  # fmt: skip
        made.follow(self, 0.0)
        made.alone = self.alone.copy()
        made.drop_asked()
        return made

    def drop_asked(self) -> None:
        """Forget what was asked for and given: that is another process's, or of another time."""
        self._turns, self.asked_at = deque(), None

    # -- asking ---------------------------------------------

    def at_hand(self, now: float) -> int:
        """Return how many turns it has, without those that nobody took in time."""
        turns = self._turns
        while turns and turns[0][1] <= now:
            turns.popleft()
        return len(turns)

    def lacks(self, waiting: int, now: float) -> int:
        """Return for how many of so many callers it has no turn."""
        return min(max(0, waiting - self.at_hand(now)), MOST_ASKED)

    def should_ask(self, waiting: int, max_wait: float, now: float) -> bool:
        """Return whether to ask now."""
        if self.asked_at is not None and now - self.asked_at < LOST:
            return False
        if self.away:
            return now >= self.again_at
        return self.lacks(waiting, now) > 0 and self.turn(len(self._turns), now) <= now + max_wait

    @property
    def alone_words(self) -> str:
        """What it does while it is alone."""
        if self._when_away == "local":
            share = "the whole limit" if self.processes == 1 else f"1/{self.processes} of the limit"
            return f"this process alone keeps {share}"
        return "every call may begin" if self._when_away == "open" else "no call may begin"

    def is_late(self, now: float) -> bool:
        """Return whether an answer has been due for too long."""
        return not self.away and self.asked_at is not None and now >= self.due

    @property
    def due(self) -> float:
        """Until when a call waits for the answer; in the past if none is due."""
        return -inf if self.asked_at is None or self.away else self.asked_at + ANSWER_WITHIN

    def go_alone(self, why: str, now: float) -> None:
        """Go on alone."""
        self.away, self.again_at = why, now + AGAIN
        self._turns.clear()

    def told(
        self, answer: Answer, now: float, *, asked_at: float, spent: int = 0, current: bool = True
    ) -> None:
        """Take the turns that the store gave; seconds count from now, so that none is too early.

        Those of an answer that came too late would be used too late, and the next answer will
        hardly be faster: it stays alone. Nor are those taken that were asked for with other
        options, where the answer is not `current`. What it was told of, it has booked, late or not.
        """
        late, self.asked_at = now - asked_at > ANSWER_WITHIN, None
        self.untold = max(0, self.untold - spent)
        if answer.processes != self.processes:
            old, self.processes = self.alone, max(1, answer.processes)
            self.alone = self._share()
            self.alone.follow(old, now)
        if late:
            self.go_alone(LATE_ANSWER, now)
            return
        self.away = ""
        if not current:
            return
        for wait in answer.turns:
            self._turns.append((now + wait if wait > 0 else -inf, now + max(0.0, wait) + KEPT))
        self.following = now + answer.following + (_ROUNDING if answer.following > 0 else 0.0)
