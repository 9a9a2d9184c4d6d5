"""interlock-cb: a breaker that has much of what ours has, and a pipeline round it."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from tests.integration.peers import scenes_async as scenes
from tests.integration.peers import scenes_sync
from tests.integration.peers.kit import Seen, check, needs

INTERLOCK = "interlock-cb"
_number = itertools.count()


class Clock:
    """Stands still until it is moved; interlock takes any object like this one."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def after(self, seconds: float) -> scenes.Recover:
        """Return a wait of so many of its seconds."""

        async def wait() -> None:
            self.now += seconds

        return wait


def breaker(clock: Clock, **options: Any) -> Any:
    """Return a breaker that opens at the first failure, for 10 s."""
    from interlock import CircuitBreaker, Config

    known: dict[str, Any] = {"minimum_number_of_calls": 1, "wait_duration_in_open": 10.0}
    config = Config(**{**known, **options})
    return CircuitBreaker(name=f"b{next(_number)}", config=config, clock=clock)


def pipeline(*, bulkhead: int | None = None, timeout: float | None = None) -> Any:
    """Return a pipeline of these."""
    from interlock import Pipeline

    builder = Pipeline.builder()
    if bulkhead is not None:
        builder = builder.bulkhead(bulkhead)
    if timeout is not None:
        builder = builder.timeout(timeout)
    return builder.build()


@check(INTERLOCK)
def interlock_half_open_bounded() -> Seen:
    """One probe at a time by default; everybody else is refused."""
    clock = Clock()
    got = asyncio.run(scenes.herd(breaker(clock), clock.after(10)))
    return Seen(f"{got} of {scenes.CROWD} reach it", got == 1)


@check(INTERLOCK)
def interlock_late_results_dropped() -> Seen:
    """A call that began before the circuit moved moves nothing."""
    clock = Clock()
    opened = asyncio.run(scenes.late_success(breaker(clock)))
    probing = breaker(clock, permitted_calls_in_half_open=1)
    half = asyncio.run(scenes.late_success_beside_probe(probing, clock.after(10)))
    return Seen(f"open: {opened}, half-open: {half} get through", (opened, half) == (0, 0))


@check(INTERLOCK)
def interlock_cancelled_neutral() -> Seen:
    """A cancelled task is no failure; a cancelled probe gives its place back."""
    clock = Clock()
    closed = asyncio.run(scenes.cancelled(breaker(clock), 3))
    probe = asyncio.run(scenes.cancelled_probe(breaker(clock), clock.after(10)))
    return Seen(f"closed: {closed} of 2; after a probe: {probe}", (closed, probe) == (2, 1))


@check(INTERLOCK)
def interlock_hung_probe_wedges() -> Seen:
    """A probe that never ends keeps the circuit half-open, and everybody else out."""
    clock = Clock()
    got = asyncio.run(scenes.hung_probe(breaker(clock), clock.after(10), clock.after(3600)))
    return Seen(f"2 hours later {got} get through", got == 0)


@check(INTERLOCK)
def interlock_hung_calls_unseen() -> Seen:
    """Calls that hang are not slow until they end."""
    clock = Clock()
    slow = breaker(clock, slow_call_duration_threshold=1.0, slow_call_rate_threshold=0.5)
    got = asyncio.run(scenes.hung_calls(slow, clock.after(3600)))
    return Seen(
        f"30 calls hang for an hour; {got} of {scenes.CROWD} more reach it", got == scenes.CROWD
    )


@check(INTERLOCK)
def interlock_sync_and_async() -> Seen:
    """One breaker serves a sync and an async function."""
    guard = breaker(Clock())

    async def fine() -> str:
        return "fine"

    acall = guard(fine)
    first = asyncio.run(acall())
    try:
        guard(int)("not a number")
    except ValueError:
        pass
    try:
        asyncio.run(acall())
    except Exception as error:
        name = type(error).__name__
        return Seen(f"{first}, then {name}", name == "CircuitOpenError")
    return Seen("the async call got through", False)


@check(INTERLOCK)
def interlock_slot_freed_early() -> Seen:
    """A bulkhead's slot is free again while the thread that timed out still runs."""
    begun, peak = scenes_sync.abandoned(pipeline(bulkhead=1, timeout=0.03))
    return Seen(f"3 calls, 1 slot: {peak} bodies at once", peak == 3 == begun)


@check(INTERLOCK)
def interlock_threads_unbounded() -> Seen:
    """Without a bulkhead nothing bounds the threads that hang after a timeout."""
    _, peak = scenes_sync.abandoned(pipeline(timeout=0.001), calls=100)
    return Seen(f"100 calls: {peak} threads at once", peak == 100)


