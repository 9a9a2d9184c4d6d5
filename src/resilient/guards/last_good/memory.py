"""A bounded memory: it keeps what was set last.

No lock: a key's `__eq__` is foreign code. The order is kept apart, by numbers, whose operations no
other thread can interrupt; where two threads set one key at the same moment, one of the two entries
has no place in it, and the next ones make up for that.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import count
from math import inf
from typing import Any, Final

_numbers: Final = count()

Kept = tuple[Any, float]  # a value, and when it was kept


class Memory:
    """What was kept, by its key; where there is no place left the oldest goes."""

    def __init__(self, most: int) -> None:
        self.most: int = most  # entries; fewer take effect when something is set
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
        number, before = next(_numbers), self._entries.get(key)
        self._entries[key] = kept, number
        self._order[number] = key
        if before is not None:
            self._order.pop(before[1], None)
        while len(self._order) > self.most:
            self._drop_oldest()

    def drop_before(self, when: float) -> None:
        """Drop what was kept before a time."""
        while when > self._oldest:
            try:
                oldest = next(iter(self._order.values()))
            except (StopIteration, RuntimeError):  # RuntimeError: another thread is at it
                return
            found = self._entries.get(oldest)
            if found is not None and found[0][1] >= when:
                self._oldest = found[0][1]
            else:
                self._drop_oldest()

    def saved(self) -> tuple[dict[Any, tuple[Kept, int]], OrderedDict[int, Any]]:
        """Return a copy of all, for `put`."""
        return dict(self._entries), OrderedDict(self._order)

    def put(self, saved: tuple[dict[Any, tuple[Kept, int]], OrderedDict[int, Any]]) -> None:
        """Go back to what `saved` returned."""
        self._entries, self._order = dict(saved[0]), OrderedDict(saved[1])
        self._oldest = -inf

    def _drop_oldest(self) -> None:
        try:
            number, key = self._order.popitem(last=False)
        except KeyError:  # another thread was quicker
            return
        found = self._entries.get(key)
        if found is not None and found[1] == number:
            self._entries.pop(key, None)
