"""Every way in which a call begins and ends; after each, the page is compared with the policy."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import trio

from resilient import Policy, bulkhead, circuit_breaker, fallback, timeout
from resilient.admin.registry import registry
from resilient.engine.section import BUSY
from resilient.pages.reader import Reader
from resilient.pages.sharing import here
from resilient.testing import ManualClock

clock = ManualClock()
wrong: list[str] = []

GUARDS: dict[str, Callable[[], list[Any]]] = {
    "none": list,
    "bulkhead": lambda: [bulkhead(1)],
    "breaker": lambda: [circuit_breaker(minimum_calls=1)],
    "fallback": lambda: [fallback(value=0)],
    "fallback that looks": lambda: [fallback(lambda error, *_, **__: 0, with_error=True)],
    "fallback that fails": lambda: [fallback(lambda *_, **__: 1 / 0)],
    "two": lambda: [circuit_breaker(minimum_calls=2), bulkhead(1)],
    "short cut": lambda: [fallback(value=0), circuit_breaker(minimum_calls=2)],
    "short cut that fails": lambda: [fallback(lambda *_, **__: 1 / 0), circuit_breaker(minimum_calls=2)],
    "many": lambda: [fallback(value=0), circuit_breaker(), bulkhead(2, max_waiting=1, max_wait=0.01),
                     timeout(5, sync="thread")],
    "cooperative": lambda: [timeout(0.5, sync="cooperative"), bulkhead(1)],
    "ignoring": lambda: [circuit_breaker(ignore=KeyError)],
}  # fmt: skip


def made(kind: str) -> Policy:
    """Return a policy whose page is open."""
    policy = Policy(kind.replace(" ", "-"), *GUARDS[kind](), clock=clock)
    policy.try_call(int)
    return policy


def compare(policy: Policy, deed: str) -> None:
    """Note where the page says something else than the policy."""
    core = registry.find(policy.name)
    (page,) = here.path.glob("*.page")  # type: ignore[union-attr]
    reader = Reader(page)
    reader.read()
    (entry,) = [each for each in reader.entries if each.name == policy.name]
    with core.lock:
        known = core.row(entry.layout)
    heads = entry.layout.heads
    said = entry.row[:heads]
    if len(known) != heads or any(abs(n - m) > 1e-5 for n, m in zip(said, known, strict=True)):
        wrong.append(f"{deed}: {said} instead of {known}")


# -- deeds ----------------------------------------------------------------------------


def quick(policy: Policy) -> None:
    policy.try_call(int)


def straight(policy: Policy) -> None:
    guarded = policy(lambda value: value)
    slow = policy(lambda: clock.advance(0.02))
    forcing = policy(lambda: policy.force_closed("a test"))
    for _ in range(3):
        slow()
        compare(policy, "decorated and slow")
        forcing()
        compare(policy, "decorated, and forced meanwhile")
        policy.release()
        policy.call(int)
        compare(policy, "straight")
        guarded(1)
        compare(policy, "decorated")
        policy.call(clock.advance, 0.02)
        compare(policy, "straight and slow")


async def _straight(policy: Policy, sleep: Any) -> None:
    guarded = policy(sleep)

    @policy
    async def slow() -> None:
        clock.advance(0.02)
        await sleep(0)

    for _ in range(3):
        await slow()
        compare(policy, "decorated, async and slow")
        await policy.acall(sleep, 0)
        compare(policy, "straight, async")
        await guarded(0)
        compare(policy, "decorated, async")


def slow(policy: Policy) -> None:
    policy.try_call(clock.advance, 0.3)


def very_slow(policy: Policy) -> None:
    policy.try_call(clock.advance, 31.0)


def fails(policy: Policy) -> None:
    policy.try_call({}.__getitem__, 1)


def fails_slowly(policy: Policy) -> None:
    def body() -> None:
        clock.advance(0.02)
        raise OSError

    policy.try_call(body)


def interrupted(policy: Policy) -> None:
    def body() -> None:
        raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        policy.call(body)


def wrongly(policy: Policy) -> None:
    with contextlib.suppress(TypeError):
        policy.call(asyncio.sleep, 0)


def inside(policy: Policy) -> None:
    policy.try_call(lambda: [policy.try_call(int), compare(policy, "inside")])


def refused(policy: Policy) -> None:
    policy.force_open("a test")
    for _ in range(3):
        policy.try_call(int)
        compare(policy, "refused once")
    policy.release()


def forced_closed(policy: Policy) -> None:
    policy.force_closed("a test")
    policy.try_call(int)
    policy.try_call({}.__getitem__, 1)
    policy.release()


def opens(policy: Policy) -> None:
    for _ in range(5):
        policy.try_call({}.__getitem__, 1)
        compare(policy, "opens once")
    clock.advance(100)
    policy.try_call(int)


def turned(policy: Policy) -> None:
    guarded = policy(str.upper)
    for _ in range(5):
        policy.try_call({}.__getitem__, 1)
    for _ in range(3):
        with contextlib.suppress(Exception):
            policy.call(int)
        compare(policy, "turned")
        with contextlib.suppress(Exception):
            guarded("x")
        compare(policy, "turned, decorated")


async def _turned(policy: Policy, sleep: Any) -> None:
    async def fail() -> None:
        raise OSError

    for _ in range(5):
        await policy.atry_call(fail)
    for _ in range(3):
        with contextlib.suppress(Exception):
            await policy.acall(sleep, 0)
        compare(policy, "turned, async")


def overdue(policy: Policy) -> None:
    policy.try_call(clock.advance, 2.0)


def block(policy: Policy) -> None:
    with contextlib.suppress(Exception), policy.block():
        pass
    with contextlib.suppress(Exception), policy.block():
        compare(policy, "in a block")
        clock.advance(0.2)
        raise OSError
    with contextlib.suppress(Exception), policy.block() as mine:
        mine.fail("a test")
    with contextlib.suppress(Exception), policy.block() as mine:
        mine.ignore()


def decorated(policy: Policy) -> None:
    with contextlib.suppress(Exception):
        policy(int)("1")
    with contextlib.suppress(Exception):
        policy(int)("x")


def stream(policy: Policy) -> None:
    @policy
    def count() -> Iterator[int]:
        clock.advance(0.1)
        yield 1
        yield 2

    with contextlib.suppress(Exception):
        list(count())
    with contextlib.suppress(Exception):
        steps = count()
        next(steps)
        compare(policy, "in a stream")
        steps.close()
    with contextlib.suppress(Exception):
        next(count())
    gc.collect()


def waits(policy: Policy) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go_on.wait(5)

    thread = threading.Thread(target=policy.try_call, args=(hold,))
    thread.start()
    begun.wait(1)
    others = [threading.Thread(target=policy.try_call, args=(int,)) for _ in range(3)]
    for each in others:
        each.start()
    time.sleep(0.01)
    clock.advance(0.02)
    go_on.set()
    for each in (thread, *others):
        each.join(5)


def in_asyncio(policy: Policy) -> None:
    async def main() -> None:
        await _straight(policy, asyncio.sleep)
        await _colours(policy, asyncio.sleep)
        await _turned(policy, asyncio.sleep)
        task = asyncio.create_task(policy.atry_call(asyncio.sleep, 10))
        await asyncio.sleep(0.01)
        compare(policy, "in a task")
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())


def in_trio(policy: Policy) -> None:
    async def main() -> None:
        await _straight(policy, trio.sleep)
        await _colours(policy, trio.sleep)
        with trio.move_on_after(0.01):
            await policy.atry_call(trio.sleep, 10)

    trio.run(main)


async def _colours(policy: Policy, sleep: Any) -> None:
    async def fail() -> None:
        clock.advance(0.02)
        raise OSError

    async def numbers() -> AsyncIterator[int]:
        yield 1
        clock.advance(0.01)
        yield 2

    await policy.atry_call(sleep, 0)
    compare(policy, "async")
    await policy.atry_call(fail)
    compare(policy, "async failure")
    with contextlib.suppress(Exception):
        async with policy.block():
            compare(policy, "in an async block")
    with contextlib.suppress(Exception):
        async for _ in policy(numbers)():
            compare(policy, "in an async stream")
    with contextlib.suppress(Exception):
        steps = policy(numbers)()
        await steps.__anext__()
        await steps.aclose()
    policy.force_open("a test")
    for _ in range(2):
        await policy.atry_call(sleep, 0)
        compare(policy, "async, refused")
    policy.release()


def seen_by_views(policy: Policy) -> None:
    view = policy.with_(bulkhead(1), fallback(value=1))
    view.try_call(view.try_call, int)
    compare(policy, "a view")
    view.try_call({}.__getitem__, 1)
    here.refresh()
    view.try_call(view.try_call, int)


def retuned(policy: Policy) -> None:
    for guard in policy.guards:
        if guard.kind == "bulkhead":
            policy.update(bulkhead={"max_waiting": 2, "max_wait": 0.01})
            waits(policy)
            policy.update(bulkhead={"max_waiting": 0, "max_wait": None})


def in_the_section(policy: Policy) -> None:
    """What a finalizer or signal handler does to a policy in the middle of its bookkeeping."""
    core = registry.find(policy.name)
    block = policy.block()
    block.__enter__()
    with core.lock:
        core.gate |= BUSY
        with contextlib.suppress(Exception):
            policy.call(int)
        with contextlib.suppress(Exception):
            block.__exit__(None, None, None)
        core.gate &= ~BUSY
    core.flush()


def from_a_finalizer(policy: Policy) -> None:
    class Dying:
        def __del__(self) -> None:
            policy.try_call(int)
            with contextlib.suppress(Exception), policy.block():
                pass

    def body() -> None:
        cycle: Any = Dying()
        cycle.me = cycle
        del cycle
        gc.collect()

    policy.try_call(body)


DEEDS: list[Callable[[Policy], None]] = [
    straight, quick, slow, very_slow, fails, fails_slowly, interrupted, wrongly, inside, refused, forced_closed,
    opens, turned, overdue, block, decorated, stream, waits, in_asyncio, in_trio, seen_by_views, retuned,
    from_a_finalizer, in_the_section,
]  # fmt: skip


def all_of(kind: str) -> list[str]:
    """Do everything twice, and return where the page was wrong."""
    wrong.clear()
    policy = made(kind)
    for deed in DEEDS * 2:
        with contextlib.suppress(Exception):  # such as a stream, which a worker thread can't do
            deed(policy)
        compare(policy, deed.__name__)
        clock.advance(1000)  # a breaker that opened lets a probe through
        policy.try_call(int)
    assert registry.find(policy.name).quick > 5 or kind == "many"  # which has no short way
    return wrong


def abandoned() -> list[str]:
    """Give up on bodies that go on, and end later: on the system's clock."""
    wrong.clear()
    policy = Policy("abandoned", timeout(0.2, sync="thread"), bulkhead(3))
    go_on = threading.Event()
    policy.try_call(int)
    for _ in range(2):
        policy.try_call(functools.partial(go_on.wait, 5))
        compare(policy, "given up")
    go_on.set()
    core = registry.find("abandoned")
    while core.abandoned:
        time.sleep(0.001)
    compare(policy, "ended at last")
    return wrong
