"""Where the time of a guarded call goes: each part in ns, and whole paths beside their peers.

Run it with ``make profile``. Every figure is the best of many rounds in this run, on this machine;
trust the ratios. What is on: everything that a policy does by default, metrics included.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import timeit
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import circuitbreaker
import pybreaker

from resilient import Policy, bulkhead, circuit_breaker, fallback, timeout
from resilient.deadline import Deadline, current, leave
from resilient.drive.call import Call
from resilient.drive.core import EDGES
from resilient.drive.timers import Entry, wheel_of

ROUNDS = 15
NOW = time.monotonic()


def bare(x: int) -> int:
    return x


async def abare(x: int) -> int:
    return x


def closure(fn: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return call


def ns(fn: Callable[[], object], number: int = 20_000) -> float:
    return min(timeit.repeat(fn, number=number, repeat=ROUNDS)) / number * 1e9


def ans(fn: Callable[[int], Awaitable[object]], number: int = 5_000) -> float:
    async def rounds() -> float:
        best = float("inf")
        for _ in range(ROUNDS):
            began = time.perf_counter()
            for _ in range(number):
                await fn(1)
            best = min(best, time.perf_counter() - began)
        return best / number * 1e9

    return asyncio.run(rounds())


def parts() -> dict[str, float]:
    policy = Policy("parts", fallback(value=0), circuit_breaker(), bulkhead(20), timeout(60.0))
    breaker, slots = policy.guards[1], policy.guards[2]
    core, plan = policy._core, policy._plan("async")
    lock, wrapped = threading.RLock(), closure(bare)
    empty = ns(lambda: None)

    def locked() -> None:
        lock.acquire()
        try:
            pass
        finally:
            lock.release()

    def nothing() -> None:
        pass

    def section() -> None:
        plan.leave(plan.enter(NOW), NOW, NOW)

    def admitted() -> None:
        slots.before(NOW)
        slots.after(0, NOW, 0, 0.001, "", False)

    def deadline() -> None:
        own = Deadline(NOW + 60, 60.0, 3, core.name, core.now, None)
        current.set(own)
        leave(own)

    found = {
        "plain call": ns(lambda: bare(1)) - empty,
        "closure with *args, **kwargs, on top": ns(lambda: wrapped(1)) - ns(lambda: bare(1)),
        "clock read": ns(core.now),
        "lock taken and released": ns(locked) - ns(nothing),
        "bucket of a duration (bisect)": ns(lambda: bisect_left(EDGES, 0.001)) - empty,
        "circuit_breaker.before": ns(lambda: breaker.before(NOW)) - empty,
        "circuit_breaker.after": ns(lambda: breaker.after(1, NOW, 0, 0.001, "", False)) - empty,
        "bulkhead.before and after": ns(admitted) - empty,
        "both critical sections, breaker and bulkhead": ns(section) - empty,
        "cooperative deadline made, set, closed": ns(deadline) - empty,
        "interpreter's call object": ns(lambda: Call(plan, bare, (), {})) - empty,
        "copy of the context, for a worker": ns(copy_context),
    }

    async def timer() -> float:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        wheel = wheel_of(loop, 60.0)

        def entry() -> None:
            made = Entry(NOW + 60, 60.0, 3, core, None, task)
            wheel.add(made)
            current.set(made)
            wheel.entries.pop(made, None)
            leave(made)

        return ns(entry) - empty

    found["async deadline made, set, on the shared timer, off"] = asyncio.run(timer())
    return found


def paths() -> list[tuple[str, float, str, float, float]]:
    """Return for each goal: the case, ours, the peer, the peer's, the ratio that is wanted."""
    breaker = circuit_breaker()(bare)
    whole = Policy(
        "whole", fallback(value=0), circuit_breaker(), bulkhead(20), timeout(1, sync="cooperative")
    )(bare)
    awhole = Policy("awhole", fallback(value=0), circuit_breaker(), bulkhead(20), timeout(1))(abare)
    threaded = Policy(
        "threaded", fallback(value=0), circuit_breaker(), bulkhead(20), timeout(1, sync="thread")
    )(bare)
    opened = Policy("opened", fallback(value=0), circuit_breaker())
    refused = opened(bare)
    theirs = pybreaker.CircuitBreaker()(bare)
    their_open = pybreaker.CircuitBreaker()
    simple = circuitbreaker.CircuitBreaker()(bare)
    their_refused = their_open(bare)
    their_open.open()
    opened.force_open()

    def answered() -> int:
        try:
            return their_refused(1)  # type: ignore[no-any-return]
        except pybreaker.CircuitBreakerError:
            return 0

    async def limited(x: int) -> int:
        async with asyncio.timeout(1):
            return await abare(x)

    with ThreadPoolExecutor(1) as pool:
        submitted = ns(lambda: pool.submit(bare, 1).result(), 1_000)
    peer = ns(lambda: theirs(1))
    return [
        ("sync, circuit_breaker alone", ns(lambda: breaker(1)), "pybreaker", peer, 0.75),
        ("  the same", ns(lambda: breaker(1)), "circuitbreaker", ns(lambda: simple(1)), 0.0),
        ("sync, whole policy, cooperative", ns(lambda: whole(1)), "pybreaker", peer, 1.1),
        ("async, whole policy", ans(awhole), "asyncio.timeout", ans(limited), 0.6),
        ("sync, whole policy, thread", ns(lambda: threaded(1), 1_000), "executor", submitted, 0.5),
        ("forced open, fallback", ns(lambda: refused(1)), "pybreaker", ns(answered), 0.6),
    ]


def main() -> int:
    print(f"CPython {sys.version.split()[0]}, best of {ROUNDS} rounds\n")
    print(f"{'part':<52}{'ns':>8}")
    for name, cost in parts().items():
        print(f"{name:<52}{cost:>8.0f}")
    print(f"\n{'path':<34}{'us':>8}   {'peer':<16}{'us':>8}{'ratio':>8}{'goal':>8}")
    for case, ours, peer, theirs, goal in paths():
        wanted = f"{goal:>8.2f}" if goal else f"{'-':>8}"
        print(
            f"{case:<34}{ours / 1e3:>8.2f}   {peer:<16}{theirs / 1e3:>8.2f}"
            f"{ours / theirs:>8.2f}{wanted}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
