"""The sides of the hedge: a call that is fast enough, and so has no second copy."""

from __future__ import annotations

from resilient import Policy, bulkhead, circuit_breaker, fallback, hedge, timeout

from .model import Side
from .ours import LONG, abare, bare, counted, lesser


def _policy(name: str) -> Policy:
    return Policy(
        name, fallback(lesser), hedge(LONG, idempotent=True),
        circuit_breaker(recovery_timeout=LONG), bulkhead(20), timeout(1.0, sync="cooperative"),
    )  # fmt: skip


def fast() -> Side:
    """Return the whole policy with a hedge, on a thread of its own."""
    policy = _policy("hedge.fast")
    return Side(policy(bare), ended=counted(policy), waits=True)


async def afast() -> Side:
    """Return the same, in a task of its own."""
    policy = _policy("hedge.afast")
    return Side(policy(abare), ended=counted(policy))
