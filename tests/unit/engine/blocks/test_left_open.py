"""Blocks that are forgotten, hold task groups, run outside of any task, or are left twice."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

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
from resilient.testing import ManualClock
from tests.kit.blocks import Way, entering, taken, timed
from tests.kit.cancellation import cancelling
from tests.kit.policies import booked, counts, idle, policy
from tests.kit.threads import in_threads
from tests.kit.waiting import WAIT


def test_a_block_that_is_never_left_is_given_back_when_it_is_collected() -> None:
    """Entered by hand and forgotten: the slot comes back with the object, and nobody has failed."""
    shop = policy(circuit_breaker(failure_threshold=1), bulkhead(1))
    shop.block().__enter__()
    gc.collect()
    assert (booked(shop), shop.state) == (({"cancelled": 1}, {}), "closed")
    idle(shop)


def test_leaving_what_was_not_entered_or_was_left(way: Way) -> None:
    """__exit__ without an enter, or a second time, is a RuntimeError and counts nothing."""
    shop = policy(bulkhead(1))

    async def body() -> None:
        entered = way.block(shop)
        with pytest.raises(RuntimeError):
            await entered.__aexit__(None, None, None)
        async with entered:
            pass
        with pytest.raises(RuntimeError):
            await entered.__aexit__(None, None, None)

    way.run(body)
    assert counts(shop) == {"success": 1}
    idle(shop)


def test_an_exit_stack_and_a_shared_failure() -> None:
    """Blocks on one ExitStack each see the exception that unwinds it."""
    first, second = policy(bulkhead(1)), policy(bulkhead(1))
    with pytest.raises(OSError, match="down"), ExitStack() as stack:
        stack.enter_context(first.block())
        stack.enter_context(second.block()).ignore()
        raise OSError("down")
    assert (counts(first), counts(second)) == ({"failure": 1}, {"ignored": 1})


def test_a_task_group_in_a_block(away: Way, clock: ManualClock) -> None:
    """The block's cut reaches the tasks that its body joins, and comes out as one timeout."""
    shop, ended = timed(clock, 1.0, bulkhead(1)), []

    async def child() -> None:
        try:
            await anyio.sleep(WAIT)
        finally:
            ended.append(1)

    async def body() -> None:
        with pytest.raises(CallTimeoutError):
            async with shop.block(), anyio.create_task_group() as group:
                group.start_soon(child)
                group.start_soon(child)
                await anyio.lowlevel.checkpoint()
                await anyio.lowlevel.checkpoint()
                clock.advance(1)
        assert cancelling() == 0
        await anyio.lowlevel.checkpoint()

    away.run(body)
    assert ended == [1, 1]
    assert (counts(shop), shop.snapshot()["timeouts"]) == ({"failure": 1}, 1)
    idle(shop)


def test_a_failing_child_in_a_block(away: Way) -> None:
    """A group of failures out of a task group is judged, and comes out as the same group."""
    shop = policy(circuit_breaker(failure_threshold=1), timeout(60))

    async def child() -> None:
        raise OSError("down")

    async def body() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with shop.block(), anyio.create_task_group() as group:
                group.start_soon(child)
        assert [type(leaf) for leaf in caught.value.exceptions] == [OSError]

    away.run(body)
    assert (counts(shop), shop.state) == ({"failure": 1}, "open")


@pytest.mark.parametrize("limit", [None, 60])
def test_outside_of_any_task(limit: float | None) -> None:
    """Driven by hand where there is no task, it runs or is an error, and holds nothing after it."""
    shop = policy(bulkhead(1), *([] if limit is None else [timeout(limit)]))

    async def body() -> None:
        async with shop.block():
            pass

    coroutine = body()
    try:
        coroutine.send(None)
    except StopIteration:
        pass
    except RuntimeError as error:
        assert "task" in str(error) or "loop" in str(error) or "trio" in str(error)
    idle(shop)


def test_a_sync_block_in_a_running_loop() -> None:
    """`with` works in async code too; where it would have to wait for a slot it is refused at once."""
    shop = policy(bulkhead(1, max_waiting=5, max_wait=WAIT))

    async def main() -> None:
        with shop.block():
            assert taken(shop) == (1, 1)
            with pytest.raises(BulkheadFullError, match="loop"), shop.block():
                pytest.fail("there is one slot")

    asyncio.run(main())
    idle(shop)


