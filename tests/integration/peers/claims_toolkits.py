"""grelmicro and baldur: guards as a part of larger toolkits."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from tests.integration.peers import scenes_async as scenes
from tests.integration.peers import scenes_sync
from tests.integration.peers.kit import Seen, check

GRELMICRO = "grelmicro"
BALDUR = "baldur-framework"
SINCE = (3, 12)
_number = itertools.count()


def breaker(**options: Any) -> Any:
    """Return grelmicro's, in memory, which opens at the first failure."""
    from grelmicro.resilience import CircuitBreaker, MemoryCircuitBreakerAdapter

    known = {"error_threshold": 1, "success_threshold": 1, "reset_timeout": 0.05}
    backend = MemoryCircuitBreakerAdapter()
    name = f"b{next(_number)}"
    return CircuitBreaker.consecutive_count(name, backend=backend, **{**known, **options})


@check(GRELMICRO, SINCE)
def grelmicro_half_open_bounded() -> Seen:
    """One probe at a time by default; everybody else is refused."""
    got = asyncio.run(scenes.herd(breaker(), scenes.sleeping(0.06)))
    return Seen(f"{got} of {scenes.CROWD} reach it", got == 1)


@check(GRELMICRO, SINCE)
def grelmicro_cancelled_neutral() -> Seen:
    """A cancelled task is no failure; a cancelled probe gives its place back."""
    closed = asyncio.run(scenes.cancelled(breaker(), 3))
    probe = asyncio.run(scenes.cancelled_probe(breaker(), scenes.sleeping(0.06)))
    return Seen(f"closed: {closed} of 2; after a probe: {probe}", (closed, probe) == (2, 1))


@check(GRELMICRO, SINCE)
def grelmicro_late_success_closes() -> Seen:
    """A call that began before the circuit opened closes it while a probe still runs."""
    opened = asyncio.run(scenes.late_success(breaker(reset_timeout=60)))
    half = asyncio.run(scenes.late_success_beside_probe(breaker(), scenes.sleeping(0.06)))
    text = f"open: {opened}, half-open: {half} of {scenes.CROWD} get through"
    return Seen(text, (opened, half) == (0, scenes.CROWD))


@check(GRELMICRO, SINCE)
def grelmicro_hung_probe_wedges() -> Seen:
    """A probe that never ends keeps everybody else out, for longer than the recovery time."""
    later = scenes.sleeping(0.2)
    got = asyncio.run(scenes.hung_probe(breaker(), scenes.sleeping(0.06), later))
    return Seen(f"8 recovery times later {got} get through", got == 0)


@check(GRELMICRO, SINCE)
def grelmicro_options_live() -> Seen:
    """Its options can be changed while it is in use, and its state is kept."""
    guard = breaker(error_threshold=5, reset_timeout=60)

    async def down() -> None:
        raise ConnectionError("down")

    async def scene() -> str:
        call = guard(down)
        await scenes.failed(call, 1)
        await guard.reconfigure(guard.config.model_copy(update={"error_threshold": 2}))
        await scenes.failed(call, 1)
        return str(guard.state.name)

    got = asyncio.run(scene())
    return Seen(f"5 failures allowed, then 2, after 2: {got}", got == "OPEN")


@check(GRELMICRO, SINCE)
def grelmicro_sync_needs_a_loop() -> Seen:
    """A sync function needs an event loop beside it."""
    try:
        got = str(breaker()(int)("1"))
    except RuntimeError as error:
        return Seen(f"RuntimeError: {error}"[:70], "thread" in str(error))
    return Seen(got, False)


@check(GRELMICRO, SINCE)
def grelmicro_no_sync_timeout() -> Seen:
    """Its timeout refuses a sync function when it is decorated."""
    from grelmicro.resilience import Timeout

    try:
        Timeout(f"t{next(_number)}", seconds=1)(int)
    except TypeError as error:
        return Seen(f"TypeError: {error}"[:70], "async" in str(error))
    return Seen("made", False)


@check(GRELMICRO, SINCE)
def grelmicro_not_on_trio() -> Seen:
    """Its timeout does not run on trio."""
    import trio
    from grelmicro.resilience import Timeout

    async def ask() -> str:
        return "answer"

    try:
        got = trio.run(Timeout(f"t{next(_number)}", seconds=1)(ask))
    except RuntimeError as error:
        return Seen(f"RuntimeError: {error}", "event loop" in str(error))
    return Seen(str(got), False)


