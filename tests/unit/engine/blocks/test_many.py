"""Thousands of blocks at once, nested, in tasks and threads, dropped and by hand."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import time

import anyio
import anyio.lowlevel
import pytest

import resilient
from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    Policy,
    bulkhead,
    circuit_breaker,
    timeout,
)
from resilient.deadline import current
from resilient.testing import ManualClock
from tests.kit.blocks import Way, entering, taken
from tests.kit.policies import booked, counts, idle, policy
from tests.kit.threads import in_threads
from tests.kit.waiting import WAIT


def roomy() -> Policy:
    """A policy with room for thousands."""
    return policy(circuit_breaker(), bulkhead(10_000), timeout(60, sync="cooperative"))


def test_thousands_of_blocks_at_once(away: Way) -> None:
    """3,000 tasks are each in a block of one policy; no state is on the shared object."""
    shop, number, most = roomy(), 3000, []

    async def one(place: int, gate: anyio.Event) -> None:
        async with shop.block() as b:
            if place % 3 == 1:
                b.ignore()
            most.append(resilient.remaining())
            if len(most) == number:
                assert taken(shop) == (number, number)
                gate.set()
            await gate.wait()

    async def body() -> None:
        gate = anyio.Event()
        async with anyio.create_task_group() as group:
            for place in range(number):
                group.start_soon(one, place, gate)

    away.run(body)
    assert counts(shop) == {"success": 2000, "ignored": 1000}
    assert all(left is not None and left > 0 for left in most)
    idle(shop)


def test_thousands_of_blocks_inside_each_other(way: Way) -> None:
    """A stack of 1,000 blocks of one policy, left in turn: counts are exact all the way."""
    shop = roomy()

    async def body() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for depth in range(1, 1001):
                await stack.enter_async_context(way.block(shop))
                assert shop.snapshot()["in_flight"] == depth
        assert (taken(shop), current.get()) == ((0, 0), None)

    way.run(body)
    assert counts(shop) == {"success": 1000}


def test_nested_policies(way: Way) -> None:
    """A failure passes through blocks of different policies, each of which judges it."""
    outer = policy(circuit_breaker(ignore=KeyError), bulkhead(1))
    inner = policy(circuit_breaker(), bulkhead(1))

    async def body() -> None:
        for error in (KeyError, OSError):
            with pytest.raises(error):
                async with way.block(outer), way.block(inner):
                    raise error
        async with way.block(outer), way.block(inner):
            assert isinstance(await entering(way, inner), BulkheadFullError)
            assert isinstance(await entering(way, outer), BulkheadFullError)

    way.run(body)
    assert counts(inner) == {"failure": 2, "success": 1, "refused": 1}
    assert counts(outer) == {"ignored": 1, "failure": 1, "success": 1, "refused": 1}
    idle(inner)
    idle(outer)


def test_a_refusal_inside_a_block_of_the_same_policy_is_neutral(way: Way) -> None:
    """As in a call: refused by this very policy inside the body, nobody has failed."""
    shop = policy(circuit_breaker(failure_threshold=1), bulkhead(1))

    async def body() -> None:
        with pytest.raises(BulkheadFullError):
            async with way.block(shop), way.block(shop):
                pytest.fail("there is one slot")

    way.run(body)
    assert (counts(shop), shop.state) == ({"refused": 1, "ignored": 1}, "closed")
    idle(shop)


def test_threads_in_blocks() -> None:
    """Eight threads, thousands of blocks, every sort of end: counts are exact."""
    shop = policy(circuit_breaker(metrics_only=True), bulkhead(64), timeout(60, sync="cooperative"))

    def actor(_: int) -> None:
        for number in range(300):
            with contextlib.suppress(OSError), shop.block() as b:
                if number % 4 == 1:
                    b.fail("empty answer")
                elif number % 4 == 2:
                    b.ignore()
                elif number % 4 == 3:
                    raise OSError
        assert current.get() is None

    assert in_threads(8, actor) == [None] * 8
    assert booked(shop) == (
        {"success": 600, "failure": 1200, "ignored": 600}, {"full": 1200, "error": 1200},
    )  # fmt: skip
    idle(shop)


@pytest.mark.parametrize("order", ["fifo", "lifo"])
def test_under_random_cancellations(away: Way, order: str) -> None:
    """Tasks that enter, wait, time out, fail and are cancelled at random lose no slot."""
    line = bulkhead(3, max_waiting=9, max_wait=0.01, order=order)  # type: ignore[arg-type]
    shop = policy(circuit_breaker(metrics_only=True), line, timeout(0.01))
    dice, end, inside, most = random.Random(7), time.monotonic() + 0.6, [0], []

    async def caller() -> None:
        while time.monotonic() < end or len(most) <= 50:
            with anyio.move_on_after(dice.choice([0, 0.0005, 0.003, 1])):
                try:
                    async with shop.block():
                        inside[0] += 1
                        most.append(inside[0])
                        try:
                            await anyio.sleep(dice.choice([0, 0, 0.001, 0.02]))
                            if dice.random() < 0.2:
                                raise OSError
                        finally:
                            inside[0] -= 1
                except (BulkheadFullError, CallTimeoutError, OSError):
                    pass
            await anyio.lowlevel.checkpoint()

    async def body() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(12):
                group.start_soon(caller)

    away.run(body)
    assert max(most) <= 3
    idle(shop)


# -- by hand -----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["throw", "close", "drop"])
@pytest.mark.parametrize("limit", [False, True])
def test_a_coroutine_that_is_ended_from_outside(end: str, limit: bool) -> None:
    """Thrown into, closed or dropped inside a block, it gives the slot back."""
    shop = policy(
        circuit_breaker(failure_threshold=1), bulkhead(1), *([timeout(60)] if limit else [])
    )

    async def waits() -> None:
        async with shop.block():
            await asyncio.get_running_loop().create_future()

    async def main() -> None:
        coroutine = waits()
        coroutine.send(None)
        assert taken(shop) == (1, 1)
        if end == "throw":
            with pytest.raises(KeyboardInterrupt):
                coroutine.throw(KeyboardInterrupt())
        elif end == "close":
            coroutine.close()
        del coroutine
        gc.collect()
        idle(shop)

    asyncio.run(main())
    assert (counts(shop), shop.state) == ({"cancelled": 1}, "closed")


def test_a_task_that_is_dropped_with_its_loop() -> None:
    """A block in a task that a closed loop leaves behind is left when that is collected."""
    shop = policy(circuit_breaker(), bulkhead(1), timeout(60))

    async def waits() -> None:
        async with shop.block():
            await asyncio.get_running_loop().create_future()

    loop = asyncio.new_event_loop()
    task = loop.create_task(waits())
    loop.run_until_complete(asyncio.sleep(0))
    assert taken(shop) == (1, 1)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    del task, loop
    gc.collect()
    assert counts(shop) == {"cancelled": 1}
    idle(shop)


def test_blocks_that_are_never_entered_cost_nothing() -> None:
    """Made and dropped by the thousand, they count nothing and hold nothing."""
    shop = roomy()
    blocks = [shop.block() for _ in range(5000)]
    assert (counts(shop), shop.snapshot()["in_flight"]) == ({}, 0)
    blocks.clear()
    gc.collect()
    assert counts(shop) == {}


def test_a_task_that_was_started_in_a_block_is_not_bound_by_it(clock: ManualClock) -> None:
    """The deadline is closed when the block ends, also in contexts that were copied in it."""
    shop = policy(timeout(1.0), clock=clock)

    async def main() -> None:
        gate = asyncio.Event()

        async def later() -> float | None:
            await gate.wait()
            return resilient.remaining()

        async with shop.block():
            task = asyncio.create_task(later())
            await asyncio.sleep(0)
        gate.set()
        assert await asyncio.wait_for(task, WAIT) is None

    asyncio.run(main())
