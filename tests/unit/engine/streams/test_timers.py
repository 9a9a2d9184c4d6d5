"""The timer of an async stream: it cuts a step, and is not there between two steps."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient import CallTimeoutError, bulkhead, circuit_breaker, timeout
from resilient.testing import ManualClock
from tests.kit.cancellation import cancelling
from tests.kit.policies import booked, counts, error_of, idle, policy
from tests.kit.streams import END, Kind
from tests.kit.waiting import WAIT
from tests.kit.worlds import plain_loop


def staller(clock: ManualClock | None, log: list[Any], items: int = 1, after: float = 1.0) -> Any:
    """Return a stream function that stalls after some items, as the time passes."""

    async def stalls() -> Any:
        try:
            for item in range(items):
                yield item
            if clock is not None:
                clock.advance(after)
            await anyio.sleep(WAIT)
            log.append("ran on")
        except BaseException as error:
            log.append(isinstance(error, anyio.get_cancelled_exc_class()))
            raise
        finally:
            log.append("ended")

    return stalls


@pytest.mark.parametrize("items", [0, 2])
def test_a_step_is_cut_when_the_time_is_up(akind: Kind, clock: ManualClock, items: int) -> None:
    """A step that stalls is cancelled, cleans up and raises the timeout; the task goes on."""
    shop, log = (
        policy(circuit_breaker(failure_threshold=1), bulkhead(1), timeout(1.0), clock=clock),
        [],
    )

    async def body() -> None:
        stream = shop.call(staller(clock, log, items))
        for item in range(items):
            assert await akind.next(stream) == item
        error = await error_of(akind.next(stream))
        assert type(error) is CallTimeoutError, repr(error)
        assert (error.policy, error.timeout) == (shop.name, 1.0)
        assert log == [True, "ended"]
        assert cancelling() == 0
        await anyio.lowlevel.checkpoint()
        assert await akind.next(stream) == END

    akind.run(body)
    assert booked(shop) == ({"failure": 1}, {"error": 1})
    assert (shop.snapshot()["timeouts"], shop.state) == (1, "open")
    idle(shop)


def test_with_the_systems_clock(akind: Kind) -> None:
    """The same in real time: chunks first, then the cut, and not before the limit."""
    shop, log = policy(bulkhead(1), timeout(0.05)), []

    async def body() -> None:
        began, got = time.monotonic(), []
        with pytest.raises(CallTimeoutError):
            async for item in shop.call(staller(None, log, 3)):
                got.append(item)
        assert time.monotonic() - began >= 0.05
        assert (got, log, cancelling()) == ([0, 1, 2], [True, "ended"], 0)

    akind.run(body)
    assert (counts(shop), shop.snapshot()["timeouts"]) == ({"failure": 1}, 1)
    idle(shop)


def test_the_limit_is_one_for_all_steps(akind: Kind) -> None:
    """A stream that keeps giving items, each in time, is cut all the same."""
    shop = policy(bulkhead(1), timeout(0.1))

    async def drips() -> Any:
        while True:
            await anyio.sleep(0.005)
            yield "drop"

    async def body() -> None:
        began = time.monotonic()
        with pytest.raises(CallTimeoutError):
            async for _ in shop.call(drips):
                assert time.monotonic() - began < WAIT
        assert time.monotonic() - began >= 0.1

    akind.run(body)
    idle(shop)


def test_no_timer_between_the_steps(akind: Kind, clock: ManualClock) -> None:
    """The consumer's own waits are not cut, however late; the next step raises."""
    shop, log = policy(bulkhead(1), timeout(1.0), clock=clock), []

    async def body() -> None:
        stream = shop.call(staller(clock, log, 2))
        assert clock.waiting == 0
        assert await akind.next(stream) == 0
        clock.advance(3)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        await anyio.sleep(0.001)
        assert cancelling() == 0
        assert type(await error_of(akind.next(stream))) is CallTimeoutError
        assert clock.waiting == 0
        await anyio.sleep(0.001)

    akind.run(body)
    assert (log, clock.waiting) == ([False, "ended"], 0)
    idle(shop)


def test_no_timer_between_the_steps_in_real_time(akind: Kind) -> None:
    """The same with the system's clock, where one timer may serve many calls."""
    shop = policy(bulkhead(1), timeout(0.03))

    async def body() -> None:
        stream = shop.call(akind.source(1, 2))
        assert await akind.next(stream) == 1
        await anyio.sleep(0.06)
        assert cancelling() == 0
        assert type(await error_of(akind.next(stream))) is CallTimeoutError

    akind.run(body)
    idle(shop)


