"""A small WSGI service: each answer says which worker gave it, and what it thinks of the flag."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from resilient import Policy, circuit_breaker, flag, kill_switch

RECS = flag("recs", owner="team-recs", impact="The page shows the top 100.")
recs = Policy("recs", kill_switch(RECS, answer=lambda: "top 100"), circuit_breaker())

if os.environ.get("APP_READS_EARLY"):  # in the parent of all workers, with --preload
    bool(RECS)

_watch = os.environ.get("APP_WATCH")  # a directory: write there when the flag is seen to change
_once = threading.Lock()
_begun: set[int] = set()


def watch() -> None:
    """Write down each change of the flag, and when, by the clock of the host."""
    said = bool(RECS)
    with Path(_watch or "", f"{os.getpid()}").open("a", buffering=1, encoding="utf-8") as file:
        file.write(f"{int(said)} {time.monotonic()}\n")
        while True:
            now = bool(RECS)
            if now != said:
                said = now
                file.write(f"{int(said)} {time.monotonic()}\n")
            time.sleep(0.004)


def latency(seconds: float) -> dict[str, float]:
    """Return what a call and a read take here, in microseconds."""
    took: list[int] = []
    until = time.monotonic() + seconds
    clock = time.perf_counter_ns
    while time.monotonic() < until:
        for _ in range(20):
            before = clock()
            recs.call(lambda: "personal")
            bool(RECS)
            took.append(clock() - before)
        time.sleep(0.001)
    took.sort()
    return {"p50": took[len(took) // 2] / 1e3, "p99": took[len(took) * 99 // 100] / 1e3,
            "calls": len(took)}  # fmt: skip


def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """Answer."""
    if _watch is not None and os.getpid() not in _begun:
        with _once:
            if os.getpid() not in _begun:
                _begun.add(os.getpid())
                threading.Thread(target=watch, daemon=True).start()
    said: dict[str, Any] = {"pid": os.getpid(), "answer": recs.call(lambda: "personal")}
    if environ.get("PATH_INFO") == "/latency":
        said |= latency(1.0)
    body = json.dumps(said).encode()
    start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
