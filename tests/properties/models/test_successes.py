"""The short way that a breaker counts a plain success: as the long one, at any turn of the window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import Policy, calls, circuit_breaker
from resilient.outcomes import FAILURE, SUCCESS
from resilient.testing import ManualClock
from tests.kit.policies import fails

WINDOWS = st.sampled_from([10.0, 2.5, calls(5), calls(7), calls(100)])
# Within a slice of a window of 10 s, at its turn, over several, and beyond the whole window.
GAPS = st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.0, 1.5, 3.0, 9.0, 11.0])
ACTS = st.lists(st.tuples(GAPS, st.sampled_from(["success", "success", "failure"])), max_size=60)


@given(window=WINDOWS, start=st.sampled_from([0.0, 0.75, 86_400.5]), acts=ACTS)
def test_B5_a_success_is_counted_the_same_both_ways(
    window: Any, start: float, acts: list[tuple[float, str]]
) -> None:
    """Of two breakers one hears of successes the short way: at no time do they differ."""
    options = {"window": window, "minimum_calls": 5, "failure_threshold": 4}
    short, long = circuit_breaker(**options), circuit_breaker(**options)
    short.random = long.random = None  # no jitter
    now = start
    for gap, act in acts:
        now += gap
        tickets = [guard.admit(now) for guard in (short, long)]
        assert (tickets[0] < 0) == (tickets[1] < 0)
        if tickets[0] < 0:
            continue
        if act == "success":
            short.settle_success(tickets[0], now, 0.125)
            long.settle(tickets[1], now, SUCCESS, 0.125, "", False)
        else:
            for guard, ticket in zip((short, long), tickets, strict=True):
                guard.settle(ticket, now, FAILURE, 0.125, "Boom", False)
        assert short.state == long.state
        assert seen(short, now) == seen(long, now)


def seen(guard: Any, now: float) -> Any:
    """Return what the window of a breaker holds."""
    return guard.snapshot(now)["window"]


WAYS: dict[str, Callable[[Policy], Callable[[], object]]] = {
    "decorated": lambda shop: shop(lambda: 0),
    "called": lambda shop: lambda: shop.call(int),
    "awaited": lambda shop: lambda: anyio.run(shop(nothing)),
    "block": lambda shop: lambda: block(shop),
}


async def nothing() -> None:
    """Do nothing."""


def block(shop: Policy) -> None:
    """Do nothing, as a block."""
    with shop.block():
        pass


@pytest.mark.parametrize("window", [10.0, calls(100)], ids=["seconds", "calls"])
@pytest.mark.parametrize("way", WAYS)
def test_B5_no_success_is_lost_where_a_slice_ends(way: str, window: Any) -> None:
    """One call in each of nine slices, and three: all are in the window, and outweigh failures."""
    clock = ManualClock()
    breaker = circuit_breaker(window=window, minimum_calls=10, failure_threshold=None)
    shop = Policy(f"successes-{way}", breaker, clock=clock)
    good = WAYS[way](shop)
    for number in range(1, 10):
        good()
        assert shop.snapshot()["guards"][0]["window"]["calls"] == number
        clock.advance(1)
    for _ in range(3):
        good()
    for _ in range(11):
        shop.try_call(fails)
    assert shop.state == "closed"
    assert shop.snapshot()["guards"][0]["window"] == {"calls": 23, "failures": 11, "slow": 0}
    shop.try_call(fails)
    assert shop.state == "open"
