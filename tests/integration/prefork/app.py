"""A WSGI service that asks many dependencies, each under a policy of its own, made at import.

What a new user would write, but for the marks: a byte for the request and one for what is guarded,
in a file that all workers map. A mark is one store into memory, which a SIGKILL does not undo.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from resilient import Policy, RefusedError, bulkhead, circuit_breaker, fallback, metrics, timeout

POLICIES = int(os.environ.get("APP_POLICIES", "1000"))
REQUESTS = None
if os.environ.get("APP_CLIENT"):
    from prometheus_client import Counter

    REQUESTS = Counter("shop_requests_total", "Requests for a dependency.", ["kind"])

# What a request has come to: ARRIVED, COUNTED (by the application), or ENDED and how.
ARRIVED, COUNTED, ENDED = 1, 2, 3
HOW = ("full", "degraded", "degraded-refused", "degraded-unclear", "error", "error-refused")
BEGUN, DONE = 1, 2  # what is guarded

with Path(os.environ["APP_MARKS"]).open("r+b") as file:
    marks = mmap.mmap(file.fileno(), 0)


class Answers:
    """The kinds of dependencies: their guards, what they take, and how often they fail."""

    def __init__(self, *guards: Callable[[], Any], takes: float, fails: int = 0) -> None:
        self.guards = guards
        self.takes = takes
        self.fails = fails  # one in so many; 0: never


def lesser(error: Exception, request: int) -> str:
    """Answer in the place of a dependency.

    A call whose time was up before its worker thread began is a failure, or was refused where the
    thread was never asked; nobody outside can tell.
    """
    if isinstance(error, RefusedError):
        return "degraded-refused"
    return "degraded" if marks[2 * request + 1] else "degraded-unclear"


def broken(request: int) -> str:
    """Fail in the place of a dependency."""
    raise LookupError("nothing cached")


def breaker() -> Any:
    return circuit_breaker(minimum_calls=10, recovery_timeout=0.5)


KINDS = (
    Answers(breaker, lambda: bulkhead(16), takes=0.002),
    Answers(takes=0.001, fails=9),
    Answers(breaker, lambda: timeout(0.5, sync="cooperative"), takes=0.012),
    Answers(lambda: fallback(value="blind"), breaker, takes=0.003, fails=2),
    Answers(lambda: fallback(lesser, with_error=True), breaker, takes=0.003, fails=2),
    Answers(lambda: bulkhead(1), takes=0.03),
    Answers(lambda: bulkhead(1, max_waiting=2, max_wait=0.05), takes=0.03),
    Answers(
        lambda: fallback(lesser, with_error=True), breaker, lambda: bulkhead(8),
        lambda: timeout(0.06, sync="thread"), takes=0.006, fails=5,
    ),
    Answers(lambda: fallback(broken), takes=0.002, fails=3),
    Answers(breaker, takes=0.008, fails=2),
)  # fmt: skip


def dependency(number: int) -> Callable[[int], str]:
    """Return what asks one dependency."""
    kind = KINDS[number % len(KINDS)]
    threaded = number % len(KINDS) == 7

    @Policy(f"dependency-{number:04}", *(guard() for guard in kind.guards), owner="shop", tier=2)
    def ask(request: int) -> str:
        marks[2 * request + 1] = BEGUN
        time.sleep(kind.takes * (30 if threaded and request % 11 == 0 else 1))
        fails = bool(kind.fails) and request % kind.fails == 0
        marks[2 * request + 1] = DONE
        if fails:
            raise ConnectionError("no answer")
        return "full"

    return ask


ask = [dependency(number) for number in range(POLICIES)]
show = metrics.wsgi_app()
if os.environ.get("APP_CALLS_EARLY"):  # in the parent of all workers, with --preload
    Policy("warming", circuit_breaker()).call(str)


def outcome(number: int, request: int) -> str:
    """Ask a dependency; return how that ended, for the caller and for the policy."""
    try:
        said = ask[number](request)
    except Exception as error:
        return "error-refused" if isinstance(error, RefusedError) else "error"
    if said == "blind":  # nobody has looked at the error
        return "degraded" if marks[2 * request + 1] else "degraded-refused"
    return said


def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """Answer /ask/<dependency>/<request>, /metrics and /health."""
    if environ["PATH_INFO"] == "/metrics":
        return _metrics(environ, start)
    if environ["PATH_INFO"] == "/health":
        return _say(start, str(os.getpid()))
    number, request = map(int, environ["PATH_INFO"].split("/")[2:])
    marks[2 * request] = ARRIVED
    if REQUESTS is not None:
        REQUESTS.labels(str(number % len(KINDS))).inc()
    marks[2 * request] = COUNTED
    said = outcome(number, request)
    marks[2 * request] = ENDED + HOW.index(said)
    return _say(start, said)


def _say(start: Callable[..., Any], said: str) -> Iterable[bytes]:
    body = said.encode()
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def _metrics(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """Serve the metrics, and say who did it and what it took: on the clock, and of the processor."""
    said: list[Any] = []
    began = time.perf_counter(), time.thread_time()
    body = show(environ, lambda *words: said.extend(words))
    took = time.perf_counter() - began[0], time.thread_time() - began[1]
    own = ("X-Worker", str(os.getpid())), ("X-Took", f"{took[0]:.6f} {took[1]:.6f}")
    start(said[0], [*said[1], *own])
    return body
