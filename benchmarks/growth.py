"""How the cost of a call grows: with threads, tasks, the window's length, the waiting line.

At each point of a curve our side runs beside a bare one of the same shape, in interleaved rounds,
because more threads, tasks or functions cost something without us too.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from resilient import Policy, bulkhead, calls, circuit_breaker, fallback, timeout

from .model import Curve, Spread, require
from .ours import bare, lesser, whole
from .timing import Job, interleaved, paired, sync_batch

TOGETHER: Final = 0.06  # seconds that all threads together run: many turns of each
FEW: Final = 2_000  # calls that a point of a curve is worth at the least
SECONDS: Final = (1.0, 10.0, 60.0, 3600.0)
NUMBERS: Final = (10, 100, 10_000, 100_000)


def curve(
    case: str,
    over: str,
    jobs: dict[tuple[str, str], Job],
    rounds: int,
    sides: tuple[str, str] = ("ours", "bare"),
) -> Curve:
    """Run the jobs of a curve, named by their side and their point, interleaved."""
    for job in jobs.values():
        job()
    named = {f"{side}@{point}": job for (side, point), job in jobs.items()}
    series = interleaved(named, rounds, lambda name: name.partition("@")[2])
    names = list(dict.fromkeys(side for side, _ in jobs))
    points = list(dict.fromkeys(point for _, point in jobs))
    costs = {
        side: [Spread.of(series[f"{side}@{point}"]).median * 1e6 for point in points]
        for side in names
    }
    ours, base = sides
    relative = [paired(series, f"{ours}@{at}", f"{base}@{at}").median for at in points]
    return Curve(case, over, points, costs, ours, base, relative)


# -- threads ---------------------------------------------------------------------------


def locked_counter() -> Callable[[int], int]:
    """Return the least that anything costs that counts calls."""
    lock, count = threading.Lock(), 0

    def counted(x: int) -> int:
        nonlocal count
        with lock:
            count += 1
        return x

    return counted


def in_threads(call: Callable[[int], Any], threads: int, number: int) -> float:
    """Return the seconds a call, of all calls of all threads together."""
    each = number // threads
    barrier = threading.Barrier(threads + 1)

    def work() -> None:
        barrier.wait()
        sync_batch(call, each)

    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    barrier.wait()
    began = time.perf_counter()
    for thread in running:
        thread.join()
    return (time.perf_counter() - began) / (each * threads)


def threads(rounds: int, quick: bool) -> Curve:
    """Measure 1 to 16 threads that call one policy."""
    policy = whole("threads", "cooperative")
    alone = Policy("threads.breaker", circuit_breaker())
    sides = {
        "ours": policy(bare),
        "breaker alone": alone(bare),
        "locked counter": locked_counter(),
        "bare": bare,
    }
    numbers = (1, 4, 16) if quick else (1, 2, 4, 8, 16)
    enough = {name: round(TOGETHER / _batch(call)) for name, call in sides.items()}
    jobs: dict[tuple[str, str], Job] = {
        (name, str(number)): partial(in_threads, call, number, enough[name])
        for number in numbers
        for name, call in sides.items()
    }
    found = curve("threads on one policy", "threads", jobs, rounds)
    counts = policy.snapshot()["calls"]
    require(counts["success"] == sum(counts.values()), f"calls did not all go well: {counts}")
    return found


# -- tasks -----------------------------------------------------------------------------


async def once(x: int) -> int:
    """Await one turn of the loop."""
    await asyncio.sleep(0)
    return x


async def _timed_out(x: int) -> int:
    async with asyncio.timeout(60):
        return await once(x)


async def _gathered(call: Callable[[int], Any], tasks: int) -> float:
    times = max(1, FEW // tasks)
    began = time.process_time()
    for _ in range(times):
        await asyncio.gather(*[call(1) for _ in range(tasks)])
    return (time.process_time() - began) / (times * tasks)


def tasks(runner: asyncio.Runner, rounds: int, quick: bool) -> Curve:
    """Measure 1 to 10,000 tasks, each in a guarded call that awaits once."""
    numbers = (1, 30, 1_000) if quick else (1, 10, 100, 1_000, 10_000)
    most = 2 * max(numbers)
    policy = Policy("tasks", fallback(lesser), circuit_breaker(), bulkhead(most), timeout(60))
    sides = {"ours": policy(once), "asyncio.timeout": _timed_out, "bare": once}

    def job(call: Callable[[int], Any], number: int) -> float:
        return runner.run(_gathered(call, number))

    jobs: dict[tuple[str, str], Job] = {
        (name, f"{number:,}"): partial(job, call, number)
        for number in numbers
        for name, call in sides.items()
    }
    found = curve("concurrent tasks in one policy", "tasks", jobs, rounds)
    counts = policy.snapshot()
    require(counts["calls"]["success"] == sum(counts["calls"].values()), f"{counts['calls']}")
    require(counts["in_flight_peak"] == max(numbers), "the tasks were not in flight together")
    return found


# -- the window ------------------------------------------------------------------------


def windows(rounds: int, quick: bool) -> list[Curve]:
    """Measure breakers whose windows are short and long, and those of calls full."""
    step = 3 if quick else 1
    spans = {f"{seconds:g} s": seconds for seconds in SECONDS[::step]}
    sizes = {f"{number:,}": calls(number) for number in NUMBERS[::step]}
    found = []
    for over, windows in (("seconds", spans), ("calls", sizes)):
        jobs: dict[tuple[str, str], Job] = {}
        for point, window in windows.items():
            breaker = circuit_breaker(window=window, minimum_calls=10)
            call = (policy := Policy(f"{over}-{len(jobs)}", breaker))(bare)
            filled = window.size if isinstance(window, calls) else 100
            sync_batch(call, filled)
            held = policy.snapshot()["guards"][0]["window"]["calls"]
            require(held == filled, f"the window of {point} holds {held} calls, not {filled}")
            jobs["ours", point] = partial(_batch, call)
            jobs["bare", point] = partial(_batch, bare)
        found.append(curve(f"length of the breaker's window, in {over}", "window", jobs, rounds))
    return found


def _batch(call: Callable[[int], Any]) -> float:
    return sync_batch(call, FEW) / FEW


# -- the waiting line ------------------------------------------------------------------


class _Line:
    """Callers that wait in a line, and how long it takes until all have been through."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.gate = asyncio.Event()

    async def through(self, x: int) -> int:
        """Hold the only slot: until the gate opens, if we are the first."""
        if x == 0:
            await self.gate.wait()
        return x

    async def drain(self, call: Callable[[int], Any], waiting: Callable[[], int]) -> float:
        """Let the line form, open the gate, and return the seconds until it is empty."""
        self.gate.clear()
        standing = [asyncio.ensure_future(call(0))]
        await asyncio.sleep(0)
        standing += [asyncio.ensure_future(call(1)) for _ in range(self.number)]
        while waiting() < self.number:
            await asyncio.sleep(0)
        began = time.process_time()
        self.gate.set()
        answers = await asyncio.gather(*standing)
        took = time.process_time() - began
        require(sum(answers) == self.number, "somebody did not come through")
        return took


