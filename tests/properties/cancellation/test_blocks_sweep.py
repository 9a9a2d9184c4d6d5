"""A cancellation at every checkpoint of a block: nothing is held, and sums are exact."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient import CallTimeoutError, Policy, bulkhead, circuit_breaker, timeout
from tests.kit.cancellation import Swept, sweep
from tests.kit.policies import counts, idle, part, policy
from tests.kit.waiting import WAIT

Run = Callable[[Callable[[], Coroutine[Any, Any, Any]]], Awaitable[None]]
checkpoint = anyio.lowlevel.checkpoint


def whole(seconds: float = 60, **breaker: Any) -> Policy:
    """Return a policy with one slot and a line."""
    return policy(
        circuit_breaker(**breaker), bulkhead(1, max_waiting=3, max_wait=30), timeout(seconds)
    )


class Ledger:
    """Checks after each run of a sweep that the counts grew as they are to."""

    def __init__(self, *shops: Policy) -> None:
        self.shops, self.before = shops, [0] * len(shops)
        self.entered = 0

    def check(self, seen: Swept, others: int = 0) -> None:
        for place, shop in enumerate(self.shops):
            idle(shop)
            shown = shop.snapshot()
            number = sum(shown["calls"].values())
            more = number - self.before[place] - others
            assert more in (0, 1), f"{more} calls were counted, cancelled at {seen.at}"
            if self.entered or not seen.asked:
                assert more == 1, f"a block that was entered is not counted, cancelled at {seen.at}"
            assert sum(shown["served"].values()) <= number
            self.before[place] = number
        self.entered = 0
        if seen.asked:
            assert seen.came_out, f"the cancellation at checkpoint {seen.at} was swallowed"


@pytest.mark.parametrize("cleanup", ["none", "plain", "shielded"])
@pytest.mark.parametrize("said", ["nothing", "fail", "ignore", "raises"])
def test_of_a_block(loop: str, cleanup: str, said: str) -> None:
    """Cancelled at any checkpoint of its body, a block gives everything back."""
    shop = whole(failure_threshold=None, minimum_calls=1000)
    ledger = Ledger(shop)

    async def body() -> str:
        try:
            async with shop.block() as b:
                ledger.entered += 1
                try:
                    await checkpoint()
                    if said == "fail":
                        b.fail("empty answer")
                    elif said == "ignore":
                        b.ignore()
                    await checkpoint()
                    if said == "raises":
                        raise OSError
                finally:
                    if cleanup == "plain":
                        await checkpoint()
                    elif cleanup == "shielded":
                        with anyio.CancelScope(shield=True):
                            await checkpoint()
        except OSError:
            pass
        await checkpoint()
        return "over"

    async def scene(run: Run) -> None:
        await run(body)

    points = sweep(loop, scene, ledger.check)
    assert points >= 3
    outcome = {"nothing": "success", "fail": "failure", "ignore": "ignored", "raises": "failure"}
    assert set(counts(shop)) == {"cancelled", outcome[said]}
    assert counts(shop)["cancelled"] >= 2


def test_of_a_wait_in_line(loop: str) -> None:
    """Cancelled in the line, before or after the grant, no slot is lost."""
    shop = whole()
    ledger = Ledger(shop)

    async def hold() -> None:
        async with shop.block():
            for _ in range(4):
                await checkpoint()

    async def body() -> None:
        async with shop.block():
            ledger.entered += 1
            await checkpoint()

    async def scene(run: Run) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(hold)
            while not part(shop, "bulkhead")["used"]:
                await checkpoint()
            await run(body)

    assert sweep(loop, scene, lambda seen: ledger.check(seen, 1)) >= 2
    assert set(counts(shop)) == {"success", "cancelled"}


def test_of_blocks_inside_each_other(loop: str) -> None:
    """Cancelled in the inner block, both give everything back."""
    outer, inner = whole(), whole(30)
    ledger = Ledger(outer, inner)

    async def body() -> None:
        async with outer.block():
            async with inner.block():
                ledger.entered += 1
                await checkpoint()
                await checkpoint()
            await checkpoint()

    async def scene(run: Run) -> None:
        await run(body)

    assert sweep(loop, scene, ledger.check) >= 3
    for shop in (outer, inner):
        assert set(counts(shop)) == {"success", "cancelled"}


def test_of_a_timeout(loop: str) -> None:
    """Before, at and after the block's own timeout; whose it was is said rightly."""
    shop = policy(circuit_breaker(metrics_only=True), bulkhead(1), timeout(0.004))
    ledger = Ledger(shop)

    async def body() -> str:
        try:
            async with shop.block():
                ledger.entered += 1
                await checkpoint()
                try:
                    await anyio.sleep(WAIT)
                finally:
                    try:
                        await checkpoint()
                    finally:
                        await asyncio.sleep(0) if loop != "trio" else None
        except CallTimeoutError:
            return "timeout"
        return "over"

    async def scene(run: Run) -> None:
        await run(body)

    def check(seen: Swept) -> None:
        ledger.check(seen)
        if not seen.asked:
            assert seen.value == "timeout"

    assert sweep(loop, scene, check) >= 2
    assert counts(shop)["failure"] == shop.snapshot()["timeouts"] >= 1


@pytest.mark.parametrize("said", ["nothing", "fail"])
def test_of_a_probe(loop: str, said: str) -> None:
    """A probe that is cancelled gives its place back and moves nothing, whatever it said."""
    shops: list[Policy] = []

    async def scene(run: Run) -> None:
        shop = policy(circuit_breaker(recovery_timeout=60), bulkhead(1), timeout(60))
        shop.force_open()
        shop.release()
        shops.append(shop)

        async def body() -> None:
            async with shop.block() as b:
                if said == "fail":
                    b.fail("empty answer")
                await checkpoint()
                await checkpoint()

        await run(body)

    def check(seen: Swept) -> None:
        idle(shops[-1])
        done = "open" if said == "fail" else "closed"
        assert shops[-1].state == ("half_open" if seen.came_out else done)

    assert sweep(loop, scene, check) > 1
