"""Bodies, a ledger and a consumer for sweeps of cancellations over streams."""

from __future__ import annotations

import gc
from contextlib import aclosing
from typing import Any

import anyio
import anyio.lowlevel

from resilient import Policy, bulkhead, circuit_breaker, fallback, timeout
from tests.kit.cancellation import Swept
from tests.kit.policies import idle, policy
from tests.kit.waiting import WAIT

checkpoint = anyio.lowlevel.checkpoint


class Begun:
    """Stream functions that count how many of their bodies began and ended."""

    def __init__(self) -> None:
        self.began = self.ended = 0

    async def three(self) -> Any:
        """Pass checkpoints and give three items."""
        self.began += 1
        try:
            for item in range(3):
                await checkpoint()
                yield item
                await checkpoint()
        finally:
            self.ended += 1

    async def cleans_up(self) -> Any:
        """Give three items, and pass checkpoints in the clean-up, which may be cancelled."""
        self.began += 1
        try:
            for item in range(3):
                await checkpoint()
                yield item
        finally:
            try:
                await checkpoint()
                await checkpoint()
            finally:
                self.ended += 1

    async def shielded(self) -> Any:
        """Give three items, and pass a checkpoint in a shielded clean-up."""
        self.began += 1
        try:
            for item in range(3):
                await checkpoint()
                yield item
        finally:
            try:
                with anyio.CancelScope(shield=True):
                    await checkpoint()
            finally:
                self.ended += 1

    async def fails(self) -> Any:
        """Fail before the first item."""
        self.began += 1
        try:
            await checkpoint()
            raise OSError("down")
            yield
        finally:
            self.ended += 1

    async def stalls(self) -> Any:
        """Give an item and stall."""
        self.began += 1
        try:
            await checkpoint()
            yield 0
            await anyio.sleep(WAIT)
        finally:
            self.ended += 1


async def lesser() -> Any:
    """Stream something lesser, with checkpoints."""
    for item in ("a", "b"):
        await checkpoint()
        yield item
        await checkpoint()


def whole(seconds: float = 60, **breaker: Any) -> Policy:
    """Return a policy of all four guards with one slot and a line."""
    return policy(
        fallback(lesser), circuit_breaker(**breaker), bulkhead(1, max_waiting=3, max_wait=30),
        timeout(seconds),
    )  # fmt: skip


class Ledger:
    """Checks after each run of a sweep that the counts grew by one call at most."""

    def __init__(self, shop: Policy, begun: Begun) -> None:
        self.shop, self.begun, self.before, self.bodies = shop, begun, 0, 0

    def check(self, seen: Swept, *others: int) -> None:
        gc.collect()
        idle(self.shop)
        shown = self.shop.snapshot()
        number = sum(shown["calls"].values())
        more, bodies = number - self.before - sum(others), self.begun.began - self.bodies
        assert more in (0, 1), f"{more} calls were counted for the run cancelled at {seen.at}"
        assert bodies <= more, f"the body began, and no call was counted (cancelled at {seen.at})"
        assert sum(shown["served"].values()) <= number
        assert self.begun.began == self.begun.ended, "a body was left unfinished"
        self.before, self.bodies = number, self.begun.began
        if not seen.asked:
            assert more == 1, "the run that nobody cancelled was not counted"


async def consume(stream: Any, got: list[Any], most: int = 99) -> str:
    """Take items and give way between them; leave after the last that is wanted."""
    async with aclosing(stream):
        async for item in stream:
            got.append(item)
            if len(got) >= most:
                break
            await checkpoint()
    return "over"
