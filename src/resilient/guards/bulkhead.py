"""The bulkhead: at most so many calls at once, and a short line for the next."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, ClassVar, Final

from .. import checks
from ..errors import BulkheadFullError, RefusedError
from ..measures import Metric, Sample
from ..stack import room
from .base import PARK, REFUSE, Guard, Waiter

if TYPE_CHECKING:
    from datetime import timedelta

GRANT_LIFE: Final = 1.0  # seconds in which a granted slot must be taken
TICKET: Final = 0

_NOBODY: Final[OrderedDict[Waiter, None]] = OrderedDict()  # in all lines that have no places

_LIMIT: Final = Metric("limit", "gauge", "Calls that the bulkhead lets run at once.")
_USED: Final = Metric("slots_used", "gauge", "Slots taken: in flight, granted and abandoned.")
_WAITING: Final = Metric(
    "queue_depth", "gauge", "Callers in the bulkhead's line.", present="with a line (`max_waiting`)"
)


class Bulkhead(Guard):
    """Bounds the calls in progress; made by `resilient.bulkhead`."""

    kind: ClassVar[str] = "bulkhead"
    rank: ClassVar[float | None] = 60
    metrics: ClassVar[tuple[Metric, ...]] = (_LIMIT, _USED, _WAITING)
    changeable: ClassVar[tuple[str, ...]] = ("max_concurrent", "max_waiting", "max_wait", "order")
    error: ClassVar[type[RefusedError]] = BulkheadFullError
    why: str

    def __init__(
        self,
        max_concurrent: int,
        *,
        max_waiting: int = 0,
        max_wait: float | timedelta | None = None,
        order: str = "fifo",
    ) -> None:
        super().__init__()
        self.max_concurrent: int = checks.count("max_concurrent", max_concurrent)
        self.max_waiting: int = checks.count("max_waiting", max_waiting, least=0)
        if self.max_waiting and max_wait is None:
            checks.refuse("max_wait", None, "given where max_waiting is: nobody waits for ever")
        if max_wait is not None and not self.max_waiting:
            checks.refuse("max_waiting", max_waiting, "at least 1 where max_wait is given")
        self.max_wait: float = 0.0 if max_wait is None else checks.duration("max_wait", max_wait)
        self.order: str = checks.one_of("order", order, ("fifo", "lifo"))
        self.running: int = 0
        self.abandoned: int = 0
        self._line: OrderedDict[Waiter, None] = OrderedDict() if self.max_waiting else _NOBODY
        self._granted: OrderedDict[Waiter, None] = OrderedDict() if self.max_waiting else _NOBODY

    def slots(self) -> int:
        return self.max_concurrent

    def places(self) -> int:
        return self.max_waiting

    @property
    def waiting(self) -> int:
        return len(self._line)

    @property
    def used(self) -> int:
        """Slots that are taken: running, granted and abandoned."""
        return self.running + self.abandoned + len(self._granted)

    # -- the life of an attempt ---------------------------------------------

    def before(self, now: float) -> int:
        if not self._granted:
            if self.running + self.abandoned < self.max_concurrent:
                self.running += 1
                return TICKET
        else:
            room()
            self._reclaim(now)
            if self.used < self.max_concurrent:
                self.running += 1
                return TICKET
        if self.max_waiting:
            if len(self._line) < self.max_waiting:
                return PARK
            self.why = f"all {self.max_concurrent} slots and {self.max_waiting} places are taken"
        else:
            self.why = f"all {self.max_concurrent} slots are taken"
        return REFUSE

    def after(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> None:
        self.running -= 1
        if held:
            self.abandoned += 1
        elif self._line:
            self._hand_on(now)

    def succeeded(self, ticket: int, now: float, duration: float) -> None:
        if self._line:
            room()
            self.running -= 1
            self._hand_on(now)
        else:
            self.running -= 1

    def release(self, ticket: int, now: float) -> None:
        self.abandoned -= 1
        self._hand_on(now)

    # -- the line ---------------------------------------------

    def park(self, waiter: Waiter, now: float) -> int:
        answer = self.before(now)
        if answer == PARK:
            waiter.patience = self.max_wait
            waiter.deadline = now + self.max_wait
            self._line[waiter] = None
        return answer

    def unpark(self, waiter: Waiter, now: float) -> int:
        if waiter in self._granted:
            del self._granted[waiter]
            self.running += 1
            return TICKET
        if self._granted:
            self._reclaim(now)
            if waiter in self._granted:
                return self.unpark(waiter, now)
        if waiter not in self._line:  # its grant had grown too old and was handed on
            self.why = f"the granted slot was not taken within {GRANT_LIFE:g} s"
            return REFUSE
        if now >= waiter.deadline:
            del self._line[waiter]
            self.why = f"no slot became free within {waiter.patience:g} s"
            return REFUSE
        return PARK

    def quit(self, waiter: Waiter, now: float) -> None:
        self._line.pop(waiter, None)
        if waiter in self._granted:
            del self._granted[waiter]
            self._hand_on(now)

    def _hand_on(self, now: float) -> None:
        line = self._line
        while line and self.used < self.max_concurrent:
            waiter, _ = line.popitem(last=self.order == "lifo")
            waiter.granted_at = now
            self._granted[waiter] = None
            self.emit(waiter)

    def _reclaim(self, now: float) -> None:
        while self._granted:
            waiter, _ = self._granted.popitem(last=False)
            if waiter.granted_at is not None and now - waiter.granted_at < GRANT_LIFE:
                self._granted[waiter] = None
                self._granted.move_to_end(waiter, last=False)
                break
        self._hand_on(now)

    # -- the operator and the process ---------------------------------------------

    def options(self) -> dict[str, Any]:
        return {
            "max_concurrent": self.max_concurrent,
            "max_waiting": self.max_waiting,
            "max_wait": self.max_wait if self.max_waiting else None,
            "order": self.order,
        }

    def adopt(self, fresh: Guard, now: float) -> None:
        """Change the options: more slots are handed out at once, fewer as calls end."""
        assert isinstance(fresh, Bulkhead)
        self.max_concurrent = fresh.max_concurrent
        self.max_waiting = fresh.max_waiting
        if self.max_waiting and self._line is _NOBODY:
            self._line, self._granted = fresh._line, fresh._granted
        self.max_wait = fresh.max_wait
        self.order = fresh.order
        self._hand_on(now)

    def forked(self, now: float, own: int) -> None:
        self.running = own
        self.abandoned = 0
        self._line.clear()
        self._granted.clear()

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
        if self.max_waiting or self._line:
            samples.append((_WAITING, (), self.waiting))
        return samples
