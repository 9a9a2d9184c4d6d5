"""What a run is made of, in its order: each part has names, by which it can be chosen."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from . import comparisons, growing_policies, growth, importing, memory, reading, scraping, wrapping
from .model import Curve, Report, Row


@dataclass(frozen=True)
class Effort:
    """How much a run spends on each part."""

    quick: bool
    rounds: int  # of the comparisons
    batch: float  # seconds that a side is called in each of them
    imports: int  # rounds
    scrapes: int
    threads: int  # rounds of the curves
    tasks: int
    windows: int
    lines: int
    policies: int


FULL: Final = Effort(False, 250, 0.004, 80, 15, 9, 9, 40, 7, 15)
QUICK: Final = Effort(True, 60, 0.002, 12, 3, 3, 5, 9, 3, 3)

Chosen = Callable[[str], bool]
CURVES: Final = ("threads", "tasks", "windows", "waiting lines", "policies")


def chosen_by(pattern: str) -> Chosen:
    """Return what tells whether a name is wanted.

    Raises:
        re.error: the pattern is no regular expression.
    """
    wanted = re.compile(pattern, re.IGNORECASE)
    return lambda name: wanted.search(name) is not None


def _comparison(each: comparisons.Comparison) -> str:
    return f"{each.case}: {each.ours} / {each.peer}"


def names(chosen: Chosen) -> list[str]:
    """Return the names of everything that is chosen."""
    every = [_comparison(each) for each in comparisons.COMPARISONS]
    every += [*reading.names(), *wrapping.CASES]
    every += [*importing.SOURCES, memory.REST, *map(memory.case, memory.CALLS), scraping.CASE]
    every += [f"growth: {name}" for name in CURVES]
    return [name for name in every if chosen(name)]


def run(chosen: Chosen, effort: Effort, tell: Callable[[str], None]) -> Report:
    """Measure what is chosen."""
    report = Report()
    for title, part in _parts(chosen, effort):
        tell(title)
        try:
            report.rows += part()
        except Exception as error:
            report.rows.append(Row(title, "", wrong=repr(error)))
    with asyncio.Runner() as runner:
        for name, draw in _curves(runner, effort).items():
            if chosen(f"growth: {name}"):
                tell(f"growth: {name}")
                try:
                    report.curves += draw()
                except Exception as error:
                    report.rows.append(Row(f"growth: {name}", "", wrong=repr(error)))
    tell("done")
    return report


def _parts(chosen: Chosen, effort: Effort) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    timed = [each for each in comparisons.COMPARISONS if chosen(_comparison(each))]
    if timed:
        yield "calls", partial(comparisons.measure, timed, effort.rounds, effort.batch)
    reads = [name for name in reading.names() if chosen(name)]
    if reads:
        yield "flags", partial(reading.measure, reads, effort.rounds, effort.batch)
    cases = [name for name in wrapping.CASES if chosen(name)]
    if cases:
        yield "wrapped clients", partial(wrapping.measure, cases, effort.rounds)
    imports = [name for name in importing.SOURCES if chosen(name)]
    if imports:
        yield "imports", partial(importing.measure, imports, effort.imports)
    if chosen(memory.REST):
        yield "memory at rest", memory.measure_rest
    words = [
        word
        for word in memory.CALLS
        if chosen(memory.case(word)) and (word in memory.GOALS or not effort.quick)
    ]
    if words:
        yield "memory after many calls", partial(memory.measure_steady, words)
    if chosen(scraping.CASE):
        yield "scrape", partial(scraping.measure, effort.scrapes)


def _curves(runner: asyncio.Runner, effort: Effort) -> dict[str, Callable[[], list[Curve]]]:
    quick = effort.quick
    return {
        "threads": lambda: [growth.threads(effort.threads, quick)],
        "tasks": lambda: [growth.tasks(runner, effort.tasks, quick)],
        "windows": lambda: growth.windows(effort.windows, quick),
        "waiting lines": lambda: [growth.lines(runner, effort.lines, quick)],
        "policies": lambda: growing_policies.curves(effort.policies, quick),
    }
