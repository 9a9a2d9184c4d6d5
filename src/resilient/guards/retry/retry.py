"""Retry: ask a dependency again after a failure, and never too often.

Exponential waits, capped and then drawn at random from nothing up to the cap ("full jitter": Marc
Brooker, *Exponential Backoff and Jitter*, AWS 2015); a budget bounds a policy's extra attempts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from math import inf, ldexp
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from ... import validation
from ...callables import kind_of
from ...events import Event
from ...knowledge.libraries import callers_fault
from ...knowledge.retry_after import NEVER, asked_wait, checked_wait
from ...metric_types import Metric, Sample
from ...outcomes import IGNORED, SUCCESS, Judge, OnError, OnResult
from ...state_types import RetryState
from ..base import PARK, REFUSE, Guard, Mode, Waiter
from ..budget import Budget
from ..facets import Changeable, Peered, Queueing, Retries, Stateful
from ..jitter import source
from ..per_key import PerKey
from ..tried import Tried
from .advice import RetryAdvice
from .report import METRICS, Counts, described, short_of_time, shown

if TYPE_CHECKING:
    from datetime import timedelta

TICKET: Final = 0
_CROWD: Final = 1_000_000  # may wait for the time that a server has told
_SPREAD: Final = 0.2  # of the longest wait, over which those are spread who wait for it
_EXPONENT: Final = 64  # 2 ** 64 times any wait is longer than any cap
_CALLERS: Final = -inf  # a hint: the error is the caller's own doing


class Retry(Retries, Queueing, Changeable, Peered, PerKey, RetryAdvice, Stateful, RetryState):
    """Asks again after a failure; made by `resilient.retry`."""

    kind: ClassVar[str] = "retry"
    in_core: ClassVar[bool] = True
    rank: ClassVar[float | None] = 30
    metrics: ClassVar[tuple[Metric, ...]] = METRICS
    changeable: ClassVar[tuple[str, ...]] = (
        "attempts", "timeout", "wait_initial", "wait_max", "budget",
    )  # fmt: skip
    misplaced = (
        "The guards outside would see one call where the dependency gets several, and keep their "
        "slots while it waits between them."
    )
    random: Callable[[], float] | None
    on: OnError | None
    why: str
    why_not: str
    nested: str
    counts: Counts
    _loop: ClassVar[Callable[[Retry, Mode], Any]]  # set by `policy.retry_decorator`

    def __init__(
        self,
        *,
        on: OnError | None,
        ignore: OnError | None,
        failed_result: OnResult | None,
        attempts: int,
        timeout: float | timedelta | None,
        wait_initial: float | timedelta,
        wait_max: float | timedelta,
        retry_after: Callable[[Any], float | None] | None,
        hold: bool,
        idempotent: bool,
        budget: float | None,
        nested: str,
    ) -> None:
        super().__init__()
        if on is None and failed_result is None:
            validation.refuse_type(
                "on", on, "the exceptions to try again after, such as (ConnectionError, "
                "TimeoutError): after any other error a second attempt does no good",
            )  # fmt: skip
        self.judge: Judge = Judge((lambda _: False) if on is None else on, ignore, failed_result)
        self.on, self._failed_result = on, failed_result
        self.attempts: int = validation.count("attempts", attempts, most=100)
        self.timeout: float | None = (
            None if timeout is None else validation.duration("timeout", timeout)
        )
        self.wait_initial: float = validation.duration("wait_initial", wait_initial, zero=True)
        self.wait_max: float = validation.duration("wait_max", wait_max, zero=True)
        if self.wait_max < self.wait_initial:
            validation.refuse("wait_max", wait_max, f"at least wait_initial ({wait_initial})")
        if retry_after is not None and (
            not callable(retry_after) or kind_of(retry_after) != "sync"
        ):
            validation.refuse_type("retry_after", retry_after, "a plain function of the error")
        self._read = retry_after
        self.hold: bool = validation.flag("hold", hold)
        self.idempotent: bool = validation.flag("idempotent", idempotent)
        self.adds_counts: tuple[str, ...] = ("line",) if self.hold else ()
        share = None if budget is None else validation.share("budget", budget)
        self.budget: Budget = Budget(share)
        self.nested = validation.one_of("nested", nested, ("share", "apart", "never"))
        self.random = source()
        self.typical: float = 0.0  # seconds that a good attempt takes: a running median
        self.counts = Counts()

    def __iter__(self) -> Iterator[Any]:
        """Return a loop whose body is an attempt; see `resilient.engine.loops`."""
        return cast("Iterator[Any]", type(self)._loop(self, "cooperative"))

    def __aiter__(self) -> AsyncIterator[Any]:
        """Return an async loop whose body is an attempt."""
        return cast("AsyncIterator[Any]", type(self)._loop(self, "async"))

    # -- the life of a call ---------------------------------------------

    def admit(self, now: float) -> int:
        return PARK if self.hold and now < self.counts.held_until else TICKET

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> None:
        if outcome == SUCCESS and duration < inf:
            self.settle_success(ticket, now, duration)
        elif outcome <= IGNORED:  # else the dependency was perhaps not reached
            self.budget.calls += 1

    def settle_success(self, ticket: int, now: float, duration: float) -> None:
        self.budget.calls += 1
        # A running median (Ma, Muthukrishnan, Sandler: Frugal Streaming, 2013), by steps of 5 %.
        typical = self.typical
        self.typical = typical * (1.05 if duration > typical else 0.95) if typical else duration

    def places(self) -> int:
        return _CROWD if self.hold else 0

    def park(self, waiter: Waiter, now: float) -> int:
        waiter.patience = self.counts.held_until - now
        if waiter.left < waiter.patience:
            self.why = f"a server asked to wait for {waiter.patience:.3g} s more"
            return REFUSE
        drawn = 0.0 if self.random is None else self.random() * self.wait_initial
        waiter.deadline = min(self.counts.held_until + drawn, now + self.wait_max)
        return PARK

    def unpark(self, waiter: Waiter, now: float) -> int:
        return TICKET if now >= waiter.deadline else PARK

    def quit(self, waiter: Waiter, now: float) -> None:
        pass

    def retry_after(self, now: float) -> float | None:
        return max(0.0, self.counts.held_until - now) if self.hold else None

    def hint(self, error: Exception | None, value: Any) -> Any:
        if error is not None and isinstance(self.on, (type, tuple)) and callers_fault(error):
            return _CALLERS
        if self._read is not None:
            return checked_wait(self._read(value if error is None else error))
        return asked_wait(error, value)

    def again(self, ticket: int, now: float, tried: Tried) -> float | None:
        asked = cast("float | None", tried.hint)
        if asked is not None and 0 <= asked < NEVER:
            self.counts.held_until = max(self.counts.held_until, now + min(asked, self.wait_max))
        delay = self._delay(tried.attempts, now)
        said = self._unwanted(tried, asked) or self._untimely(tried, delay)
        if said is None and not self.budget.take(now):
            said = "budget", "its budget of extra attempts is empty"
        if said is not None:
            self._refrain(now, *said)
            return None
        return delay

    def begun(self, ticket: int, now: float, number: int) -> None:
        self.counts.begun(number)
        self.emit(Event("retried", guard=self.kind, at=now, reason=f"attempt {number}"))

    def not_begun(self, ticket: int, now: float, why: str) -> None:
        self.budget.give_back()
        if why:  # else its caller left
            self._refrain(now, "refused", why)

    def pay(self, now: float) -> bool:
        return self.budget.take(now)

    def pay_back(self, now: float) -> None:
        self.budget.give_back()

    def _delay(self, attempts: int, now: float) -> float:
        """Return the seconds to wait after so many attempts."""
        cap = min(self.wait_max, ldexp(self.wait_initial, min(attempts - 1, _EXPONENT)))
        drawn = cap if self.random is None else cap * self.random()
        held = self.counts.held_until - now
        if held <= 0:
            return drawn
        if self.random is None:
            return min(held, self.wait_max)
        # Who was told the same time does not come back in step, not even at the cap.
        least = held if held < self.wait_max else self.wait_max * (1 - _SPREAD)
        return least + (min(held + cap, self.wait_max) - least) * self.random()

    def _unwanted(self, tried: Tried, asked: float | None) -> tuple[str, str] | None:
        """Return why nobody wants another attempt, or None."""
        if asked == _CALLERS:
            return "caller", "the error is the caller's own doing"
        if asked == NEVER:
            return "server", "the server wants no other attempt"
        if tried.once and not self.idempotent:
            return "unsafe", tried.once
        if tried.inside and self.nested == "never":
            return "nested", f"it is inside an attempt of {tried.inside}, which tries again"
        if tried.attempts >= self.attempts:
            return "attempts", f"{tried.attempts} attempts were made"
        return None

    def _untimely(self, tried: Tried, delay: float) -> tuple[str, str] | None:
        """Return why another attempt after such a delay would come too late or too soon."""
        if tried.refuses_for > delay:
            return "refused", f"its {tried.refuser} refuses for {tried.refuses_for:.3g} s"
        if self.timeout is not None and tried.elapsed + delay >= self.timeout:
            return "time", f"its timeout of {self.timeout:g} s would be over"
        if tried.left <= delay + self.typical:
            return "time", short_of_time(tried.left, delay, self.typical)
        return None

    def _refrain(self, now: float, reason: str, why: str) -> None:
        self.counts.refrained.note(self, now, reason, why)
        self.why_not = why

    def replaces(self, old: Guard) -> None:
        if isinstance(old, Retry):  # budget and counts are the policy's
            self.budget, self.counts, self.typical = old.budget, old.counts, old.typical

    # -- the operator and the process ---------------------------------------------

    def options(self) -> dict[str, Any]:
        return {
            "on": self.on,
            "ignore": self.judge.options()["ignore"],
            "failed_result": self._failed_result,
            "attempts": self.attempts,
            "timeout": self.timeout,
            "wait_initial": self.wait_initial,
            "wait_max": self.wait_max,
            "retry_after": self._read,
            "hold": self.hold,
            "idempotent": self.idempotent,
            "budget": self.budget.share,
            "nested": self.nested,
        }

    def take_over(self, new: Guard, now: float) -> None:
        assert isinstance(new, Retry)
        self.budget.adopt(new.budget.share, now)
        self.attempts, self.timeout = new.attempts, new.timeout
        self.wait_initial, self.wait_max = new.wait_initial, new.wait_max
        self.counts.held_until = min(self.counts.held_until, now + self.wait_max)

    def at_rest(self, now: float) -> bool:
        return self.counts.held_until <= now and self.budget.is_full(now)

    def after_fork(self, now: float, own: int) -> None:
        self.reset(now, "after a fork")
        self.counts.clear()

    def reset(self, now: float, why: str) -> None:
        self.budget.refill()
        self.counts.held_until = -inf

    def memory(self) -> float:
        return self.wait_max

    def jitter(self, on: bool) -> None:
        self.random = source() if on else None

    def save(self) -> dict[str, Any]:
        return {"budget": self.budget.saved(), "times": (self.counts.held_until, self.typical)}

    def restore(self, saved: dict[str, Any]) -> None:
        self.budget.put(saved["budget"])
        self.counts.held_until, self.typical = saved["times"]

    # -- showing ---------------------------------------------

    def describe(self) -> str:
        return described(self.options())

    def live(self, now: float) -> str:
        return self.counts.live(self.budget, now)

    def snapshot(self, now: float) -> dict[str, Any]:
        known = self.counts.data(self.budget, now)
        return {"guard": self.kind, "options": shown(self.options()), **known}

    def measure(self, now: float) -> list[Sample]:
        return self.counts.samples(self.budget, now)
