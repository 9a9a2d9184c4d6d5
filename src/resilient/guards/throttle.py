"""The throttle: refuse a share of the calls that grows as fewer of them are answered.

Beyer et al., *Site Reliability Engineering*, 2016, chapter 21, "Client-Side Throttling": each
client refuses by itself with probability ``(requests - K * accepts) / (requests + 1)``. There is no
state that trips, and so no moment at which all clients come back at once.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Final

from .. import validation
from ..errors import RefusedError, ThrottledError
from ..metric_types import Metric, Sample
from ..outcomes import FAILURE, SUCCESS, Judge, OnError, OnResult
from . import jitter
from .base import REFUSE, Guard
from .facets import Admission, Changeable, Restorable
from .per_key import PerKey
from .window import TimeWindow

if TYPE_CHECKING:
    from datetime import timedelta

TICKET: Final = 0
MOST_REFUSED: Final = 0.9

_SHARE: Final = Metric(
    "throttle_refused_share", "gauge", "The share of calls that the throttle refuses.", over="max"
)


class Throttle(Admission, Changeable, PerKey, Restorable):
    """Refuses a share of the calls; made by `resilient.throttle`."""

    kind: ClassVar[str] = "throttle"
    rank: ClassVar[float | None] = 45
    metrics: ClassVar[tuple[Metric, ...]] = (_SHARE,)
    changeable: ClassVar[tuple[str, ...]] = (
        "failure_rate", "window", "minimum_calls", "max_refused",
    )  # fmt: skip
    starts_afresh: ClassVar[tuple[str, ...]] = ("window",)
    error: ClassVar[type[RefusedError]] = ThrottledError
    why: str
    misplaced = "Calls that it refuses would hold the outer guard's slots."

    def __init__(
        self,
        *,
        failure_rate: float = 0.5,
        window: float | timedelta = 120.0,
        minimum_calls: int = 20,
        max_refused: float = MOST_REFUSED,
        on: OnError | None = None,
        ignore: OnError | None = None,
        failed_result: OnResult | None = None,
    ) -> None:
        super().__init__()
        self.failure_rate: float = validation.number(
            "failure_rate", failure_rate, least=0.01, most=0.99
        )
        self.window: float = validation.duration("window", window)
        self.minimum_calls: int = validation.count("minimum_calls", minimum_calls)
        self.max_refused: float = validation.number(
            "max_refused", max_refused, least=0.01, most=MOST_REFUSED
        )
        self.judge: Judge = Judge.of(on, ignore, failed_result)
        self.random: Callable[[], float] = jitter.source()
        self.answered: TimeWindow = TimeWindow(self.window)  # calls that were let in and ended
        self.refused: TimeWindow = TimeWindow(self.window)

    def share(self, now: float) -> float:
        """Return the share of calls that it refuses now."""
        answered, refused = self.answered, self.refused
        answered.advance(now)
        refused.advance(now)
        calls = answered.calls + refused.calls
        if calls < self.minimum_calls:
            return 0.0
        accepted = answered.calls - answered.failures
        unanswered = calls - accepted / (1 - self.failure_rate)
        return max(0.0, min(unanswered / (calls + 1), self.max_refused))

    # -- the life of an attempt ---------------------------------------------

    def admit(self, now: float) -> int:
        share = self.share(now)
        if share == 0.0 or self.random() >= share:
            return TICKET
        self.refused.add(now, False, False)
        failures, calls = self.answered.failures, self.answered.calls
        self.why = f"{failures} of {calls} calls failed: it refuses {share:.0%} of them"
        return REFUSE

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> None:
        if outcome in (SUCCESS, FAILURE):  # all else says nothing of the dependency
            self.answered.add(now, outcome == FAILURE or duration == inf, False)

    def settle_success(self, ticket: int, now: float, duration: float) -> None:
        self.answered.add(now, duration == inf, False)  # infinite: the value came too late

    # -- the operator and the process ---------------------------------------------

    def options(self) -> dict[str, Any]:
        return {
            "failure_rate": self.failure_rate,
            "window": self.window,
            "minimum_calls": self.minimum_calls,
            "max_refused": self.max_refused,
        }

    def take_over(self, new: Guard, now: float) -> None:
        """Change the options; another window begins empty."""
        assert isinstance(new, Throttle)
        if new.window != self.window:
            self.window, self.answered, self.refused = new.window, new.answered, new.refused
        self.failure_rate, self.max_refused = new.failure_rate, new.max_refused
        self.minimum_calls = new.minimum_calls

    def at_rest(self, now: float) -> bool:
        self.answered.advance(now)
        self.refused.advance(now)
        return not (self.answered.failures or self.refused.calls)

    def memory(self) -> float:
        return self.window

    def save(self) -> dict[str, Any]:
        return {"answered": self.answered.copied(), "refused": self.refused.copied()}

    def restore(self, saved: dict[str, Any]) -> None:
        self.answered, self.refused = saved["answered"].copied(), saved["refused"].copied()

    # -- showing ---------------------------------------------

    def describe(self) -> str:
        return (
            f"refuses a share of the calls, the more the fewer are answered: from "
            f"{self.failure_rate:.0%} failures in {self.window:g} s on, and at most "
            f"{self.max_refused:.0%}"
        )

    def live(self, now: float) -> str:
        return f"{self.share(now):.0%} are refused"

    def snapshot(self, now: float) -> dict[str, Any]:
        return {
            "guard": self.kind,
            "refused_share": self.share(now),
            "calls": self.answered.calls,
            "failures": self.answered.failures,
            "refused": self.refused.calls,
            "options": self.options(),
        }

    def measure(self, now: float) -> list[Sample]:
        return [(_SHARE, (), self.share(now))]
