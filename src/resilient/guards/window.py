"""Sliding windows over the results of calls, and the ages of calls in flight."""

from __future__ import annotations

from typing import Final, cast

from .. import validation
from ..state_types import WindowState

SLICES: Final = 10


class calls:
    """A window of the last `size` calls, instead of one of seconds.

    Args:
        size: calls, from 1 to 100,000. There is no default.

    Raises:
        ValueError: size is out of range.
        TypeError: size is not an int.

    Example:
        >>> from resilient import calls, circuit_breaker
        >>> circuit_breaker(window=calls(100)).snapshot(0.0)["options"]["window"]
        'the last 100 calls'
    """

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size: int = validation.count("calls", size, most=100_000)

    def __repr__(self) -> str:
        return f"calls({self.size})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, calls) and other.size == self.size

    def __hash__(self) -> int:
        return hash((calls, self.size))


# Shared by windows where all are 0. Nothing writes to it; a copy is the same object.
_ZEROS: Final = cast("list[int]", (0,) * SLICES)


def _one_more(slices: list[int], index: int) -> list[int]:
    if slices is _ZEROS:
        slices = [0] * SLICES
    slices[index % SLICES] += 1
    return slices


class TimeWindow(WindowState):
    """Counts of the last `seconds`, in slices; a slice leaves the window as a whole."""

    __slots__ = (
        "_calls",
        "_failures",
        "_index",
        "_slow",
        "seconds",
        "slice",
        "slow",
    )
    end: float
    failures: int
    newest: int
    older: int
    slow: int

    def __init__(self, seconds: float) -> None:
        self.seconds: float = seconds
        self.slice: float = seconds / SLICES
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.failures = self.slow = 0
        self._calls = [0] * SLICES
        self._failures = self._slow = _ZEROS  # replaced at the first failure or slow call
        self._index = 0  # of the newest slice
        self.older = 0  # calls in the other slices
        self.newest = 0  # calls in the newest slice
        self.end = float("-inf")  # when the newest slice ends

    @property
    def calls(self) -> int:
        """The number of calls in the window."""
        return self.older + self.newest

    def add(self, now: float, failed: bool, slow: bool) -> None:
        """Count one result; one with an older time goes to the newest slice."""
        if now >= self.end:
            self.advance(now)
        self.newest += 1
        if failed:
            self._failures = _one_more(self._failures, self._index)
            self.failures += 1
        if slow:
            self._slow = _one_more(self._slow, self._index)
            self.slow += 1

    def advance(self, now: float) -> None:
        """Drop the slices that have left the window."""
        if now < self.end:
            return
        index = int(now // self.slice)
        if index <= self._index and self.end > 0:  # rounding error: the slice is over
            index = self._index + 1
        leaving = range(max(self._index + 1, index - SLICES + 1), index + 1)
        # From here on no call is made, so that the end of the stack can't stop this half-way.
        self._calls[self._index % SLICES] = self.newest
        self.older += self.newest
        for left in leaving:
            place = left % SLICES
            self.older -= self._calls[place]
            self._calls[place] = 0
            if self.failures:
                self.failures -= self._failures[place]
                self._failures[place] = 0
            if self.slow:
                self.slow -= self._slow[place]
                self._slow[place] = 0
        self._index, self.newest = index, 0
        self.end = (index + 1) * self.slice

    def copied(self) -> TimeWindow:
        """Return a window with the same counts."""
        other = TimeWindow(self.seconds)
        other.end, other.newest, other.older = self.end, self.newest, self.older
        other.failures, other.slow = self.failures, self.slow
        other._index, other._calls = self._index, self._calls.copy()
        for name in ("_failures", "_slow"):
            slices = getattr(self, name)
            setattr(other, name, slices if slices is _ZEROS else slices.copy())
        return other

    @property
    def spec(self) -> float:
        """The option that asks for such a window."""
        return self.seconds

    def __str__(self) -> str:
        return f"{self.seconds:g} s"


class CountWindow(WindowState):
    """Counts of the last `size` results."""

    __slots__ = ("_place", "_results", "calls", "size", "slow")
    failures: int
    slow: int

    def __init__(self, size: int) -> None:
        self.size: int = size
        # As in TimeWindow; always past, so that no fast path counts a call itself.
        self.end: float = float("-inf")
        self.newest: int = 0
        self._results = bytearray(size)  # bit 0 counted, bit 1 failed, bit 2 slow
        self.clear()

    def clear(self) -> None:
        self.calls: int = 0  # set here: a class attribute would hide the class of that name
        self.failures = self.slow = 0
        self._place = 0
        for place in range(self.size):
            self._results[place] = 0

    def add(self, now: float, failed: bool, slow: bool) -> None:
        """Count one result; the oldest leaves when the window is full."""
        place = self._place
        old = self._results[place]
        if old:
            self.calls -= 1
            self.failures -= old >> 1 & 1
            self.slow -= old >> 2
        self._results[place] = 1 | failed << 1 | slow << 2
        self.calls += 1
        self.failures += failed
        self.slow += slow
        self._place = (place + 1) % self.size

    def advance(self, now: float) -> None:
        """Do nothing: time removes nothing from a window of calls."""

    def copied(self) -> CountWindow:
        """Return a window with the same counts."""
        other = CountWindow(self.size)
        other.calls, other.failures, other.slow = self.calls, self.failures, self.slow
        other._place, other._results = self._place, self._results.copy()
        return other

    @property
    def spec(self) -> calls:
        """The option that asks for such a window."""
        return calls(self.size)

    def __str__(self) -> str:
        return f"the last {self.size} calls"


class Ages:
    """The start times of calls in flight, to count those older than `limit` seconds.

    Each ticket crosses the limit at most once, so that the work is O(1) a ticket.
    """

    __slots__ = ("_due", "_late", "_young", "limit")

    def __init__(self, limit: float) -> None:
        self.limit: float = limit
        self._young: dict[int, float] = {}  # ticket -> started, oldest first
        self._late: dict[int, float] = {}
        self._due = 0.0  # no young ticket crosses the limit before this

    def __len__(self) -> int:
        return len(self._young) + len(self._late)

    def __contains__(self, ticket: int) -> bool:
        return ticket in self._young or ticket in self._late

    def add(self, ticket: int, now: float) -> None:
        if not self._young:
            self._due = now + self.limit
        self._young[ticket] = now

    def discard(self, ticket: int) -> None:
        if self._young.pop(ticket, None) is None:
            self._late.pop(ticket, None)

    def late(self, now: float) -> int:
        """Return how many tickets have reached the limit."""
        if now >= self._due:
            self._sift(now)
        return len(self._late)

    def clear(self) -> None:
        self._young.clear()
        self._late.clear()

    def rule(self, limit: float) -> None:
        """Change the limit, and sort the tickets by it again."""
        self.limit = limit
        self._young = dict(sorted((self._young | self._late).items(), key=lambda item: item[1]))
        self._late = {}
        self._due = 0.0

    def _sift(self, now: float) -> None:
        young, late = self._young, self._late
        old: list[int] = []
        for ticket, started in young.items():
            if now - started < self.limit:
                self._due = started + self.limit
                break
            old.append(ticket)
        for ticket in old:
            late[ticket] = young.pop(ticket)


class NoAges(Ages):
    """Stands in where ages do not matter: it keeps none."""

    __slots__ = ()

    def add(self, ticket: int, now: float) -> None:
        return

    def rule(self, limit: float) -> None:
        return


NO_AGES: Final = NoAges(float("inf"))