@check(INTERLOCK)
def interlock_context_lost() -> Seen:
    """The body of a sync call with a timeout does not see its caller's contextvars."""
    got = scenes_sync.context(pipeline(timeout=5))
    return Seen(f"the body reads {got!r}", got == "nothing")


@check(INTERLOCK)
def interlock_slots_of_each_colour() -> Seen:
    """Sync and async callers of one bulkhead have a count each."""
    got = scenes.thread_and_loop(pipeline(bulkhead=1))
    return Seen(f"1 slot, a thread and a loop: {got} inside", got == 2)


@check(INTERLOCK)
def interlock_stream_unguarded() -> Seen:
    """A generator is a success when it is made."""
    refused = scenes_sync.stream(breaker(Clock()))
    return Seen(f"after a stream that failed, the next is refused: {refused}", not refused)


@check(INTERLOCK)
def interlock_retry_unbounded() -> Seen:
    """Its retry, which is tenacity's, has no budget."""
    from interlock import Pipeline
    from tenacity import wait_none

    guard = Pipeline.builder().retry(attempts=3, wait=wait_none()).build()
    got = scenes_sync.attempts(guard)
    return Seen(f"100 calls that fail: {got} attempts", got == 300)


@check(INTERLOCK)
def interlock_trio() -> Seen:
    """Its breaker runs on trio; its timeout and bulkhead do not."""
    import trio

    async def ask() -> str:
        return "answer"

    got = []
    for guard in (breaker(Clock()), pipeline(timeout=5), pipeline(bulkhead=1)):
        try:
            got.append(trio.run(guard(ask)))
        except BaseException as error:
            got.append(type(error).__name__)
    return Seen(", ".join(got), got == ["answer", "RuntimeError", "RuntimeError"])


@check(INTERLOCK)
def interlock_options_fixed() -> Seen:
    """Its options can't be changed in a breaker that is in use."""
    from interlock import CircuitBreaker, Config

    frozen = "no error"
    try:
        setattr(Config(), "failure_rate_threshold", 0.1)  # noqa: B010 -- a type checker knows better
    except Exception as error:
        frozen = type(error).__name__
    ways = [name for name in dir(CircuitBreaker) if "config" in name or "update" in name]
    return Seen(f"{frozen}; methods for it: {ways}", frozen != "no error" and not ways)


@check(INTERLOCK)
def interlock_shared_in_redis() -> Seen:
    """Two breakers, as of two processes, share one state in Redis."""
    import time

    import fakeredis
    from interlock import CircuitBreaker, Config
    from interlock.integrations.redis import RedisStorage

    server, seen = fakeredis.FakeServer(), "closed"
    config = Config(minimum_number_of_calls=1, wait_duration_in_open=60)
    pair = [
        CircuitBreaker(
            name="shop",
            config=config,
            storage=RedisStorage(fakeredis.FakeRedis(server=server), poll_interval=0.05),
        )
        for _ in range(2)
    ]
    for each in pair:
        each.call(int, "1")
    try:
        pair[0].call(int, "not a number")
    except ValueError:
        pass
    until = time.monotonic() + 3
    while time.monotonic() < until and "open" not in seen.lower():
        time.sleep(0.02)
        seen = pair[1].state.name
    for each in pair:
        each.close()
    return Seen(f"the other one is {seen}", seen == "OPEN")


@check(INTERLOCK)
def interlock_needs_nothing() -> Seen:
    """It needs no other package."""
    return Seen(f"requires {needs(INTERLOCK)}", not needs(INTERLOCK))


@check(INTERLOCK)
def interlock_clients() -> Seen:
    """It brings transports for HTTP clients, and handlers for two frameworks."""
    import pkgutil

    import interlock.integrations

    names = {each.name for each in pkgutil.iter_modules(interlock.integrations.__path__)}
    known = {"aiohttp", "fastapi", "httpx", "litestar", "requests"}
    return Seen(", ".join(sorted(names & known)), known <= names)


@check(INTERLOCK)
def interlock_typed() -> Seen:
    """It ships types, and a decorated function keeps its signature."""
    from importlib.resources import files
    from inspect import signature

    @breaker(Clock())  # type: ignore[untyped-decorator]
    def price(sku: str, *, shop: int = 1) -> float:
        return float(shop)

    there = files("interlock").joinpath("py.typed").is_file()
    shape = str(signature(price))
    return Seen(f"py.typed: {there}; {shape}", there and "sku" in shape and "float" in shape)
