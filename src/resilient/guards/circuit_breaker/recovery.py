"""How long an open circuit refuses: longer after each failed probe, up to a limit."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import TYPE_CHECKING, Any, Final

from ... import validation

if TYPE_CHECKING:
    from datetime import timedelta

LONGEST: Final = 60.0  # seconds, unless max_recovery_timeout is given or recovery_timeout is longer
# A recovery time is drawn from its last fifth, and never exceeds the announced time.
JITTER: Final = 0.2


class Recovery:
    """The options of a circuit breaker that determine when it tries again."""

    __slots__ = ("_longest", "backoff", "ramp", "timeout")

    def __init__(
        self,
        *,
        recovery_timeout: float | timedelta,
        recovery_backoff: float,
        max_recovery_timeout: float | timedelta | None,
        ramp: float | timedelta | None = None,
    ) -> None:
        self.timeout: float = validation.duration("recovery_timeout", recovery_timeout)
        self.backoff: float = validation.number(
            "recovery_backoff", recovery_backoff, least=1, most=100
        )
        self.ramp: float | None = None if ramp is None else validation.duration("ramp", ramp)
        self._longest: float | None = None
        if max_recovery_timeout is not None:
            self._longest = validation.duration("max_recovery_timeout", max_recovery_timeout)
            if self._longest < self.timeout:
                least = f"at least recovery_timeout ({self.timeout:g})"
                validation.refuse("max_recovery_timeout", max_recovery_timeout, least)

    @property
    def longest(self) -> float:
        """The most seconds that an open circuit refuses without a probe."""
        return max(LONGEST, self.timeout) if self._longest is None else self._longest

    def options(self) -> dict[str, Any]:
        """Return the constructor's arguments by name."""
        return {
            "recovery_timeout": self.timeout,
            "recovery_backoff": self.backoff,
            "max_recovery_timeout": self._longest,
            "ramp": self.ramp,
        }

    def seconds(self, relapses: int, random: Callable[[], float] | None) -> float:
        """Return how long to refuse after so many failed probes, in seconds."""
        first, backoff, longest = self.timeout, self.backoff, self.longest
        # Compute the power only where it stays below the limit, so that it can't overflow.
        if relapses and backoff > 1 and relapses >= log(longest / first) / log(backoff):
            seconds = longest
        else:
            seconds = min(first * backoff**relapses, longest)
        return seconds if random is None else seconds * (1 - JITTER * random())
