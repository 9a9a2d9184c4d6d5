"""One async stream in several loops and threads, and what its own tasks and scopes do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from resilient import CallTimeoutError, bulkhead, circuit_breaker, timeout
from resilient.testing import ManualClock
from tests.kit.policies import booked, counts, idle, policy
from tests.kit.streams import ASYNC_KINDS, END, Kind
from tests.kit.waiting import WAIT, until

AIO = ASYNC_KINDS[0]


class LoopInThread:
    """An event loop of asyncio's that runs in a thread of its own."""

    def __enter__(self) -> LoopInThread:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT)
        self.loop.close()

    def run(self, awaitable: Any) -> Any:
        """Run in the loop, and wait."""
        return asyncio.run_coroutine_threadsafe(awaitable, self.loop).result(WAIT)


async def stalls() -> AsyncIterator[int]:
    """Give an item and stall."""
    yield 1
    await asyncio.sleep(2 * WAIT)  # longer than anybody waits for it


def test_a_step_in_another_loop_is_cut_there() -> None:
    """The first step in one loop, the one that stalls in the loop of another thread: cut in time."""
    shop = policy(bulkhead(1), timeout(0.2))
    stream = shop.call(stalls)
    with LoopInThread() as first, LoopInThread() as second:
        assert first.run(AIO.next(stream)) == 1
        with pytest.raises(CallTimeoutError):
            second.run(AIO.next(stream))
    assert (counts(shop), shop.snapshot()["timeouts"]) == ({"failure": 1}, 1)
    idle(shop)


def test_a_step_in_another_loop_while_the_first_is_closed() -> None:
    """The loop of the first step is gone; the limit is kept all the same."""
    shop = policy(bulkhead(1), timeout(0.2))
    stream = shop.call(stalls)
    first = asyncio.new_event_loop()
    assert first.run_until_complete(AIO.next(stream)) == 1
    first.close()
    with LoopInThread() as second, pytest.raises(CallTimeoutError):
        second.run(AIO.next(stream))
    idle(shop)


def test_a_coarse_clock_does_not_lose_the_timer() -> None:
    """A loop may ring a timer a little early; a step that begins just after that is still cut."""
    shop = policy(bulkhead(1), timeout(0.2))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop._clock_resolution = 0.1  # type: ignore[attr-defined]  # Windows has 0.016
        stream = shop.call(stalls)
        assert await anext(stream) == 1
        await asyncio.sleep(0.12)  # what is due within 0.1 s is rung as well: the stream's timer
        with pytest.raises(CallTimeoutError):
            await asyncio.wait_for(anext(stream), WAIT / 2)

    asyncio.run(main())
    idle(shop)


