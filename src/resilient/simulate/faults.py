"""What is wrong with a service, and when: its speed, workers and errors over time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

KINDS: Final = ("stall", "slow", "errors", "workers")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a service.

    Attributes:
        kind: ``stall`` (nothing is finished), ``slow``, ``errors`` or ``workers`` (fewer).
        at: when it begins, in seconds.
        seconds: how long it lasts.
        amount: slow: how many times longer all takes; errors: the share that fails; workers: how
            many are left.
    """

    kind: str
    at: float
    seconds: float
    amount: float = 0.0

    @property
    def end(self) -> float:
        """When it ends, in seconds."""
        return self.at + self.seconds

    def data(self) -> dict[str, float | str]:
        """Return it as plain data."""
        return {"kind": self.kind, "at": self.at, "seconds": self.seconds, "amount": self.amount}


class Schedule:
    """The faults of a run, cut into stretches of time in which nothing changes."""

    def __init__(self, faults: Sequence[Fault], workers: int, errors: float) -> None:
        edges = {0.0, *(fault.at for fault in faults), *(fault.end for fault in faults)}
        self.edges: list[float] = sorted(edges)
        self._speeds: list[float] = []
        self._workers: list[int] = []
        self._errors: list[float] = []
        for edge in self.edges:
            now = [fault for fault in faults if fault.at <= edge < fault.end]
            speed, left, good = 1.0, workers, 1.0 - errors
            for fault in now:
                if fault.kind == "stall":
                    speed = 0.0
                elif fault.kind == "slow":
                    speed /= fault.amount
                elif fault.kind == "errors":
                    good *= 1.0 - fault.amount
                else:
                    left = min(left, int(fault.amount))
            self._speeds.append(speed)
            self._workers.append(left)
            self._errors.append(1.0 - good)

    def _place(self, now: float) -> int:
        return bisect_right(self.edges, now) - 1

    def workers(self, now: float) -> int:
        """Return how many workers there are."""
        return self._workers[self._place(now)]

    def errors(self, now: float) -> float:
        """Return the share of answers that are errors."""
        return self._errors[self._place(now)]

    def finish(self, now: float, work: float) -> float:
        """Return when so many seconds of work are done that begin now."""
        place = self._place(now)
        while True:
            end = self.edges[place + 1] if place + 1 < len(self.edges) else inf
            speed = self._speeds[place]
            if speed and now + work / speed <= end:
                return now + work / speed
            work -= (end - now) * speed
            now, place = end, place + 1
