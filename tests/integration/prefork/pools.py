"""Tasks in a pool of processes call policies, and the parent adds up what all have counted.

A script: ``pools.py fork|spawn <tasks>`` prints what the tasks returned, what the parent shows while
the pool is there and after, and what is left in the directory.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from resilient import Policy, circuit_breaker, fallback, metrics

POLICIES = 50
policies = [
    Policy(f"task-{number:02}", fallback(value="degraded"), circuit_breaker(failure_rate=0.9))
    for number in range(POLICIES)
]


def work(number: int) -> str:
    """Return, or fail."""
    if number % 7 == 0:
        raise ConnectionError("no answer")
    return "full"


def task(number: int) -> tuple[str, str]:
    """Call a policy; return its name, and what came of it."""
    policy = policies[number % POLICIES]
    return policy.name, policy.call(work, number)


def shown() -> dict[str, dict[str, float]]:
    """Return what the metrics say of each policy's answers, over all processes."""
    found: dict[str, dict[str, float]] = {}
    for line in metrics.exposition()[0].decode().splitlines():
        if line.startswith("resilient_served_total{"):
            labels, _, value = line.partition("{")[2].rpartition("} ")
            said = dict(part.split("=") for part in labels.replace('"', "").split(","))
            if float(value):
                found.setdefault(said["policy"], {})[said["served"]] = float(value)
    return found


def forked(tasks: int) -> dict[str, Any]:
    """Have them done by forked processes that live for some tasks each."""
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=10) as pool:
        done = pool.map(task, range(tasks), chunksize=1)
        during = shown()
        pool.close()
        pool.join()
    return {"done": done, "during": during}


def spawned(tasks: int) -> dict[str, Any]:
    """Have them done by processes that import this module themselves."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        return {"done": list(pool.map(task, range(tasks), chunksize=5)), "during": shown()}


def names() -> list[str]:
    """Return what is in the directory once this process's thread has cleared it up."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        found = os.listdir(os.environ["RESILIENT_RUNTIME_DIR"])
        if all(name.startswith((f"{os.getpid()}-", "departed.page")) for name in found):
            break
        time.sleep(0.02)
    return sorted(found)


def main(kind: str, tasks: int) -> dict[str, Any]:
    """Run it all; this process calls as well, before and after."""
    own = [task(number) for number in range(10)]
    found = forked(tasks) if kind == "fork" else spawned(tasks)
    counts: dict[str, Counter[str]] = {}
    for name, how in [*own, *map(tuple, found["done"])]:
        counts.setdefault(name, Counter())[how] += 1
    after = shown()
    return {"counts": counts, "during": found["during"], "after": after, "names": names(),
            "pid": os.getpid()}  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
