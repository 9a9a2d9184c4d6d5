"""The sides that ask again: ours and its peers, on calls that go well, and on those that do not."""

from __future__ import annotations

from typing import Any

import stamina
import tenacity

from resilient import Policy, bulkhead, circuit_breaker, fallback, retry, timeout

from .model import Side, require
from .ours import LONG, abare, bare, counted, lesser


def _again() -> Any:
    return retry(on=ConnectionError)


class Flaky:
    """Fails at every first attempt, and succeeds at the second."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: int) -> int:
        self.calls += 1
        if self.calls % 2:
            raise ConnectionError
        return x

    def ended(self, calls: int) -> None:
        require(self.calls == 2 * calls, f"{self.calls} attempts for {calls} calls")


def alone() -> Side:
    """Return a retry alone."""
    policy = Policy("retry", _again())
    return Side(policy(bare), ended=counted(policy))


async def aalone() -> Side:
    """Return a retry alone, async."""
    policy = Policy("retry.async", _again())
    return Side(policy(abare), ended=counted(policy))


def whole() -> Side:
    """Return the whole policy, with a retry in it."""
    policy = Policy(
        "retry.whole", fallback(lesser), _again(), circuit_breaker(recovery_timeout=LONG),
        bulkhead(20), timeout(1.0, sync="cooperative"),
    )  # fmt: skip
    return Side(policy(bare), ended=counted(policy))


def second() -> Side:
    """Return a retry whose second attempt succeeds, without a wait."""
    flaky = Flaky()
    policy = Policy("retry.second", retry(on=ConnectionError, wait_initial=0, budget=None))
    return Side(policy(flaky.__call__), ended=flaky.ended)


def _tenacity() -> Any:
    return tenacity.retry(
        retry=tenacity.retry_if_exception_type(ConnectionError),
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_random_exponential(0.1, 5),
        reraise=True,
    )


def tenacity_alone() -> Side:
    """Return tenacity's retry, with the same exceptions, attempts and waits."""
    return Side(_tenacity()(bare))


async def tenacity_async() -> Side:
    """Return tenacity's async retry."""
    return Side(_tenacity()(abare))


def tenacity_second() -> Side:
    """Return tenacity's retry whose second attempt succeeds, without a wait."""
    flaky = Flaky()
    tried = tenacity.retry(
        retry=tenacity.retry_if_exception_type(ConnectionError),
        stop=tenacity.stop_after_attempt(3),
        reraise=True,
    )
    call: Any = tried(flaky.__call__)
    return Side(call, ended=flaky.ended)


def stamina_alone() -> Side:
    """Return stamina's retry."""
    return Side(stamina.retry(on=ConnectionError, attempts=3)(bare))
