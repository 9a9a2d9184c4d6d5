"""What of a retry can't work as it seems to."""

from __future__ import annotations

from ..advising import OFTEN, Advises, Seen
from .report import NUMBERS


class RetryAdvice(Advises):
    """The part of a retry that gives advice."""

    @classmethod
    def advise(cls, seen: Seen) -> list[str]:
        empty = seen.count("not_retried_total", "budget")
        made = sum(seen.count("retries_total", number) for number in NUMBERS)
        if empty <= made or empty <= OFTEN * seen.calls:
            return []
        text = (
            f"its budget was empty for {empty:.0f} failures, and paid for {made:.0f} attempts: "
            "what it asks is down too often for retries to help"
        )
        return [text]
