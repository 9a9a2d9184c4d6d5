"""What multiprocessing has its children run."""

from __future__ import annotations

from resilient import Policy

shop = Policy("shop")


def count(times: int) -> None:
    """Make so many calls."""
    for _ in range(times):
        shop.call(int)
