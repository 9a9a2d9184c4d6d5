"""A process that follows: it does what each line of its input says, and answers with a line."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import resilient
from resilient import Policy, bulkhead, circuit_breaker, flag, kill_switch
from resilient.flags.runtime import here

RECS = flag("recs")
shop = Policy("shop", kill_switch(RECS), circuit_breaker(), bulkhead(100))


def called() -> str:
    """Call the policy; return what came of it."""
    try:
        return str(shop.call(lambda: "ok"))
    except Exception as error:
        return type(error).__name__


def look(path: str, how: str = "read") -> None:
    """Look at the flag, or call, until it changes; write what was seen."""
    ask = called if how == "call" else lambda: bool(RECS)
    first = now = ask()
    end = time.monotonic() + 60
    began = time.monotonic()
    Path(path).write_text(f"{first}\n")
    while now == first and time.monotonic() < end:
        time.sleep(0.005)
        now = ask()
    fresh = Path(path + ".new")
    fresh.write_text(f"{first}\n{now}\n{time.monotonic() - began}\n")
    fresh.rename(path)


def fork(path: str, how: str = "read") -> str:
    """Fork a child that looks; it ends without a goodbye."""
    pid = os.fork()
    if pid == 0:
        try:
            look(path, how)
        finally:
            os._exit(0)
    return str(pid)


def start(method: str, path: str) -> str:
    """Start a child by multiprocessing that looks."""
    process = multiprocessing.get_context(method).Process(target=look, args=(path,), daemon=False)
    process.start()
    return str(process.pid)


def times(number: str) -> str:
    """Return the median and the 99th percentile of a call and a read, in nanoseconds."""
    took: list[int] = []
    until = time.monotonic() + float(number)
    clock = time.perf_counter_ns
    while time.monotonic() < until:
        before = clock()
        bool(RECS)
        called()
        took.append(clock() - before)
        time.sleep(0.0002)
    took.sort()
    return f"{took[len(took) // 2]} {took[len(took) * 99 // 100]}"


def threads(number: str) -> str:
    """Return what so many threads read that read at once."""
    barrier = threading.Barrier(int(number))
    seen: list[bool] = []

    def body() -> None:
        barrier.wait(60)
        seen.append(bool(RECS))

    every = [threading.Thread(target=body) for _ in range(int(number))]
    for each in every:
        each.start()
    for each in every:
        each.join(60)
    return json.dumps(seen)


def about() -> str:
    """Return what its follower is at."""
    follower = here.follower
    if follower is None:
        return "null"
    seen: dict[str, Any] = {
        "id": follower.process.id, "applied": follower.process.applied, "error": follower.error,
        "synced": follower.synced_at is not None, "copy_error": follower.copy_error,
        "unsaved": follower._unsaved, "threads": threading.active_count(),
    }  # fmt: skip
    return json.dumps(seen)


def configure(store: str) -> str:
    """Follow another store."""
    resilient.configure(store=store)
    return "done"


def main() -> None:
    """Obey line after line."""
    commands: dict[str, Any] = {
        "read": lambda: str(bool(RECS)), "call": called, "fork": fork, "start": start,
        "times": times, "threads": threads, "about": about, "configure": configure,
    }  # fmt: skip
    print("ready", flush=True)
    for line in sys.stdin:
        word, *arguments = line.split()
        if word == "quit":
            return
        print(commands[word](*arguments), flush=True)


if __name__ == "__main__":
    main()
