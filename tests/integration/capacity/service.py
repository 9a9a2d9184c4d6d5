"""A service on loopback with an unbounded line before its workers, whose number changes on request.

A line in, a line out, as often as a connection likes: ``ask`` is answered by ``ok``, ``servers 5``
leaves five workers, and ``look`` says what was seen since the last look, as JSON. It ends when its
standard input does, or after five minutes.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import sys
import time
from collections import deque
from dataclasses import dataclass, field

from tests.kit.trials import share

SIGMA = 0.5  # of the logarithm of durations
LIFE = 300.0


@dataclass
class Seen:
    """What was seen since ``began``; integrals are over time."""

    began: float
    possible: float = 0.0
    busy: float = 0.0
    line: float = 0.0
    waits: list[float] = field(default_factory=list)  # of calls that workers took

    def told(self, now: float) -> dict[str, float]:
        """Return the share of busy workers, the mean line, and the median of the time in it."""
        waits = self.waits or [math.nan]
        return {
            "busy": self.busy / self.possible,
            "line": self.line / (now - self.began),
            "wait": share(waits, 0.5),
        }


class Service:
    """The line, and those who work it off.

    Args:
        servers: workers to begin with.
        mean: seconds that a worker takes for a call.
    """

    def __init__(self, servers: int, mean: float) -> None:
        self.servers, self.busy = servers, 0
        self.middle = math.log(mean) - SIGMA * SIGMA / 2
        self.random = random.Random(1)
        self.line: deque[tuple[float, asyncio.StreamWriter]] = deque()
        self.at = time.monotonic()
        self.seen = Seen(self.at)

    def count(self) -> float:
        """Add what was since the last change, and return the time."""
        now = time.monotonic()
        since, self.at = now - self.at, now
        self.seen.possible += self.servers * since
        self.seen.busy += min(self.busy, self.servers) * since
        self.seen.line += len(self.line) * since
        return now

    def serve(self) -> None:
        """Give calls to workers, as long as there are both."""
        now, loop = self.count(), asyncio.get_running_loop()
        while self.line and self.busy < self.servers:
            came, writer = self.line.popleft()
            self.busy += 1
            self.seen.waits.append(now - came)
            takes = math.exp(self.random.gauss(self.middle, SIGMA))
            loop.call_at(now + takes, self.end, writer)

    def end(self, writer: asyncio.StreamWriter) -> None:
        """Answer, and have the worker take the next."""
        self.count()
        self.busy -= 1
        writer.write(b"ok\n")
        self.serve()

    def look(self) -> bytes:
        """Return what was seen since the last look."""
        now = self.count()
        told, self.seen = self.seen.told(now), Seen(now)
        return json.dumps(told).encode() + b"\n"

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the requests of one connection."""
        while words := (await reader.readline()).split():
            if words == [b"ask"]:
                self.line.append((self.count(), writer))
                self.serve()
            elif words == [b"look"]:
                writer.write(self.look())
            else:
                self.count()
                self.servers = int(words[1])
                self.serve()
                writer.write(b"ok\n")
        writer.close()


async def main(servers: int, mean: float) -> None:
    """Serve until the parent is gone."""
    service = Service(servers, mean)
    server = await asyncio.start_server(service.take, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.wait([ended], timeout=LIFE)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
