"""What is measured and what was found, as plain data."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Colour = Literal["sync", "asyncio", "trio"]


class WrongSetupError(Exception):
    """A case does not do what it claims, so its time would say nothing."""


def require(true: object, what: str) -> None:
    """Raise unless something that a case claims is so."""
    if not true:
        raise WrongSetupError(what)


def nothing(*_: object) -> None:
    """Stand where a side has nothing to do."""


@dataclass(frozen=True)
class Side:
    """One way to make a call, ours or a peer's."""

    call: Callable[[int], Any]  # called or awaited with 1
    answer: object = 1  # what that gives
    begin: Callable[[], None] = nothing  # before each batch, not timed
    waits: bool = False  # for another thread, so that processor time says too little
    ended: Callable[[int], None] = nothing  # after all, with the number of calls that were made


@dataclass(frozen=True)
class Spread:
    """The middle of many figures, and the quarter below and above it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        """Return the spread of some figures."""
        if len(figures) < 2:
            return cls(figures[0], figures[0], figures[0])
        low, median, high = statistics.quantiles(figures, n=4, method="inclusive")
        return cls(median, low, high)

    def scaled(self, by: float) -> Spread:
        """Return it in another unit."""
        return Spread(self.median * by, self.low * by, self.high * by)


@dataclass
class Row:
    """One comparison or measurement, and whether its goal holds."""

    case: str
    unit: str
    ours: float = math.nan
    peer: str = ""
    theirs: float | None = None
    spread: Spread | None = None  # of the ratio, or of ours where nothing stands beside it
    goal: float | None = None
    at_least: bool = False  # what is found is to be as much as the goal, or more
    wrong: str = ""  # why there is no figure
    rounds: int = 0

    @property
    def found(self) -> float:
        """The figure that the goal is about."""
        return math.nan if self.spread is None else self.spread.median

    @property
    def holds(self) -> bool | None:
        """Whether the goal holds; None where there is none and nothing is wrong."""
        if self.wrong:
            return False
        if self.goal is None:
            return None
        return self.found >= self.goal if self.at_least else self.found <= self.goal

    def as_data(self) -> dict[str, Any]:
        """Return it for a JSON file."""
        spread = self.spread
        return {
            "case": self.case,
            "unit": self.unit,
            "ours": None if math.isnan(self.ours) else self.ours,
            "peer": self.peer or None,
            "theirs": self.theirs,
            "is_ratio": self.theirs is not None,
            "median": None if spread is None else spread.median,
            "quartiles": None if spread is None else [spread.low, spread.high],
            "goal": self.goal,
            "at_least": self.at_least,
            "holds": self.holds,
            "wrong": self.wrong or None,
            "rounds": self.rounds,
        }


FLAT = 1.5


@dataclass
class Curve:
    """The cost of a call over a range."""

    case: str
    over: str  # what the range is of
    points: list[str]
    costs: dict[str, list[float]]  # us a call at each point, by side
    ours: str
    bare: str
    relative: list[float] = field(default_factory=list)  # ours / bare, paired, at each point

    @property
    def factor(self) -> float:
        """Largest over smallest, relative to the bare side at the same point."""
        return max(self.relative) / min(self.relative)

    @property
    def added(self) -> list[float]:
        """What we add to the bare side, at each point."""
        both = zip(self.costs[self.ours], self.costs[self.bare], strict=True)
        return [mine - base for mine, base in both]

    @property
    def own_factor(self) -> float:
        """Largest over smallest of our own cost."""
        return max(self.costs[self.ours]) / min(self.costs[self.ours])

    @property
    def verdict(self) -> str:
        """The word for it."""
        if self.factor <= FLAT:
            return f"flat (x{self.factor:.2f})"
        order = self.relative.index(max(self.relative)) > self.relative.index(min(self.relative))
        return f"{'grows' if order else 'falls'} x{self.factor:.2f}"

    def as_data(self) -> dict[str, Any]:
        """Return it for a JSON file."""
        return {
            "case": self.case,
            "over": self.over,
            "points": self.points,
            "us": self.costs,
            "ours": self.ours,
            "bare": self.bare,
            "relative": self.relative,
            "added": self.added,
            "factor": self.factor,
            "own_factor": self.own_factor,
            "verdict": self.verdict,
        }


@dataclass
class Report:
    """Everything that one run found."""

    rows: list[Row] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)

    @property
    def missed(self) -> list[str]:
        """The goals that do not hold, and the cases that were set up wrongly."""
        return [row.case for row in self.rows if row.holds is False]
