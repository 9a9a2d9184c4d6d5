"""The results that a circuit breaker has seen, and the rules by which they open it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ... import validation
from ...state_types import HealthState
from ..window import NO_AGES, Ages, CountWindow, TimeWindow, calls
from .history import Reasons

if TYPE_CHECKING:
    from datetime import timedelta

_INFINITY: Final = float("inf")


class Health(HealthState):
    """The evidence of one epoch, and the three rules: rate, failures in a row, slowness."""

    __slots__ = (
        "ages",
        "failure_threshold",
        "reasons",
        "slow_call_duration",
        "slow_call_rate",
        "slow_from",
    )
    window: TimeWindow | CountWindow

    def __init__(
        self,
        *,
        failure_rate: float | None,
        failure_threshold: int | None,
        window: float | timedelta | calls,
        minimum_calls: int,
        slow_call_duration: float | timedelta | None,
        slow_call_rate: float,
    ) -> None:
        self.failure_rate: float | None = None
        if failure_rate is not None:
            self.failure_rate = validation.share("failure_rate", failure_rate)
        self.failure_threshold = failure_threshold
        if failure_threshold is not None:
            validation.count("failure_threshold", failure_threshold)
        self.window = _window(window)
        self.minimum_calls: int = validation.count("minimum_calls", minimum_calls)
        if isinstance(window, calls) and minimum_calls > window.size:
            allowed = f"at most the window, which is {window!r} (its default is 20)"
            validation.refuse("minimum_calls", minimum_calls, allowed)
        self.slow_call_rate: float = validation.share("slow_call_rate", slow_call_rate)
        self.slow_call_duration: float | None = None
        if slow_call_duration is not None:
            self.slow_call_duration = validation.duration("slow_call_duration", slow_call_duration)
        elif failure_rate is None and failure_threshold is None:
            allowed = (
                "set where failure_threshold and slow_call_duration are None: nothing opens it"
            )
            validation.refuse("failure_rate", None, allowed)
        self.slow_from: float = self.slow_call_duration or _INFINITY
        # Of calls in flight; kept only if slow calls can open the circuit.
        self.ages = NO_AGES if self.slow_call_duration is None else Ages(self.slow_from)
        self.consecutive: int = 0
        self.reasons: Reasons = _reasons(self.window)

    def clear(self) -> None:
        """Forget everything: a new epoch has begun."""
        self.consecutive = 0
        self.window.clear()
        self.ages.clear()
        self.reasons.clear()

    def failed(self, now: float, slow: bool, reason: str) -> bool:
        """Count a failure; return True if a rule says to open."""
        self.consecutive += 1
        self.window.add(now, True, slow)
        bad = self.bad(now)
        self.reasons.note(reason, now)
        return bad

    def bad(self, now: float) -> bool:
        """Return True if a rule says to open, after the newest result was counted."""
        window = self.window
        if self.failure_rate is not None and window.calls >= self.minimum_calls:
            failing = window.failures / window.calls >= self.failure_rate
        else:
            threshold = self.failure_threshold
            failing = threshold is not None and self.consecutive >= threshold
        return failing or (self.slow_call_duration is not None and self.too_slow(now))

    def too_slow(self, now: float) -> bool:
        """Return True if the share of slow calls, those still in flight included, says to open."""
        if self.slow_call_duration is None:
            return False
        late = self.ages.late(now)
        self.window.advance(now)
        volume = self.window.calls + late
        return (
            volume >= self.minimum_calls
            and (self.window.slow + late) / volume >= self.slow_call_rate
        )

    # -- showing ---------------------------------------------

    def failure_ratio(self, now: float) -> float | None:
        """Return the share of failures in the window; None below the minimum volume."""
        self.window.advance(now)
        enough = self.window.calls >= self.minimum_calls
        return self.window.failures / self.window.calls if enough else None

    def slow_ratio(self, now: float) -> float | None:
        """Return the share of slow calls; None below the minimum volume."""
        if self.slow_call_duration is None:
            return None
        late = self.ages.late(now)
        self.window.advance(now)
        volume = self.window.calls + late
        return (self.window.slow + late) / volume if volume >= self.minimum_calls else None

    @property
    def memory(self) -> float:
        """The seconds for which a call counts; 0 if the window is a number of calls."""
        return self.window.spec if isinstance(self.window, TimeWindow) else 0.0

    def summary(self, now: float) -> str:
        """Return what was seen, in a few words."""
        window = self.window
        parts = [f"{window.failures} of {counted(window.calls, 'call')} failed"]
        if self.slow_call_duration is not None:
            late = self.ages.late(now)
            parts.append(f"{window.slow} slow and {late} in flight for too long")
        if window.calls < self.minimum_calls and self.consecutive > 1:
            parts.append(f"{self.consecutive} failures in a row")
        by_count = self.reasons.top(now)
        if by_count:
            parts.append(", ".join(f"{number}x {reason}" for reason, number in by_count.items()))
        return "; ".join(parts)

    def evidence(self, now: float) -> dict[str, Any]:
        """Return what was seen, as plain data."""
        window = self.window
        window.advance(now)
        late = self.ages.late(now)
        volume = window.calls + late
        return {
            "calls": window.calls,
            "failures": window.failures,
            "failure_rate": window.failures / window.calls if window.calls else None,
            "slow": window.slow + late,
            "slow_rate": (window.slow + late) / volume if volume else None,
            "consecutive_failures": self.consecutive,
            "exceptions": self.reasons.top(now),
        }

    def rules(self) -> str:
        """Return the rules in plain English."""
        rules: list[str] = []
        if self.failure_rate is not None:
            rules.append(
                f"{self.failure_rate:.0%} of at least {self.minimum_calls} calls in "
                f"{self.window} fail"
            )
        if self.failure_threshold is not None:
            traffic = "" if self.failure_rate is None else " at lower traffic"
            rules.append(f"{self.failure_threshold} fail in a row{traffic}")
        if self.slow_call_duration is not None:
            rules.append(f"{self.slow_call_rate:.0%} take {self.slow_call_duration:g} s or longer")
        return " or ".join(rules)

    def adopt(self, fresh: Health) -> None:
        """Copy the options of another; a changed window starts afresh."""
        if self.window.spec != fresh.window.spec:
            self.window = fresh.window
            self.reasons.span = fresh.reasons.span
        self.failure_rate = fresh.failure_rate
        self.failure_threshold = fresh.failure_threshold
        self.minimum_calls = fresh.minimum_calls
        self.slow_call_rate = fresh.slow_call_rate
        self.slow_call_duration = fresh.slow_call_duration
        if self.slow_from != fresh.slow_from:
            self.slow_from = fresh.slow_from
            if self.ages is NO_AGES or fresh.ages is NO_AGES:
                self.ages = fresh.ages
            else:
                self.ages.rule(fresh.slow_from)

    def options(self) -> dict[str, Any]:
        """Return the options."""
        return {
            "failure_rate": self.failure_rate,
            "failure_threshold": self.failure_threshold,
            "window": self.window.spec,
            "minimum_calls": self.minimum_calls,
            "slow_call_duration": self.slow_call_duration,
            "slow_call_rate": self.slow_call_rate,
        }

    def save(self) -> tuple[Any, ...]:
        """Return the evidence, for restore()."""
        return self.window.copied(), self.consecutive, self.reasons.save()

    def restore(self, saved: tuple[Any, ...]) -> None:
        """Set the evidence that save() returned."""
        window, self.consecutive, reasons = saved
        self.window = window.copied()
        self.reasons.restore(reasons)


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun in the singular or plural."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _reasons(window: TimeWindow | CountWindow) -> Reasons:
    return Reasons(window.spec) if isinstance(window, TimeWindow) else Reasons()


def _window(window: object) -> TimeWindow | CountWindow:
    if isinstance(window, calls):
        return CountWindow(window.size)
    number = isinstance(window, (int, float)) and not isinstance(window, bool)
    if number or validation.as_timedelta(window) is not None:
        return TimeWindow(validation.duration("window", window))
    return validation.refuse_type(
        "window", window, "a duration > 0 in seconds, a timedelta, or calls(n)"
    )
