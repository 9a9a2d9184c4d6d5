"""A cancellation at every checkpoint of a stream's life: nothing is held, and sums are exact."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient import Policy, bulkhead, circuit_breaker, timeout
from tests.kit.cancellation import Swept, sweep
from tests.kit.policies import counts, idle, part, policy
from tests.properties.cancellation.streams_kit import (
    Begun,
    Ledger,
    checkpoint,
    consume,
    lesser,
    whole,
)

Run = Callable[[Callable[[], Coroutine[Any, Any, Any]]], Awaitable[None]]


BODIES = ["three", "cleans_up", "shielded"]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("most", [1, 2, 99])
def test_of_a_whole_life(loop: str, body: str, most: int) -> None:
    """In a step, between two steps, in aclose() and in the clean-up: all is given back."""
    shop, begun = whole(), Begun()
    guarded, ledger = shop(getattr(begun, body)), Ledger(shop, begun)

    async def scene(run: Run) -> None:
        await run(lambda: consume(guarded(), [], most))
        for _ in range(6):
            await checkpoint()

    def check(seen: Swept) -> None:
        ledger.check(seen)
        if not seen.asked:
            assert seen.value == "over"

    points = sweep(loop, scene, check)
    assert points >= (2 if most == 1 else 4)
    calls = counts(shop)
    assert set(calls) <= {"success", "cancelled"}
    assert calls.get("success", 0) >= (most == 99)
    assert shop.state == "closed"


def test_of_a_life_that_nobody_closes() -> None:
    """Without aclosing(), the loop closes what the cancelled consumer left, on asyncio."""
    shop, begun = whole(), Begun()
    guarded, ledger = shop(begun.three), Ledger(shop, begun)

    async def careless() -> str:
        async for _ in guarded():
            await checkpoint()
        return "over"

    async def scene(run: Run) -> None:
        await run(careless)
        for _ in range(6):
            await checkpoint()

    assert sweep("asyncio", scene, ledger.check) > 5
    assert set(counts(shop)) <= {"success", "cancelled"}


def test_of_a_wait_in_line(loop: str) -> None:
    """At the first step, in the line, before or after the grant: no slot is lost."""
    shop, begun = whole(), Begun()
    guarded, ledger = shop(begun.three), Ledger(shop, begun)

    async def scene(run: Run) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(consume, shop.call(lesser), [])
            while not part(shop, "bulkhead")["used"]:
                await checkpoint()
            await run(lambda: consume(guarded(), []))

    assert sweep(loop, scene, lambda seen: ledger.check(seen, 1)) > 6
    assert set(counts(shop)) <= {"success", "cancelled"}


def test_of_a_failure_and_the_lesser_stream(loop: str) -> None:
    """In the body, before and in the fallback's stream, which answers it."""
    shop, begun = whole(failure_threshold=None, minimum_calls=1000), Begun()
    guarded, ledger, got = shop(begun.fails), Ledger(shop, begun), []

    async def scene(run: Run) -> None:
        got.clear()
        await run(lambda: consume(guarded(), got))
        await checkpoint()

    assert sweep(loop, scene, ledger.check) > 4
    assert got == ["a", "b"]
    assert shop.snapshot()["served"]["degraded"] == 1


def test_of_a_refusal_and_the_lesser_stream(loop: str) -> None:
    """In the fallback's stream that answers a refusal."""
    shop, begun = whole(), Begun()
    shop.force_open()
    guarded, ledger = shop(begun.three), Ledger(shop, begun)

    async def scene(run: Run) -> None:
        await run(lambda: consume(guarded(), []))
        await checkpoint()

    assert sweep(loop, scene, ledger.check) > 3
    assert begun.began == 0
    assert shop.snapshot()["served"]["degraded"] == 1


@pytest.mark.parametrize("ends", ["three", "fails"])
def test_of_a_probe(loop: str, ends: str) -> None:
    """A probe that is cancelled at any checkpoint gives its place back and moves nothing."""
    shops: list[Policy] = []

    async def scene(run: Run) -> None:
        shop = policy(circuit_breaker(recovery_timeout=60), bulkhead(1), timeout(60))
        shop.force_open()
        shop.release()
        shops.append(shop)
        stream = shop.call(getattr(Begun(), ends))

        async def body() -> None:
            try:
                await consume(stream, [])
            except OSError:
                pass

        await run(body)

    def check(seen: Swept) -> None:
        idle(shops[-1])
        done = "closed" if ends == "three" else "open"
        assert shops[-1].state in (("half_open", done) if seen.asked else (done,))
        assert sum(counts(shops[-1]).values()) <= 1

    assert sweep(loop, scene, check) > 1


def test_of_a_timeout(loop: str) -> None:
    """Before, at and after the stream's own timeout; whose it was is said rightly."""
    shop, begun = policy(bulkhead(1), timeout(0.005)), Begun()
    guarded, ledger = shop(begun.stalls), Ledger(shop, begun)

    async def body() -> str:
        try:
            return await consume(guarded(), [])
        except TimeoutError:
            return "timeout"

    async def scene(run: Run) -> None:
        await run(body)

    def check(seen: Swept) -> None:
        ledger.check(seen)
        assert seen.came_out if seen.asked else seen.value == "timeout"

    assert sweep(loop, scene, check) >= 2
    ended = counts(shop)  # refused: on a busy machine time is up before a stream has begun
    timed_out = ended.get("failure", 0) + ended.get("refused", 0)
    assert timed_out == shop.snapshot()["timeouts"] >= 1


@pytest.mark.parametrize("most", [1, 99])
def test_of_steps_in_tasks_of_their_own(loop: str, most: int) -> None:
    """The same where each step, and aclose(), is taken by another task."""
    shop, begun = whole(), Begun()
    guarded, ledger = shop(begun.three), Ledger(shop, begun)

    async def body(stream: Any) -> None:
        items: list[int] = []

        async def step() -> None:
            try:
                items.append(await anext(stream))
            except StopAsyncIteration:
                items.append(-1)

        try:
            while -1 not in items and len(items) < most:
                async with anyio.create_task_group() as group:
                    group.start_soon(step)
        finally:
            with anyio.CancelScope(shield=True):
                await stream.aclose()

    async def scene(run: Run) -> None:
        await run(lambda: body(guarded()))

    assert sweep(loop, scene, ledger.check) >= 1
    assert set(counts(shop)) <= {"success", "cancelled"}
