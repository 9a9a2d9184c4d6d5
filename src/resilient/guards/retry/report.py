"""What a retry says of itself: its metrics, its plan, its data."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, Final, cast

from ...metric_types import Metric, Sample
from ..budget import Budget
from ..refrained import Refrained

REASONS: Final = ("attempts", "time", "budget", "refused", "server", "caller", "unsafe", "nested")
NUMBERS: Final = ("2", "3", "4", "5", "more")

_RETRIES: Final = Metric(
    "retries_total", "counter", "Attempts beyond the first, by their number in the call.", "number"
)
_NOT: Final = Metric(
    "not_retried_total", "counter", "Failures without another attempt, by what stood against it.",
    "reason",
)  # fmt: skip
_LEFT: Final = Metric(
    "retry_budget", "gauge", "Extra attempts that the budget has left.", over="min",
    present="with a budget",
)  # fmt: skip

METRICS: Final = (_RETRIES, _NOT, _LEFT)


class Counts:
    """What a retry counts and remembers; the views of its policy share it.

    Attributes:
        by_number: attempts beyond the first, by their number in the call.
        held_until: a server has asked all to wait so long.
        refrained: failures that it let stand.
    """

    __slots__ = ("by_number", "held_until", "refrained")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew, in a forked child."""
        self.held_until: float = -inf
        self.by_number: list[int] = [0] * len(NUMBERS)
        self.refrained: Refrained = Refrained(REASONS)

    def begun(self, number: int) -> None:
        """Count an attempt by its number in the call, from the second on."""
        self.by_number[min(number - 2, len(NUMBERS) - 1)] += 1

    def live(self, budget: Budget, now: float) -> str:
        """Return what is left of the budget, for the plan."""
        left = budget.left(now)
        return "" if left == inf else f"{left:.1f} extra attempts left"

    def data(self, budget: Budget, now: float) -> dict[str, Any]:
        """Return counts and budget as plain data."""
        left = budget.left(now)
        return {
            "retries": sum(self.by_number),
            "not_retried": dict(self.refrained.by_reason),
            "budget_left": None if left == inf else left,
            "held_for": max(0.0, self.held_until - now),
        }

    def samples(self, budget: Budget, now: float) -> list[Sample]:
        """Return counts and budget as samples of metrics."""
        numbered = zip(NUMBERS, self.by_number, strict=True)
        found: list[Sample] = [(_RETRIES, (number,), count) for number, count in numbered]
        found += [(_NOT, (reason,), count) for reason, count in self.refrained.by_reason.items()]
        if budget.share is not None:
            found.append((_LEFT, (), budget.left(now)))
        return found


def described(options: Mapping[str, Any]) -> str:
    """Return the plan in plain English."""
    after = "a failed result" if options["on"] is None else named(options["on"])
    waits = f"waits up to {options['wait_initial']:g} s, doubled each time"
    share = options["budget"]
    spends = "without a budget" if share is None else f"at most {share:g} extra attempts a call"
    return (
        f"makes up to {options['attempts']} attempts after {after}; {waits}, "
        f"{options['wait_max']:g} s at most; {spends}"
    )


def shown(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as plain data: exceptions and functions by their names."""
    whose = ("on", "ignore", "failed_result", "retry_after")
    names = {word: named(options[word]) for word in whose if options[word] is not None}
    return {**options, **names}


def named(on: Any) -> str:
    """Return the names of exceptions, or of a predicate."""
    if isinstance(on, tuple):
        return ", ".join(each.__name__ for each in cast("tuple[type, ...]", on))
    return getattr(on, "__name__", repr(on))


def short_of_time(left: float, delay: float, typical: float) -> str:
    """Return why the time that is left does not do for another attempt."""
    if left <= 0:
        return "no time is left"
    needed = f"a wait of {delay:.3g} s and an attempt of about {typical:.3g} s"
    return f"{left:.3g} s are left, for {needed}"
