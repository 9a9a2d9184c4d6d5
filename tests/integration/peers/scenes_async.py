"""Scenes of asyncio, each played with a peer's guard and with ours."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any

Guard = Callable[[Any], Any]
Recover = Callable[[], Awaitable[object]]

CROWD = 20


def sleeping(seconds: float) -> Recover:
    """Return a wait for the recovery time of a breaker that has no clock to be given."""
    return lambda: asyncio.sleep(seconds)


class Dependency:
    """Fails while it is down; else it answers when its gate opens."""

    def __init__(self) -> None:
        self.down = True
        self.reached = 0
        self.gate = asyncio.Event()

    async def ask(self) -> str:
        if self.down:
            raise ConnectionError("down")
        self.reached += 1
        await self.gate.wait()
        return "answer"


async def failed(call: Callable[[], Awaitable[object]], times: int) -> None:
    """Call what is down."""
    for _ in range(times):
        with contextlib.suppress(Exception):
            await call()


async def reaches(dependency: Dependency, call: Callable[[], Awaitable[object]], n: int) -> int:
    """Return how many of n calls at once reach it; the gate is shut meanwhile."""
    before = dependency.reached
    tasks = [asyncio.ensure_future(call()) for _ in range(n)]
    await asyncio.sleep(0.02)
    reached = dependency.reached - before
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return reached


async def herd(guard: Guard, recover: Recover, failures: int = 1) -> int:
    """Return how many of a crowd get through a circuit whose recovery time is over."""
    dependency = Dependency()
    call = guard(dependency.ask)
    await failed(call, failures)
    dependency.down = False
    await recover()
    return await reaches(dependency, call, CROWD)


async def late_success(guard: Guard, failures: int = 1) -> int:
    """Open a circuit while a call runs that then succeeds; return how many the circuit lets by."""
    dependency = Dependency()
    call = guard(dependency.ask)
    dependency.down = False
    early = asyncio.ensure_future(call())
    await asyncio.sleep(0.01)
    dependency.down = True
    await failed(call, failures)
    dependency.down = False
    if await reaches(dependency, call, 1):
        raise RuntimeError("the circuit is not open")
    dependency.gate.set()
    await early
    dependency.gate.clear()
    return await reaches(dependency, call, CROWD)


async def late_success_beside_probe(guard: Guard, recover: Recover, failures: int = 1) -> int:
    """The same with a half-open circuit, whose probe hangs."""
    dependency, own = Dependency(), asyncio.Event()
    probing = False

    async def ask() -> str:
        if not probing:
            return await dependency.ask()
        await own.wait()
        return "probe"

    call = guard(ask)
    dependency.down = False
    early = asyncio.ensure_future(call())
    await asyncio.sleep(0.01)
    dependency.down = True
    await failed(call, failures)
    await recover()
    dependency.down, probing = False, True
    probe = asyncio.ensure_future(call())
    await asyncio.sleep(0.01)
    dependency.gate.set()
    await early
    dependency.gate.clear()
    probing = False
    reached = await reaches(dependency, call, CROWD)
    own.set()
    await asyncio.gather(probe, return_exceptions=True)
    return reached


async def cancelled(guard: Guard, times: int) -> int:
    """Cancel calls of a closed circuit; return how many of two calls it lets by then."""
    dependency = Dependency()
    call = guard(dependency.ask)
    dependency.down = False
    for _ in range(times):
        await reaches(dependency, call, 1)
    return await reaches(dependency, call, 2)


async def cancelled_probe(guard: Guard, recover: Recover, failures: int = 1) -> int:
    """Cancel a probe; return how many of a crowd get through after it."""
    dependency = Dependency()
    call = guard(dependency.ask)
    await failed(call, failures)
    dependency.down = False
    await recover()
    if not await reaches(dependency, call, 1):
        raise RuntimeError("no probe was let in")
    return await reaches(dependency, call, CROWD)


async def hung_probe(guard: Guard, recover: Recover, later: Recover, failures: int = 1) -> int:
    """Let a probe hang, and return how many of a crowd get through after a long time."""
    dependency = Dependency()
    call = guard(dependency.ask)
    await failed(call, failures)
    dependency.down = False
    await recover()
    probe = asyncio.ensure_future(call())
    await asyncio.sleep(0.01)
    if not dependency.reached:
        raise RuntimeError("no probe was let in")
    await later()
    reached = await reaches(dependency, call, CROWD)
    await later()
    reached += await reaches(dependency, call, CROWD)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    return reached


async def hung_calls(guard: Guard, later: Recover, calls: int = 30) -> int:
    """Let calls hang for a long time, and return how many of a crowd get through then."""
    dependency = Dependency()
    call = guard(dependency.ask)
    dependency.down = False
    hanging = [asyncio.ensure_future(call()) for _ in range(calls)]
    await asyncio.sleep(0.01)
    await later()
    reached = await reaches(dependency, call, CROWD)
    for each in hanging:
        each.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
    return reached


def two_loops(guard: Guard) -> int:
    """Call one function, which has one slot, from two loops; return how many are inside at once."""
    inside: list[int] = []
    leave = threading.Event()

    async def stay() -> None:
        inside.append(1)
        while not leave.is_set():  # noqa: ASYNC110 -- set by another thread
            await asyncio.sleep(0.005)

    call = guard(stay)
    _in_turn([lambda: asyncio.run(call()), lambda: asyncio.run(call())], leave)
    return len(inside)


def thread_and_loop(guard: Guard) -> int:
    """Call a sync and an async function, which share one slot; return how many are inside."""
    inside: list[int] = []
    leave = threading.Event()

    def stay() -> None:
        inside.append(1)
        leave.wait(5)

    async def astay() -> None:
        inside.append(1)
        while not leave.is_set():  # noqa: ASYNC110 -- set by another thread
            await asyncio.sleep(0.005)

    call, acall = guard(stay), guard(astay)
    _in_turn([call, lambda: asyncio.run(acall())], leave)
    return len(inside)


def _in_turn(calls: list[Callable[[], object]], leave: threading.Event) -> None:
    """Begin one after the other, all in threads, and end them together."""

    def quietly(call: Callable[[], object]) -> None:
        with contextlib.suppress(Exception):
            call()

    threads = [threading.Thread(target=quietly, args=(each,)) for each in calls]
    for thread in threads:
        thread.start()
        thread.join(0.1)
    leave.set()
    for thread in threads:
        thread.join(5)


def cancelled_attempts(guard: Guard) -> int:
    """Cancel the task of a retried call in its first attempt; return how many are made."""
    made = 0

    async def ask() -> None:
        nonlocal made
        made += 1
        await asyncio.sleep(0.05)

    async def scene() -> None:
        task = asyncio.ensure_future(guard(ask)())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scene())
    return made
