"""What clients saw in a run, call by call, and what it adds up to."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from .policies import Move

GOOD: Final = "good"  # a full answer before the deadline: what goodput counts
LATE: Final = "late"
DEGRADED: Final = "degraded"
FAILED: Final = "failed"
UNENDED: Final = "unended"
ENDS: Final = (GOOD, LATE, DEGRADED, FAILED, UNENDED)
_STRETCH: Final = 5.0  # seconds, over which goodput must hold to be back
_HOP: Final = 1.0


@dataclass(slots=True)
class Tape:
    """What a run records while it runs.

    Attributes:
        begun: when each call began, in order.
        keys: of which key each was.
        ends: how each ended; `UNENDED` until it has.
        took: how long each took, in seconds; infinite until it has ended.
        attempts: when each attempt reached the service.
        moves: the changes of circuits.
        queue: how many waited in the service, by time.
        states: how many client processes had a circuit in each state, by time.
        errors: what each failed call raised, by its number.
        wasted: when the service gave an answer that nobody waited for any more.
        shadows: what candidates would have done, by their guard.
    """

    begun: list[float] = field(default_factory=list[float])
    keys: list[int] = field(default_factory=list[int])
    ends: list[str] = field(default_factory=list[str])
    took: list[float] = field(default_factory=list[float])
    attempts: list[float] = field(default_factory=list[float])
    moves: list[Move] = field(default_factory=list[Move])
    queue: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    states: list[tuple[float, dict[str, int]]] = field(
        default_factory=list[tuple[float, dict[str, int]]]
    )
    errors: dict[int, str] = field(default_factory=dict[int, str])
    wasted: list[float] = field(default_factory=list[float])
    shadows: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])

    def begin(self, now: float, key: int) -> int:
        """Note that a call of a key begins; return its number."""
        self.begun.append(now)
        self.keys.append(key)
        self.ends.append(UNENDED)
        self.took.append(inf)
        return len(self.begun) - 1

    def end(self, number: int, how: str, now: float) -> None:
        """Note how a call ended."""
        self.ends[number], self.took[number] = how, now - self.begun[number]

    def cut(self, end: float) -> None:
        """Forget what began at `end` or later."""
        calls = bisect_left(self.begun, end)
        for column in (self.begun, self.keys, self.ends, self.took):
            del column[calls:]
        for times in (self.attempts, self.wasted):
            del times[bisect_left(times, end) :]
        self.errors = {number: why for number, why in self.errors.items() if number < calls}


class Run:
    """One policy's run: what its clients got, second by second.

    Attributes:
        policy: the name of the policy.
        seed: of the source of chance.
        seconds: how long the run was, in virtual seconds.
        step: how many seconds a point of `points` is.
        calls: how many calls began.
        ends: how many of them ended in which way: ``good`` (a full answer before the deadline),
            ``late``, ``degraded`` (a guard answered), ``failed``, ``unended``.
        attempts: how many attempts reached the service.
        wasted: how many answers of the service nobody waited for any more.
        errors: what failed calls raised, by the exception's name.
        opened: how often a circuit opened.
        before: the share of good calls before the first fault; None without a fault.
        back_after: seconds after the end of the last fault from which on goodput was back for
            good; None if it never was, or without a fault.
        moves: the changes of circuits: when, of which client process, to what, of which key.
        other_keys: the share of good calls among those of keys that have no fault of their own;
            None where no fault is one of some keys alone.
        shadows: what candidates would have done, by their guard: `would_open`, `would_refuse`.
    """

    __slots__ = (
        "_fault", "_tape", "attempts", "back_after", "before", "calls", "ends", "errors", "moves",
        "opened", "other_keys", "policy", "seconds", "seed", "shadows", "step", "wasted",
    )  # fmt: skip
    calls: int
    ends: dict[str, int]
    attempts: int
    errors: dict[str, int]
    moves: tuple[Move, ...]
    opened: int
    wasted: int
    before: float | None
    back_after: float | None
    other_keys: float | None
    shadows: dict[str, dict[str, int]]

    def __init__(
        self, policy: str, seed: int, tape: Tape, *, seconds: float, step: float,
        fault: tuple[float, float] | None, deadline: float, sick: int,
    ) -> None:  # fmt: skip
        self.policy: str = policy
        self.seed: int = seed
        self.seconds: float = seconds
        self.step: float = step
        self.wasted = len(tape.wasted)
        self._tape, self._fault = tape, fault
        self.calls = len(tape.begun)
        counted = Counter(tape.ends)
        self.ends = {how: counted[how] for how in ENDS}
        self.attempts = len(tape.attempts)
        self.errors = dict(Counter(tape.errors.values()).most_common())
        self.moves = tuple(tape.moves)
        self.opened = sum(move.state == "open" for move in tape.moves)
        self.shadows = tape.shadows
        self.before = None
        self.back_after = None
        self.other_keys = None
        if sick:
            pairs = zip(tape.keys, tape.ends, strict=True)
            self.other_keys = _share([how for key, how in pairs if key >= sick])
        if fault is not None:
            # Calls that began just before the fault may meet it.
            self.before = self.goodput(0.0, max(fault[0] - deadline, min(fault[0], 1.0)))
            self.back_after = self._back_after(fault[1], 0.95)

    def goodput(self, start: float, end: float) -> float:
        """Return the share of good calls among those that began in a stretch of time.

        Args:
            start: the beginning of the stretch, in seconds.
            end: its end.

        Returns:
            From 0 to 1; 0 if none began.
        """
        return _share(self._between(start, end))

    def back(self, within: float) -> float | None:
        """Return the goodput after the faults as a share of that before them.

        Args:
            within: calls count that began so many seconds after the last fault's end, or later.

        Returns:
            The share; None without a fault, where there was no goodput before it, or where no call
            began after it.
        """
        if self._fault is None or not self.before:
            return None
        if not self._between(self._fault[1] + within, self.seconds):
            return None
        return self.goodput(self._fault[1] + within, self.seconds) / self.before

    def latency(self, share: float) -> float | None:
        """Return the time within which a share of all ended calls ended, in seconds.

        Args:
            share: of the calls, such as 0.99.

        Returns:
            The seconds; None if no call ended.
        """
        return _quantile((took for took in self._tape.took if took < inf), share)

    @property
    def attempts_per_call(self) -> float:
        """How many attempts a call made at the service."""
        return self.attempts / max(1, self.calls)

    @property
    def points(self) -> list[dict[str, Any]]:
        """The run over time: a dict for each `step`, of the calls that began in it."""
        last = int(self.seconds / self.step)
        calls: list[list[int]] = [[] for _ in range(last + 1)]
        for number, at in enumerate(self._tape.begun):
            calls[min(last, int(at / self.step))].append(number)
        attempts = Counter(min(last, int(at / self.step)) for at in self._tape.attempts)
        queue = {round(at / self.step) - 1: size for at, size in self._tape.queue}
        states = {round(at / self.step) - 1: found for at, found in self._tape.states}
        points: list[dict[str, Any]] = []
        for place in range(int(self.seconds / self.step)):
            numbers = calls[place]
            ends = Counter(self._tape.ends[number] for number in numbers)
            took = [self._tape.took[n] for n in numbers if self._tape.took[n] < inf]
            points.append({
                "at": place * self.step,
                "calls": len(numbers),
                **{how: ends[how] for how in ENDS},
                "attempts": attempts[place],
                "p50": _quantile(took, 0.5),
                "p99": _quantile(took, 0.99),
                "queue": queue.get(place, 0),
                "states": states.get(place, {}),
            })  # fmt: skip
        return points

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data, for JSON."""
        words = (
            "policy", "seed", "calls", "ends", "attempts", "wasted", "errors", "opened",
            "other_keys", "shadows",
        )  # fmt: skip
        told = {word: getattr(self, word) for word in words}
        return {
            **told,
            "before": self.before,
            "back_after": self.back_after,
            "p50": self.latency(0.5),
            "p99": self.latency(0.99),
            "moves": [[move.at, move.process, move.state, move.key] for move in self.moves],
            "points": self.points,
        }

    def _between(self, start: float, end: float) -> list[str]:
        pairs = zip(self._tape.begun, self._tape.ends, strict=True)
        return [how for at, how in pairs if start <= at < end]

    def _back_after(self, ended: float, share: float) -> float | None:
        """Return when goodput is back: from then on in each stretch of time."""
        wanted, start, last = share * (self.before or 0.0), ended, None
        while start + _STRETCH <= self.seconds:
            found = self._between(start, start + _STRETCH)
            if found and _share(found) < wanted:
                last = None
            elif last is None:
                last = start - ended
            start += _HOP
        return last


def _share(ends: list[str]) -> float:
    return ends.count(GOOD) / len(ends) if ends else 0.0


def _quantile(values: Iterable[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
