"""The sides of a policy with keys, of shared calls, and of a policy with a shadow."""

from __future__ import annotations

from resilient import Policy, bulkhead, circuit_breaker, collapse, fallback, timeout

from .model import Side, require
from .ours import LONG, abare, bare, counted, lesser


def _guards() -> tuple[object, ...]:
    return (
        fallback(lesser), circuit_breaker(recovery_timeout=LONG), bulkhead(20),
        timeout(1.0, sync="cooperative"),
    )  # fmt: skip


def _key(x: int) -> str:
    return "a"


def keyed() -> Side:
    """Return the whole policy with keys, of which one is called."""
    policy = Policy("keyed", *_guards())  # type: ignore[arg-type]
    return Side(policy.keyed(_key)(bare), ended=counted(policy))


async def akeyed() -> Side:
    """Return a circuit breaker with keys, async."""
    policy = Policy("keyed.async", circuit_breaker(recovery_timeout=LONG))
    return Side(policy.keyed(_key)(abare), ended=counted(policy))


def shadowed() -> Side:
    """Return the whole policy with a shadow of its breaker."""
    policy = Policy("shadowed", *_guards())  # type: ignore[arg-type]
    policy.shadow(circuit_breaker(failure_threshold=1))
    return Side(policy(bare), ended=counted(policy))


def alone() -> Side:
    """Return a function whose calls nobody shares."""
    shared = collapse(bare)
    require(shared(1) == bare(1), "it gives another answer")
    return Side(shared)


async def aalone() -> Side:
    """Return an async one."""
    return Side(collapse(abare))
