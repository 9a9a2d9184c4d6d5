"""The steps of one stream in different tasks, threads and contexts."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import resilient
from resilient import CallTimeoutError, bulkhead, circuit_breaker, timeout
from resilient.deadline import current
from resilient.testing import ManualClock
from tests.kit.policies import counts, error_of, idle, part, policy
from tests.kit.streams import ASYNC_KINDS, END, SYNC_KIND, Kind
from tests.kit.threads import in_threads
from tests.kit.waiting import WAIT


def in_thread(fn: Callable[[], Any]) -> Any:
    """Call fn in a thread of its own."""
    (end,) = in_threads(1, lambda _: fn())
    return end


async def in_task(fn: Callable[[], Any]) -> Any:
    """Await fn() in a task of its own; return what it gives or raises."""
    ends: list[Any] = []

    async def body() -> None:
        try:
            ends.append(await fn())
        except Exception as error:
            ends.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(body)
    return ends[0]


def test_each_step_in_another_thread(clock: ManualClock) -> None:
    """A generator may be stepped in any thread: each sees the deadline, and none keeps it."""
    shop, seen = policy(bulkhead(1), timeout(1.0, sync="cooperative"), clock=clock), []

    def look() -> None:
        seen.append((resilient.remaining(), threading.get_ident()))

    stream = shop.call(SYNC_KIND.source(look, 1, look, 2, look))

    def step() -> Any:
        value = next(stream, END)
        assert current.get() is None
        return value

    for expected in (1, 2, END):
        assert in_thread(step) == expected
        clock.advance(0.25)
    assert [left for left, _ in seen] == [1.0, 0.75, 0.5]
    assert counts(shop) == {"success": 1}
    idle(shop)


@pytest.mark.parametrize("end", ["close", "fail", "late"])
def test_the_last_step_in_another_thread(clock: ManualClock, end: str) -> None:
    """Whichever thread ends the stream gives the slot back."""
    shop = policy(bulkhead(1), timeout(1.0, sync="cooperative"), clock=clock)
    stream = shop.call(SYNC_KIND.source(1, OSError))
    assert next(stream) == 1
    clock.advance(1 if end == "late" else 0)
    raised = in_thread(stream.close if end == "close" else lambda: next(stream))
    assert type(raised) is {"close": type(None), "fail": OSError, "late": CallTimeoutError}[end]
    assert counts(shop) == ({"cancelled": 1} if end == "close" else {"failure": 1})
    idle(shop)


def test_each_step_in_another_context(kind: Kind, clock: ManualClock) -> None:
    """Sync streams stepped by context.run, async ones in tasks with contexts of their own."""
    shop = policy(bulkhead(1), timeout(1.0, sync="cooperative"), clock=clock)
    mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine")
    seen: list[Any] = []

    def look() -> None:
        seen.append((mine.get(), resilient.remaining()))

    stream = shop.call(kind.source(look, 1, look, 2, look))

    async def step(name: str) -> Any:
        mine.set(name)
        return await kind.next(stream)

    async def body() -> None:
        for name, expected in (("a", 1), ("b", 2), ("c", END)):
            if kind.is_async:
                assert await in_task(lambda name=name: step(name)) == expected
            else:
                context = contextvars.copy_context()
                context.run(mine.set, name)
                assert context.run(next, stream, END) == expected
                assert current not in context or context[current] is None
            assert current.get() is None
            clock.advance(0.25)

    kind.run(body)
    assert seen == [("a", 1.0), ("b", 0.75), ("c", 0.5)]
    idle(shop)


def test_what_the_body_sets_in_the_context_is_as_for_a_bare_one(kind: Kind) -> None:
    """A context variable that the body sets is seen where a bare stream's would be."""
    mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine", default="none")
    plain = kind.source(lambda: mine.set("one"), 1, lambda: mine.set("two") and None, 2)
    shop = policy(bulkhead(1), timeout(9.0, sync="cooperative"))
    traces: list[list[str]] = []

    async def body() -> None:
        for fn in (plain, shop(plain)):
            mine.set("none")
            stream, trace = fn(), []
            while await kind.next(stream) != END:
                trace.append(mine.get())
            traces.append(trace)

    kind.run(body)
    assert traces[0] == traces[1] == ["one", "two"]


def test_each_step_in_a_task_of_its_own(akind: Kind, clock: ManualClock) -> None:
    """First step, next ones and the last in different tasks: slot, limit and outcome are one."""
    shop = policy(circuit_breaker(), bulkhead(1), timeout(1.0), clock=clock)
    stream = shop.call(akind.source(anyio.lowlevel.checkpoint, 1, anyio.lowlevel.checkpoint, 2))

    async def body() -> None:
        for expected in (1, 2, END):
            assert await in_task(lambda: akind.next(stream)) == expected
            clock.advance(0.25)

    akind.run(body)
    assert counts(shop) == {"success": 1}
    idle(shop)


