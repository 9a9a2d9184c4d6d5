"""Many loops, closed loops, and one bulkhead that threads, asyncio and trio share."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import threading
import time
import weakref
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    Policy,
    bulkhead,
    circuit_breaker,
    timeout,
)
from resilient.engine import compiled
from resilient.engine.aio import twins as aio
from tests.kit.policies import idle, part, policy
from tests.kit.threads import in_threads
from tests.kit.waiting import WAIT, until
from tests.kit.worlds import BACKENDS, run


def test_a_thousand_loops_leave_nothing_behind() -> None:
    """A thousand asyncio.run with one policy leave no loop alive and no memory taken."""
    shop = policy(circuit_breaker(), bulkhead(2, max_waiting=9, max_wait=9), timeout(60))
    loops: list[weakref.ref[Any]] = []

    async def body() -> None:
        await asyncio.sleep(0)

    guarded = shop(body)

    async def main() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.gather(guarded(), shop.acall(body), guarded(), guarded())

    def rounds(number: int) -> int:
        for _ in range(number):
            asyncio.run(main())
        gc.collect()
        return sys.getallocatedblocks()

    rounds(20)
    loops.clear()
    before = rounds(10)
    after = rounds(990)
    assert after - before < 3000  # the thousand weak references themselves are two blocks each
    alive = sum(loop() is not None for loop in loops)
    assert alive <= 1, f"{alive} of 1000 loops are alive"  # the last may be, until the next one
    assert shop.snapshot()["calls"]["success"] == 4 * 1020
    idle(shop)


def test_functions_that_were_called_once_keep_no_loop() -> None:
    """Loops die also where each of many functions saw a single one."""
    shop = policy(timeout(60))
    loops: list[weakref.ref[Any]] = []
    kept = []

    async def main(guarded: Any) -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await guarded()

    for _ in range(20):

        async def body() -> None:
            await asyncio.sleep(0)

        kept.append(shop(body))
        asyncio.run(main(kept[-1]))
    gc.collect()
    alive = sum(loop() is not None for loop in loops)
    assert alive <= 1, f"{alive} of 20 loops are alive"


@pytest.mark.parametrize("granted", [False, True], ids=["then freed", "freed before"])
def test_a_waiter_whose_loop_was_closed_loses_no_slot(granted: bool) -> None:
    """A slot that falls to a waiter of a closed loop is handed on to a living one."""
    shop = policy(bulkhead(1, max_waiting=5, max_wait=60))
    entered, go = threading.Event(), threading.Event()

    def holds() -> None:
        entered.set()
        go.wait(WAIT)

    async def never() -> None:
        await asyncio.sleep(0)

    holder = threading.Thread(target=shop.call, args=(holds,), daemon=True)
    holder.start()
    assert entered.wait(WAIT)
    loop = asyncio.new_event_loop()
    task = loop.create_task(shop.acall(never))
    while part(shop, "bulkhead")["waiting"] == 0:
        loop.run_until_complete(asyncio.sleep(0))
    ends: list[Any] = []
    other = threading.Thread(target=lambda: ends.append(shop.call(int, "3")), daemon=True)
    other.start()
    until(lambda: part(shop, "bulkhead")["waiting"] == 2)
    if granted:
        go.set()
        holder.join(WAIT)
    loop.close()
    go.set()
    holder.join(WAIT)
    other.join(WAIT)
    assert ends == [3]
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task, loop
    gc.collect()
    idle(shop)


def test_two_loops_share_a_function_with_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of one function in another thread's loop does not take this loop's timer."""
    monkeypatch.setattr(compiled, "compiled", None)  # in C no thread can switch there
    shop = policy(timeout(0.05))
    real, once, ends = aio.TimeoutEntry, [1], []

    async def slow() -> None:
        await asyncio.sleep(5 if asyncio.get_running_loop() is mine[0] else 0)

    guarded = shop(slow)
    mine: list[Any] = []

    def entry(*args: Any) -> Any:
        if once:  # the moment at which the interpreter may switch to the other thread
            once.clear()
            (end,) = in_threads(1, lambda _: asyncio.run(guarded()))
            ends.append(end)
        return real(*args)

    monkeypatch.setattr(aio, "TimeoutEntry", entry)

    async def main() -> None:
        mine.append(asyncio.get_running_loop())
        with pytest.raises(CallTimeoutError):
            await guarded()

    asyncio.run(shop.acall(asyncio.sleep, 0))  # a policy's first call takes the long way
    asyncio.run(main())
    assert ends == [None]
    idle(shop)


class Gauge:
    """Counts how many are inside, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = self.entered = 0

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.entered += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self.now -= 1


def in_loop(shop: Policy, gauge: Gauge, backend: str, end: float, seed: int) -> None:
    """Make calls in tasks of one loop and cancel some at random, until the end."""
    dice = random.Random(seed)

    async def body() -> None:
        with gauge:
            for _ in range(dice.randrange(3)):
                await anyio.lowlevel.checkpoint()

    async def caller() -> None:
        while time.monotonic() < end:
            with anyio.move_on_after(dice.choice([0, 0.0005, 0.002, 1])):
                try:
                    await shop.acall(body)
                except (BulkheadFullError, CallTimeoutError):
                    await anyio.sleep(0.001)
            await anyio.lowlevel.checkpoint()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(caller)

    run(backend, main)


def in_thread(shop: Policy, gauge: Gauge, end: float, seed: int) -> None:
    """Make calls in one thread until the end."""
    dice = random.Random(seed)

    def body() -> None:
        with gauge:
            time.sleep(dice.choice([0, 0, 0.0005]))

    while time.monotonic() < end:
        try:
            shop.call(body)
        except (BulkheadFullError, CallTimeoutError):
            time.sleep(0.001)  # who spins on refusals keeps the GIL from those who were granted


@pytest.mark.parametrize("way", ["none", "cooperative", "thread"])
@pytest.mark.parametrize("order", ["fifo", "lifo"])
def test_one_bulkhead_for_threads_and_both_loops(way: str, order: Any) -> None:
    """Shared by 8 threads, asyncio and trio under random cancellations, it loses no slot."""
    sync: Any = way
    inner = () if way == "none" else (timeout(0.01, sync=sync),)
    slots = 3
    line = bulkhead(slots, max_waiting=6, max_wait=0.02, order=order)
    shop, gauge = policy(line, *inner), Gauge()
    end = 0.0

    def actor(place: int) -> None:
        if place < 8:
            in_thread(shop, gauge, end, place)
        else:
            in_loop(shop, gauge, BACKENDS[place - 8], end, place)

    while gauge.entered <= 100:
        end = time.monotonic() + 0.8
        ends = in_threads(10, actor)
        assert ends == [None] * 10, ends
    assert gauge.most <= slots
    until(lambda: shop.snapshot()["abandoned"] == 0)
    idle(shop)


def test_after_all_that_every_slot_can_be_used() -> None:
    """After cancellations at random, as many calls as there are slots still meet inside."""
    shop, gauge = policy(bulkhead(3, max_waiting=6, max_wait=0.02)), Gauge()
    end = time.monotonic() + 0.3
    in_threads(2, lambda place: in_loop(shop, gauge, BACKENDS[place], end, place))
    meet = threading.Barrier(3)
    ends = in_threads(3, lambda _: shop.call(lambda: meet.wait(WAIT) >= 0))
    assert ends == [True] * 3
    idle(shop)
