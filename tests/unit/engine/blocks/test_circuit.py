"""Blocks and the circuit, and what they share with calls and views."""

from __future__ import annotations

import contextlib

import anyio
import anyio.lowlevel
import pytest

from resilient import BulkheadFullError, CircuitOpenError, bulkhead, circuit_breaker, timeout
from resilient.testing import ManualClock
from tests.kit.blocks import Way, entering
from tests.kit.policies import counts, idle, part, policy


@pytest.mark.parametrize("end", ["fine", "fail", "ignore", "exit"])
def test_a_block_is_a_probe(way: Way, clock: ManualClock, end: str) -> None:
    """Half-open, a block is the probe that decides, or gives its place back."""
    shop = policy(
        circuit_breaker(failure_threshold=1, recovery_timeout=5), bulkhead(9), clock=clock
    )
    assert shop.try_call(int, "x").served == "error"
    clock.advance(5)

    async def body() -> None:
        with contextlib.suppress(SystemExit):
            async with way.block(shop) as b:
                assert (shop.state, part(shop, "circuit_breaker")["probes"]) == ("half_open", 1)
                assert isinstance(await entering(way, shop), CircuitOpenError)
                if end == "fail":
                    b.fail("empty answer")
                elif end == "ignore":
                    b.ignore()
                elif end == "exit":
                    raise SystemExit

    way.run(body)
    assert shop.state == {"fine": "closed", "fail": "open"}.get(end, "half_open")
    idle(shop)


@pytest.mark.parametrize("slow", [False, True])
def test_slow_blocks_open_the_circuit(way: Way, clock: ManualClock, slow: bool) -> None:
    """slow_call_duration holds for blocks."""
    breaker = circuit_breaker(slow_call_duration=1.0, minimum_calls=4, window=100)
    shop = policy(breaker, clock=clock)

    async def body() -> None:
        for _ in range(4):
            async with way.block(shop):
                clock.advance(1.5 if slow else 0.5)

    way.run(body)
    assert shop.state == ("open" if slow else "closed")
    assert shop.snapshot()["duration"]["sum"] == pytest.approx(6.0 if slow else 2.0)


def test_blocks_calls_and_views_share_the_slots(away: Way) -> None:
    """One bulkhead for a policy's blocks, those of its views, and its calls."""
    shop = policy(bulkhead(1))
    view = shop.with_(timeout(5))

    async def body() -> None:
        async with view.block():
            assert isinstance(await entering(away, shop), BulkheadFullError)
            with pytest.raises(BulkheadFullError):
                await shop.acall(anyio.sleep, 0)
        async with shop.block():
            assert isinstance(await entering(away, view), BulkheadFullError)

    away.run(body)
    assert counts(shop) == {"success": 2, "refused": 3}
    idle(shop)
