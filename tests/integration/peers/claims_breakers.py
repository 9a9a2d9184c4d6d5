"""circuitbreaker and pybreaker: breakers alone."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from importlib.metadata import files

from tests.integration.peers import scenes_async as scenes
from tests.integration.peers import scenes_sync
from tests.integration.peers.kit import Seen, check, needs

FABFUEL = "circuitbreaker"
PYBREAKER = "pybreaker"


@check(FABFUEL)
def circuitbreaker_half_open_herd() -> Seen:
    """Everybody who calls when the recovery time is over gets through."""
    from circuitbreaker import CircuitBreaker

    guard = CircuitBreaker(1, 1)
    got = asyncio.run(scenes.herd(guard, scenes.sleeping(1.02)))
    return Seen(f"{got} of {scenes.CROWD} reach it", got == scenes.CROWD)


@check(FABFUEL)
def circuitbreaker_late_success_closes() -> Seen:
    """A call that began before the circuit opened closes it."""
    from circuitbreaker import CircuitBreaker

    got = asyncio.run(scenes.late_success(CircuitBreaker(1, 60)))
    return Seen(f"open, then {got} of {scenes.CROWD} get through", got == scenes.CROWD)


@check(FABFUEL)
def circuitbreaker_cancelled_probe_closes() -> Seen:
    """A cancelled task is a success: as a probe it closes the circuit."""
    from circuitbreaker import CircuitBreaker

    guard = CircuitBreaker(1, 1)
    asyncio.run(scenes.cancelled_probe(guard, scenes.sleeping(1.02)))
    return Seen(f"after a cancelled probe: {guard.state}", guard.state == "closed")


@check(FABFUEL)
def circuitbreaker_sync_and_async() -> Seen:
    """One breaker serves a sync and an async function."""
    from circuitbreaker import CircuitBreaker

    guard = CircuitBreaker(1, 60)

    async def fine() -> str:
        return "fine"

    acall = guard(fine)
    if asyncio.run(acall()) != "fine":
        return Seen("no answer", False)
    with contextlib.suppress(ValueError):
        guard(int)("not a number")
    try:
        asyncio.run(acall())
    except Exception as error:
        name = type(error).__name__
        return Seen(
            f"opened by a sync call, an async one gets {name}", name == "CircuitBreakerError"
        )
    return Seen("the async call got through", False)


@check(FABFUEL)
def circuitbreaker_streams() -> Seen:
    """A generator is guarded to its end; what its caller sends is lost."""
    from circuitbreaker import CircuitBreaker

    whole = scenes_sync.stream(CircuitBreaker(1, 60))

    @CircuitBreaker(1, 60)
    def echo() -> object:
        got = yield "ready"
        yield got

    stream = iter(echo())
    next(stream)
    try:
        answer = stream.send("hello")
    except AttributeError:
        answer = "AttributeError"
    return Seen(f"guarded to the end: {whole}; send() gives {answer}", whole and answer != "hello")


@check(FABFUEL)
def circuitbreaker_fallback_when_open() -> Seen:
    """A fallback answers refusals, and no failure."""
    from circuitbreaker import CircuitBreaker

    call = CircuitBreaker(1, 60, fallback_function=lambda text: -1)(int)
    try:
        first = str(call("not a number"))
    except ValueError:
        first = "ValueError"
    second = call("2")
    return Seen(f"a failure: {first}; a refusal: {second}", (first, second) == ("ValueError", -1))


@check(FABFUEL)
def circuitbreaker_no_types() -> Seen:
    """It ships no types."""
    names = [each.name for each in files("circuitbreaker") or ()]
    return Seen(f"py.typed in it: {'py.typed' in names}", "py.typed" not in names)


@check(FABFUEL)
def circuitbreaker_needs_nothing() -> Seen:
    """It needs no other package."""
    return Seen(f"requires {needs(FABFUEL)}", not needs(FABFUEL))


@check(PYBREAKER)
def pybreaker_one_call_at_a_time() -> Seen:
    """Its lock is held while the function runs."""
    import pybreaker

    took = scenes_sync.four_threads(pybreaker.CircuitBreaker())
    return Seen(f"4 threads of 0.1 s take {took:.1f} s", took >= 0.4)


@check(PYBREAKER)
def pybreaker_async_never_opens() -> Seen:
    """An async function under the decorator is a success when it is called."""
    import pybreaker

    guard = pybreaker.CircuitBreaker(fail_max=1)

    @guard
    async def down() -> None:
        raise ConnectionError("down")

    asyncio.run(scenes.failed(down, 20))
    return Seen(f"after 20 failures: {guard.current_state}", guard.current_state == "closed")


@check(PYBREAKER)
def pybreaker_half_open_queues() -> Seen:
    """Half-open lets one plain call through at a time; who comes then waits for it."""
    import pybreaker

    guard = pybreaker.CircuitBreaker(fail_max=1, reset_timeout=0.05)
    lock, now, peak, waits = threading.Lock(), 0, 0, []

    def ask(fail: bool = False) -> None:
        nonlocal now, peak
        if fail:
            raise ConnectionError("down")
        with lock:
            now += 1
            peak = max(peak, now)
        time.sleep(0.1)
        with lock:
            now -= 1

    def timed() -> None:
        began = time.monotonic()
        guard.call(ask)
        waits.append(time.monotonic() - began)

    with contextlib.suppress(pybreaker.CircuitBreakerError):
        guard.call(ask, fail=True)
    time.sleep(0.06)
    threads = [threading.Thread(target=timed) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = f"{peak} at once; the last of 3 took {max(waits):.1f} s for 0.1 s"
    return Seen(text, peak == 1 and max(waits) >= 0.29)


@check(PYBREAKER)
def pybreaker_cancelled_counts() -> Seen:
    """In calling(), a cancelled task is a failure, and another error takes its place."""
    import pybreaker

    guard = pybreaker.CircuitBreaker(fail_max=1, reset_timeout=60)

    async def ask() -> None:
        with guard.calling():
            await asyncio.sleep(60)

    async def cancel() -> str:
        task = asyncio.ensure_future(ask())
        await asyncio.sleep(0.01)
        task.cancel()
        try:
            await task
        except BaseException as error:
            return type(error).__name__
        return "nothing"

    error = asyncio.run(cancel())
    holds = guard.current_state == "open" and error == "CircuitBreakerError"
    return Seen(f"{guard.current_state}, and the task raises {error}", holds)


@check(PYBREAKER)
def pybreaker_streams() -> Seen:
    """A generator is guarded to its end; leaving it early is a failure."""
    import pybreaker

    whole = scenes_sync.stream(
        pybreaker.CircuitBreaker(fail_max=1, reset_timeout=60, throw_new_error_on_trip=False)
    )
    guard = pybreaker.CircuitBreaker(fail_max=1, reset_timeout=60, throw_new_error_on_trip=False)

    @guard
    def items() -> object:
        yield 1
        yield 2

    left = iter(items())
    next(left)
    with contextlib.suppress(Exception):
        left.close()
    state = guard.current_state
    return Seen(f"guarded to the end: {whole}; left early: {state}", whole and state == "open")


@check(PYBREAKER)
def pybreaker_shared_in_redis() -> Seen:
    """Two breakers, as of two processes, share one state in Redis."""
    import fakeredis
    import pybreaker

    server = fakeredis.FakeServer()
    pair = [
        pybreaker.CircuitBreaker(
            fail_max=1,
            state_storage=pybreaker.CircuitRedisStorage(
                "closed", fakeredis.FakeStrictRedis(server=server), namespace="shop"
            ),
        )
        for _ in range(2)
    ]
    with contextlib.suppress(pybreaker.CircuitBreakerError):
        pair[0].call(int, "not a number")
    return Seen(f"the other one is {pair[1].current_state}", pair[1].current_state == "open")


@check(PYBREAKER)
def pybreaker_options_live() -> Seen:
    """Its options can be set while it is in use."""
    import pybreaker

    guard = pybreaker.CircuitBreaker(fail_max=5)
    guard.fail_max = 1
    with contextlib.suppress(pybreaker.CircuitBreakerError):
        guard.call(int, "not a number")
    return Seen(f"fail_max 5, then 1: {guard.current_state}", guard.current_state == "open")