def test_the_timer_cuts_the_task_that_steps(akind: Kind, clock: ManualClock) -> None:
    """A step that stalls in another task than the one before is cut there, and only there."""
    shop, others = policy(bulkhead(1), timeout(1.0), clock=clock), []

    async def stalls() -> Any:
        yield 1
        clock.advance(1)
        await anyio.sleep(WAIT)

    async def body() -> None:
        stream = shop.call(stalls)

        async def first() -> None:
            others.append(await akind.next(stream))
            gone.set()
            for _ in range(50):  # alive while the other task is cut
                await anyio.lowlevel.checkpoint()
            others.append("alive")

        gone = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(first)
            await gone.wait()
            error = await in_task(lambda: akind.next(stream))
            assert type(error) is CallTimeoutError, repr(error)

    akind.run(body)
    assert others == [1, "alive"]
    idle(shop)


def test_closed_in_another_task(akind: Kind) -> None:
    """aclose() may be called by whoever has the stream."""
    shop, log = policy(bulkhead(1), timeout(9.0)), []

    async def body() -> None:
        stream = shop.call(akind.source(1, 2, log=log))
        await in_task(lambda: akind.next(stream))
        await in_task(stream.aclose)
        assert await akind.next(stream) == END

    akind.run(body)
    assert log == ["began", "GeneratorExit", "ended"]
    assert counts(shop) == {"cancelled": 1}
    idle(shop)


def test_the_limit_of_an_ended_task_does_not_bind_the_stream(
    akind: Kind, clock: ManualClock
) -> None:
    """A stream begun inside a call with a tighter limit, and used after it, has its own again."""
    outer, inner = policy(timeout(0.5), clock=clock), policy(timeout(5.0), clock=clock)
    seen: list[Any] = []

    def look() -> None:
        seen.append(resilient.remaining())

    stream = inner.call(akind.source(look, 1, look, 2))

    async def begin() -> None:
        assert await akind.next(stream) == 1

    async def body() -> None:
        await outer.acall(begin)
        clock.advance(1)
        assert await akind.items(stream) == [2]

    akind.run(body)
    assert seen == [0.5, 4.0]
    assert counts(outer) == counts(inner) == {"success": 1}


@pytest.mark.parametrize("limit", [False, True])
def test_two_steps_at_once_are_refused_as_by_a_bare_one(akind: Kind, limit: bool) -> None:
    """A second step while one is under way is the RuntimeError of any async generator."""
    shop = policy(bulkhead(1), *([timeout(60)] if limit else []))

    async def body() -> None:
        texts = []
        for guard in (lambda fn: fn, shop):
            gate = anyio.Event()
            stream = guard(akind.source(gate.wait, 1))()
            async with anyio.create_task_group() as group:
                group.start_soon(akind.next, stream)
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
                texts.append(repr(await error_of(akind.next(stream))))
                gate.set()
            await stream.aclose()
        assert texts[0] == texts[1]

    akind.run(body)
    assert counts(shop) == {"cancelled": 1}
    idle(shop)


def test_a_generator_that_steps_itself_is_refused_as_a_bare_one() -> None:
    """A step inside a step is the ValueError of any generator, and the stream goes on."""
    shop = policy(bulkhead(1))
    texts: list[str] = []
    for guard in (lambda fn: fn, shop):
        streams: list[Any] = []

        def step(streams: list[Any] = streams) -> None:
            try:
                next(streams[0])
            except ValueError as error:
                texts.append(str(error))

        streams.append(guard(SYNC_KIND.source(1, step, 2))())
        assert list(streams[0]) == [1, 2]
    assert texts[0] == texts[1] == "generator already executing"
    assert counts(shop) == {"success": 1}
    idle(shop)


def test_a_loop_for_each_step() -> None:
    """An async stream whose steps run in different loops, one after the other."""
    shop = policy(bulkhead(1), timeout(60))
    stream = shop.call(ASYNC_KINDS[0].source(1, 2))
    loops = [asyncio.new_event_loop() for _ in range(3)]
    got = [loop.run_until_complete(ASYNC_KINDS[0].next(stream)) for loop in loops]
    for loop in loops:
        loop.close()
    assert got == [1, 2, END]
    assert part(shop, "bulkhead")["used"] == 0
    assert counts(shop) == {"success": 1}