@plain_loop
def test_a_thousand_steps_leave_no_timers() -> None:
    """On asyncio, the loop's list of timers does not grow with the steps of a stream."""
    shop = policy(bulkhead(1), timeout(60))

    async def many() -> Any:
        for number in range(1000):
            yield number

    async def main() -> None:
        scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        most = 0
        async for _ in shop.call(many):
            most = max(most, len(scheduled))
        assert most < 200, f"{most} timers at once for one stream"

    asyncio.run(main())
    assert counts(shop) == {"success": 1}


def test_a_callers_cancellation_stays_one(akind: Kind, clock: ManualClock) -> None:
    """Cancelled in a step, the consumer ends cancelled: no timeout, no failure, no slot kept."""
    breaker = circuit_breaker(failure_threshold=1)
    shop, log = policy(breaker, bulkhead(1), timeout(1.0), clock=clock), []

    async def body() -> None:
        with anyio.CancelScope() as scope:
            async with aclosing(shop.call(staller(clock, log, 1, after=0.5))) as stream:
                assert await akind.next(stream) == 0
                async with anyio.create_task_group() as group:
                    group.start_soon(scope_soon, scope)
                    await akind.next(stream)
        assert scope.cancelled_caught

    async def scope_soon(scope: anyio.CancelScope) -> None:
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        scope.cancel()

    akind.run(body)
    assert log == [True, "ended"]
    assert booked(shop) == ({"cancelled": 1}, {})
    assert (shop.snapshot()["timeouts"], shop.state) == (0, "closed")
    idle(shop)


def test_a_cancellation_during_the_clean_up_after_a_timeout(
    akind: Kind, clock: ManualClock
) -> None:
    """Where the caller goes away while the timeout is cutting a step, the cancellation comes out."""
    shop, ends = policy(bulkhead(1), timeout(1.0), clock=clock), []

    async def body() -> None:
        scope = anyio.CancelScope()

        async def stalls() -> Any:
            yield 1
            clock.advance(1)
            try:
                await anyio.sleep(WAIT)
            finally:
                scope.cancel()

        with scope:
            stream = shop.call(stalls)
            await akind.next(stream)
            try:
                await akind.next(stream)
            except CallTimeoutError:
                ends.append("timeout")
            await anyio.lowlevel.checkpoint()
            ends.append("went on")

    akind.run(body)
    assert "went on" not in ends
    idle(shop)


def test_a_body_that_swallows_its_timeout_and_gives_an_item(
    akind: Kind, clock: ManualClock
) -> None:
    """A value that made it is given, without a cancellation left behind; the next step raises."""
    shop = policy(bulkhead(1), timeout(1.0), clock=clock)

    async def stubborn() -> Any:
        yield 1
        clock.advance(1)
        try:
            await anyio.sleep(WAIT)
        except anyio.get_cancelled_exc_class():
            pass
        yield "made it"
        yield "too late"

    async def body() -> None:
        stream = shop.call(stubborn)
        assert await akind.next(stream) == 1
        assert await akind.next(stream) == "made it"
        assert cancelling() == 0
        await anyio.sleep(0.001)
        assert type(await error_of(akind.next(stream))) is CallTimeoutError

    akind.run(body)
    assert (counts(shop), shop.snapshot()["timeouts"]) == ({"failure": 1}, 1)
    idle(shop)


@pytest.mark.parametrize("inside", [False, True], ids=["the outer's is up", "the inner's is up"])
def test_the_tightest_wins_and_is_named(akind: Kind, clock: ManualClock, inside: bool) -> None:
    """A stream consumed in a call that has a limit of its own: whose time is up is told."""
    outer = policy(circuit_breaker(failure_threshold=1), timeout(9 if inside else 1), clock=clock)
    inner = policy(
        circuit_breaker(failure_threshold=1), bulkhead(1), timeout(1 if inside else 9), clock=clock
    )
    log: list[Any] = []

    async def consume() -> None:
        async with aclosing(inner.call(staller(clock, log, 2))) as stream:
            async for _ in stream:
                pass

    async def body() -> None:
        error = await error_of(outer.acall(consume))
        assert type(error) is CallTimeoutError
        assert error.policy == (inner if inside else outer).name
        assert cancelling() == 0

    akind.run(body)
    assert log == [True, "ended"]
    assert counts(inner) == ({"failure": 1} if inside else {"cancelled": 1})
    assert inner.snapshot()["timeouts"] == inside
    assert outer.snapshot()["timeouts"] == (not inside)
    idle(inner)
    idle(outer)
