"""What a retry, a hedge and a last good answer do over time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from guard_diagrams.virtual import Now, played, told
from resilient import Policy, hedge, last_good, retry
from resilient.testing import ManualClock

QUANTILE = 0.95
TAKES = 0.04  # seconds of an attempt that fails


def attempts(draw: float, **options: Any) -> tuple[list[float], Any]:
    """Return when the attempts of a call that always fails began, and its result."""
    clock = ManualClock(0)
    clock.skips = True
    guard: Any = retry(on=ConnectionError, **options)
    policy = Policy(f"drawn-retry-{draw}", guard, clock=clock)
    guard.random = lambda: draw
    began: list[float] = []

    def body() -> None:
        began.append(clock.now())
        clock.advance(TAKES)
        raise ConnectionError("reset")

    return began, policy.try_call(body)


def drained(calls: int) -> list[tuple[int, float]]:
    """Return the attempts of calls that all fail, ten a second, and what the budget has left."""
    clock = ManualClock(0)
    clock.skips = True
    policy = Policy("drawn-budget", retry(on=ConnectionError, wait_initial=0), clock=clock)
    seen: list[tuple[int, float]] = []

    def body() -> None:
        raise ConnectionError("reset")

    for _ in range(calls):
        result = policy.try_call(body)
        seen.append((result.attempts, told(policy, "retry")["budget_left"]))
        clock.advance(0.1)
    return seen


@dataclass
class Copy:
    """A copy of a call: when it began, when it ended, and whether it was cancelled."""

    began: float
    ended: float = 0.0
    cancelled: bool = False


def raced(slow: float, quick: float) -> tuple[list[Copy], float, float]:
    """Return the copies of a slow call after many others, the delay, and when its caller went on.

    Args:
        slow: seconds that the first copy would take.
        quick: seconds that the second takes.
    """

    async def scene(policy: Policy, now: Now) -> tuple[list[Copy], float, float]:
        for place in range(100):  # one in sixteen takes 200 ms
            await policy.acall(asyncio.sleep, 0.2 if place % 16 == 7 else 0.05)
        delay, start, copies = told(policy, "hedge")["delay"], now(), list[Copy]()

        async def body() -> None:
            copy = Copy(now() - start)
            copies.append(copy)
            try:
                await asyncio.sleep(slow if len(copies) == 1 else quick)
            except asyncio.CancelledError:
                copy.cancelled = True
                raise
            finally:
                copy.ended = now() - start

        await policy.acall(body)
        return copies, delay, now() - start

    found: tuple[list[Copy], float, float] = played(
        scene, "drawn-hedge", hedge(quantile=QUANTILE, idempotent=True)
    )
    return found


@dataclass
class Answer:
    """What a caller got: when, how it was served, how old it was."""

    at: float
    served: str
    value: Any
    age: float | None
    error: str


def answers(every: float, calls: int, down: tuple[float, float]) -> list[Answer]:
    """Return what calls get from a last good answer while a dependency is down."""
    clock = ManualClock(0)
    policy = Policy("drawn-last-good", last_good(), clock=clock)
    seen: list[Answer] = []

    def price() -> str:
        if down[0] <= clock.now() < down[1]:
            raise ConnectionError("down")
        return f"v{1 + round(clock.now() / every)}"

    for _ in range(calls):
        result = policy.try_call(price)
        error = "" if result.error is None else type(result.error).__name__
        seen.append(Answer(clock.now(), result.served, result.value, result.stale_for, error))
        clock.advance(every)
    return seen
