"""Streams that nobody closes: collected, left to their loop, or left behind by it."""

from __future__ import annotations

import asyncio
import gc
import inspect
import types
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient import Policy, bulkhead, circuit_breaker, timeout
from resilient.testing import ManualClock
from tests.kit.policies import booked, counts, idle, policy
from tests.kit.streams import ASYNC_KINDS, END, SYNC_KIND, Kind, quiet

pytestmark = pytest.mark.usefixtures("unraised")

GUARDS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "bulkhead": lambda: (bulkhead(3),),
    "timeout": lambda: (circuit_breaker(failure_threshold=1), bulkhead(3), timeout(60, sync="cooperative")),
    "two timeouts": lambda: (timeout(60, sync="cooperative"), bulkhead(3), timeout(30, sync="cooperative")),
}  # fmt: skip
every_guard = pytest.mark.parametrize("guards", list(GUARDS))


def source_of(kind: Kind, cleanup: str, log: list[Any]) -> Any:
    """Return a stream function with a clean-up that waits or does not."""

    def plain() -> Any:
        try:
            yield from range(9)
        finally:
            log.append("cleaned")

    async def waits() -> Any:
        try:
            for item in range(9):
                yield item
        finally:
            if cleanup == "waits":
                with anyio.CancelScope(shield=True):
                    await anyio.lowlevel.checkpoint()
                    await anyio.lowlevel.checkpoint()
            log.append("cleaned")

    return waits if kind.is_async else plain


def neutral(shop: Policy, number: int) -> None:
    """Assert that so many streams went away, and that nothing is held."""
    assert booked(shop) == ({"cancelled": number}, {})
    assert shop.state == "closed"
    idle(shop)


@every_guard
@pytest.mark.parametrize("cleanup", ["waits", "at once"])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_stream_that_is_dropped_gives_its_slot_back(
    kind: Kind, guards: str, cleanup: str, steps: int
) -> None:
    """Broken out of and forgotten, it is collected: neutral, cleaned up, without a word."""
    shop, log = policy(*GUARDS[guards]()), []
    guarded = shop(source_of(kind, cleanup, log))

    async def leave() -> None:
        stream = guarded()
        for _ in range(steps):
            await kind.next(stream)
        assert shop.snapshot()["in_flight"] == 1

    async def body() -> None:
        for number in (1, 2, 3):
            with quiet(kind):
                await leave()
                await kind.settle()
            assert len(log) == number
            neutral(shop, number)

    kind.run(body)


def test_it_is_collected_at_once_and_without_a_cycle(kind: Kind) -> None:
    """A generator that is dropped gives its slot back with the last reference, as a bare one does."""
    shop, log = policy(bulkhead(1), timeout(9, sync="cooperative")), []
    guarded = shop(source_of(kind, "at once", log))

    async def body() -> None:
        gc.collect()
        gc.disable()
        try:
            with quiet(kind):
                stream = guarded()
                await kind.next(stream)
                del stream
                for _ in range(5):
                    if kind.is_async:
                        await anyio.lowlevel.checkpoint()
            assert log == ["cleaned"]
            neutral(shop, 1)
        finally:
            gc.enable()

    kind.run(body)


@every_guard
def test_a_stream_in_a_cycle(kind: Kind, guards: str) -> None:
    """A stream that only the cycle collector can free gives its slot back then."""
    shop, log = policy(*GUARDS[guards]()), []
    guarded = shop(source_of(kind, "at once", log))

    async def leave() -> None:
        cycle: list[Any] = [guarded()]
        cycle.append(cycle)
        await kind.next(cycle[0])

    async def body() -> None:
        with quiet(kind):
            await leave()
            await kind.settle()
        neutral(shop, 1)

    kind.run(body)
    assert log == ["cleaned"]


@every_guard
@pytest.mark.parametrize("cleanup", ["waits", "at once"])
def test_streams_that_are_alive_when_the_loop_ends(
    unraised: list[str], guards: str, cleanup: str
) -> None:
    """Left over at the end of the run, they are closed by the loop, once each, without a word."""
    for kind in ASYNC_KINDS:
        shop, log, kept = policy(*GUARDS[guards]()), [], []
        guarded = shop(source_of(kind, cleanup, log))

        async def body(kind: Kind = kind, kept: list[Any] = kept, guarded: Any = guarded) -> None:
            for _ in range(3):
                kept.append(guarded())
                await kind.next(kept[-1])

        kind.run(body)
        assert unraised == [], f"{kind.name}: {unraised}"
        assert log == ["cleaned"] * 3
        neutral(shop, 3)


@every_guard
def test_a_stream_that_outlives_its_loop(guards: str) -> None:
    """Where a loop is closed without closing its streams, collecting them gives the slots back."""
    shop = policy(*GUARDS[guards]())
    (kind, *_) = ASYNC_KINDS
    guarded = shop(source_of(kind, "at once", []))
    loop = asyncio.new_event_loop()
    streams = [guarded(), guarded()]
    for stream in streams:
        loop.run_until_complete(kind.next(stream))
    loop.close()
    assert shop.snapshot()["in_flight"] == 2
    del stream
    streams.clear()
    gc.collect()
    neutral(shop, 2)


def test_a_stream_without_any_loop() -> None:
    """Driven by hand, where no loop has asked to be told of async generators, it is closed too."""
    shop, log = policy(circuit_breaker(), bulkhead(1)), []
    guarded = shop(source_of(ASYNC_KINDS[0], "at once", log))
    stream = guarded()
    with pytest.raises(StopIteration) as step:
        stream.asend(None).send(None)
    assert step.value.value == 0
    assert shop.snapshot()["in_flight"] == 1
    del stream, step
    gc.collect()
    assert log == ["cleaned"]
    neutral(shop, 1)


def test_a_stream_that_timed_out_is_closed_and_not_just_dropped(
    kind: Kind, clock: ManualClock
) -> None:
    """After a timeout the inner generator is at its end, also where somebody has a reference."""
    shop, log = policy(bulkhead(1), timeout(1.0, sync="cooperative"), clock=clock), []
    plain = source_of(kind, "at once", log)

    async def body() -> None:
        stream = shop.call(plain)
        await kind.next(stream)
        (inner,) = running(plain)
        clock.advance(1)
        with pytest.raises(TimeoutError):
            await kind.next(stream)
        assert log == ["cleaned"]
        assert frame_of(inner) is None, "the inner generator was not closed"
        assert await kind.next(stream) == END

    kind.run(body)
    assert counts(shop) == {"failure": 1}
    idle(shop)


def running(fn: Any) -> list[Any]:
    """Return the generators of a stream function that have not ended."""
    # By their types: isinstance() asks a lazy object of somebody's for its class, which may fail.
    kinds = types.GeneratorType, types.AsyncGeneratorType
    generators = (each for each in gc.get_objects() if type(each) in kinds)
    return [each for each in generators if getattr(frame_of(each), "f_code", None) is fn.__code__]


def frame_of(stream: Any) -> Any:
    """Return the frame of a generator of either kind; None at its end."""
    return stream.ag_frame if inspect.isasyncgen(stream) else stream.gi_frame


def test_a_thousand_dropped_streams_in_one_thread() -> None:
    """However many are dropped, the next one finds a slot, and memory does not grow."""
    shop = policy(circuit_breaker(), bulkhead(1), timeout(9, sync="cooperative"))
    guarded = shop(SYNC_KIND.source(1, 2))
    for number in range(1000):
        assert next(guarded()) == 1, f"the slot of stream {number} was lost"
    neutral(shop, 1000)
