"""The deadline of a block: told inside, and whose it is where blocks are nested."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

import resilient
from resilient import CallTimeoutError, bulkhead, circuit_breaker, timeout
from resilient.deadline import current
from resilient.testing import ManualClock
from tests.kit.blocks import Way, timed
from tests.kit.cancellation import cancelling
from tests.kit.policies import booked, counts, idle, policy
from tests.kit.waiting import WAIT


def test_remaining_is_told_inside(way: Way, clock: ManualClock) -> None:
    """resilient.remaining() inside, and nothing of it outside."""
    shop = timed(clock)

    async def body() -> None:
        block = shop.block()
        clock.advance(100)  # made long before it is entered
        async with way.enter(block):
            assert resilient.remaining() == 1.0
            clock.advance(0.25)
            assert resilient.remaining() == 0.75
        assert (resilient.remaining(), current.get()) == (None, None)

    way.run(body)
    assert counts(shop) == {"success": 1}


@pytest.mark.parametrize("end", ["fine", "raises", "exits", "refused"])
def test_the_context_is_put_back(way: Way, clock: ManualClock, end: str) -> None:
    """After every sort of end the variable is what it was, also inside another block."""
    outer = policy(timeout(9.0, sync="cooperative"), clock=clock)
    shop = policy(bulkhead(1), timeout(1.0, sync="cooperative"), clock=clock)

    async def inner() -> None:
        before = current.get()
        if end == "refused":
            shop.force_open()
        try:
            async with way.block(shop):
                assert current.get() is not before
                if end != "fine":
                    raise OSError if end == "raises" else SystemExit
        except (OSError, SystemExit, resilient.CircuitOpenError):
            pass
        assert current.get() is before

    async def body() -> None:
        await inner()
        shop.release()
        async with way.block(outer):
            await inner()
            assert resilient.remaining() == 9.0

    way.run(body)
    idle(shop)
    idle(outer)


def test_a_late_block_is_a_success(way: Way, clock: ManualClock) -> None:
    """A body that ends by itself after the deadline made it: success, counted late, no error."""
    shop = timed(clock)

    async def body() -> None:
        async with way.block(shop):
            clock.advance(2)
            assert resilient.remaining() == 0
        await anyio.lowlevel.checkpoint() if way.is_async else None
        assert cancelling() == 0

    way.run(body)
    assert booked(shop) == ({"success": 1}, {"full": 1})
    assert (shop.snapshot()["late_values"], shop.snapshot()["timeouts"]) == (1, 0)
    assert shop.state == "closed"


def test_check_inside(way: Way, clock: ManualClock) -> None:
    """Who asks check() and is told that the time is up has timed out."""
    shop = timed(clock)

    async def body() -> None:
        with pytest.raises(CallTimeoutError) as caught:
            async with way.block(shop):
                clock.advance(1)
                resilient.check()
        assert (caught.value.policy, caught.value.timeout) == (shop.name, 1.0)

    way.run(body)
    assert booked(shop) == ({"failure": 1}, {"error": 1})
    assert (shop.snapshot()["timeouts"], shop.state) == (1, "open")


def test_an_error_of_the_body_after_the_deadline_is_its_own(way: Way, clock: ManualClock) -> None:
    """Also a TimeoutError: none is made into a timeout of the block's."""
    shop, mine = timed(clock), TimeoutError("its own")

    async def body() -> None:
        with pytest.raises(TimeoutError) as caught:
            async with way.block(shop):
                clock.advance(2)
                raise mine
        assert caught.value is mine

    way.run(body)
    assert (counts(shop), shop.snapshot()["timeouts"]) == ({"failure": 1}, 0)


# -- sync: cooperative only -------------------------------------------------------------------


@pytest.mark.parametrize("sync", [None, "thread"])
def test_a_sync_block_needs_a_cooperative_timeout(sync: Any) -> None:
    """`with` under another timeout is a TypeError that explains, before anything is taken."""
    shop = policy(circuit_breaker(), bulkhead(1), timeout(1.0, sync=sync))
    with pytest.raises(TypeError, match="cooperative") as caught, shop.block():
        pytest.fail("it was entered")
    assert "block" in str(caught.value)
    assert (counts(shop), shop.snapshot()["wait"]["count"]) == ({}, 0)
    idle(shop)


# -- one inside the other ----------------------------------------------------------------------


@pytest.mark.parametrize("inside", [False, True], ids=["the outer's is up", "the inner's is up"])
@pytest.mark.parametrize("outer_is", ["block", "call"])
def test_the_tightest_wins_and_is_named(
    away: Way, clock: ManualClock, inside: bool, outer_is: str
) -> None:
    """Whose time is up is told; for the other it is a cancellation, or a failure like any."""
    outer, inner = timed(clock, 9 if inside else 1), timed(clock, 1 if inside else 9)

    async def work() -> None:
        async with inner.block():
            assert resilient.remaining() == 1.0
            clock.advance(1)
            await anyio.sleep(WAIT)

    async def body() -> None:
        with pytest.raises(CallTimeoutError) as caught:
            if outer_is == "call":
                await outer.acall(work)
            else:
                async with outer.block():
                    await work()
        assert caught.value.policy == (inner if inside else outer).name
        assert cancelling() == 0
        await anyio.lowlevel.checkpoint()

    away.run(body)
    assert counts(inner) == ({"failure": 1} if inside else {"cancelled": 1})
    assert counts(outer) == {"failure": 1}
    assert (inner.snapshot()["timeouts"], outer.snapshot()["timeouts"]) == (inside, not inside)
    idle(inner)
    idle(outer)


def test_cooperative_blocks_inside_each_other(clock: ManualClock) -> None:
    """remaining() is the tightest; a block is not entered when the time round it is up."""
    outer, inner = timed(clock, 1.0), timed(clock, 9.0)
    with outer.block():
        clock.advance(0.25)
        with inner.block():
            assert resilient.remaining() == 0.75
        assert resilient.remaining() == 0.75
        clock.advance(0.75)
        with pytest.raises(CallTimeoutError) as caught, inner.block():
            pytest.fail("it was entered")
        assert caught.value.policy == outer.name
    assert counts(inner) == {"success": 1, "cancelled": 1}
    idle(inner)
