"""Scenes of threads, generators and retries, each played with a peer's guard and with ours."""

from __future__ import annotations

import contextlib
import contextvars
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

Guard = Callable[[Any], Any]

REQUEST = contextvars.ContextVar("REQUEST", default="nothing")


def abandoned(guard: Guard, calls: int = 3) -> tuple[int, int]:
    """Call what hangs, longer than its timeout; return the bodies begun, and those at once."""
    lock, leave = threading.Lock(), threading.Event()
    begun = running = peak = 0

    def hang() -> None:
        nonlocal begun, running, peak
        with lock:
            begun += 1
            running += 1
            peak = max(peak, running)
        leave.wait(5)
        with lock:
            running -= 1

    call = guard(hang)
    for _ in range(calls):
        with contextlib.suppress(Exception):
            call()
    leave.set()
    return begun, peak


def context(guard: Guard) -> str:
    """Return what the body reads of its caller's context."""
    REQUEST.set("r-1")
    return str(guard(REQUEST.get)())


def stream(guard: Guard) -> bool:
    """Let a stream fail in its middle; return whether the next one is refused."""

    def items() -> Iterator[int]:
        yield 1
        raise ConnectionError("lost in the middle")

    call = guard(items)
    with contextlib.suppress(ConnectionError):
        list(call())
    try:
        next(iter(call()))
    except Exception:
        return True
    return False


def attempts(guard: Guard, calls: int = 100) -> int:
    """Make calls that all fail; return the attempts made."""
    made = 0

    def down() -> None:
        nonlocal made
        made += 1
        raise ConnectionError("down")

    call = guard(down)
    for _ in range(calls):
        with contextlib.suppress(Exception):
            call()
    return made


def begins_in_child(call: Callable[[], object], seconds: int = 3) -> bool:
    """Return whether a call, which was made here before, goes well in a forked child."""
    call()
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        try:
            call()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def four_threads(guard: Guard) -> float:
    """Return how long four threads take whose bodies take 0.1 s each."""
    call = guard(lambda: time.sleep(0.1))
    began = time.monotonic()
    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - began
