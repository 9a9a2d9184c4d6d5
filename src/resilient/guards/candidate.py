"""The facet of a guard that stands for another one, which is tried beside a living guard."""

from __future__ import annotations

from typing import Any

from .base import Guard


class Candidate(Guard):
    """It sees what a guard of another kind would do, and does nothing itself."""

    @property
    def of(self) -> str:
        """The kind of the guard that it is a candidate for."""
        raise NotImplementedError

    def changes(self, living: Guard) -> dict[str, Any]:
        """Return the options by which the candidate differs from the living guard."""
        raise NotImplementedError

    def begin_anew(self, now: float, why: str) -> None:
        """Have the candidate begin anew, if it has a state; under the lock."""

    def told(self) -> dict[str, Any]:
        """Return what it would have done, in a few plain numbers."""
        raise NotImplementedError
