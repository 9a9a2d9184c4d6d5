"""One test body for `with` and for `async with`, on asyncio and trio."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from resilient import Policy, circuit_breaker, timeout
from resilient.testing import ManualClock
from tests.kit.colours import ASYNC_COLOURS, SYNC, Colour
from tests.kit.policies import part, policy


class Entered:
    """Enters a block in its colour's way, so that a test can always write `async with`."""

    def __init__(self, way: Way, block: Any) -> None:
        self._is_async = way.is_async
        self._block = block

    async def __aenter__(self) -> Any:
        if self._is_async:
            return await self._block.__aenter__()
        return self._block.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Any:
        if self._is_async:
            return await self._block.__aexit__(kind, error, trace)
        return self._block.__exit__(kind, error, trace)


class Way:
    """One way to enter blocks."""

    def __init__(self, colour: Colour) -> None:
        self.colour = colour
        self.name = "with" if not colour.is_async else colour.name
        self.is_async = colour.is_async

    def run(self, body: Callable[..., Any], *args: Any) -> Any:
        """Run a test's body to its end."""
        return self.colour.run(body, *args)

    def enter(self, block: Any) -> Entered:
        """Return what enters a block."""
        return Entered(self, block)

    def block(self, of: Policy) -> Entered:
        """Return what enters a new block of a policy."""
        return Entered(self, of.block())


WAYS = [Way(SYNC), *map(Way, ASYNC_COLOURS)]
ASYNC_WAYS = WAYS[1:]


def timed(clock: ManualClock, seconds: float = 1.0, *more: Any) -> Policy:
    """A policy with a time limit whose circuit opens at the first failure."""
    breaker = circuit_breaker(failure_threshold=1)
    return policy(breaker, *more, timeout(seconds, sync="cooperative"), clock=clock)


def taken(shop: Policy) -> tuple[int, int]:
    """Return calls in flight and slots used."""
    return shop.snapshot()["in_flight"], part(shop, "bulkhead")["used"]


async def entering(way: Way, of: Policy) -> BaseException:
    """Return what entering a block raises."""
    try:
        async with way.block(of):
            pass
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")
