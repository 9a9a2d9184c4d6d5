"""What a hedge says of itself: its metrics, its plan, its data."""

from __future__ import annotations

from typing import Any, Final

from ...metric_types import Metric, Sample
from ..refrained import Refrained

WINNERS: Final = ("neither", "first", "second")
REASONS: Final = ("budget", "refused", "busy")

_RACES: Final = Metric(
    "hedged_total", "counter", "Attempts that had a second copy, by the copy whose answer was "
    "taken.", "winner",
)  # fmt: skip
_NOT: Final = Metric(
    "not_hedged_total", "counter", "Slow attempts without a second copy, by what stood against it.",
    "reason",
)  # fmt: skip
_DELAY: Final = Metric(
    "hedge_delay_seconds", "gauge", "After so long a second copy begins.", over="max",
    present="once it is known",
)  # fmt: skip
_LEFT: Final = Metric("hedge_left", "gauge", "Copies that nobody waits for and that still run.")
METRICS: Final = (_RACES, _NOT, _DELAY, _LEFT)


class Counts:
    """What a hedge counts; the views of its policy share it.

    Attributes:
        by_winner: attempts with a second copy, by the copy whose answer was taken.
        left: copies that nobody waits for and that still run.
        refrained: slow attempts without one.
    """

    __slots__ = ("by_winner", "left", "refrained")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew, in a forked child."""
        self.by_winner: list[int] = [0] * len(WINNERS)
        self.refrained: Refrained = Refrained(REASONS)
        self.left: int = 0

    def data(self) -> dict[str, Any]:
        """Return the counts as plain data."""
        hedged = dict(zip(WINNERS, self.by_winner, strict=True))
        return {"hedged": hedged, "not_hedged": dict(self.refrained.by_reason), "left": self.left}

    def samples(self, delay: float | None) -> list[Sample]:
        """Return the counts as samples of metrics."""
        named = zip(WINNERS, self.by_winner, strict=True)
        found: list[Sample] = [(_RACES, (word,), count) for word, count in named]
        found += [(_NOT, (word,), count) for word, count in self.refrained.by_reason.items()]
        found.append((_LEFT, (), self.left))
        if delay is not None:
            found.append((_DELAY, (), delay))
        return found
