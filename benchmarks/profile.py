"""Where the time of a guarded call goes: each part in ns.

Run it with ``make profile``. Every figure is the best of many rounds in this run, on this machine;
trust the ratios. What whole calls cost beside their peers is told by ``make bench``.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import timeit
from bisect import bisect_left
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from resilient import Policy, bulkhead, circuit_breaker, fallback, timeout
from resilient.deadline import Deadline, Terms, current
from resilient.engine.aio.timers import TimeoutEntry, wheel_of
from resilient.engine.call import Call
from resilient.engine.counters import EDGES
from resilient.guards.facets import Admission

ROUNDS = 15
NOW = time.monotonic()


def bare(x: int) -> int:
    return x


def closure(fn: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return call


def ns(fn: Callable[[], object], number: int = 20_000) -> float:
    return min(timeit.repeat(fn, number=number, repeat=ROUNDS)) / number * 1e9


def parts() -> dict[str, float]:
    policy = Policy("parts", fallback(value=0), circuit_breaker(), bulkhead(20), timeout(60.0))
    breaker, slots = policy.guards[1], policy.guards[2]
    assert isinstance(breaker, Admission)
    assert isinstance(slots, Admission)
    core, plan = policy._core, policy._pipeline("async")
    lock, wrapped = threading.RLock(), closure(bare)
    empty, terms = ns(lambda: None), Terms(60.0, 3, core.name, core.now)

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
        slots.admit(NOW)
        slots.settle(0, NOW, 0, 0.001, "", False)

    def deadline() -> None:
        own = Deadline()
        own.when = NOW + 60
        own.terms = terms
        own.outer = None
        own.open = True
        current.set(own)
        own.open = False

    found = {
        "plain call": ns(lambda: bare(1)) - empty,
        "closure with *args, **kwargs, on top": ns(lambda: wrapped(1)) - ns(lambda: bare(1)),
        "clock read": ns(core.now),
        "lock taken and released": ns(locked) - ns(nothing),
        "bucket of a duration (bisect)": ns(lambda: bisect_left(EDGES, 0.001)) - empty,
        "circuit_breaker.admit": ns(lambda: breaker.admit(NOW)) - empty,
        "circuit_breaker.settle_success": ns(lambda: breaker.settle_success(1, NOW, 0.001)) - empty,
        "bulkhead.admit and settle": ns(admitted) - empty,
        "both critical sections, breaker and bulkhead": ns(section) - empty,
        "cooperative deadline made, set, closed": ns(deadline) - empty,
        "interpreter's call object": ns(lambda: Call(plan, bare, (), {})) - empty,
        "copy of the context, for a worker": ns(copy_context),
    }

    async def timer() -> float:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        wheel, own = wheel_of(loop, 60.0), Deadline.made(NOW + 60, terms, None)

        def entry() -> None:
            made = TimeoutEntry.of(own, task)
            wheel.entries[made] = None
            current.set(made)
            wheel.entries.pop(made, None)
            made.open = False
            made.task = None

        return ns(entry) - empty

    found["async deadline made, set, on the shared timer, off"] = asyncio.run(timer())
    return found


def main() -> int:
    print(f"CPython {sys.version.split()[0]}, best of {ROUNDS} rounds\n")
    print(f"{'part':<52}{'ns':>8}")
    for name, cost in parts().items():
        print(f"{name:<52}{cost:>8.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