def test_threads_with_loops_that_share_a_policy() -> None:
    """Streams in four loops of four threads, all cut: nothing is held, all are counted."""
    shop = policy(circuit_breaker(metrics_only=True), bulkhead(100), timeout(0.1))
    ends: list[str] = []

    async def one() -> None:
        try:
            async for _ in shop.call(stalls):
                pass
        except CallTimeoutError:
            ends.append("timeout")

    async def main() -> None:
        await asyncio.gather(*(one() for _ in range(25)))

    threads = [threading.Thread(target=asyncio.run, args=(main(),), daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    until(lambda: len(ends) == 100)
    assert booked(shop) == ({"failure": 100}, {"error": 100})
    assert shop.snapshot()["timeouts"] == 100
    idle(shop)


# -- tasks and scopes of the body's own -------------------------------------------------------


def test_a_task_group_inside_a_step(akind: Kind, clock: ManualClock) -> None:
    """Tasks that the body starts and joins within a step are cut with it."""
    shop, ended = policy(bulkhead(1), timeout(1.0), clock=clock), []

    async def child() -> None:
        try:
            await anyio.sleep(WAIT)
        finally:
            ended.append(1)

    async def fetch() -> Any:
        yield 1
        async with anyio.create_task_group() as group:
            group.start_soon(child)
            group.start_soon(child)
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            clock.advance(1)
        yield 2

    async def body() -> None:
        stream = shop.call(fetch)
        assert await akind.next(stream) == 1
        with pytest.raises(CallTimeoutError):
            await akind.next(stream)
        assert await akind.next(stream) == END
        await anyio.lowlevel.checkpoint()

    akind.run(body)
    assert ended == [1, 1]
    assert counts(shop) == {"failure": 1}
    idle(shop)


@pytest.mark.parametrize("limit", [False, True], ids=["no timeout", "timeout"])
def test_a_task_group_round_the_yield_of_a_context_manager(akind: Kind, limit: bool) -> None:
    """The body of an asynccontextmanager may hold a task group or scope open while it is used."""
    shop = policy(bulkhead(1), *([timeout(60)] if limit else []))
    beats: list[int] = []

    @asynccontextmanager
    @shop
    async def connected() -> Any:
        async def beat() -> None:
            while True:
                beats.append(1)
                await anyio.sleep(0.001)

        async with anyio.create_task_group() as group:
            group.start_soon(beat)
            yield "connection"
            group.cancel_scope.cancel()

    async def body() -> None:
        async with connected() as connection:
            assert connection == "connection"
            while len(beats) < 2:  # noqa: ASYNC110 - the heart beats in another loop
                await anyio.sleep(0.001)
        await anyio.lowlevel.checkpoint()

    akind.run(body)
    assert counts(shop) == {"success": 1}
    idle(shop)


@pytest.mark.parametrize("limit", [False, True], ids=["no timeout", "timeout"])
@pytest.mark.parametrize("most", [1, 2, 99])
def test_a_cancel_scope_of_trios_round_several_yields(limit: bool, most: int) -> None:
    """A scope that the body holds open over its items is left where the body leaves it."""
    shop, got = policy(bulkhead(1), *([timeout(60)] if limit else [])), []

    @shop
    async def scoped() -> Any:
        with trio.CancelScope():
            yield 1
            await trio.lowlevel.checkpoint()
            yield 2
        yield 3

    async def main() -> None:
        with trio.CancelScope() as around:
            async with aclosing(scoped()) as stream:
                async for item in stream:
                    got.append(item)
                    if len(got) == most:
                        break
            await trio.lowlevel.checkpoint()
            around.cancel()
            await trio.sleep(WAIT)
        assert around.cancelled_caught

    trio.run(main)
    assert got == [1, 2, 3][:most]
    assert counts(shop) == ({"success": 1} if most == 99 else {"cancelled": 1})
    idle(shop)


@pytest.mark.parametrize("late", ["in the step", "between the steps"])
def test_a_timeout_while_a_scope_is_open(clock: ManualClock, late: str) -> None:
    """A stream whose body holds a nursery of trio's open is cut like any other."""
    shop, ended = policy(bulkhead(1), timeout(1.0), clock=clock), []

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("child")

    async def fetch() -> Any:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
                yield 1
                await trio.lowlevel.checkpoint()
                yield 2
                clock.advance(1)
                await trio.sleep(WAIT)
        finally:
            ended.append("body")

    async def main() -> None:
        stream = shop.call(fetch)
        assert await anext(stream) == 1
        assert await anext(stream) == 2
        if late == "between the steps":
            clock.advance(1)
            await trio.sleep(0.001)
        with pytest.raises(BaseException) as caught:
            await anext(stream)
        leaves = caught.value
        while isinstance(leaves, BaseExceptionGroup):
            (leaves,) = leaves.exceptions
        assert type(leaves) is CallTimeoutError
        await trio.lowlevel.checkpoint()
        await stream.aclose()
        await trio.sleep(0.001)

    trio.run(main)
    assert ended == ["child", "body"]
    assert (counts(shop), clock.waiting) == ({"failure": 1}, 0)
    idle(shop)


# -- a clean-up that takes longer than the limit -----------------------------------------------


@pytest.mark.usefixtures("unraised")
@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_a_clean_up_that_overruns_is_no_failure(clock: ManualClock, how: str) -> None:
    """Left in time by its consumer, a stream is neutral however long its clean-up takes."""
    breaker = circuit_breaker(failure_threshold=1)
    shop, cleaned = policy(breaker, bulkhead(1), timeout(1.0), clock=clock), []

    async def lingers() -> Any:
        try:
            yield 1
        finally:
            clock.advance(2)
            await asyncio.sleep(0.01)
            cleaned.append(1)

    async def main() -> None:
        stream = shop.call(lingers)
        assert await anext(stream) == 1
        if how == "closed":
            await stream.aclose()
        del stream
        await AIO.settle()
        await asyncio.sleep(0.05)

    asyncio.run(main())
    assert cleaned == [1], "the clean-up was cut"
    assert (counts(shop), shop.snapshot()["timeouts"]) == ({"cancelled": 1}, 0)
    assert shop.state == "closed"
    idle(shop)
