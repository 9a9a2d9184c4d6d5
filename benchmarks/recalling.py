"""The sides of the last good answer: a call that is kept, and a refused one that it answers."""

from __future__ import annotations

from resilient import Policy, bulkhead, circuit_breaker, last_good, timeout

from .model import Side
from .ours import LONG, bare, counted, failing, opens


def _policy(name: str) -> Policy:
    return Policy(
        name, last_good(), circuit_breaker(recovery_timeout=LONG), bulkhead(20),
        timeout(1.0, sync="cooperative"),
    )  # fmt: skip


def kept() -> Side:
    """Return the whole policy, with a last good answer in place of the fallback."""
    policy = _policy("last_good.kept")
    return Side(policy(bare), ended=counted(policy))


def recalled() -> Side:
    """Return the same with an open circuit: what was kept answers."""
    policy = _policy("last_good.recalled")
    guarded = policy(bare)
    guarded(1)
    opens(policy, policy(failing))
    return Side(guarded, ended=counted(policy, "refused"))
