"""throw() and close() at each yield, and coroutines that are dropped or never begun."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from resilient import Policy, bulkhead, circuit_breaker, fallback, timeout
from tests.kit.cancellation import pause
from tests.kit.policies import idle, part, policy
from tests.kit.worlds import BACKENDS, run

GUARDS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "breaker": lambda: (circuit_breaker(),),
    "no timeout": lambda: (circuit_breaker(), bulkhead(1)),
    "timeout": lambda: (circuit_breaker(), bulkhead(1), timeout(60, sync="cooperative")),
    "two timeouts": lambda: (timeout(60), circuit_breaker(), bulkhead(1), timeout(30)),
    "fallback": lambda: (fallback(instead), circuit_breaker(), bulkhead(1), timeout(60)),
}
WAYS: dict[str, Callable[[Policy, Any], Callable[[], Any]]] = {
    "decorated": lambda shop, fn: shop(fn),
    "acall": lambda shop, fn: lambda: shop.acall(fn),
}
YIELDS = 4


async def instead() -> str:
    """Answer after two yields."""
    await pause()
    await pause()
    return "less"


async def body() -> str:
    """Yield twice and fail: what else it yields is the fallback's."""
    await pause()
    await pause()
    raise OSError("down")


class Thrown(Exception):
    """Thrown in from outside."""


def stepped(coroutine: Coroutine[Any, Any, Any], steps: int) -> bool:
    """Drive a coroutine by hand for so many yields; tell whether it still runs."""
    try:
        for _ in range(steps):
            coroutine.send(None)
    except (OSError, StopIteration):
        return False
    return True


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Name an event loop."""
    return str(request.param)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("guards", GUARDS)
@pytest.mark.parametrize("end", ["throw", "interrupt", "close", "drop"])
def test_an_end_from_outside_at_each_yield(backend: str, guards: str, way: str, end: str) -> None:
    """Thrown into, closed or dropped at any yield, a call in a task gives everything back."""
    shop = policy(*GUARDS[guards]())

    async def main() -> None:
        for steps in range(YIELDS + 1):
            held = [WAYS[way](shop, body)()]
            if not stepped(held[0], steps):
                break
            finish(held, end, steps)
            idle(shop)

    run(backend, main)
    assert shop.state == "closed"


def finish(held: list[Coroutine[Any, Any, Any]], end: str, steps: int) -> None:
    """End a suspended coroutine from outside; the list has the only reference to it."""
    coroutine = held.pop()
    if end == "close":
        coroutine.close()
    elif end == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            coroutine.throw(KeyboardInterrupt())
    elif end == "drop":
        if steps == 0:
            coroutine.close()  # one that was never begun gives a warning, as any does
        del coroutine
        gc.collect()
        return
    else:
        try:
            coroutine.throw(Thrown())
        except Thrown:
            return
        while stepped(coroutine, 1):  # the fallback answers it
            pass
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


def test_closed_in_the_line() -> None:
    """Closed while it waits in line, a call leaves the line and hands its grant on."""
    shop = policy(circuit_breaker(), bulkhead(1, max_waiting=3, max_wait=30))

    async def main() -> None:
        gate = asyncio.Event()
        for granted in (False, True):
            gate.clear()
            holder = asyncio.create_task(shop.acall(gate.wait))
            await asyncio.sleep(0)
            waiting = shop.acall(instead)
            waiting.send(None)
            assert part(shop, "bulkhead")["waiting"] == 1
            if granted:
                gate.set()
                await holder
                assert part(shop, "bulkhead")["used"] == 1
            waiting.close()
            gate.set()
            await holder
            idle(shop)

    run("asyncio", main)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("guards", GUARDS)
def test_outside_of_any_task_nothing_is_leaked(guards: str, way: str) -> None:
    """Driven where there is no task, a call runs or is an error, and holds nothing after it."""
    shop = policy(*GUARDS[guards]())
    coroutine = WAYS[way](shop, body)()
    try:
        while stepped(coroutine, 1):
            pass
    except RuntimeError as error:
        assert "task" in str(error)
    idle(shop)


def test_an_awaitable_that_is_dropped_or_closed_gives_its_slot_back() -> None:
    """What a guarded sync callable returned and nobody awaits is neutral."""
    shop = policy(circuit_breaker(failure_threshold=1), bulkhead(1))
    for drop in (False, True):
        inner = body()
        pending: Any = shop.call(lambda inner=inner: inner)
        assert part(shop, "bulkhead")["used"] == 1
        if drop:
            inner.close()
            del inner, pending
            gc.collect()
        else:
            pending.close()
            with pytest.raises(RuntimeError, match="already awaited"):
                pending.__await__().send(None)
        idle(shop)
    assert shop.state == "closed"
    assert shop.snapshot()["calls"]["cancelled"] == 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("limit", [None, 60], ids=["no timeout", "timeout"])
def test_a_task_dropped_with_its_loop_gives_its_slot_back(way: str, limit: float | None) -> None:
    """A call that a loop leaves behind when it is closed is neutral once it is collected."""
    inner = () if limit is None else (timeout(limit),)
    shop = policy(circuit_breaker(), bulkhead(2), *inner)

    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    call = WAYS[way](shop, hang)
    loop = asyncio.new_event_loop()
    task = loop.create_task(call())
    loop.run_until_complete(asyncio.sleep(0))
    assert shop.snapshot()["in_flight"] == 1
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    del task, loop
    gc.collect()
    assert shop.snapshot()["calls"]["cancelled"] == 1
    idle(shop)
