"""What a bulkhead and a timeout do, call by call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from guard_diagrams.virtual import Now, played, told
from resilient import Policy, bulkhead, check, timeout
from resilient.testing import ManualClock

WORK = 1.6  # seconds that a body takes which ought to end sooner
CLEAN_UP = 0.1
STEP = 0.4  # seconds between two looks of a cooperative body


@dataclass
class Seen:
    """A call: when it came, when its body began, and when and how the call ended."""

    name: str
    came: float
    began: float | None = None
    ended: float = 0.0
    error: Exception | None = None


def bulkhead_calls(
    plan: tuple[tuple[str, float, float], ...], slots: int, places: int, max_wait: float
) -> list[Seen]:
    """Return what became of calls: each with a name, when it comes and how long its body takes."""

    async def one(policy: Policy, now: Now, name: str, comes: float, takes: float) -> Seen:
        await asyncio.sleep(comes)
        seen = Seen(name, now())

        async def body() -> None:
            seen.began = now()
            await asyncio.sleep(takes)

        result = await policy.atry_call(body)
        seen.ended, seen.error = now(), result.error
        return seen

    async def scene(policy: Policy, now: Now) -> list[Seen]:
        return await asyncio.gather(*(one(policy, now, *call) for call in plan))

    line = bulkhead(slots, max_waiting=places, max_wait=max_wait)
    calls: list[Seen] = played(scene, "drawn-bulkhead", line)
    return calls


@dataclass
class Bounded:
    """A call under a timeout: when its caller went on, and its body and its slot were done."""

    caller: float
    body: float
    slot: float
    error: str
    marks: list[float] = field(default_factory=list[float])  # when the body looked


def by_thread() -> Bounded:
    """Return what happens to a body on a worker thread that takes longer than the limit."""
    clock, inside, go_on = ManualClock(0), threading.Event(), threading.Event()
    policy = Policy("drawn-thread", bulkhead(), timeout(sync="thread"), clock=clock)
    ends: list[Any] = []

    def body() -> None:
        inside.set()
        go_on.wait(10)

    def call() -> None:
        ends.append((policy.try_call(body), clock.now()))

    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    inside.wait(10)
    _until(lambda: clock.waiting > 0)
    clock.advance(timeout().seconds)
    caller.join(10)
    clock.advance(WORK - clock.now())
    held = told(policy, "bulkhead")["abandoned"]
    go_on.set()
    _until(lambda: told(policy, "bulkhead")["used"] == 0)
    if held != 1:
        raise AssertionError("the slot was given back before the body had ended")
    result, at = ends[0]
    return Bounded(at, clock.now(), clock.now(), type(result.error).__name__)


def _until(true: Callable[[], bool]) -> None:
    """Wait until another thread has done something."""
    pause = threading.Event()
    for _ in range(10_000):
        if true():
            return
        pause.wait(0.001)
    raise AssertionError("nothing happened in ten seconds")


def by_asking() -> Bounded:
    """Return what happens to a body that asks `check()` now and then."""
    clock = ManualClock(0)
    policy = Policy("drawn-cooperative", bulkhead(), timeout(sync="cooperative"), clock=clock)
    marks: list[float] = []

    def body() -> None:
        while clock.now() < WORK:
            clock.advance(STEP)
            marks.append(clock.now())
            check()

    error = policy.try_call(body).error
    return Bounded(clock.now(), clock.now(), clock.now(), type(error).__name__, marks)


def by_cancelling() -> Bounded:
    """Return what happens to an async body, which cleans up when it is cancelled."""
    ends: list[float] = []

    async def scene(policy: Policy, now: Now) -> Bounded:
        async def body() -> None:
            try:
                await asyncio.sleep(WORK)
            finally:
                await asyncio.sleep(CLEAN_UP)
                ends.append(now())

        error = (await policy.atry_call(body)).error
        if told(policy, "bulkhead")["used"]:
            raise AssertionError("the slot is still taken")
        return Bounded(now(), ends[0], now(), type(error).__name__)

    seen: Bounded = played(scene, "drawn-async", bulkhead(), timeout())
    return seen
