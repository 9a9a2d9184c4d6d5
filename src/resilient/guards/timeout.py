"""The timeout: bound how long a caller waits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar, Final

from .. import checks
from ..errors import WorkersBusyError
from ..measures import Metric, Sample
from .base import REFUSE, Guard, Mode

WORKERS: Final = 64  # worker threads of a policy that has no bulkhead
TICKET: Final = 0

_WORKERS: Final = Metric("workers", "gauge", "Worker threads running a body, abandoned ones too.")


class Timeout(Guard):
    """Bounds the time of everything inside it; made by `resilient.timeout`.

    The limit itself is kept by the drivers; the state here is the count of worker threads.
    """

    kind: ClassVar[str] = "timeout"
    unique: ClassVar[bool] = False
    error = WorkersBusyError

    def __init__(self, seconds: float | timedelta, *, sync: str | None) -> None:
        super().__init__()
        self.seconds = checks.duration("seconds", seconds)
        if sync is not None:
            checks.one_of("sync", sync, ("thread", "cooperative"))
        self.sync = sync
        self.workers = 0
        self._peers: tuple[Guard, ...] = ()

    @property
    def max_workers(self) -> int:
        """As many as the policy's bulkhead has slots, else 64."""
        slots = (guard.slots() for guard in self._peers)
        return min((number for number in slots if number is not None), default=WORKERS)

    def admits(self, mode: Mode) -> bool:
        return mode == "thread" and self.sync == "thread"

    def before(self, now: float) -> int:
        if self.workers >= self.max_workers:
            self.why = f"all {self.max_workers} worker threads of the policy are busy"
            return REFUSE
        self.workers += 1
        return TICKET

    def after(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> None:
        if not held:
            self.workers -= 1

    def release(self, ticket: int, now: float) -> None:
        self.workers -= 1

    def joined(self, guards: tuple[Guard, ...]) -> None:
        self._peers = tuple(guard for guard in guards if guard.slots() is not None)

    def forked(self, now: float, own: int) -> None:
        self.workers = 0

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
            "options": {"seconds": self.seconds, "sync": self.sync},
        }

    def measure(self, now: float) -> list[Sample]:
        return [(_WORKERS, (), self.workers)] if self.sync == "thread" else []
