"""Who may have which slots where there are not enough: the least important give theirs first."""

from __future__ import annotations

from typing import Final

from ...priority_levels import LEVELS

CALM: Final = 1.0  # seconds without a refusal, after which the others get some back
WELL: Final = 50  # calls


class Shares:
    """How many of the slots each level may use.

    There is no share while nobody is refused. Each refusal takes one slot from the least important
    level that runs calls, less important than the one refused: the next slot that it frees, another
    level gets. Where no lesser call runs nothing is taken: that was not what it lacked. One is
    given back, to the more important first, for each `WELL` calls that found a slot since, so that
    about one important call in so many is refused where lesser ones want all that there is; and for
    each second without such a refusal one, then two, then four.
    """

    __slots__ = ("_back", "_calm_at", "_well", "caps", "running")

    def __init__(self) -> None:
        self.running: list[int] = [0] * len(LEVELS)
        self.caps: list[int | None] = [None] * len(LEVELS)  # None: all that are free
        self._calm_at: float = 0.0
        self._back: int = 1  # slots that are given back next
        self._well: int = 0  # calls that found a slot since the last refusal

    def admits(self, level: int) -> bool:
        """Return whether a level may have one more."""
        cap = self.caps[level]
        return cap is None or self.running[level] < cap

    def refused(self, level: int, now: float) -> None:
        """Take a slot for a call that found none, from the least important that has any."""
        for other in range(len(LEVELS) - 1, level, -1):
            cap, running = self.caps[other], self.running[other]
            had = running if cap is None else min(cap, running)
            if had > 0:
                for least in range(other, len(LEVELS)):
                    self.caps[least] = had - 1 if least == other else 0
                self._calm_at, self._back, self._well = now + CALM, 1, 0
                return

    def recover(self, limit: int, now: float) -> None:
        """Give some back for each second without refusals."""
        while now >= self._calm_at and self._gave(self._back, limit):
            self._calm_at += CALM
            self._back *= 2

    def _gave(self, slots: int, limit: int) -> bool:
        """Give slots back to the most important level that lacks any; return whether one does."""
        level = 0
        while level < len(LEVELS) and self.caps[level] is None:
            level += 1
        if level == len(LEVELS):
            return False
        more = (self.caps[level] or 0) + slots
        self.caps[level] = None if more >= limit else more
        return True

    def begins(self, level: int, limit: int) -> None:
        """Take a slot for a level."""
        self.running[level] += 1
        if self.caps[level] is None:
            self._well += 1
            if self._well >= WELL:
                self._well = 0
                self._gave(1, limit)

    def ended(self, level: int) -> None:
        """Give back the slot of a level; nothing of a call from before a fork."""
        if self.running[level] > 0:
            self.running[level] -= 1
