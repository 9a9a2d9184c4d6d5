"""hyx and pyresilience: several guards that go together."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from tests.integration.peers import scenes_async as scenes
from tests.integration.peers import scenes_sync
from tests.integration.peers.kit import Seen, check

HYX = "hyx"
PYRESILIENCE = "pyresilience"


@check(HYX)
def hyx_half_open_herd() -> Seen:
    """Everybody who calls when the recovery time is over gets through."""
    from hyx.circuitbreaker import consecutive_breaker

    guard = consecutive_breaker(ConnectionError, failure_threshold=1, recovery_time_secs=0.05)
    got = asyncio.run(scenes.herd(guard, scenes.sleeping(0.06), failures=2))
    return Seen(f"{got} of {scenes.CROWD} reach it", got == scenes.CROWD)


@check(HYX)
def hyx_cancelled_is_a_success() -> Seen:
    """In `async with`, a cancelled task sets the count of failures to 0."""
    from hyx.circuitbreaker import consecutive_breaker

    guard = consecutive_breaker(ConnectionError, failure_threshold=2, recovery_time_secs=60)

    async def ask(cancel: bool) -> None:
        async with guard:
            if cancel:
                await asyncio.sleep(60)
            raise ConnectionError("down")

    async def both() -> None:
        for cancel in (False, True, False):
            task = asyncio.ensure_future(ask(cancel))
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(both())
    state = guard.state.name
    return Seen(f"failure, cancellation, failure, of 2: {state}", state == "working")


@check(HYX)
def hyx_place_lost_on_cancel() -> Seen:
    """A task that is cancelled while it waits in `async with` keeps its place for good."""
    from hyx.bulkhead import bulkhead
    from hyx.bulkhead.exceptions import BulkheadFull

    async def scene() -> str:
        slots = bulkhead(max_concurrency=1, max_capacity=2)

        async def hold(leave: asyncio.Event) -> None:
            async with slots:
                await leave.wait()

        async def two(cancel: bool) -> str:
            leave = asyncio.Event()
            tasks = [asyncio.ensure_future(hold(leave)) for _ in range(2)]
            await asyncio.sleep(0.01)
            if cancel:
                tasks[1].cancel()
            leave.set()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            return ", ".join("in" if each is None else type(each).__name__ for each in ends)

        return f"{await two(True)}; then {await two(False)}"

    got = asyncio.run(scene())
    return Seen(f"2 places, one slot: {got}", got.endswith(f"then in, {BulkheadFull.__name__}"))


@check(HYX)
def hyx_needs_a_loop() -> Seen:
    """A timeout as a decorator can't be made at the top of a module."""
    from hyx.timeout import timeout

    async def ask() -> None: ...

    try:
        timeout(1)(ask)
    except RuntimeError as error:
        return Seen(str(error), "no running event loop" in str(error))
    return Seen("made", False)


@check(HYX)
def hyx_sync_unguarded() -> Seen:
    """It has no guard of a sync function."""
    from hyx.circuitbreaker import consecutive_breaker

    guard: Any = consecutive_breaker(ConnectionError, failure_threshold=1)
    got = guard(lambda: "answer")()
    name = type(got).__name__
    if asyncio.iscoroutine(got):
        got.close()
    return Seen(f"a sync function gives a {name}", name == "coroutine")


def of(**options: Any) -> scenes.Guard:
    """Return pyresilience's decorator."""
    from pyresilience import resilient

    guard: scenes.Guard = resilient(**options)
    return guard


@check(PYRESILIENCE)
def pyresilience_half_open_herd() -> Seen:
    """Everybody who calls when the recovery time is over gets through."""
    from pyresilience import CircuitBreakerConfig

    guard = of(circuit_breaker=CircuitBreakerConfig(failure_threshold=1, recovery_timeout=0.05))
    got = asyncio.run(scenes.herd(guard, scenes.sleeping(0.06)))
    return Seen(f"{got} of {scenes.CROWD} reach it", got == scenes.CROWD)


@check(PYRESILIENCE)
def pyresilience_cancelled_neutral() -> Seen:
    """A cancelled task is no failure."""
    from pyresilience import CircuitBreakerConfig

    guard = of(circuit_breaker=CircuitBreakerConfig(failure_threshold=1, recovery_timeout=60))
    got = asyncio.run(scenes.cancelled(guard, 3))
    return Seen(f"after 3 cancelled: {got} of 2 reach it", got == 2)


