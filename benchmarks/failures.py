"""Sides in which one call in three fails: three calls, of which the last raises what is caught."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import circuitbreaker
import pybreaker

from resilient import Policy, circuit_breaker

from .model import Side, require

MANY = 1_000_000  # failures in a row, which good calls end long before


def unsteady(x: int) -> int:
    """Fail where it is given 0."""
    if x:
        return x
    raise ConnectionError(x)


def _three(guarded: Callable[[int], Any]) -> Callable[[int], int]:
    def three(x: int) -> int:
        guarded(x)
        guarded(x)
        try:
            guarded(0)
        except ConnectionError:
            return x
        return 0

    return three


def ours() -> Side:
    """Return our breaker, which stays closed and counts."""
    guard = circuit_breaker(failure_rate=None, failure_threshold=MANY, minimum_calls=MANY)
    policy = Policy("bench.unsteady", guard)

    def ended(calls: int) -> None:
        seen = policy.snapshot()["calls"]
        require((seen["success"], seen["failure"]) == (2 * calls, calls), f"ended as {seen}")

    return Side(_three(policy(unsteady)), ended=ended)


def circuitbreaker_breaker() -> Side:
    """Return circuitbreaker's."""
    return Side(_three(circuitbreaker.CircuitBreaker(failure_threshold=MANY)(unsteady)))


def pybreaker_breaker() -> Side:
    """Return pybreaker's."""
    return Side(_three(pybreaker.CircuitBreaker(fail_max=MANY)(unsteady)))
