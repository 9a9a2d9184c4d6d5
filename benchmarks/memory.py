"""How much memory a policy takes at rest, and whether calls leave any behind."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from resilient import Policy

from .children import child
from .model import Row, Spread, WrongSetupError, require
from .ours import abare, bare, failing, opens, whole

POLICIES: Final = 1000
WARM: Final = 20_000
CALLS: Final = {"sync": 100_000, "async": 100_000, "refused": 20_000, "failing": 20_000}
LIMIT: Final = 4.0  # KiB

REST: Final = "a policy at rest"
STEADY: Final = tuple(CALLS)
GOALS: Final = ("sync", "async")  # that hold in two of them


def _traced() -> int:
    for _ in range(3):
        gc.collect()
    return tracemalloc.get_traced_memory()[0]


# -- in a process of its own -----------------------------------------------------------


def at_rest() -> dict[str, Any]:
    """Make many policies, and tell what each of them takes: bare, decorating, once called."""
    made: list[Any] = [None] * POLICIES
    guarded: list[Any] = [None] * POLICIES
    first = whole("first", "cooperative")
    require(first(bare)(1) == 1, "the policy does not work")
    timers = asyncio.run(_timers())
    threads = threading.active_count()
    tracemalloc.start()
    start = _traced()
    for place in range(POLICIES):
        made[place] = whole(f"policy-{place}", "cooperative")
    rest = _traced()
    for place, policy in enumerate(made):
        guarded[place] = policy(bare)
    decorated = _traced()
    for call in guarded:
        call(1)
    called = _traced()
    tracemalloc.stop()
    kinds = [guard.kind for guard in made[-1].guards]
    require(kinds == ["fallback", "circuit_breaker", "bulkhead", "timeout"], f"guards: {kinds}")
    return {
        "rest": (rest - start) / POLICIES,
        "decorated": (decorated - start) / POLICIES,
        "called": (called - start) / POLICIES,
        "threads": threading.active_count() - threads,
        "timers": timers,
    }


async def _timers() -> int:
    """Return how many timers and tasks a running loop has more for some policies."""
    kept = [whole(f"in-loop-{number}") for number in range(10)]
    timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    require(kept, "no policies")
    return len(timers) + len(asyncio.all_tasks()) - 1


def steady(which: int) -> dict[str, Any]:
    """Call one policy again and again, and tell how much more is in use after than before."""
    word = STEADY[which]
    policy = whole("steady", None if word == "async" else "cooperative")
    tracemalloc.start()
    if word == "async":
        grown = asyncio.run(_steady_async(policy))
    else:
        if word == "refused":
            opens(policy, policy(failing))
        call = policy(_sometimes_failing() if word == "failing" else bare)
        _repeat(call, WARM)
        before = _traced()
        _repeat(call, CALLS[word])
        grown = _traced() - before
    outcome, share = {"refused": ("refused", 1), "failing": ("failure", 4)}.get(
        word, ("success", 1)
    )
    found, expected = policy.snapshot()["calls"][outcome], (WARM + CALLS[word]) // share
    require(found == expected, f"{found} calls counted as {outcome}, not {expected}")
    return {"bytes": grown}


def _repeat(call: Callable[[int], Any], number: int) -> None:
    for _ in range(number):
        call(1)


def _sometimes_failing() -> Callable[[int], int]:
    turn = itertools.cycle((False, False, False, True))

    def body(x: int) -> int:
        if next(turn):
            raise ConnectionError(x)
        return x

    return body


async def _steady_async(policy: Policy) -> int:
    call = policy(abare)

    async def repeated(number: int) -> None:
        for turn in range(number):
            await call(1)
            if not turn % 1000:
                await asyncio.sleep(0)

    await repeated(WARM)
    before = _traced()
    await repeated(CALLS["async"])
    return _traced() - before


# -- what is asked of it ---------------------------------------------------------------


def measure_rest() -> list[Row]:
    """Measure a policy at rest."""
    row = Row(REST, "KiB", goal=LIMIT, rounds=POLICIES)
    try:
        found = child("at rest")
        require(found["threads"] == 0, "policies start threads")
        require(found["timers"] == 0, "policies start timers or tasks")
    except WrongSetupError as error:
        row.wrong = str(error)
        return [row]
    rows = [row]
    row.ours = found["rest"] / 1024
    for name in ("decorated", "called"):
        word = {"decorated": "decorating one function", "called": "after its first call"}[name]
        rows.append(Row(f"{REST}, {word}", "KiB", found[name] / 1024, rounds=POLICIES))
    for each in rows:
        each.spread = Spread.of([each.ours])
    return rows


def measure_steady(words: list[str]) -> list[Row]:
    """Measure what calls leave behind; two processes at once, for nothing is timed."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(_steady, words))


def case(word: str) -> str:
    """Return what the table calls it."""
    return f"{CALLS[word]:,} calls, {word}"


def _steady(word: str) -> Row:
    row = Row(case(word), "KiB", goal=LIMIT if word in GOALS else None, rounds=1)
    try:
        row.ours = child("steady", STEADY.index(word))["bytes"] / 1024
        row.spread = Spread.of([row.ours])
    except WrongSetupError as error:
        row.wrong = str(error)
    return row
