"""An async block is cut when its time is up, and at no other time."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient import CallTimeoutError, bulkhead, timeout
from resilient.deadline import current
from resilient.testing import ManualClock
from tests.kit.blocks import Way, timed
from tests.kit.cancellation import cancelling
from tests.kit.policies import booked, counts, idle, policy
from tests.kit.waiting import WAIT

# -- async: the cut --------------------------------------------------------------------------


def test_the_body_is_cut(away: Way, clock: ManualClock) -> None:
    """The body sees a cancellation, cleans up, and the block raises the timeout."""
    shop, log = timed(clock, 1.0, bulkhead(1)), []

    async def body() -> None:
        with pytest.raises(CallTimeoutError) as caught:
            async with shop.block():
                clock.advance(1)
                try:
                    await anyio.sleep(WAIT)
                except anyio.get_cancelled_exc_class():
                    log.append("cancelled")
                    raise
                finally:
                    log.append("cleaned")
        assert (caught.value.policy, caught.value.timeout) == (shop.name, 1.0)
        assert (log, cancelling(), current.get()) == (["cancelled", "cleaned"], 0, None)
        await anyio.lowlevel.checkpoint()

    away.run(body)
    assert booked(shop) == ({"failure": 1}, {"error": 1})
    assert (shop.snapshot()["timeouts"], shop.state) == (1, "open")
    assert clock.waiting == 0
    idle(shop)


def test_the_body_is_cut_in_real_time(away: Way) -> None:
    """The same with the system's clock, and a timeout that does not say how to bound sync calls."""
    shop = policy(bulkhead(1), timeout(0.05))

    async def body() -> None:
        began = time.monotonic()
        with pytest.raises(CallTimeoutError):
            async with shop.block():
                await anyio.sleep(WAIT)
                raise AssertionError("it was not cut")
        assert time.monotonic() - began >= 0.049  # timers of uvloop count milliseconds

    away.run(body)
    idle(shop)


@pytest.mark.parametrize("sync", [None, "thread", "cooperative"])
def test_no_timer_is_left(away: Way, clock: ManualClock, sync: Any) -> None:
    """After the block nothing rings, however late it gets; any timeout serves an async block."""
    shop = policy(timeout(1.0, sync=sync), clock=clock)

    async def body() -> None:
        async with shop.block():
            await anyio.lowlevel.checkpoint()
        clock.advance(5)
        for _ in range(4):
            await anyio.lowlevel.checkpoint()
        assert cancelling() == 0

    away.run(body)
    assert (clock.waiting, counts(shop)) == (0, {"success": 1})


@pytest.mark.parametrize("said", ["fail", "ignore"])
def test_a_cut_whatever_was_said(away: Way, clock: ManualClock, said: str) -> None:
    """A timeout is raised also where the block had said something."""
    shop = timed(clock)

    async def body() -> None:
        with pytest.raises(CallTimeoutError):
            async with shop.block() as b:
                b.fail("empty answer") if said == "fail" else b.ignore()
                clock.advance(1)
                await anyio.sleep(WAIT)

    away.run(body)
    assert counts(shop) == ({"failure": 1} if said == "fail" else {"ignored": 1})
    idle(shop)


def test_a_body_that_swallows_the_cut_made_it(away: Way, clock: ManualClock) -> None:
    """A body that goes on after its cancellation and ends well: late, not an error."""
    shop = timed(clock)

    async def body() -> None:
        async with shop.block():
            clock.advance(1)
            try:
                await anyio.sleep(WAIT)
            except anyio.get_cancelled_exc_class():
                pass
        assert cancelling() == 0
        await anyio.lowlevel.checkpoint()
        await anyio.sleep(0.001)

    away.run(body)
    assert counts(shop) == {"success": 1}
    assert shop.snapshot()["late_values"] == 1


def test_a_callers_cancellation_stays_one(away: Way, clock: ManualClock) -> None:
    """A task that is cancelled in a block ends cancelled and gives its slot back."""
    shop = timed(clock, 1.0, bulkhead(1))

    async def body() -> None:
        with anyio.CancelScope() as scope:
            async with shop.block():
                clock.advance(0.5)
                scope.cancel()
                await anyio.sleep(WAIT)
        assert scope.cancelled_caught

    away.run(body)
    assert (booked(shop), shop.state) == (({"cancelled": 1}, {}), "closed")
    assert (shop.snapshot()["timeouts"], clock.waiting) == (0, 0)
    idle(shop)


def test_a_cancellation_while_the_cut_is_under_way(clock: ManualClock) -> None:
    """A task that its caller cancels in the clean-up after a timeout ends cancelled."""
    shop, cleaning = timed(clock, 1.0, bulkhead(1)), asyncio.Event()

    async def caller() -> None:
        async with shop.block():
            clock.advance(1)
            try:
                await asyncio.sleep(WAIT)
            finally:
                cleaning.set()
                await asyncio.sleep(0.001)

    async def main() -> None:
        task = asyncio.create_task(caller())
        await cleaning.wait()
        task.cancel()
        await asyncio.wait({task}, timeout=WAIT)
        assert task.cancelled()

    asyncio.run(main())
    assert counts(shop) == {"cancelled": 1}
    idle(shop)
