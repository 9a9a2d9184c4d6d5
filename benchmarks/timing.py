"""Rounds in which everything that is compared runs once, in an order drawn anew each time.

The machine's noise is slow beside a round, so it falls on both sides of a ratio and cancels: what
is reported of two sides is the median of the ratios of the single rounds. The collector runs as it
does for users; the loop around the calls is part of both sides.

The time is the processor's, of all threads of this process, so that what else the machine does is
in no figure; a side that waits for another thread says so, and is timed by the wall clock.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from typing import Any, Final

from .model import Colour, Side, Spread, nothing, require

Clock = Callable[[], float]
Job = Callable[[], float]  # does it once; returns seconds a call
Series = dict[str, list[float]]

SEED: Final = 20_01
FIRST: Final = 20


def sync_batch(call: Callable[[int], Any], number: int, clock: Clock = time.process_time) -> float:
    """Return the seconds that so many calls take."""
    began = clock()
    for _ in repeat(None, number):
        call(1)
    return clock() - began


async def asyncio_batch(call: Callable[[int], Any], number: int, clock: Clock) -> float:
    """Return the seconds that so many awaits take, and the loop's clearing away behind them."""
    began = clock()
    for _ in repeat(None, number):
        await call(1)
    await asyncio.sleep(0)
    return clock() - began


async def trio_batch(call: Callable[[int], Any], number: int, clock: Clock) -> float:
    """Do the same on trio."""
    import trio

    began = clock()
    for _ in repeat(None, number):
        await call(1)
    await trio.lowlevel.checkpoint()
    return clock() - began


class Track:
    """One side, the number of calls that fill its batch, and how many there were in all."""

    def __init__(self, side: Side, colour: Colour, runner: asyncio.Runner) -> None:
        self.side = side
        self.calls = 0
        self.group = colour, side.answer, side.waits  # what is compared is mostly alike in these
        self._colour = colour
        self._runner = runner
        self._number = FIRST
        self._clock = time.perf_counter if side.waits else time.process_time

    def seconds(self, number: int) -> float:
        """Run a batch."""
        self.side.begin()
        self.calls += number
        if self._colour == "sync":
            return sync_batch(self.side.call, number, self._clock)
        if self._colour == "asyncio":
            return self._runner.run(asyncio_batch(self.side.call, number, self._clock))
        import trio

        return trio.run(trio_batch, self.side.call, number, self._clock)

    def answer(self) -> object:
        """Make one call."""
        self.side.begin()
        self.calls += 1
        if self._colour == "sync":
            return self.side.call(1)
        if self._colour == "asyncio":
            return self._runner.run(self.side.call(1))
        import trio

        return trio.run(self.side.call, 1)

    def prepare(self, target: float) -> None:
        """Check the answer, warm up, and find how many calls take the target time."""
        self.check()
        number = FIRST
        while (took := self.seconds(number)) < target / 4:
            number *= 2
        self._number = max(FIRST, round(number * target / took))

    def check(self) -> None:
        """Make sure that the side still gives the answer that it is timed for."""
        found = self.answer()
        require(found == self.side.answer, f"answered {found!r}, not {self.side.answer!r}")

    def __call__(self) -> float:
        return self.seconds(self._number) / self._number


def interleaved(
    jobs: Mapping[str, Job], rounds: int, group: Callable[[str], object] = nothing
) -> Series:
    """Do every job once in each round, in shuffled order, those of a group one after the other."""
    drawn = random.Random(SEED)
    found: Series = {name: [] for name in jobs}
    groups: dict[object, list[str]] = {}
    for name in jobs:
        groups.setdefault(group(name), []).append(name)
    for _ in range(rounds):
        for names in drawn.sample(list(groups.values()), len(groups)):
            for name in drawn.sample(names, len(names)):
                found[name].append(jobs[name]())
    return found


def ratios(ours: list[float], theirs: list[float]) -> Iterator[float]:
    """Yield the ratio of each round."""
    return (mine / other for mine, other in zip(ours, theirs, strict=True))


def paired(series: Series, ours: str, theirs: str) -> Spread:
    """Return the spread of the ratios of two sides."""
    return Spread.of(list(ratios(series[ours], series[theirs])))