@check(PYRESILIENCE)
def pyresilience_slot_freed_early() -> Seen:
    """A bulkhead's slot is free again while the thread that timed out still runs."""
    from pyresilience import BulkheadConfig, TimeoutConfig

    guard = of(bulkhead=BulkheadConfig(max_concurrent=1), timeout=TimeoutConfig(0.03, pool_size=16))
    begun, peak = scenes_sync.abandoned(guard)
    return Seen(f"3 calls, 1 slot: {peak} bodies at once", peak == 3 == begun)


@check(PYRESILIENCE)
def pyresilience_hung_pool() -> Seen:
    """With all threads of its pool hung, a call times out that has not begun."""
    from pyresilience import TimeoutConfig

    begun, _ = scenes_sync.abandoned(of(timeout=TimeoutConfig(0.03, pool_size=2)), calls=5)
    return Seen(f"5 calls time out, {begun} have begun", begun == 2)


@check(PYRESILIENCE)
def pyresilience_context_lost() -> Seen:
    """A body with a timeout does not see its caller's contextvars."""
    from pyresilience import TimeoutConfig

    got = scenes_sync.context(of(timeout=TimeoutConfig(5, pool_size=2)))
    return Seen(f"the body reads {got!r}", got == "nothing")


@check(PYRESILIENCE)
def pyresilience_forked_pool() -> Seen:
    """A forked child's calls time out, when the parent had used the pool."""
    from pyresilience import TimeoutConfig

    call = of(timeout=TimeoutConfig(0.5, pool_size=2))(lambda: "answer")
    fine = scenes_sync.begins_in_child(call)
    return Seen(f"a call in the child goes well: {fine}", not fine)


@check(PYRESILIENCE)
def pyresilience_stream_unguarded() -> Seen:
    """A generator is a success when it is made."""
    from pyresilience import CircuitBreakerConfig

    guard = of(circuit_breaker=CircuitBreakerConfig(failure_threshold=1, recovery_timeout=60))
    refused = scenes_sync.stream(guard)
    return Seen(f"after a stream that failed, the next is refused: {refused}", not refused)


@check(PYRESILIENCE)
def pyresilience_slot_of_each_loop() -> Seen:
    """Each event loop has slots of its own."""
    from pyresilience import BulkheadConfig

    got = scenes.two_loops(of(bulkhead=BulkheadConfig(max_concurrent=1)))
    return Seen(f"1 slot, 2 loops: {got} inside", got == 2)


@check(PYRESILIENCE)
def pyresilience_retry_budget() -> Seen:
    """It has a budget of retries, which is off unless asked for."""
    from pyresilience import RetryBudgetConfig, RetryConfig

    tries = RetryConfig(max_attempts=3, delay=1e-6)
    without = scenes_sync.attempts(of(retry=tries))
    budget = RetryBudgetConfig(max_retries=10, refill_rate=0.001)
    bounded = scenes_sync.attempts(of(retry=tries, retry_budget=budget))
    return Seen(f"100 calls that fail: {without} attempts; with it {bounded}", bounded == 110)


@check(PYRESILIENCE)
def pyresilience_retry_after() -> Seen:
    """It has a function that reads Retry-After."""
    import httpx
    from pyresilience.contrib.http import retry_after_delay

    answer = httpx.Response(429, headers={"Retry-After": "7"}, request=httpx.Request("GET", "/"))
    error = httpx.HTTPStatusError("429", request=answer.request, response=answer)
    got = retry_after_delay(max_wait=60)(1, error)
    return Seen(f"Retry-After: 7 gives {got}", got == 7)


@check(PYRESILIENCE)
def pyresilience_not_on_trio() -> Seen:
    """Its timeout of an async function does not run on trio."""
    import trio
    from pyresilience import TimeoutConfig

    async def ask() -> str:
        return "answer"

    try:
        got = trio.run(of(timeout=TimeoutConfig(5))(ask))
    except RuntimeError as error:
        return Seen(f"RuntimeError: {error}", "event loop" in str(error))
    return Seen(str(got), False)


@check(PYRESILIENCE)
def pyresilience_fallback() -> Seen:
    """A fallback answers failures and refusals."""
    from pyresilience import CircuitBreakerConfig, FallbackConfig

    guard = of(
        circuit_breaker=CircuitBreakerConfig(failure_threshold=1, recovery_timeout=60),
        fallback=FallbackConfig(handler=lambda error: -1, fallback_on=(ValueError,)),
    )
    call, got = guard(int), []
    for text in ("not a number", "2"):
        with contextlib.suppress(Exception):
            got.append(call(text))
    return Seen(f"a failure and a refusal: {got}", got == [-1, -1])
