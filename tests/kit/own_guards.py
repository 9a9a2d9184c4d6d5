"""Guards as somebody writes them who has read no more than how to add one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ClassVar

from resilient import RefusedError
from resilient.guards.asked import Asked
from resilient.guards.base import ANSWER, PARK, REFUSE, NoAnswer, Waiter
from resilient.guards.facets import Admission, Answers, Changeable, Keeps, Queueing, Retries, Slots
from resilient.guards.tried import Tried
from resilient.guards.wait_queue import WaitQueue
from resilient.metric_types import Metric, Sample
from resilient.outcomes import FAILURE, SUCCESS


class Counting(Admission):
    """A guard that knows which of its tickets are out."""

    unique: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.out: set[int] = set()
        self.serial = 0

    def ticket(self) -> int:
        self.serial += 1
        self.out.add(self.serial)
        return self.serial

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> None:
        if not held:
            self.out.remove(ticket)

    def release(self, ticket: int, now: float) -> None:
        self.out.remove(ticket)


class Retry(Counting, Retries):
    """Tries again `more` times after a failure, `delay` seconds later each, or when it is told."""

    kind: ClassVar[str] = "own_retry"

    def __init__(self, more: int, delay: float) -> None:
        super().__init__()
        self.more = more
        self.delay = delay

    def admit(self, now: float) -> int:
        return self.ticket()

    def hint(self, error: Exception | None, value: Any) -> float | None:
        return getattr(error, "again_in", None)

    def again(self, ticket: int, now: float, tried: Tried) -> float | None:
        if tried.attempts > self.more:
            self.why_not = "there were enough"
            return None
        hinted: float | None = tried.hint
        return self.delay if hinted is None else hinted

    def describe(self) -> str:
        return f"tries again {self.more} times"


_LIMIT = Metric("own_rate_interval_seconds", "gauge", "Seconds between two calls.", over="max")


class RateLimit(Counting, Queueing, Changeable):
    """Lets one call in every `interval` seconds; who comes early waits, at most `max_wait`."""

    kind: ClassVar[str] = "own_rate_limit"
    metrics: ClassVar[tuple[Metric, ...]] = (_LIMIT,)
    changeable: ClassVar[tuple[str, ...]] = ("interval", "max_wait")
    adds_counts = ("line",)

    def __init__(self, interval: float, max_wait: float) -> None:
        super().__init__()
        self.interval = interval
        self.max_wait = max_wait
        self.next = float("-inf")
        self.line: OrderedDict[Waiter, float] = OrderedDict()  # waiter -> when its turn comes

    def admit(self, now: float) -> int:
        if now >= self.next:
            self.next = now + self.interval
            return self.ticket()
        if self.next - now > self.max_wait:
            self.why = "too many are waiting"
            return REFUSE
        return PARK

    def park(self, waiter: Waiter, now: float) -> int:
        answer = self.admit(now)
        if answer == PARK:
            self.line[waiter] = waiter.deadline = self.next
            self.next += self.interval
        return answer

    def unpark(self, waiter: Waiter, now: float) -> int:
        if now < self.line[waiter]:
            return PARK
        del self.line[waiter]
        return self.ticket()

    def quit(self, waiter: Waiter, now: float) -> None:
        del self.line[waiter]

    def places(self) -> int:
        return 1_000

    def retry_after(self, now: float) -> float:
        return max(0.0, self.next - now)

    def options(self) -> dict[str, Any]:
        return {"interval": self.interval, "max_wait": self.max_wait}

    def take_over(self, new: Any, now: float) -> None:
        self.interval, self.max_wait = new.interval, new.max_wait

    def describe(self) -> str:
        return f"lets one call in every {self.interval:g} s"

    def measure(self, now: float) -> list[Sample]:
        return [(_LIMIT, (), self.interval)]


class AdaptiveLimit(Queueing, Slots):
    """Lets more calls run at once while they are quick, and fewer once they are slow or fail."""

    kind: ClassVar[str] = "own_adaptive_limit"
    adds_counts = ("line",)

    def __init__(self, slow_from: float, *, most: int = 8, waiting: int = 4) -> None:
        super().__init__()
        self.slow_from, self.most = slow_from, most
        self.limit, self.running, self.abandoned = 2.0, 0, 0
        self.queue = WaitQueue(waiting, 5.0, "fifo", lambda waiter: self.emit(waiter))

    def slots(self) -> int:
        return int(self.limit)

    def places(self) -> int:
        return self.queue.places

    @property
    def free(self) -> int:
        return self.slots() - self.running - self.abandoned - self.queue.granted

    def admit(self, now: float) -> int:
        if self.free > 0:
            self.running += 1
            return 0
        if len(self.queue) < self.queue.places:
            return PARK
        self.why = f"all {self.slots()} slots are taken"
        return REFUSE

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> None:
        self.running -= 1
        self.abandoned += held
        if outcome == FAILURE or duration >= self.slow_from:
            self.limit = max(1.0, self.limit / 2)
        elif outcome == SUCCESS and self.running + 1 >= self.slots():  # it is in use
            self.limit = min(float(self.most), self.limit + 1)
        self.queue.grant(self.free, now)

    def release(self, ticket: int, now: float) -> None:
        self.abandoned -= 1
        self.queue.grant(self.free, now)

    def park(self, waiter: Waiter, now: float) -> int:
        answer = self.admit(now)
        return self.queue.park(waiter, now) if answer == PARK else answer

    def unpark(self, waiter: Waiter, now: float) -> int:
        if self.queue.takes_grant(waiter):
            self.running += 1
            return 0
        answer = self.queue.waits_on(waiter, now)
        self.why = self.queue.why
        return answer

    def quit(self, waiter: Waiter, now: float) -> None:
        if self.queue.quit(waiter):
            self.queue.grant(self.free, now)

    def after_fork(self, now: float, own: int) -> None:
        self.running, self.abandoned = own, 0
        self.queue.clear()


class Cache(Admission, Answers, Keeps):
    """Answers with what the same arguments gave before, for the next `most` calls."""

    kind: ClassVar[str] = "own_cache"
    answer = "what was answered before"

    def __init__(self, most: int = 3) -> None:
        super().__init__()
        self.most = most
        self.kept: dict[Any, tuple[Any, int]] = {}

    def admit(self, now: float) -> int:
        self.why = "it may be kept"
        return ANSWER

    def recover(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value, left = self.kept.get(args, (None, 0))
        if not left:
            raise NoAnswer
        self.kept[args] = value, left - 1
        return value

    def keep(self, value: Any, asked: Asked) -> None:
        self.kept[asked.args] = value, self.most


class Switching(Counting, Answers):
    """Answers by itself while it is off."""

    kind: ClassVar[str] = "own_switch"

    def __init__(self, answer: Callable[..., Any] | None) -> None:
        super().__init__()
        self.on = True
        self.own = answer

    def admit(self, now: float) -> int:
        if self.on:
            return self.ticket()
        self.why = "it is off"
        return ANSWER if self.own else REFUSE

    def recover(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        assert isinstance(error, RefusedError)
        assert self.own is not None
        return self.own(*args, **kwargs)
