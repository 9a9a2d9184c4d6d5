"""The facet of a guard that races copies of an attempt. Provisional."""

from __future__ import annotations

from .base import Guard
from .facets import Admission


class Races(Admission):
    """It may have a second copy of an attempt run beside the first: the first good answer wins.

    What stands inside it sees each copy, with tickets of its own, what stands outside sees one
    attempt. All but `join_within` is asked under the lock.

    Attributes:
        join_within: for how many seconds a cancelled copy is waited for, in async code.
    """

    join_within: float = 0.0

    def copies_after(self, now: float) -> float | None:
        """Return the seconds after which a second copy may begin; None: this attempt has none."""
        raise NotImplementedError

    def copies(self, now: float) -> bool:
        """Return whether the second copy may begin now, and pay for it."""
        raise NotImplementedError

    def copied(self, now: float) -> None:
        """Learn that the second copy, which was paid, was let in by the guards inside."""

    def not_copied(self, now: float, why: str) -> None:
        """Learn that the paid second copy was not let in; why is "" if nobody needs it any more."""

    def raced(self, now: float, first: float | None, winner: int | None) -> None:
        """Learn how an attempt has ended.

        Args:
            now: the policy's clock, in seconds.
            first: the seconds that the first copy took for a good answer; infinite if it was left
                before it had one; None if it failed.
            winner: the number of the copy whose answer was taken, 1 or 2; 0 if none was good; None
                if there was no second copy.
        """

    def ran_on(self, now: float, copies: int) -> None:
        """Learn that so many copies that nobody waits for run on; with -1, that one has ended."""


for _name in ("copies_after", "copies", "copied", "not_copied", "raced", "ran_on"):
    Guard._facet_of[_name] = Races
