"""A bounded memory: it keeps what was set last.

No lock: a key's `__eq__` is foreign code, which may do anything. So there is no `OrderedDict` of
keys either; the order is kept apart, by numbers, whose operations nothing can come between.
Whatever comes between the others, a thread or an interrupt, each entry has its number there.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import count
from math import inf
from typing import Any, Final

_numbers: Final = count()

_AT_ONCE: Final = 100  # entries that one caller drops; the next ones drop the rest
_SPARE: Final = 64  # entries more than there should be, of keys that can't be found again

Kept = tuple[Any, float]  # a value, and when it was kept


class Memory:
    """What was kept, by its key; where there is no place left the oldest goes."""

    def __init__(self, most: int, max_age: float = inf) -> None:
        self.most: int = most  # entries; fewer take effect when something is set
        self.max_age: float = max_age  # seconds
        self._entries: dict[Any, tuple[Kept, int]] = {}
        self._order: OrderedDict[int, Any] = OrderedDict()  # the keys, the oldest first
        self._oldest: float = -inf  # nothing was kept before this time

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Any) -> Kept | None:
        """Return what was kept, None if nothing was."""
        found = self._entries.get(key)
        return None if found is None else found[0]

    def __setitem__(self, key: Any, kept: Kept) -> None:
        """Keep a value; drop what there is no place for, and what is too old by then."""
        number, before = next(_numbers), self._entries.get(key)
        self._order[number] = key
        self._entries[key] = kept, number
        if before is not None:
            self._order.pop(before[1], None)
        if number not in self._order:  # dropped by another thread before it was there
            self._entries.pop(key, None)
        when = kept[1] - self.max_age
        if when > self._oldest or len(self._order) > self.most or len(self._entries) > self.most:
            self._drop(when)

    def _drop(self, when: float) -> None:
        for _ in range(_AT_ONCE):
            if len(self._order) > self.most:
                self._drop_oldest()
            elif when <= self._oldest or not self._drop_before(when):
                break
        if len(self._entries) > len(self._order) + _SPARE:  # their hashes have changed
            self._entries.clear()
            self._order.clear()

    def _drop_before(self, when: float) -> bool:
        """Drop the oldest if it was kept before a time; return whether another may have been."""
        number = self._first()
        if number is None:
            return False
        found = self._entries.get(self._order.get(number))
        if found is not None and found[1] == number and found[0][1] >= when:
            self._oldest = found[0][1]
            return False
        self._drop_oldest()
        return True

    def saved(self) -> tuple[dict[Any, tuple[Kept, int]], OrderedDict[int, Any]]:
        """Return a copy of all, for `put`."""
        return dict(self._entries), OrderedDict(self._order)

    def put(self, saved: tuple[dict[Any, tuple[Kept, int]], OrderedDict[int, Any]]) -> None:
        """Go back to what `saved` returned."""
        self._entries, self._order = dict(saved[0]), OrderedDict(saved[1])
        self._oldest = -inf

    def _drop_oldest(self) -> None:
        number = self._first()
        if number is None:
            return
        key = self._order.get(number)
        found = self._entries.get(key)
        if found is not None and found[1] == number:
            gone = self._entries.pop(key, None)
            if gone is not None and gone[1] != number:  # kept anew just now
                self._entries[key] = gone
        self._order.pop(number, None)

    def _first(self) -> int | None:
        try:
            for number in self._order:
                return number
        except RuntimeError:  # another thread is at it
            pass
        return None
