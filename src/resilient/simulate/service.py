"""The simulated service: workers, a queue in front of them, and its faults."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from random import Random

from .chance import Times
from .faults import Schedule


class QueueFullError(ConnectionError):
    """The service's queue has no place left."""


class ServiceFaultError(ConnectionError):
    """The service answered with an error."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer; one that is older than its call was kept from before."""

    at: float


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """What a service is like.

    Attributes:
        workers: how many calls it works on at once.
        queue: how many wait at most; None without a limit.
        time: how long a worker takes.
        errors: the share of answers that are errors, also without a fault.
        drops_abandoned: a worker skips what nobody waits for any more.
    """

    workers: int
    queue: int | None
    time: Times
    errors: float
    drops_abandoned: bool


class Service:
    """A service at work in a loop.

    Attributes:
        waiting: what is in its queue, the oldest first.
        busy: how many workers work.
        wasted: when an answer was ready that nobody waited for any more.
    """

    def __init__(
        self, loop: AbstractEventLoop, plan: ServicePlan, schedule: Schedule, random: Random,
        chance: Random,
    ) -> None:  # fmt: skip
        self._loop, self._plan, self._schedule = loop, plan, schedule
        self._limit = inf if plan.queue is None else plan.queue
        self._draw = plan.time.drawn(random)
        self._chance: Callable[[], float] = chance.random
        self.waiting: deque[tuple[Future[Answer], float | None, int]] = deque()
        self.busy: int = 0
        self.wasted: list[float] = []
        for edge in schedule.edges:
            loop.call_at(edge, self._take)  # workers may have come back

    async def ask(self, seconds: float | None, key: int) -> Answer:
        """Wait for an answer.

        Args:
            seconds: how long a worker takes for it; None draws it.
            key: whose call it is, which some faults ask.

        Raises:
            QueueFullError: no place is left.
            ServiceFaultError: the answer is an error.
        """
        if len(self.waiting) >= self._limit and self.busy >= self._workers():
            raise QueueFullError("the queue of the service is full")
        answer: Future[Answer] = self._loop.create_future()
        self.waiting.append((answer, seconds, key))
        self._take()
        return await answer

    def _workers(self) -> int:
        return self._schedule.workers(self._loop.time())

    def _take(self) -> None:
        workers = self._workers()
        while self.busy < workers and self.waiting:
            answer, seconds, key = self.waiting.popleft()
            if answer.done() and self._plan.drops_abandoned:
                continue
            self.busy += 1
            work = self._draw() if seconds is None else seconds
            when = self._schedule.finish(self._loop.time(), work, key)
            self._loop.call_at(when, self._finish, answer, key)

    def _finish(self, answer: Future[Answer], key: int) -> None:
        self.busy -= 1
        share = self._schedule.errors(self._loop.time(), key)
        failed = share > 0 and self._chance() < share
        if answer.done():  # its caller has gone, and the work was done all the same
            self.wasted.append(self._loop.time())
        elif failed:
            answer.set_exception(ServiceFaultError("the service answered with an error"))
            answer.exception()  # else it is logged where its caller leaves at this very moment
        else:
            answer.set_result(Answer(self._loop.time()))
        self._take()