def test_a_block_of_one_thread_binds_no_other(clock: ManualClock) -> None:
    """The deadline of a block is its own thread's."""
    shop, seen = policy(timeout(1.0, sync="cooperative"), clock=clock), []
    with shop.block():
        thread = threading.Thread(target=lambda: seen.append(resilient.remaining()))
        thread.start()
        thread.join(WAIT)
        assert resilient.remaining() == 1.0
    assert seen == [None]


def test_two_tasks_do_not_share_a_blocks_deadline(away: Way, clock: ManualClock) -> None:
    """Tasks in blocks side by side each read their own limit, and each is cut by its own."""
    shops = [policy(timeout(seconds), clock=clock) for seconds in (1.0, 2.0, 3.0)]
    ends: list[tuple[int, str]] = []

    async def one(place: int, shop: Policy) -> None:
        try:
            async with shop.block():
                assert resilient.remaining() == place + 1.0
                await anyio.sleep(WAIT)
        except CallTimeoutError as error:
            ends.append((place, error.policy))

    async def body() -> None:
        async with anyio.create_task_group() as group:
            for place, shop in enumerate(shops):
                group.start_soon(one, place, shop)
            for number in range(4):
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
                assert len(ends) == number
                clock.advance(1)

    away.run(body)
    assert ends == [(place, shop.name) for place, shop in enumerate(shops)]


# -- what is left behind ----------------------------------------------------------------------


async def rubbish(fn: Callable[[], Awaitable[Any]]) -> int:
    """Return how many objects only the cycle collector frees after some runs of fn."""
    await fn()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await fn()
        return gc.collect()
    finally:
        gc.enable()


@pytest.mark.parametrize("end", ["fine", "fail", "raises", "refused", "late"])
def test_no_end_makes_a_cycle(way: Way, clock: ManualClock, end: str) -> None:
    """Whatever ends a block, nothing is left to the cycle collector, and no timer stands."""
    shop = policy(
        circuit_breaker(metrics_only=True), bulkhead(1), timeout(1.0, sync="cooperative"),
        clock=clock,
    )  # fmt: skip

    async def once() -> None:
        try:
            async with way.block(shop) as b:
                if end == "fail":
                    b.fail("empty answer")
                elif end == "raises":
                    raise OSError
                elif end == "refused":
                    assert isinstance(await entering(way, shop), BulkheadFullError)
                elif end == "late":
                    clock.advance(1)
                    resilient.check()
        except (OSError, CallTimeoutError):
            pass

    async def body() -> None:
        found = await rubbish(once)
        assert found == 0, f"{found} objects in cycles after 20 blocks"

    way.run(body)
    assert clock.waiting == 0
    idle(shop)


def test_memory_does_not_grow(way: Way) -> None:
    """Thousands of blocks leave no more behind than the first few."""
    shop = policy(circuit_breaker(), bulkhead(1), timeout(60, sync="cooperative"))

    async def rounds(number: int) -> int:
        for _ in range(number):
            async with way.block(shop):
                pass
        for _ in range(3 if way.is_async else 0):
            await anyio.sleep(0.001)  # a loop forgets cancelled timers when it comes to it
        gc.collect()
        return sys.getallocatedblocks()

    async def body() -> None:
        await rounds(100)
        before = await rounds(10)
        after = await rounds(2000)
        assert after - before < 300, f"{after - before} blocks of memory more"

    way.run(body)


def test_the_same_block_in_many_threads_is_entered_once() -> None:
    """However many threads try at once, one of them enters."""
    for _ in range(30):
        shop = policy(bulkhead(99))
        block, inside = shop.block(), []

        def enter(_: int, block: Any = block, inside: list[int] = inside) -> None:
            with block:
                inside.append(1)

        ends = in_threads(4, enter)
        assert len(inside) == 1, f"{len(inside)} threads were in one block"
        assert sum(isinstance(end, RuntimeError) for end in ends) == 3
        idle(shop)
