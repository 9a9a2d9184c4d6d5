"""The call that both services make, and the policy that one of them has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import httpx

from resilient import Policy, bulkhead, circuit_breaker, fallback, timeout

TOP_100: Final = [f"film {number}" for number in range(1, 101)]


class Picks(NamedTuple):
    """What the home page shows."""

    personal: bool
    titles: list[str]


def top_100(user: int) -> Picks:
    """Return the same for everybody: it is in memory, and can't fail."""
    return Picks(False, TOP_100)


def policy(window: float, recovery_timeout: float) -> Policy:
    """Return the policy."""
    return Policy(
        "recommendations",
        fallback(top_100),
        circuit_breaker(window=window, recovery_timeout=recovery_timeout),
        bulkhead(20),
        timeout(0.3),
        owner="team-recs",
        tier=3,
        impact="The home page shows the top 100 instead of personal picks.",
    )


def personal_picks(client: httpx.AsyncClient, url: str) -> Callable[[int], Awaitable[Picks]]:
    """Return the function that asks the upstream."""

    async def recommendations(user: int) -> Picks:
        response = await client.get(f"{url}/recommendations/{user}")
        response.raise_for_status()
        return Picks(True, response.json()["picks"])

    return recommendations
