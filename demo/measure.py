"""What was measured, and the figures taken from it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from .schedule import Phase

SERVED: Final = ("full", "degraded", "error")
HANG: Final = 1.0  # seconds; a customer who waits longer is lost


class Customer(NamedTuple):
    """One customer: when they came, how long they waited, what they got."""

    at: float
    took: float
    served: str
    why: str


class Waiting(NamedTuple):
    """How many waited at one moment, and since when the first of them."""

    at: float
    number: int
    longest: float


class Move(NamedTuple):
    """One event of the policy; `after` is the state of the circuit where that moved."""

    at: float
    guard: str
    kind: str
    after: str
    reason: str


@dataclass
class Side:
    """One of the two services, as it was measured."""

    name: str
    customers: list[Customer] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    plan: str = ""
    metrics: str = ""

    @property
    def circuit(self) -> str:
        """The state of the circuit now."""
        return next((move.after for move in reversed(self.moves) if move.after), "closed")

    def figures(self, start: float = 0.0, end: float = math.inf) -> Figures:
        """Return the figures of those who came between two moments."""
        return Figures.of(one for one in self.customers if start <= one.at < end)


@dataclass
class Run:
    """Both services and the phases they went through."""

    unprotected: Side
    protected: Side
    phases: list[Phase]
    seconds: float

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both services."""
        return self.unprotected, self.protected

    def phase_at(self, at: float) -> str:
        """Return the name of the phase of a moment."""
        names = [phase.name for phase in self.phases if phase.start <= at]
        return names[-1] if names else self.phases[0].name if self.phases else ""


@dataclass
class Figures:
    """What a number of customers got."""

    total: int
    served: Counter[str]
    errors: Counter[str]
    hung: int
    hung_full: int
    p50: float
    p50_full: float
    p99: float
    longest: float

    @classmethod
    def of(cls, customers: Iterable[Customer]) -> Figures:
        """Count them."""
        mine = list(customers)
        took = sorted(one.took for one in mine)
        return cls(
            total=len(mine),
            served=Counter(one.served for one in mine),
            errors=Counter(one.why for one in mine if one.served == "error"),
            hung=sum(wait > HANG for wait in took),
            hung_full=sum(one.took > HANG for one in mine if one.served == "full"),
            p50=quantile(took, 0.5),
            p50_full=quantile(sorted(one.took for one in mine if one.served == "full"), 0.5),
            p99=quantile(took, 0.99),
            longest=took[-1] if took else math.nan,
        )


def quantile(ordered: list[float], share: float) -> float:
    """Return the smallest value that so large a share of them does not exceed."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def samples(exposition: str, policy: str) -> dict[str, float]:
    """Return the samples of one policy from a text that Prometheus would scrape."""
    found: dict[str, float] = {}
    for line in exposition.splitlines():
        if not line.startswith("#") and f'policy="{policy}"' in line:
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def faults(run: Run) -> list[str]:
    """Return what should not have been; a run without any is a good one."""
    mine = run.protected.figures()
    shown = samples(run.protected.metrics, "recommendations")
    found = []
    if not mine.total:
        found.append("the protected service had no customers")
    if mine.served["error"]:
        found.append(f"{mine.served['error']} customers of the protected service got an error")
    if mine.longest > HANG:
        found.append(f"a customer of the protected service waited {mine.longest:.2f} s")
    for served in SERVED:
        name = f'resilient_served_total{{policy="recommendations",served="{served}"}}'
        if shown.get(name) != mine.served[served]:
            said = shown.get(name, "nothing")
            found.append(
                f"/metrics says {said} of {served} answers; customers got {mine.served[served]}"
            )
    return found
