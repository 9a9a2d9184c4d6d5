"""Fold floods: report the first events of a kind one by one, then only the last with a count."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

# Seconds within which a limited number of events of one kind is reported one by one.
SPAN: Final = 30.0
CALM: Final = 10.0  # seconds without another event of the kind, after which a flood is reported
LONGEST: Final = 480.0  # seconds between two reports of a flood that goes on, at most
_MOVES: Final = ("opened", "half_open", "closed")
_SINGLY: Final = {
    "abandoned": 1,
    "would_open": 1,
    "refused": 1,
    "not_retried": 1,
}  # of other kinds 4
_ORDERED: Final = 20  # for what somebody orders: a person causes no flood, but a program may

T = TypeVar("T")


def key_of(
    policy: str, flag: str, guard: str, kind: str, cause: str
) -> tuple[tuple[str, ...], int]:
    """Return the kind that an event belongs to, and how many of a kind are reported one by one.

    The moves of one circuit are of one kind, since a circuit goes back and forth.
    """
    moves = kind in _MOVES and cause == "auto"
    key = policy, flag, guard, "moved" if moves else kind, cause
    return key, _ORDERED if cause == "operator" else _SINGLY.get(kind, 4)


class _Flood(Generic[T]):
    __slots__ = ("begun", "last", "length", "times")

    def __init__(self, last: T, begun: float, length: float) -> None:
        self.last: T = last
        self.begun: float = begun
        self.length: float = length  # seconds until it is reported
        self.times: int = 0


class Folds(Generic[T]):
    """The reported events, and the floods that are kept back. Used by one thread at a time."""

    def __init__(self) -> None:
        self.seen: dict[Hashable, deque[float]] = {}
        self.floods: dict[Hashable, _Flood[T]] = {}

    def keeps(self, key: Hashable, singly: int, item: T, now: float) -> bool:
        """Return True, and count the item, if too many of its kind came to report it by itself."""
        times = self.seen.get(key)
        many = times is not None and len(times) == singly and now - times[0] < SPAN
        if times is None:  # never kept empty: an interrupt may come at any place
            self.seen[key] = deque((now,), maxlen=singly)
        else:
            times.append(now)
        flood = self.floods.get(key)
        if not many and (flood is None or not flood.times):
            return False
        if flood is None:
            flood = self.floods[key] = _Flood(item, now, SPAN)
        elif not flood.times:
            flood.begun = now
        flood.times += 1
        flood.last = item
        return True

    def ended(self, now: float, *, every_one: bool = False) -> list[tuple[T, int, float]]:
        """Return the floods to report now: the last item of each, its count, and its beginning."""
        told: list[tuple[T, int, float]] = []
        for key, flood in list(self.floods.items()):
            quiet = now - self.seen[key][-1]
            long = now - flood.begun >= flood.length
            if flood.times and (every_one or quiet >= CALM or long):
                told.append((flood.last, flood.times, flood.begun))
                flood.times, flood.length = 0, min(2 * flood.length, LONGEST)
                flood.begun = now
            if not flood.times and quiet >= 2 * SPAN:  # the flood has ended
                del self.floods[key]
        for key in [k for k, times in self.seen.items() if now - times[-1] >= 2 * SPAN]:
            if key not in self.floods:
                del self.seen[key]
        return told
