"""Who may have which slots where there are not enough: the least important give theirs first."""

from __future__ import annotations

from typing import Final

from ...priority_levels import LEVELS

CALM: Final = 1.0  # seconds without a refusal, after which the others get some back
BACK: Final = 0.1  # of the limit, each time


class Shares:
    """How many of the slots each level may use.

    There is no share while nobody is refused. Each refusal takes one slot from the least important
    level that runs calls, less important than the one refused: the next slot that it frees, another
    level gets. After a second without such a refusal it gets back a tenth of the limit at a time.
    """

    __slots__ = ("_calm_at", "caps", "running")

    def __init__(self) -> None:
        self.running: list[int] = [0] * len(LEVELS)
        self.caps: list[int | None] = [None] * len(LEVELS)  # None: all that are free
        self._calm_at: float = 0.0

    def admits(self, level: int) -> bool:
        """Return whether a level may have one more."""
        cap = self.caps[level]
        return cap is None or self.running[level] < cap

    def refused(self, level: int, now: float) -> None:
        """Take a slot for a call that found none, from the least important that has any."""
        for other in range(len(LEVELS) - 1, level, -1):
            cap, running = self.caps[other], self.running[other]
            had = running if cap is None else min(cap, running)
            self.caps[other] = max(0, had - 1)
            self._calm_at = now + CALM
            if had > 0:
                return

    def recover(self, limit: int, now: float) -> None:
        """Give some back, the most important first, after a while without refusals."""
        if now < self._calm_at:
            return
        for level in range(len(LEVELS)):
            cap = self.caps[level]
            if cap is not None:
                more = cap + max(1, int(limit * BACK))
                self.caps[level] = None if more >= limit else more
                self._calm_at = now + CALM
                return
