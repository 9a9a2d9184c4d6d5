"""The scraper: so many scrapes a second in a process of its own, each over a new connection.

A script: ``scraper.py <port> <scrapes/s>``, until its input ends; then it prints what it saw.
"""

from __future__ import annotations

import http.client
import json
import select
import sys
import time
from typing import Any

COUNTERS = (b"_total", b"_bucket", b"_count", b"_sum")
FALLS = 20  # so many are told


def connect(port: int) -> http.client.HTTPConnection:
    """Return a connection to the service; it is made with the first request."""
    return http.client.HTTPConnection("127.0.0.1", port, timeout=10.0)


class Scrape:
    """One scrape, over a connection that ends with it: its series, who answered, what it took."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        began = time.monotonic()
        try:
            connection.request("GET", "/metrics", headers={"Connection": "close"})
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        self.at = began
        self.wall = time.monotonic() - began
        if answer.status != 200:
            raise ValueError(f"{answer.status}: {body[:200]!r}")
        self.worker = int(answer.headers["X-Worker"])
        self.inside, self.cpu = map(float, answer.headers["X-Took"].split())
        self.size = len(body)
        parts = (line.rpartition(b" ") for line in body.split(b"\n") if line and line[0] != 35)
        self.values: dict[bytes, bytes] = {head: value for head, _, value in parts}

    def value(self, name: str) -> float:
        """Return the value of a series."""
        return float(self.values[name.encode()])

    def fallen(self, before: Scrape) -> list[str]:
        """Return the counters that are less than before, or gone."""
        found: list[str] = []
        now = self.values
        for head, old in before.values.items():
            new = now.get(head)
            if new == old or not head.partition(b"{")[0].endswith(COUNTERS):
                continue
            if new is None or float(new) < float(old):
                who = f"{before.worker} -> {self.worker}"
                found.append(f"{head.decode()}: {old.decode()} -> {new and new.decode()} ({who})")
        return found


def run(port: int, rate: float) -> dict[str, Any]:
    """Scrape until the input ends; return what was seen."""
    before: Scrape | None = None
    falls: list[str] = []
    faults: list[str] = []
    seen: list[tuple[float, ...]] = []
    failed = fell = 0
    due = time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        due = max(due + 1 / rate, time.monotonic())
        try:
            scrape = Scrape(connect(port))
        except (OSError, http.client.HTTPException):  # whoever answered was killed
            failed += 1
            continue
        except ValueError as error:
            faults.append(str(error))
            continue
        processes, unread = map(scrape.value, ("resilient_processes", "resilient_pages_unread"))
        seen.append((scrape.at, scrape.wall, scrape.inside, scrape.cpu, scrape.worker, processes,
                     unread, scrape.size, len(scrape.values)))  # fmt: skip
        if before is not None:
            fallen = scrape.fallen(before)
            fell += len(fallen)
            falls += fallen[: FALLS - len(falls)]
        before = scrape
    return {"seen": seen, "failed": failed, "fell": fell, "falls": falls, "faults": faults[:20]}


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]), float(sys.argv[2]))), flush=True)
