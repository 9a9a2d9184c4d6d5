"""The bulkhead: limit the calls in progress, with a short queue for the next ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from .. import validation
from ..errors import BulkheadFullError, RefusedError
from ..metric_types import Metric, Sample
from ..stack import room
from ..state_types import BulkheadState
from .advising import FAR, OFTEN, Advises, Seen
from .base import PARK, REFUSE, Guard, Waiter
from .facets import Changeable, Queueing, Slots
from .per_key import PerKey
from .wait_queue import WaitQueue

if TYPE_CHECKING:
    from datetime import timedelta

TICKET: Final = 0

_LIMIT: Final = Metric("limit", "gauge", "Calls that the bulkhead lets run at once.")
_USED: Final = Metric("slots_used", "gauge", "Slots taken: in flight, granted and abandoned.")
_WAITING: Final = Metric(
    "queue_depth", "gauge", "Callers in the bulkhead's line.", present="with a line (`max_waiting`)"
)


class Bulkhead(Queueing, Slots, Changeable, PerKey, Advises, BulkheadState):
    """Limits the calls in progress; made by `resilient.bulkhead`."""

    kind: ClassVar[str] = "bulkhead"
    in_core: ClassVar[bool] = True
    rank: ClassVar[float | None] = 60
    metrics: ClassVar[tuple[Metric, ...]] = (_LIMIT, _USED, _WAITING)
    changeable: ClassVar[tuple[str, ...]] = ("max_concurrent", "max_waiting", "max_wait", "order")
    error: ClassVar[type[RefusedError]] = BulkheadFullError
    why: str
    queue: WaitQueue | None

    def __init__(
        self,
        max_concurrent: int,
        *,
        max_waiting: int = 0,
        max_wait: float | timedelta | None = None,
        order: str = "fifo",
    ) -> None:
        super().__init__()
        self.max_concurrent: int = validation.count("max_concurrent", max_concurrent)
        self.max_waiting: int = validation.count("max_waiting", max_waiting, least=0)
        if self.max_waiting and max_wait is None:
            validation.refuse("max_wait", None, "given where max_waiting is: nobody waits for ever")
        if max_wait is not None and not self.max_waiting:
            validation.refuse("max_waiting", max_waiting, "at least 1 where max_wait is given")
        self.max_wait: float = (
            0.0 if max_wait is None else validation.duration("max_wait", max_wait)
        )
        self.order: str = validation.one_of("order", order, ("fifo", "lifo"))
        self.running: int = 0
        self.abandoned: int = 0
        self.adds_counts: tuple[str, ...] = ("line",) if self.max_waiting else ()
        self.queue = self._queue() if self.max_waiting else None

    def _queue(self) -> WaitQueue:
        return WaitQueue(self.max_waiting, self.max_wait, self.order, self._wake)

    def _wake(self, waiter: Waiter) -> None:
        self.emit(waiter)

    def slots(self) -> int:
        return self.max_concurrent

    def places(self) -> int:
        return self.max_waiting

    @property
    def waiting(self) -> int:
        return 0 if self.queue is None else len(self.queue)

    @property
    def used(self) -> int:
        """Slots that are taken: running, granted and abandoned."""
        granted = 0 if self.queue is None else self.queue.granted
        return self.running + self.abandoned + granted

    # -- the life of an attempt ---------------------------------------------

    def admit(self, now: float) -> int:
        if self.queue is not None:
            return self._admit_or_queue(self.queue, now)
        if self.running + self.abandoned < self.max_concurrent:
            self.running += 1
            return TICKET
        self.why = f"all {self.max_concurrent} slots are taken"
        return REFUSE

    def _admit_or_queue(self, queue: WaitQueue, now: float) -> int:
        if queue.granted:
            room()
            self._reclaim(queue, now)
        if self.used < self.max_concurrent:
            self.running += 1
            return TICKET
        if len(queue) < queue.places:
            return PARK
        places = f" and {queue.places} places" if queue.places else ""
        self.why = f"all {self.max_concurrent} slots{places} are taken"
        return REFUSE

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> None:
        self.running -= 1
        if held:
            self.abandoned += 1
        elif self.queue:
            self._hand_on(now)

    def settle_success(self, ticket: int, now: float, duration: float) -> None:
        if self.queue:
            room()
            self.running -= 1
            self._hand_on(now)
        else:
            self.running -= 1

    def release(self, ticket: int, now: float) -> None:
        self.abandoned -= 1
        self._hand_on(now)

    # -- the queue ---------------------------------------------

    def park(self, waiter: Waiter, now: float) -> int:
        answer = self.admit(now)
        if answer == PARK and self.queue is not None:
            return self.queue.park(waiter, now)
        return answer

    def unpark(self, waiter: Waiter, now: float) -> int:
        queue = self.queue
        assert queue is not None
        if queue.granted and not queue.holds_grant(waiter):
            self._reclaim(queue, now)
        if queue.takes_grant(waiter):
            self.running += 1
            return TICKET
        answer = queue.waits_on(waiter, now)
        if answer == REFUSE:
            self.why = queue.why
        return answer

    def quit(self, waiter: Waiter, now: float) -> None:
        if self.queue is not None and self.queue.quit(waiter):
            self._hand_on(now)

    def _hand_on(self, now: float) -> None:
        if self.queue is not None:
            self.queue.grant(self.max_concurrent - self.used, now)

    def _reclaim(self, queue: WaitQueue, now: float) -> None:
        queue.reclaim(now)
        self._hand_on(now)

    # -- the operator and the process ---------------------------------------------

    def options(self) -> dict[str, Any]:
        return {
            "max_concurrent": self.max_concurrent,
            "max_waiting": self.max_waiting,
            "max_wait": self.max_wait if self.max_waiting else None,
            "order": self.order,
        }

    def take_over(self, new: Guard, now: float) -> None:
        """Change the options: more slots are granted at once, fewer take effect as calls end."""
        assert isinstance(new, Bulkhead)
        self.max_concurrent = new.max_concurrent
        self.why = f"all {self.max_concurrent} slots are taken"  # the compiled path writes none
        self.max_waiting = new.max_waiting
        self.adds_counts = new.adds_counts
        self.max_wait = new.max_wait
        self.order = new.order
        if self.queue is not None:
            queue = self.queue
            queue.places, queue.max_wait, queue.order = new.max_waiting, new.max_wait, new.order
        elif new.queue is not None:
            self.queue = new.queue.given_to(self._wake)
        self._hand_on(now)

    def at_rest(self, now: float) -> bool:
        return not (self.used or self.waiting)

    def after_fork(self, now: float, own: int) -> None:
        self.running = own
        self.abandoned = 0
        if self.queue is not None:
            self.queue.clear()

    @classmethod
    def advise(cls, seen: Seen) -> list[str] | None:
        slots, refused = seen.options(cls.kind).get("max_concurrent"), seen.refused(cls.kind)
        peak, calls = seen.most("in_flight_peak"), seen.calls
        if refused > OFTEN * calls:
            return [f"it refused {refused:.0f} of {calls:.0f} calls with max_concurrent={slots}"]
        if not isinstance(slots, int) or refused or peak * FAR >= slots:
            return []
        if peak < 1 or not seen.mostly_good:  # it knows the last minute alone
            return None
        text = (
            f"in the last minute a process ran at most {peak:.0f} at once, and none was ever "
            f"refused: max_concurrent={slots} is far"
        )
        return [text]

    # -- showing ---------------------------------------------

    def describe(self) -> str:
        runs = f"runs at most {self.max_concurrent} at once"
        if not self.max_waiting:
            return f"{runs} and refuses the rest"
        return (
            f"{runs}; {self.max_waiting} more wait in line for up to {self.max_wait:g} s, "
            f"{'first' if self.order == 'fifo' else 'last'} come first served"
        )

    def live(self, now: float) -> str:
        return f"{self.used} of {self.max_concurrent} slots used, {self.waiting} waiting"

    def snapshot(self, now: float) -> dict[str, Any]:
        return {
            "guard": self.kind,
            "running": self.running,
            "abandoned": self.abandoned,
            "used": self.used,
            "waiting": self.waiting,
            "options": self.options(),
        }

    def measure(self, now: float) -> list[Sample]:
        samples: list[Sample] = [(_LIMIT, (), self.max_concurrent), (_USED, (), self.used)]
        if self.max_waiting or self.queue:
            samples.append((_WAITING, (), self.waiting))
        return samples