def _lines(number: int) -> dict[str, Callable[[], Any]]:
    line = _Line(number)
    policy = Policy(f"line.{number}", bulkhead(1, max_waiting=number, max_wait=60))
    guarded = policy(line.through)
    semaphore = asyncio.Semaphore(1)

    async def beside(x: int) -> int:
        async with semaphore:
            return await line.through(x)

    def queued() -> int:
        return len(semaphore._waiters or ())

    def waiting() -> int:
        return policy.snapshot()["guards"][0]["waiting"]  # type: ignore[no-any-return]

    return {
        "ours": partial(line.drain, guarded, waiting),
        "asyncio.Semaphore": partial(line.drain, beside, queued),
    }


def lines(runner: asyncio.Runner, rounds: int, quick: bool) -> Curve:
    """Measure the hand-over of a slot with 10 to 10,000 callers in the line."""

    async def some(drain: Callable[[], Any], number: int) -> float:
        times = max(1, 500 // number)
        took: list[float] = [await drain() for _ in range(times)]
        return sum(took) / (times * number)

    def job(drain: Callable[[], Any], number: int) -> float:
        return runner.run(some(drain, number))

    numbers = (10, 1_000) if quick else (10, 100, 1_000, 10_000)
    jobs: dict[tuple[str, str], Job] = {
        (name, f"{number:,}"): partial(job, drain, number)
        for number in numbers
        for name, drain in _lines(number).items()
    }
    case = "hand-over in the bulkhead's line"
    return curve(case, "waiting", jobs, rounds, ("ours", "asyncio.Semaphore"))
