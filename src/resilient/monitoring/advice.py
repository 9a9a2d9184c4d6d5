"""Advice on a policy, by what its processes have counted: what in it can't work as it seems to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..engine.counters import EDGES
from ..guards.advising import Advises
from ..guards.kinds import kinds
from ..guards.per_key import PerKey
from .page_samples import Numbers

ENOUGH: Final = 1000  # calls, from which on there is advice
_EDGES: Final = [*map(str, EDGES), "+Inf"]


class Advice:
    """One thing to look at.

    Attributes:
        guard: the kind of guard that it is about.
        text: what was seen, with its numbers, and what follows.
    """

    def __init__(self, guard: str, text: str) -> None:
        self.guard: str = guard
        self.text: str = text


class Seen:
    """What the living processes of a policy have counted.

    Args:
        each: the numbers of each process.
        seconds: how long they have run, added up.
        fallback: what answers in the function's place, or "".
        stack: the options in force, by the kind of guard.
    """

    def __init__(
        self, each: Sequence[Numbers], seconds: float, fallback: str,
        stack: Mapping[str, Mapping[str, Any]],
    ) -> None:  # fmt: skip
        self.stack: Mapping[str, Mapping[str, Any]] = stack
        self._each: Sequence[Numbers] = each
        self.seconds: float = max(seconds, 1e-9)
        self.fallback: str = fallback

    def options(self, guard: str) -> Mapping[str, Any]:
        """Return the options in force of a guard; none where there is no such one."""
        return self.stack.get(guard, {})

    def count(self, metric: str, *labels: str) -> float:
        """Return the sum of a number over the processes."""
        return sum(numbers.get((metric, labels), 0.0) for numbers in self._each)

    def most(self, metric: str, *labels: str) -> float:
        """Return the largest value of a gauge."""
        return max((numbers.get((metric, labels), 0.0) for numbers in self._each), default=0.0)

    @property
    def calls(self) -> float:
        """How many calls have ended."""
        words = ("success", "failure", "ignored", "cancelled", "refused")
        return sum(self.count("calls_total", word) for word in words)

    @property
    def mostly_good(self) -> bool:
        """Whether most calls succeeded: in an outage nothing shows what limits are for."""
        return self.count("calls_total", "success") > self.calls / 2

    @property
    def rate(self) -> float:
        """Calls a second of one process."""
        return self.calls / self.seconds

    def refused(self, guard: str) -> float:
        """Return how many calls a guard has refused."""
        return self.count("refusals_total", guard)

    def within(self, share: float) -> float | None:
        """Return an edge of the buckets within which this share of the calls has ended."""
        upto = [self.count("call_duration_seconds_bucket", edge) for edge in _EDGES]
        for edge, number in zip(EDGES, upto, strict=False):
            if upto[-1] and number >= share * upto[-1]:
                return edge
        return None


def advise(seen: Seen) -> tuple[list[Advice], list[str]]:
    """Return advice, by what was counted and the options in force.

    Returns:
        What was found, and the guards of which these counts can't show anything.
    """
    found: list[Advice] = []
    left_out: list[str] = []
    known = {kind.kind: kind for kind in kinds() if issubclass(kind, Advises)}
    keyed = seen.count("keys") > 0  # then limits are of a key, and counts of all of them
    for guard in seen.stack:
        if guard not in known:
            continue
        texts = None if keyed and issubclass(known[guard], PerKey) else known[guard].advise(seen)
        if texts is None:
            left_out.append(guard)
        found += [Advice(guard, text) for text in texts or ()]
    return found + _on_fallback(seen), left_out


def _on_fallback(seen: Seen) -> list[Advice]:
    if not seen.fallback:
        return []
    good, bad = (seen.count("fallbacks_total", word) for word in ("success", "failure"))
    if good or bad:
        return []
    errors = seen.count("served_total", "error")
    what = (
        f"{errors:.0f} callers got an error, none of which it answers" if errors
        else "nothing has failed since: nobody has seen it work (`force-open`, in a quiet hour)"
    )  # fmt: skip
    return [Advice("fallback", f"its fallback never ran in {seen.calls:.0f} calls: {what}")]
