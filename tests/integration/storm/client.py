"""A client process with a real policy: it calls at a rate, whatever happens, and prints what it got.

``python -m tests.integration.storm.client naive|ours PORT RATE SECONDS SEED``
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time

from resilient import Policy, circuit_breaker, retry, timeout

PATIENCE = 1.5  # seconds after which an answer is worthless
FAILURES = (ConnectionError, TimeoutError)


def policy(kind: str) -> Policy:
    """Return the policy: three retries at once, or our defaults."""
    if kind == "naive":
        again = retry(on=FAILURES, attempts=4, wait_initial=0, wait_max=0, budget=None)
        return Policy("naive", again, timeout(0.5))
    return Policy("ours", retry(on=FAILURES), circuit_breaker(), timeout(0.5))


class Client:
    """Calls one service through one policy.

    Attributes:
        calls: of each call when it began, and whether it got a good answer in time.
        attempts: how many attempts were made.
    """

    def __init__(self, kind: str, port: int) -> None:
        self.calls: list[tuple[float, bool]] = []
        self.attempts = 0
        self.port = port
        self.ask = policy(kind)(self.attempt)

    async def attempt(self) -> None:
        """Ask once."""
        self.attempts += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(b"ask\n")
            if await reader.readline() != b"ok\n":
                raise ConnectionError("the service is full, or has gone")
        finally:
            writer.close()

    async def call(self) -> None:
        """Call, and note what came of it."""
        began = time.monotonic()
        try:
            await self.ask()
            good = time.monotonic() - began <= PATIENCE
        except Exception:
            good = False
        self.calls.append((began, good))


async def main(kind: str, port: int, rate: float, seconds: float, seed: int) -> None:
    """Call for so many seconds, by chance at a rate; then say what came of it."""
    client, chance, loop = Client(kind, port), random.Random(seed), asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    at = loop.time()
    end = at + seconds
    while at < end:
        at += chance.expovariate(rate)
        await asyncio.sleep(max(0.0, at - loop.time()))
        task = loop.create_task(client.call())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.wait([*tasks, asyncio.ensure_future(asyncio.sleep(0))], timeout=5)
    print(json.dumps({"calls": client.calls, "attempts": client.attempts}))


if __name__ == "__main__":
    word, *numbers = sys.argv[1:]
    asyncio.run(main(word, int(numbers[0]), float(numbers[1]), float(numbers[2]), int(numbers[3])))
