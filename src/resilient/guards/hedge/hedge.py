"""The hedge: ask a slow dependency a second time before it has answered, and take what comes first.

Dean and Barroso, *The Tail at Scale*, 2013: a second copy of the slowest few per cent of the
requests cuts the tail for a few per cent more load. A budget bounds those.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ... import validation
from ...events import Event
from ...metric_types import Metric, Sample
from ...outcomes import IGNORED, Judge, OnError, OnResult
from ..base import Guard
from ..budget import Budget
from ..facets import Changeable, Peered, Restorable
from ..per_key import PerKey
from ..races import Races
from .latencies import Latencies
from .report import METRICS, Counts

if TYPE_CHECKING:
    from datetime import timedelta

MOST_LEFT: Final = 64  # copies that run on without a caller; with so many no other one begins
TICKET: Final = 0


class Hedge(Races, Changeable, Peered, PerKey, Restorable):
    """Has a slow attempt run twice; made by `resilient.hedge`."""

    kind: ClassVar[str] = "hedge"
    rank: ClassVar[float | None] = 31
    metrics: ClassVar[tuple[Metric, ...]] = METRICS
    changeable: ClassVar[tuple[str, ...]] = ("delay", "quantile", "share", "join_within")
    misplaced = "The guards outside would see one attempt where the dependency gets two."
    join_within: float
    counts: Counts

    def __init__(
        self,
        delay: float | timedelta | None,
        *,
        quantile: float | None,
        idempotent: bool,
        share: float,
        join_within: float | timedelta,
        on: OnError | None,
        ignore: OnError | None,
        failed_result: OnResult | None,
    ) -> None:
        super().__init__()
        if (delay is None) == (quantile is None):
            raise TypeError(
                "hedge needs a delay in seconds, or quantile=..., such as 0.95, and not both"
            )
        self._given: float | None = (
            None if delay is None else validation.duration("delay", delay, zero=True)
        )
        self._quantile: float | None = quantile
        if quantile is not None:
            self._quantile = validation.number("quantile", quantile, least=0.5, most=0.999)
        if validation.flag("idempotent", idempotent) is False:
            validation.refuse(
                "idempotent", idempotent, "True: say so where it does no harm if the dependency "
                "does twice what it was asked once",
            )  # fmt: skip
        self.join_within = validation.duration("join_within", join_within, zero=True)
        self.budget: Budget = Budget(validation.share("share", share))
        self._peers: tuple[Guard, ...] = ()
        self.judge: Judge = Judge.of(on, ignore, failed_result)
        self.latencies: Latencies = Latencies()
        self.counts = Counts()

    # -- the life of an attempt ---------------------------------------------

    def admit(self, now: float) -> int:
        return TICKET

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> None:
        if outcome <= IGNORED:  # else the dependency was perhaps not reached
            self.budget.calls += 1

    def copies_after(self, now: float) -> float | None:
        if self._quantile is None:
            return self._given
        return self.latencies.quantile(self._quantile)

    def copies(self, now: float) -> bool:
        if self.counts.left >= MOST_LEFT:
            self.counts.refrained.note(
                self, now, "busy", f"{MOST_LEFT} copies run on that nobody waits for"
            )
            return False
        if not self.budget.take(now):
            self.counts.refrained.note(self, now, "budget", "its share of second copies is used up")
            return False
        shared = self._shared
        if shared is not None and not shared.take(now):
            self.budget.give_back()
            self.counts.refrained.note(
                self, now, "budget", "the policy's budget of extra attempts is empty"
            )
            return False
        return True

    def copied(self, now: float) -> None:
        self.emit(Event("retried", guard=self.kind, at=now, reason="a second copy"))

    def not_copied(self, now: float, why: str) -> None:
        self.budget.give_back()
        shared = self._shared
        if shared is not None:
            shared.give_back()
        if why:
            self.counts.refrained.note(self, now, "refused", why)

    def raced(self, now: float, first: float | None, winner: int | None) -> None:
        if first is not None:
            self.latencies.add(first)
        if winner is not None:
            self.counts.by_winner[winner] += 1

    def ran_on(self, now: float, copies: int) -> None:
        self.counts.left += copies

    @property
    def _shared(self) -> Budget | None:
        """The budget of the policy's retry, which pays for second copies, too."""
        for guard in self._peers:
            budget = getattr(guard, "budget", None)
            if guard is not self and isinstance(budget, Budget):
                return budget
        return None

    def meet(self, guards: tuple[Guard, ...]) -> None:
        self._peers = guards

    def replaces(self, old: Guard) -> None:
        if isinstance(old, Hedge):  # budget, counts and what was measured are the policy's
            self.budget, self.counts, self.latencies = old.budget, old.counts, old.latencies

    # -- the operator and the process ---------------------------------------------

    def options(self) -> dict[str, Any]:
        return {
            "delay": self._given,
            "quantile": self._quantile,
            "idempotent": True,
            "share": self.budget.share,
            "join_within": self.join_within,
            **self.judge.options(),
        }

    def take_over(self, new: Guard, now: float) -> None:
        assert isinstance(new, Hedge)
        self.budget.adopt(new.budget.share, now)
        self._given, self._quantile = new._given, new._quantile
        self.join_within = new.join_within

    def at_rest(self, now: float) -> bool:
        return not self.counts.left and self.budget.is_full(now)

    def after_fork(self, now: float, own: int) -> None:
        self.budget.refill()
        self.counts.clear()

    def save(self) -> dict[str, Any]:
        return {"budget": self.budget.saved(), "latencies": self.latencies.saved()}

    def restore(self, saved: dict[str, Any]) -> None:
        self.budget.put(saved["budget"])
        self.latencies.put(saved["latencies"])

    # -- showing ---------------------------------------------

    def describe(self) -> str:
        if self._quantile is None:
            after = f"{self._given:g} s"
        else:
            after = f"the time within which {self._quantile:.4g} of the attempts end"
        return (
            f"begins a second copy of an attempt after {after}, for at most {self.budget.share:g} "
            "of the calls; takes the first good answer"
        )

    def live(self, now: float) -> str:
        delay, left = self.copies_after(now), self.budget.left(now)
        known = "delay not known yet" if delay is None else f"after {delay:.3g} s"
        return f"{known}, {left:.1f} second copies left" if left < inf else known

    def snapshot(self, now: float) -> dict[str, Any]:
        told = {name: value for name, value in self.options().items() if value is not None}
        known = {**self.counts.data(), "budget_left": self.budget.left(now)}
        return {"guard": self.kind, "options": told, "delay": self.copies_after(now), **known}

    def measure(self, now: float) -> list[Sample]:
        return self.counts.samples(self.copies_after(now))
