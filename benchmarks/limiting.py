"""The sides that bound a rate or what runs at once: ours and peers, far from their limits."""

from __future__ import annotations

from typing import Any

import aiolimiter
import pyrate_limiter

from resilient import (
    Policy,
    RateLimitedError,
    bulkhead,
    circuit_breaker,
    concurrency_limit,
    fallback,
    rate_limit,
    timeout,
)

from .model import Side, require
from .ours import LONG, abare, bare, counted, lesser

MANY = 1_000_000  # calls a second


def _unlimited() -> Any:
    return rate_limit(MANY, 1.0, burst=MANY)


def alone() -> Side:
    """Return a rate limit alone."""
    policy = Policy("rate", _unlimited())
    return Side(policy(bare), ended=counted(policy))


async def aalone() -> Side:
    """Return a rate limit alone, async."""
    policy = Policy("rate.async", _unlimited())
    return Side(policy(abare), ended=counted(policy))


def quota() -> Side:
    """Return a quota alone."""
    policy = Policy("rate.quota", rate_limit(1000, 1e-6, quota=True))
    return Side(policy(bare), ended=counted(policy))


def measured() -> Side:
    """Return a concurrency limit alone."""
    policy = Policy("rate.measured", concurrency_limit())
    return Side(policy(bare), ended=counted(policy))


def refused() -> Side:
    """Return a rate limit that refuses each call, which a fallback answers."""
    policy = Policy("rate.refused", fallback(lesser), rate_limit(1, LONG))
    require(policy.call(bare, 1) == 1, "the first call may begin")
    probe = Policy("rate.probe", rate_limit(1, LONG))
    probe.call(bare, 1)
    require(isinstance(probe.try_call(bare, 1).error, RateLimitedError), "it does not refuse")
    return Side(policy(bare), answer=-1)


def whole() -> Side:
    """Return the whole policy, with a rate limit in it."""
    policy = Policy(
        "rate.whole", fallback(lesser), circuit_breaker(recovery_timeout=LONG), _unlimited(),
        bulkhead(20), timeout(1.0, sync="cooperative"),
    )  # fmt: skip
    return Side(policy(bare), ended=counted(policy))


def pyrate_alone() -> Side:
    """Return pyrate-limiter's limit, in memory."""
    one = pyrate_limiter.Limiter(pyrate_limiter.Rate(1, pyrate_limiter.Duration.DAY))
    require([one.try_acquire("x", blocking=False) for _ in range(2)] == [True, False], "pyrate")
    limiter = pyrate_limiter.Limiter(pyrate_limiter.Rate(MANY, pyrate_limiter.Duration.SECOND))

    def guarded(x: int) -> int:
        limiter.try_acquire("bench")
        return bare(x)

    return Side(guarded)


async def aiolimiter_alone() -> Side:
    """Return aiolimiter's limit."""
    one = aiolimiter.AsyncLimiter(1, LONG)
    await one.acquire()
    require(not one.has_capacity(), "aiolimiter does not refuse")
    limiter = aiolimiter.AsyncLimiter(MANY, 1.0)

    async def guarded(x: int) -> int:
        async with limiter:
            return await abare(x)

    return Side(guarded)
