"""The facet of a guard that has to do with its policy outside of calls. Provisional."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar, TypeVarTuple

from .base import Guard

Args = TypeVarTuple("Args")
T = TypeVar("T")


class Home(Protocol):
    """A policy as such a guard knows it.

    Attributes:
        name: its name.
        guards: those of the policy itself, without those that only its views have.
    """

    name: str
    guards: tuple[Guard, ...]

    def now(self) -> float:
        """Return the time by its clock, in seconds."""
        ...

    def locked(self, step: Callable[[*Args], T], *args: *Args) -> T:
        """Run a step under the policy's lock; the caller does not hold it."""
        ...

    def refresh_gate(self) -> None:
        """Ask the switches again whether calls have to ask them."""
        ...

    def ask_fleet(self, guard: Guard) -> None:
        """Have another thread ask the store of the fleet for what a rate limit needs."""
        ...


class Attached(Guard):
    """It has to do with its policy outside of calls, too."""

    def attach(self, core: Home) -> None:
        """Take the policy. Keep it weakly: it keeps its guards."""
        raise NotImplementedError


Guard._facet_of["attach"] = Attached
