"""What the fast path returns in place of tickets, and the count of refusals that it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from ..outcomes import REFUSED
from .counters import ENDED
from .policy_state import QUIET, PolicyState

Tickets = Any  # opaque to the drivers: an int for one guard, for more a sequence, outermost first
Enter = Callable[[float], Tickets]
Leave = Callable[[Tickets, float, float], None]


class Stopped:
    """A guard did not admit the call: which one, its verdict, and the tickets of those outside it.

    Two instances have a meaning of their own: AGAIN and TURNED.
    """

    __slots__ = ("now", "place", "retry_after", "tickets", "verdict", "why")

    def __init__(
        self,
        verdict: int,
        place: int,
        tickets: Sequence[int],
        why: str,
        retry_after: float | None,
        now: float,
    ) -> None:
        self.verdict: int = verdict
        self.place: int = place  # of the guard, among those that the fast path asks
        self.tickets: Sequence[int] = tickets  # of the guards outside it
        self.why: str = why
        self.retry_after: float | None = retry_after
        self.now: float = now  # when the guard was asked


AGAIN: Final = Stopped(0, -1, (), "", None, 0.0)
"""No guard was asked: the interpreter begins."""

TURNED: Final = Stopped(0, -1, (), "", None, 0.0)
"""Refused, and counted: the fallback answers."""


def count_refusal(core: PolicyState, kind: str, now: float) -> bool:
    """Count a refusal; return False if it is news, whose event needs the error.

    The caller holds the lock.
    """
    last = core.refused_at.get(kind)
    if last is None or now - last >= QUIET:
        return False
    core.refused_at[kind] = now
    core.refusals[kind] = core.refusals.get(kind, 0) + 1  # a handler may fork here: all is cleared
    core.counts[REFUSED] += 1
    if core.shared_row is not None and core.layout is not None:
        core.shared_row[ENDED + REFUSED] = core.counts[REFUSED]
        at = core.layout.refused_at.get(kind)  # a view's guard may be newer than the row
        if at is not None:
            core.shared_row[at] = core.refusals[kind]
    return True
