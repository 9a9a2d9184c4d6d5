"""What the tests over real connections share: the server, and what consumers saw."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from prometheus_client import REGISTRY

from resilient import CallTimeoutError, Policy, bulkhead, circuit_breaker
from tests.kit.policies import booked, idle, policy
from tests.kit.waiting import until

CHUNKS = 3
LIMITS = (0.5, 4.0, 20.0)  # seconds; a longer one where a busy machine serves too few in a shorter
DROPS = [b"drop %d" % place for place in range(CHUNKS)]
REQUEST = b"GET /%b/%d HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Server:
    """A server process, and what it tells of itself."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def open(self) -> int:
        """Return how many connections are open there."""
        with urllib.request.urlopen(f"{self.url}/open", timeout=5) as answer:  # noqa: S310 - a server of the test
            return int(answer.read())


def guards(*more: Any) -> Policy:
    """A policy for hundreds of streams at once."""
    return policy(circuit_breaker(metrics_only=True), bulkhead(200), *more)


class Ends:
    """What the consumers of many streams saw."""

    def __init__(self) -> None:
        self.got: list[list[bytes]] = []
        self.took: list[float] = []
        self.others: list[BaseException] = []

    def cut(self, got: list[bytes], began: float) -> None:
        """Book a stream that was cut."""
        self.got.append(got)
        self.took.append(time.monotonic() - began)

    def check(self, number: int, limit: float) -> None:
        """Assert that all were cut, none too early, and had what was dripped before."""
        assert self.others == [], self.others[:3]
        assert len(self.took) == number
        assert min(self.took) >= limit * 0.99, f"one was cut after {min(self.took):.3f} s already"
        dripped = b"".join(DROPS)
        assert all(dripped.startswith(b"".join(got)) for got in self.got), "chunks were mixed up"

    @property
    def full(self) -> float:
        """Return which share had all chunks before the cut."""
        return sum(b"".join(got) == b"".join(DROPS) for got in self.got) / len(self.got)


def in_some_limit(scene: Callable[[float], Ends]) -> None:
    """Play a scene, with more and more time until most streams have all chunks before they are cut."""
    shares: list[float] = []
    for limit in LIMITS:
        shares.append(scene(limit).full)
        if shares[-1] >= 0.75:
            return
    raise AssertionError(f"too few had all chunks before the cut: {shares}")


def all_back(shop: Policy, server: Server, number: int, threads: int) -> None:
    """Assert that nothing is held here or there, and that the counts are exact."""
    idle(shop)
    assert booked(shop) == ({"failure": number}, {"error": number})
    assert shop.snapshot()["timeouts"] == number
    labels = {"policy": shop.name}
    assert REGISTRY.get_sample_value("resilient_timeouts_total", labels) == number
    until(lambda: threading.active_count() <= threads)
    until(lambda: server.open() == 0)


def chunks_of(text: bytes) -> tuple[list[bytes], bytes]:
    """Return the whole chunks that a text begins with, and the rest."""
    found: list[bytes] = []
    while True:
        size, line, rest = text.partition(b"\r\n")
        length = int(size, 16) if line else 0
        if not line or len(rest) < length + 2:
            return found, text
        found.append(rest[:length])
        text = rest[length + 2 :]


async def consume(stream: Any, ends: Ends) -> None:
    """Take all items and book how it ended."""
    got: list[bytes] = []
    began = time.monotonic()
    try:
        async for item in stream:
            got.append(item)
    except CallTimeoutError:
        ends.cut(got, began)
    except Exception as error:
        ends.others.append(error)
    else:
        ends.others.append(AssertionError("it ended by itself"))
