"""The timeout: limit how long a caller waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from .. import validation
from ..errors import RefusedError, WorkersBusyError
from ..metric_types import Metric, Sample
from ..state_types import TimeoutState
from .advising import FAR, OFTEN, Advises, Seen
from .base import REFUSE, Guard, Mode
from .facets import Admission, Changeable, Peered, Queueing, Slots, TimeLimit

if TYPE_CHECKING:
    from datetime import timedelta

WORKERS: Final = 64  # worker threads of a policy that has no bulkhead
TICKET: Final = 0

_THREAD: Final = 'with `sync="thread"`'
_WORKERS: Final = Metric(
    "workers", "gauge", "Worker threads running a body, abandoned ones too.", present=_THREAD
)
_MOST: Final = Metric(
    "worker_limit", "gauge", "Worker threads that may run at once.", present=_THREAD
)
_LIMIT: Final = Metric(
    "timeout_seconds", "gauge", "The limit at which calls are cut off.", over="max",
    present='with a timeout, but with `sync="cooperative"`',
)  # fmt: skip


class _Crew:
    """The worker threads of a policy, counted for all its views together."""

    __slots__ = ("busy",)

    def __init__(self) -> None:
        self.busy = 0


class Timeout(Admission, TimeLimit, Changeable, Peered, Advises, TimeoutState):
    """Limits the time of everything inside it; made by `resilient.timeout`.

    The drivers enforce the limit; this class counts the worker threads.
    """

    kind: ClassVar[str] = "timeout"
    unique: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (_WORKERS, _MOST, _LIMIT)
    changeable: ClassVar[tuple[str, ...]] = ("seconds",)
    error: ClassVar[type[RefusedError]] = WorkersBusyError
    why: str

    def __init__(self, seconds: float | timedelta, *, sync: str | None) -> None:
        super().__init__()
        self.seconds: float = validation.duration("seconds", seconds)
        if sync is not None:
            validation.one_of("sync", sync, ("thread", "cooperative"))
        self.sync: str | None = sync
        self.adds_counts: tuple[str, ...] = ("thread",) if sync == "thread" else ()
        self._crew = _Crew()
        self._peers: tuple[Slots, ...] = ()  # the guards that limit concurrency

    @property
    def workers(self) -> int:
        """Worker threads that run a body, abandoned ones included."""
        return self._crew.busy

    def replaces(self, old: Guard) -> None:
        if isinstance(old, Timeout):
            self._crew = old._crew

    @property
    def max_workers(self) -> int:
        """The number of slots of the policy's bulkhead; 64 without a bulkhead."""
        return min((guard.slots() for guard in self._peers), default=WORKERS)

    @property
    def _places(self) -> int:
        return sum(guard.places() for guard in self._peers if isinstance(guard, Queueing))

    def admits(self, mode: Mode) -> bool:
        return mode == "thread" and self.sync == "thread"

    def admit(self, now: float) -> int:
        # A call in the queue of an inner bulkhead counts here already, without a worker.
        if self._crew.busy >= self.max_workers + self._places:
            self.why = f"all {self.max_workers} worker threads of the policy are busy"
            return REFUSE
        self._crew.busy += 1
        return TICKET

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> None:
        if not held:
            self._crew.busy -= 1

    def release(self, ticket: int, now: float) -> None:
        self._crew.busy -= 1

    def meet(self, guards: tuple[Guard, ...]) -> None:
        self._peers = tuple(guard for guard in guards if isinstance(guard, Slots))

    def after_fork(self, now: float, own: int) -> None:
        self._crew.busy = own

    def options(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "sync": self.sync}

    def take_over(self, new: Guard, now: float) -> None:
        assert isinstance(new, Timeout)
        self.seconds = new.seconds

    def describe(self) -> str:
        how = {
            None: "async calls are cancelled; sync calls are not possible",
            "thread": "async calls are cancelled; sync calls run on a worker thread, which is "
            "abandoned",
            "cooperative": "async calls are cancelled; sync calls are told through "
            "resilient.remaining() and bound by nothing else",
        }[self.sync]
        return f"gives up after {self.seconds:g} s ({how})"

    def live(self, now: float) -> str:
        return f"{self.workers} of {self.max_workers} workers busy" if self.sync == "thread" else ""

    def snapshot(self, now: float) -> dict[str, Any]:
        return {
            "guard": self.kind,
            "workers": self.workers,
            "options": self.options(),
        }

    def measure(self, now: float) -> list[Sample]:
        if self.sync == "cooperative":
            return []
        limit: Sample = (_LIMIT, (), self.seconds)
        if self.sync != "thread":
            return [limit]
        return [limit, (_WORKERS, (), self.workers), (_MOST, (), self.max_workers)]

    @classmethod
    def advise(cls, seen: Seen) -> list[str] | None:
        seconds, usual = seen.options(cls.kind).get("seconds"), seen.within(0.99)
        ended = seen.count("timeouts_total")
        if not isinstance(seconds, (int, float)):
            return []
        if ended > OFTEN * seen.calls:
            return [f"{ended:.0f} of {seen.calls:.0f} calls did not end within its {seconds:g} s"]
        if not seen.mostly_good:
            return None
        if usual is None or usual * FAR > seconds:
            return []
        waits = f"and a caller of a hung one waits for {seconds:g} s"
        return [f"99 % of the calls ended within {usual:g} s, {waits}"]
