"""The concurrency limit: as many calls at once as the dependency bears, found by measuring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from ... import validation
from ...errors import ConcurrencyLimitedError, RefusedError
from ...knowledge.libraries import failed_answer
from ...knowledge.overload import is_overload, is_overloaded_answer
from ...metric_types import Metric, Sample
from ...outcomes import FAILURE, IGNORED, SUCCESS, Judge, OnError, OnResult
from ...priority_levels import LEVELS, level_now
from ..base import REFUSE, Guard
from ..facets import Changeable, Restorable, Slots
from ..per_key import PerKey
from .rules import Aimd, Gradient, Rule
from .samples import Window
from .shares import Shares

if TYPE_CHECKING:
    from datetime import timedelta

INITIAL: Final = 20
TOLERANCE: Final = 1.5
ALGORITHMS: Final = ("gradient", "aimd")
_LEVELS: Final = len(LEVELS)

_LIMIT: Final = Metric("concurrency_limit", "gauge", "Calls that it lets run at once, by now.")
_USED: Final = Metric("concurrency_used", "gauge", "Its slots that are taken.")
_DROPS: Final = Metric(
    "concurrency_drops_total", "counter", "Calls that ended as overload does: those cut the limit."
)


class OverloadJudge(Judge):
    """Decides what overload is; without a `failed_result`, by the answers of known libraries."""

    __slots__ = ()
    decides_on_values: ClassVar[bool] = True

    def of_value(self, value: object) -> int:
        """Return FAILURE for overload, IGNORED for an answer that failed otherwise."""
        if self.failed_result is not None:
            overload = super().of_value(value) == FAILURE
        else:
            overload = is_overloaded_answer(value)
        if overload:
            return FAILURE
        return IGNORED if failed_answer(value) else SUCCESS


class ConcurrencyLimit(Slots, Changeable, PerKey, Restorable):
    """Limits the calls in progress by what is measured; made by `resilient.concurrency_limit`."""

    kind: ClassVar[str] = "concurrency_limit"
    rank: ClassVar[float | None] = 55
    metrics: ClassVar[tuple[Metric, ...]] = (_LIMIT, _USED, _DROPS)
    changeable: ClassVar[tuple[str, ...]] = (
        "min_limit", "max_limit", "tolerance", "slow_call_duration",
    )  # fmt: skip
    error: ClassVar[type[RefusedError]] = ConcurrencyLimitedError
    why: str
    misplaced = "Calls that it refuses would hold the outer guard's slots."

    def __init__(
        self,
        initial: int | None = None,
        *,
        min_limit: int = 1,
        max_limit: int = 200,
        algorithm: str = "gradient",
        tolerance: float | None = None,
        slow_call_duration: float | timedelta = 5.0,
        on: OnError | None = None,
        ignore: OnError | None = None,
        failed_result: OnResult | None = None,
    ) -> None:
        super().__init__()
        self.min_limit: int = validation.count("min_limit", min_limit)
        self.max_limit: int = validation.count("max_limit", max_limit)
        if self.min_limit > self.max_limit:
            validation.refuse("min_limit", min_limit, f"at most max_limit, which is {max_limit}")
        if initial is None:
            initial = max(self.min_limit, min(INITIAL, self.max_limit))
        elif not self.min_limit <= validation.count("initial", initial) <= self.max_limit:
            validation.refuse("initial", initial, f"from {min_limit} to {max_limit}, its bounds")
        self.algorithm: str = validation.one_of("algorithm", algorithm, ALGORITHMS)
        if self.algorithm == "aimd" and tolerance is not None:
            validation.refuse("tolerance", tolerance, 'given with algorithm="gradient" alone')
        given = TOLERANCE if tolerance is None else tolerance
        self.tolerance: float = validation.number("tolerance", given, least=1.0, most=10.0)
        self.slow_call_duration: float = validation.duration(
            "slow_call_duration", slow_call_duration
        )
        self.judge: Judge = OverloadJudge(is_overload if on is None else on, ignore, failed_result)
        self._initial: int = initial
        self.limit: float = float(initial)
        self.drops: int = 0
        self.abandoned: int = 0
        self.running: int = 0
        self.shares: Shares = Shares()
        self._admitted: int = 0
        self._cut_from: int = 0  # the first call since the last cut: those before tell nothing new
        self._begin()

    def _begin(self) -> None:
        """Forget what was measured."""
        self._rule: Rule = Aimd() if self.algorithm == "aimd" else Gradient(self.tolerance)
        self._window: Window = Window()

    def slots(self) -> int:
        return self.max_limit

    @property
    def used(self) -> int:
        """Slots that are taken: running and abandoned."""
        return self.running + self.abandoned

    # -- the life of an attempt ---------------------------------------------

    def admit(self, now: float) -> int:
        self._set(self._rule.at(self.limit, now))
        level, shares, limit = level_now(), self.shares, int(self.limit)
        shares.recover(limit, now)
        if self.used < limit and shares.admits(level):
            self.running += 1
            shares.begins(level, limit)
            self._admitted += 1
            return self._admitted * _LEVELS + level
        if self.used >= limit:
            shares.refused(level, now)
            self.why = f"all {limit} slots of now are taken"
        else:
            self.why = (
                f"{shares.caps[level]} of the {limit} slots of now are left to calls of priority "
                f"{LEVELS[level]}"
            )
        return REFUSE

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> None:
        running = self.used
        self._set(self._rule.at(self.limit, now))
        self.running -= 1
        self.shares.ended(ticket % _LEVELS)
        self.abandoned += held
        slow = duration >= self.slow_call_duration
        if outcome == FAILURE or (slow and outcome == SUCCESS):
            self._drop(ticket // _LEVELS)
        elif outcome == SUCCESS:
            self._measure(duration, running, now)

    def release(self, ticket: int, now: float) -> None:
        self.abandoned -= 1

    def _drop(self, number: int) -> None:
        """Cut at once, once for all the calls that were let in before."""
        self.drops += 1
        if number >= self._cut_from:
            self._cut_from = self._admitted + 1
            self._set(self._rule.cut(self.limit))

    def _measure(self, duration: float, running: int, now: float) -> None:
        window = self._window
        window.add(duration, running, now)
        if window.is_full(now):
            self._set(self._rule.next(self.limit, window, now))
            window.clear(now)

    def _set(self, limit: float) -> None:
        self.limit = max(float(self.min_limit), min(limit, float(self.max_limit)))

    # -- the operator and the process ---------------------------------------------

    def options(self) -> dict[str, Any]:
        return {
            "min_limit": self.min_limit,
            "max_limit": self.max_limit,
            "algorithm": self.algorithm,
            "tolerance": None if self.algorithm == "aimd" else self.tolerance,
            "slow_call_duration": self.slow_call_duration,
        }

    def take_over(self, new: Guard, now: float) -> None:
        """Change the bounds: what was measured stays, and the limit moves into them at once."""
        assert isinstance(new, ConcurrencyLimit)
        self.min_limit, self.max_limit, self.tolerance = new.min_limit, new.max_limit, new.tolerance
        self.slow_call_duration = new.slow_call_duration
        if isinstance(self._rule, Gradient):
            self._rule.tolerance = new.tolerance
        self._set(self.limit)

    def at_rest(self, now: float) -> bool:
        return not self.used

    def options_anew(self) -> dict[str, Any]:
        return {
            **self.options(),
            "initial": max(self.min_limit, min(self._initial, self.max_limit)),
        }

    def after_fork(self, now: float, own: int) -> None:
        self.running, self.abandoned, self.drops = own, 0, 0
        self.shares = Shares()  # of whose calls nobody knows the level

    def save(self) -> dict[str, Any]:
        return {"limit": self._rule.usual(self.limit)}

    def restore(self, saved: dict[str, Any]) -> None:
        self.limit = saved["limit"]
        self.shares.caps = Shares().caps
        self._begin()

    # -- showing ---------------------------------------------

    def describe(self) -> str:
        by = "how long calls take" if self.algorithm == "gradient" else "overload alone"
        return (
            f"runs at most {self.min_limit} to {self.max_limit} at once, as many as go well by "
            f"{by}, and refuses the least important of the rest first"
        )

    def live(self, now: float) -> str:
        return f"{self.used} of {int(self.limit)} slots of now used"

    def snapshot(self, now: float) -> dict[str, Any]:
        rule, caps = self._rule, zip(LEVELS, self.shares.caps, strict=True)
        baseline = rule.baseline.seconds if isinstance(rule, Gradient) else None
        return {
            "guard": self.kind,
            "limit": int(self.limit),
            "used": self.used,
            "abandoned": self.abandoned,
            "drops": self.drops,
            "baseline": baseline,
            "running": self.running,
            "by_priority": dict(zip(LEVELS, self.shares.running, strict=True)),
            "left_to": {level: cap for level, cap in caps if cap is not None},
            "options": self.options(),
        }

    def measure(self, now: float) -> list[Sample]:
        return [
            (_LIMIT, (), int(self.limit)), (_USED, (), self.used), (_DROPS, (), self.drops),
        ]  # fmt: skip
