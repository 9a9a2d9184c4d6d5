"""What a rate limit, a throttle and a concurrency limit let in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Any

from guard_diagrams.virtual import Now, played, told
from resilient import (
    Policy,
    RateLimitedError,
    ThrottledError,
    concurrency_limit,
    rate_limit,
    throttle,
    timeout,
)
from resilient.guards.base import Guard
from resilient.simulate import from_data, run
from resilient.testing import ManualClock

CALLS_AT_ONCE = 8


def turns(name: str, **options: Any) -> tuple[list[float], list[float]]:
    """Return when calls that come at once begin, and the `retry_after` of those refused."""
    begun: list[float] = []

    async def scene(policy: Policy, now: Now) -> list[float]:
        async def body() -> None:
            begun.append(now())

        calls = (policy.atry_call(body) for _ in range(CALLS_AT_ONCE))
        errors = [result.error for result in await asyncio.gather(*calls)]
        return [each.retry_after for each in errors if isinstance(each, RateLimitedError)]

    refused = played(scene, f"drawn-rate-{name}", rate_limit(**options))
    return begun, [round(each, 6) for each in refused]


@dataclass
class Stretch:
    """Some seconds of calls to a throttled dependency."""

    at: float
    answered: int
    failed: int
    refused: int
    share: float


def throttled(
    seconds: int, fault: tuple[int, int], bears: int, *, step: int = 10, rate: int = 10
) -> list[Stretch]:
    """Return what becomes of `rate` calls a second, of which a fault leaves `bears` answers."""
    clock = ManualClock(0)
    policy = Policy("drawn-throttle", throttle(), clock=clock)
    guard: Any = policy.guards[0]
    guard.random = Random(4).random
    stretches: list[Stretch] = []
    left = 0

    def body() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise ConnectionError("503")

    for second in range(seconds):
        if second % step == 0:
            stretches.append(Stretch(second, 0, 0, 0, 0.0))
        now, left = stretches[-1], bears if fault[0] <= second < fault[1] else rate
        for _ in range(rate):
            error = policy.try_call(body).error
            now.refused += isinstance(error, ThrottledError)
            now.failed += isinstance(error, ConnectionError)
            now.answered += error is None
            clock.advance(1 / rate)
        now.share = told(policy, "throttle")["refused_share"]
    return stretches


def measured(seconds: int, fault: tuple[int, int], workers: tuple[int, int]) -> list[int]:
    """Return the limit at the end of each second, of a simulated service that loses workers.

    It is the limit without its looks: it is a quarter for a moment now and then.
    """
    made: list[Any] = []
    limits: list[int] = []

    def guards() -> tuple[Guard, ...]:
        made.append(concurrency_limit())
        return made[-1], timeout(1.0)

    def look(_: str, share: float) -> None:
        limits.append(int(made[-1].save()["limit"]))

    scenario = from_data({
        "name": "Fewer workers", "seconds": seconds, "seed": 3,
        "clients": {"rate": 1.5 * workers[0] / 0.1, "deadline": 1.0},
        "service": {"workers": workers[0], "time": 0.1, "queue": 1000},
        "fault": [{
            "kind": "workers", "workers": workers[1],
            "at": fault[0], "seconds": fault[1] - fault[0],
        }],
        "policy": [{"name": "unused", "guards": [{"guard": "timeout"}]}],
    })  # fmt: skip
    run(scenario, guards={"measured": guards}, progress=look)
    return limits
