"""How long good attempts take: a histogram that forgets, in constant memory.

Its classes grow by a tenth, so that a quantile is right to a tenth; all counts are halved once
there are many, so that what was long ago weighs less and less.
"""

from __future__ import annotations

from math import ceil, inf, log
from typing import Any, Final

ENOUGH: Final = 20  # attempts that must be known before a quantile is
_MOST: Final = 1000  # attempts; then all counts are halved
_LEAST: Final = 1e-5  # seconds; what is shorter counts as so long
_GROWTH: Final = 1.1
_CLASSES: Final = 200  # up to half an hour; the last one is "longer, or never known"
_AGAIN: Final = 16  # attempts, after which a quantile is computed anew


class Latencies:
    """The durations of good attempts, and a quantile of them."""

    __slots__ = ("_counts", "_known", "_share", "_since", "_total")

    def __init__(self) -> None:
        self._counts: list[int] = [0] * _CLASSES
        self._total: int = 0
        self._share: float = 0.0  # whose quantile is known
        self._known: float | None = None
        self._since: int = _AGAIN

    def add(self, seconds: float) -> None:
        """Add a duration; infinite for an attempt that was left before it had ended."""
        place = _CLASSES - 1
        if seconds < inf:
            place = min(ceil(log(max(seconds, _LEAST) / _LEAST) / log(_GROWTH)), place - 1)
        self._counts[place] += 1
        self._total += 1
        self._since += 1
        if self._total >= _MOST:
            self._total = 0
            for number in range(_CLASSES):  # under the lock: it allocates nothing
                self._counts[number] //= 2
                self._total += self._counts[number]

    def quantile(self, share: float) -> float | None:
        """Return the seconds within which a share of attempts end; None while that is unknown."""
        if self._total < ENOUGH:
            return None
        if self._since >= _AGAIN or self._share != share:
            self._share, self._known, self._since = share, self._computed(share), 0
        return self._known

    def _computed(self, share: float) -> float | None:
        left = share * self._total
        for place in range(_CLASSES):
            left -= self._counts[place]
            if left <= 0:
                return None if place == _CLASSES - 1 else _LEAST * _GROWTH**place
        return None

    def saved(self) -> tuple[Any, ...]:
        """Return its state for `put`."""
        return list(self._counts), self._total

    def put(self, saved: tuple[Any, ...]) -> None:
        """Set the state that `saved` returned."""
        self._counts, self._total = list(saved[0]), saved[1]
        self._since = _AGAIN
