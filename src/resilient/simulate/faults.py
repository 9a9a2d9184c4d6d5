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
        keys: it is a fault of so many keys alone, the first ones; 0: of all calls.
    """

    kind: str
    at: float
    seconds: float
    amount: float = 0.0
    keys: int = 0

    @property
    def end(self) -> float:
        """When it ends, in seconds."""
        return self.at + self.seconds

    def data(self) -> dict[str, float | str]:
        """Return it as plain data."""
        told: dict[str, float | str] = {"kind": self.kind, "at": self.at, "seconds": self.seconds}
        told["amount"] = self.amount
        return {**told, "keys": self.keys} if self.keys else told


class Schedule:
    """The faults of a run, cut into stretches of time in which nothing changes."""

    def __init__(self, faults: Sequence[Fault], workers: int, errors: float) -> None:
        edges = {0.0, *(fault.at for fault in faults), *(fault.end for fault in faults)}
        self.edges: list[float] = sorted(edges)
        self._bounds: list[int] = sorted({fault.keys for fault in faults if fault.keys})
        self._workers: list[int] = [
            min([workers, *(int(fault.amount) for fault in faults if fault.kind == "workers"
                            and fault.at <= edge < fault.end)])
            for edge in self.edges
        ]  # fmt: skip
        # By the group of a key: which of the bounds it lies below.
        self._speeds: list[list[float]] = []
        self._errors: list[list[float]] = []
        for least in [0, *self._bounds]:
            of = [fault for fault in faults if not fault.keys or fault.keys > least]
            rows = [_at(edge, of, errors) for edge in self.edges]
            self._speeds.append([speed for speed, _ in rows])
            self._errors.append([share for _, share in rows])

    def _place(self, now: float) -> int:
        return bisect_right(self.edges, now) - 1

    def _group(self, key: int) -> int:
        return bisect_right(self._bounds, key)

    def workers(self, now: float) -> int:
        """Return how many workers there are."""
        return self._workers[self._place(now)]

    def errors(self, now: float, key: int = 0) -> float:
        """Return the share of a key's answers that are errors."""
        return self._errors[self._group(key)][self._place(now)]

    def finish(self, now: float, work: float, key: int = 0) -> float:
        """Return when so many seconds of work for a key are done that begin now."""
        place, speeds = self._place(now), self._speeds[self._group(key)]
        while True:
            end = self.edges[place + 1] if place + 1 < len(self.edges) else inf
            speed = speeds[place]
            if speed and now + work / speed <= end:
                return now + work / speed
            work -= (end - now) * speed
            now, place = end, place + 1


def _at(edge: float, faults: Sequence[Fault], errors: float) -> tuple[float, float]:
    """Return the speed, and the share of errors, from an edge to the next one."""
    speed, good = 1.0, 1.0 - errors
    for fault in faults:
        if not fault.at <= edge < fault.end:
            continue
        if fault.kind == "stall":
            speed = 0.0
        elif fault.kind == "slow":
            speed /= fault.amount
        elif fault.kind == "errors":
            good *= 1.0 - fault.amount
    return speed, 1.0 - good
