"""Trio warns of async generators that are collected: of guarded ones not a word more."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import trio

from resilient import bulkhead, circuit_breaker, timeout
from tests.kit.policies import booked, idle, policy
from tests.kit.streams import ASYNC_KINDS

pytestmark = pytest.mark.usefixtures("unraised")

GUARDS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "bulkhead": lambda: (bulkhead(3),),
    "timeout": lambda: (circuit_breaker(), bulkhead(3), timeout(60)),
    "two timeouts": lambda: (timeout(60), bulkhead(3), timeout(30)),
}
every_guard = pytest.mark.parametrize("guards", list(GUARDS))


async def nine() -> Any:
    """Give nine items."""
    for item in range(9):
        yield item


def counted_warnings(fn: Callable[[], Any]) -> list[str]:
    """Return the warnings of a run on trio that drops one stream after its first item."""

    async def leave() -> None:
        stream = fn()
        await anext(stream)

    async def main() -> None:
        await leave()
        for _ in range(3):
            gc.collect()
            for _ in range(4):
                await trio.lowlevel.checkpoint()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trio.run(main)
    return [each.category.__name__ for each in caught]


@every_guard
def test_trio_warns_as_of_a_bare_one_and_no_more(guards: str) -> None:
    """Trio says once that an async generator was collected; of a guarded one it says the same."""
    shop = policy(*GUARDS[guards]())
    bare = counted_warnings(nine)
    assert bare == ["ResourceWarning"]
    assert counted_warnings(shop(nine)) == bare
    assert booked(shop) == ({"cancelled": 1}, {})
    idle(shop)


def test_trio_says_nothing_of_one_that_was_exhausted_or_closed() -> None:
    """No warning of an inner generator, whichever way the stream ended."""
    shop = policy(circuit_breaker(metrics_only=True), bulkhead(3), timeout(60))
    kind = next(kind for kind in ASYNC_KINDS if kind.name == "trio")

    async def body() -> None:
        for script in ((1, 2), (1, OSError), (OSError,), ()):
            for steps in range(4):
                stream = shop.call(kind.source(*script))
                try:
                    for _ in range(steps):
                        await kind.next(stream)
                except OSError:
                    pass
                await stream.aclose()
                del stream
                await kind.settle()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kind.run(body)
    idle(shop)
