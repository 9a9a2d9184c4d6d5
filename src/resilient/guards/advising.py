"""The facet of a guard that gives advice, by what was counted. Provisional."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from .base import Guard

FAR = 4.0  # times, from which on a limit is far from what happens
OFTEN = 0.01  # a share of calls


class Seen(Protocol):
    """What the living processes of a policy have counted."""

    @property
    def calls(self) -> float:
        """How many calls have ended."""
        ...

    @property
    def rate(self) -> float:
        """Calls a second of one process."""
        ...

    @property
    def mostly_good(self) -> bool:
        """Whether most calls succeeded: in an outage nothing shows what limits are for."""
        ...

    def options(self, guard: str) -> Mapping[str, Any]:
        """Return the options in force of a guard of the policy; none where there is no such one."""
        ...

    def count(self, metric: str, *labels: str) -> float:
        """Return the sum of a number over the processes."""
        ...

    def most(self, metric: str, *labels: str) -> float:
        """Return the largest value of a gauge."""
        ...

    def refused(self, guard: str) -> float:
        """Return how many calls a guard has refused."""
        ...

    def within(self, share: float) -> float | None:
        """Return an edge of the buckets within which this share of the calls has ended."""
        ...


class Advises(Guard):
    """It says what of it can't work as it seems to."""

    def doubts(self, guards: tuple[Guard, ...]) -> str:
        """Return what can be known beside these guards of its policy, before any call; or ""."""
        return ""

    @classmethod
    def advise(cls, seen: Seen) -> list[str] | None:
        """Return what the counts show of it, each with its numbers; None if they can't show it."""
        raise NotImplementedError


for _name in ("advise", "doubts"):
    Guard._facet_of[_name] = Advises
