"""A stream that has ended leaves nothing behind: no cycle, no timer, no memory."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    timeout,
)
from resilient.testing import ManualClock
from tests.kit.policies import idle, policy
from tests.kit.streams import END, Kind
from tests.kit.worlds import plain_loop

TIMES = 20


class Thrown(Exception):
    """Thrown in by the consumer."""


def catching(kind: Kind, how: str) -> Any:
    """Return a stream function that does something with what is thrown at it."""

    def plain() -> Any:
        try:
            yield 1
        except Thrown:
            if how == "is passed on":
                raise
            if how == "is answered":
                yield 2

    async def waits() -> Any:
        try:
            yield 1
        except Thrown:
            if how == "is passed on":
                raise
            if how == "is answered":
                yield 2

    return waits if kind.is_async else plain


def ways(kind: Kind, guard: Callable[[Any], Any]) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Return every way in which a stream can end, as functions that do it."""
    good, bad = guard(kind.source(1, 2)), guard(kind.source(1, Thrown))
    catch = {how: guard(catching(kind, how)) for how in ("is passed on", "is answered", "is taken")}

    async def exhausted() -> None:
        await kind.items(good())

    async def failed() -> None:
        try:
            await kind.items(bad())
        except Thrown:
            pass

    async def closed() -> None:
        stream = good()
        await kind.next(stream)
        await kind.close(stream)

    async def thrown(how: str) -> None:
        stream = catch[how]()
        await kind.next(stream)
        try:
            if kind.is_async:  # no frame of the test's own holds the exception
                await stream.athrow(Thrown())
            else:
                stream.throw(Thrown())
        except (Thrown, StopIteration, StopAsyncIteration):
            pass
        await kind.close(stream)

    return {
        "exhausted": exhausted, "failed": failed, "closed": closed,
        **{f"an exception {how}": lambda how=how: thrown(how) for how in catch},
    }  # fmt: skip


async def rubbish(kind: Kind, fn: Callable[[], Awaitable[Any]]) -> int:
    """Return how many objects only the cycle collector frees after some runs of fn."""
    await fn()
    await kind.settle()
    gc.disable()
    try:
        for _ in range(TIMES):
            await fn()
        await kind.rest()
        return gc.collect()
    finally:
        gc.enable()


def whole() -> Policy:
    """A policy with all four guards, none of which acts."""
    return policy(
        fallback(value=["never"], on=LookupError), circuit_breaker(metrics_only=True), bulkhead(9),
        timeout(60, sync="cooperative"),
    )  # fmt: skip


@pytest.mark.parametrize(
    "end",
    ["exhausted", "failed", "closed", "an exception is passed on", "an exception is answered",
     "an exception is taken"],
)  # fmt: skip
def test_no_end_makes_a_cycle(kind: Kind, end: str) -> None:
    """Whatever ends a guarded stream, no more is left to the cycle collector than by a bare one."""
    shop = whole()
    found: list[int] = []

    async def body() -> None:
        found.extend(
            [await rubbish(kind, ways(kind, guard)[end]) for guard in (lambda fn: fn, shop)]
        )

    kind.run(body)
    bare, guarded = found
    assert guarded <= bare, f"{guarded - bare} objects in cycles after {TIMES} streams"
    idle(shop)


@pytest.mark.parametrize("end", ["refused", "late", "answered", "answered and closed"])
def test_no_end_by_a_guard_makes_a_cycle(kind: Kind, clock: ManualClock, end: str) -> None:
    """The same for refusals, timeouts and fallbacks."""
    full = policy(bulkhead(1), timeout(1.0, sync="cooperative"), clock=clock)
    lesser = policy(fallback(lambda: [1, 2]), bulkhead(1))
    good, bad = full(kind.source(1, 2)), lesser(kind.source(OSError))

    async def refused() -> None:
        stream = good()
        await kind.next(stream)
        try:
            await kind.next(good())
        except BulkheadFullError:
            pass
        await kind.close(stream)

    async def late() -> None:
        stream = good()
        await kind.next(stream)
        clock.advance(1)
        try:
            await kind.next(stream)
        except CallTimeoutError:
            pass

    async def answered() -> None:
        assert await kind.items(bad()) == [1, 2]

    async def answered_and_closed() -> None:
        stream = bad()
        await kind.next(stream)
        await kind.close(stream)

    async def body() -> None:
        fn = {"refused": refused, "late": late, "answered": answered}.get(end, answered_and_closed)
        found = await rubbish(kind, fn)
        assert found == 0, f"{found} objects in cycles after {TIMES} streams"

    kind.run(body)
    assert clock.waiting == 0
    idle(full)
    idle(lesser)


def test_items_are_not_kept(kind: Kind) -> None:
    """Between two steps, a guarded stream has no reference to what it has handed out or been sent."""

    class Item:
        pass

    shop = whole()

    def plain() -> Any:
        yield Item()
        yield 2
        yield 3

    async def waits() -> Any:
        yield Item()
        yield 2
        yield 3

    async def body() -> None:
        stream: Any = shop.call(waits if kind.is_async else plain)
        handed = weakref.ref(await kind.next(stream))
        assert handed() is None, "the item is kept"
        item = Item()
        sent = weakref.ref(item)
        await kind.send(stream, item)
        del item
        assert sent() is None, "what was sent is kept"
        await kind.close(stream)

    kind.run(body)
    idle(shop)


def numbers_of(kind: Kind) -> Any:
    """Return a stream function that keeps no log."""

    def plain() -> Any:
        yield 1
        yield 2

    async def waits() -> Any:
        yield 1
        yield 2

    return waits if kind.is_async else plain


def test_memory_does_not_grow(kind: Kind) -> None:
    """Thousands of streams leave no more behind than the first few."""
    shop = whole()
    guarded = shop(numbers_of(kind))

    async def rounds(number: int) -> int:
        for _ in range(number):
            assert await kind.items(guarded()) == [1, 2]
            stream = guarded()
            await kind.next(stream)
            await kind.close(stream)
        await kind.settle()
        return sys.getallocatedblocks()

    async def body() -> None:
        await rounds(100)
        before = await rounds(10)
        after = await rounds(1000)
        assert after - before < 300, f"{after - before} blocks more after 2,000 streams"

    kind.run(body)
    idle(shop)


@plain_loop
def test_no_timer_keeps_an_ended_stream() -> None:
    """On asyncio, streams that have ended are not on the loop's list of timers for long."""
    shop = policy(bulkhead(1), timeout(3600))

    async def two() -> Any:
        yield 1
        yield 2

    async def main() -> None:
        guarded = shop(two)
        for _ in range(2000):
            async for _item in guarded():
                pass
            await asyncio.sleep(0)
        timers = len(asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]
        assert timers < 300, f"{timers} timers of streams that have ended"

    asyncio.run(main())


def test_a_timer_does_not_keep_a_dropped_stream(kind: Kind) -> None:
    """A stream with an hour left is freed when it is dropped and closed by its loop."""
    shop = policy(bulkhead(1), timeout(3600, sync="cooperative"))
    guarded = shop(kind.source(1, 2))

    async def body() -> None:
        stream = guarded()
        assert await kind.next(stream) == 1
        known = weakref.ref(stream)
        await kind.close(stream)
        assert await kind.next(stream) == END
        del stream
        await kind.rest()
        assert known() is None

    kind.run(body)
    idle(shop)
