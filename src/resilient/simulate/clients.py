"""The simulated clients: those who call whatever happens, and those who wait for their answer."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from .chance import Times
from .measure import DEGRADED, FAILED, GOOD, LATE, Tape
from .service import Answer

Ask = Callable[[float | None, int], Any]  # a guarded function of one client process


@dataclass(frozen=True, slots=True)
class ClientsPlan:
    """What clients are like.

    Attributes:
        kind: ``open`` (calls come whatever happens) or ``closed`` (each user waits for the answer).
        arrivals: open: ``poisson``, ``even`` or ``trace``.
        rate: open: calls a second.
        users: closed: how many there are.
        think: closed: how long each waits between an answer and the next call.
        deadline: seconds after which an answer is worthless.
        gives_up: whether the call is cancelled then.
        processes: how many client processes there are, each with a policy of its own.
        keys: how many keys their calls have, each as often; 0: they have none.
    """

    kind: str
    arrivals: str
    rate: float
    users: int
    think: Times
    deadline: float
    gives_up: bool
    processes: int
    keys: int


class Clients:
    """Clients at work in a loop."""

    def __init__(
        self, loop: AbstractEventLoop, plan: ClientsPlan, ask: Sequence[Ask], tape: Tape,
        random: Random, seconds_of: Callable[[int], float | None], key_of: Callable[[], int],
        trace: Sequence[float],
    ) -> None:  # fmt: skip
        self._loop, self._plan, self._ask, self._tape = loop, plan, ask, tape
        self._random, self._seconds_of, self._key_of = random, seconds_of, key_of
        self._trace = trace
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived = 0

    def begin(self) -> None:
        """Begin to call."""
        if self._plan.kind == "open":
            self._next()
            return
        for user in range(self._plan.users):
            self._start(self._user(self._plan.think.drawn(self._random), user))

    def _start(self, work: Any) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _next(self) -> None:
        """Set the timer of the next arrival."""
        plan, number = self._plan, self._arrived
        if plan.arrivals == "trace":
            if number < len(self._trace):
                self._loop.call_at(self._trace[number], self._arrive)
        elif plan.arrivals == "even":  # from its number: sums of steps would drift
            self._loop.call_at(number / plan.rate, self._arrive)
        else:
            self._loop.call_later(self._random.expovariate(plan.rate), self._arrive)

    def _arrive(self) -> None:
        number, self._arrived = self._arrived, self._arrived + 1
        self._start(self._call(number))
        self._next()

    async def _user(self, think: Callable[[], float], user: int) -> None:
        while True:
            await asyncio.sleep(think())
            number, self._arrived = self._arrived, self._arrived + 1
            if not self._plan.gives_up:
                await self._call(number, user)
                continue
            await asyncio.wait([self._start(self._call(number, user))])

    async def _call(self, number: int, user: int | None = None) -> None:
        loop, tape, deadline = self._loop, self._tape, self._plan.deadline
        ask = self._ask[(number if user is None else user) % len(self._ask)]
        began = loop.time()
        key = self._key_of()
        place = tape.begin(began, key)
        leave: Any = None
        if self._plan.gives_up:
            task = asyncio.current_task()
            assert task is not None
            leave = loop.call_at(began + deadline, task.cancel)
        try:
            value = await ask(self._seconds_of(number), key)
        except Exception as error:
            tape.errors[place] = type(error).__name__
            how = FAILED
        except asyncio.CancelledError:
            if leave is None or not leave.when() <= loop.time():
                raise
            tape.errors[place] = "gave up"
            how = FAILED
        else:
            full = isinstance(value, Answer) and value.at >= began
            in_time = loop.time() <= began + deadline
            how = (GOOD if in_time else LATE) if full else DEGRADED
        finally:
            if leave is not None:
                leave.cancel()
        tape.end(place, how, loop.time())