@check(GRELMICRO, SINCE)
def grelmicro_shared_state() -> Seen:
    """It has a store of breakers that all processes of a fleet share."""
    from grelmicro.resilience import RedisCircuitBreakerAdapter

    shared = RedisCircuitBreakerAdapter.is_shared
    return Seen(f"of the one for Redis, is_shared: {shared}", shared)


@check(GRELMICRO, SINCE)
def grelmicro_more_than_guards() -> Seen:
    """It has locks, tasks and a cache, too."""
    from importlib.util import find_spec

    parts = ("coordination", "task", "cache")
    there = [each for each in parts if find_spec(f"grelmicro.{each}")]
    return Seen(", ".join(there), len(there) == 3)


def policy(**options: Any) -> scenes.Guard:
    """Return baldur's breaker, which opens at the first failure and closes at the first success."""
    from baldur.services.circuit_breaker.config import CircuitBreakerConfig
    from baldur.services.circuit_breaker.policy import (
        AsyncCircuitBreakerPolicy,
        CircuitBreakerPolicy,
    )

    known: dict[str, Any] = {
        "failure_threshold": 1,
        "recovery_timeout": 1,
        "success_threshold": 1,
        "half_open_max_calls": 1,
    }
    config = CircuitBreakerConfig(**{**known, **options})
    guarded = AsyncCircuitBreakerPolicy(CircuitBreakerPolicy(f"p{next(_number)}", config=config))

    def guard(fn: Any) -> Any:
        async def call() -> Any:
            result = await guarded.execute(fn)
            if result.error is not None:
                raise result.error
            return result.value

        return call

    return guard


def protected(**options: Any) -> scenes.Guard:
    """Return baldur's decorator of sync functions."""
    import baldur

    return lambda fn: baldur.protected(f"d{next(_number)}", **options)(lambda: fn())


@check(BALDUR)
def baldur_half_open_bounded() -> Seen:
    """As many probes get through as half_open_max_calls says; everybody else is refused."""
    got = asyncio.run(scenes.herd(policy(half_open_max_calls=3), scenes.sleeping(1.05)))
    return Seen(f"{got} of {scenes.CROWD} reach it, of 3 allowed", got == 3)


@check(BALDUR)
def baldur_late_success_closes() -> Seen:
    """A call that began before the circuit opened closes it while a probe still runs."""
    opened = asyncio.run(scenes.late_success(policy(recovery_timeout=60)))
    half = asyncio.run(scenes.late_success_beside_probe(policy(), scenes.sleeping(1.05)))
    text = f"open: {opened}, half-open: {half} of {scenes.CROWD} get through"
    return Seen(text, (opened, half) == (0, scenes.CROWD))


@check(BALDUR)
def baldur_cancelled_neutral() -> Seen:
    """A cancelled task is no failure."""
    got = asyncio.run(scenes.cancelled(policy(), 3))
    return Seen(f"after 3 cancelled: {got} of 2 reach it", got == 2)


@check(BALDUR)
def baldur_cancelled_probe_keeps_place() -> Seen:
    """A cancelled probe keeps its place; a setting, 60 s by default, says for how long."""
    from baldur.services.circuit_breaker.config import CircuitBreakerConfig

    got = asyncio.run(scenes.cancelled_probe(policy(), scenes.sleeping(1.05)))
    stuck = CircuitBreakerConfig().half_open_stuck_timeout_seconds
    return Seen(f"after it {got} get through, for up to {stuck} s", (got, stuck) == (0, 60))


@check(BALDUR)
def baldur_context_kept() -> Seen:
    """A sync body with a timeout sees its caller's contextvars."""
    got = scenes_sync.context(protected(timeout=5))
    return Seen(f"the body reads {got!r}", got == "r-1")


@check(BALDUR)
def baldur_forked_pool() -> Seen:
    """A forked child's calls with a timeout fail, when the parent had used its pool."""
    fine = scenes_sync.begins_in_child(protected(timeout=0.3)(lambda: "answer"))
    return Seen(f"a call in the child goes well: {fine}", not fine)


@check(BALDUR)
def baldur_stream_unguarded() -> Seen:
    """A generator is a success when it is made."""
    import baldur

    name = f"d{next(_number)}"
    refused = [scenes_sync.stream(baldur.protected(name)) for _ in range(6)][-1]
    return Seen(f"after 6 streams that failed, the next is refused: {refused}", not refused)


@check(BALDUR)
def baldur_keeps_failed_calls() -> Seen:
    """Its decorator can keep a call that failed, run it again later, and tell it from a double."""
    import inspect

    import baldur

    options = inspect.signature(baldur.protected).parameters
    there = [each for each in ("dlq", "replay", "idempotency_key") if each in options]
    return Seen(", ".join(there), len(there) == 3)
