"""What a call through a wrapped client costs more than that of a guarded function, in ns."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Any, Final

import resilient
from resilient import Policy, bulkhead, circuit_breaker, fallback, timeout

from .model import Row, Spread, require
from .timing import interleaved, sync_batch

CASES: Final = ("wrapped client: sync call, added", "wrapped client: async call, added")
LIMIT: Final = 0.3 if resilient.compiled else 0.35  # of a call of the whole policy
_BATCH: Final = 400


class _Client:
    def find(self, key: int) -> int:
        return key

    async def afind(self, key: int) -> int:
        return key


def measure(cases: list[str], rounds: int) -> list[Row]:
    """Return a row for each case."""
    client = _Client()
    guards = fallback(value=None), circuit_breaker(), bulkhead(20), timeout(5, sync="cooperative")
    policy = Policy("bench.wrapped", *guards)
    wrapped = policy.wrap(client)
    rows: list[Row] = []
    with asyncio.Runner() as runner:
        sides: dict[str, tuple[Callable[[], float], Callable[[], float]]] = {
            CASES[0]: (_sync(policy(client.find)), _sync_of(wrapped)),
            CASES[1]: (_async(runner, policy(client.afind)), _async_of(runner, wrapped)),
        }
        for case in cases:
            direct, through = sides[case]
            series = interleaved({"direct": direct, "through": through}, rounds)
            pairs = zip(series["through"], series["direct"], strict=True)
            added = [(one - other) * 1e9 for one, other in pairs]
            alone = statistics.median(series["direct"]) * 1e9
            row = Row(case, "ns", statistics.median(added), "a guarded function", alone)
            row.spread, row.goal, row.rounds = Spread.of(added), LIMIT * alone, rounds
            rows.append(row)
    calls = policy.snapshot()["calls"]
    require(calls["success"] > 0 and sum(calls.values()) == calls["success"], f"ended as {calls}")
    return rows


def _sync(call: Callable[[int], Any]) -> Callable[[], float]:
    return lambda: sync_batch(call, _BATCH) / _BATCH


def _sync_of(wrapped: _Client) -> Callable[[], float]:
    def batch() -> float:
        began = time.process_time()
        for _ in range(_BATCH):
            wrapped.find(1)  # looked up each time, as users write it
        return (time.process_time() - began) / _BATCH

    return batch


def _async(runner: asyncio.Runner, call: Callable[[int], Any]) -> Callable[[], float]:
    async def batch() -> float:
        began = time.process_time()
        for _ in range(_BATCH):
            await call(1)
        return (time.process_time() - began) / _BATCH

    return lambda: runner.run(batch())


def _async_of(runner: asyncio.Runner, wrapped: _Client) -> Callable[[], float]:
    async def batch() -> float:
        began = time.process_time()
        for _ in range(_BATCH):
            await wrapped.afind(1)
        return (time.process_time() - began) / _BATCH

    return lambda: runner.run(batch())
