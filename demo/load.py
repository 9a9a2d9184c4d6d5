"""Customers: they come when they come, whether or not those before them have been answered."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from .measure import Customer


class Answer(Protocol):
    """What a home page shows."""

    @property
    def personal(self) -> bool:
        """Tell whether these are the customer's own picks."""


class Crowd:
    """The customers of one service, and what became of them."""

    def __init__(self, home_page: Callable[[int], Awaitable[Answer]], start: float) -> None:
        self._home_page = home_page
        self._start = start
        self._done: list[Customer] = []
        self._waiting: dict[asyncio.Task[None], float] = {}

    async def come(self, rate: float, seconds: float) -> None:
        """Let them in at random moments, the same ones in every run."""
        async for user, due in arrivals(rate, seconds, self._start):
            task = asyncio.create_task(self._one(user, due))
            self._waiting[task] = due
            task.add_done_callback(self._waiting.pop)

    async def leave(self, patience: float) -> None:
        """Wait for those who still wait; then send them away, which counts as an error."""
        if self._waiting:
            await asyncio.wait(set(self._waiting), timeout=patience)
        for task in set(self._waiting):
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

    async def _one(self, user: int, due: float) -> None:
        served, why = "error", "still waiting at the end"
        try:
            page = await self._home_page(user)
            served, why = ("full" if page.personal else "degraded"), ""
        except Exception as error:
            why = error_name(error)
        finally:
            # From when the customer came, not from when the service got round to it.
            self._done.append(Customer(due, self._now() - due, served, why))

    def report(self) -> dict[str, object]:
        """Return what is new since the last report, and who waits now."""
        done, self._done = self._done, []
        now = self._now()
        longest = now - min(self._waiting.values(), default=now)
        return {"customers": done, "waiting": (now, len(self._waiting), longest)}

    def _now(self) -> float:
        return time.monotonic() - self._start


async def arrivals(rate: float, seconds: float, start: float) -> AsyncIterator[tuple[int, float]]:
    """Yield user and due moment of each arrival, when it is due: a Poisson process."""
    chance = random.Random(20)
    due = chance.expovariate(rate)
    while due < seconds:
        await asyncio.sleep(max(0.0, start + due - time.monotonic()))
        yield chance.randrange(1_000_000), due
        due += chance.expovariate(rate)


def error_name(error: Exception) -> str:
    """Return the name under which an error is counted."""
    response = getattr(error, "response", None)
    return type(error).__name__ if response is None else f"HTTP {response.status_code}"
