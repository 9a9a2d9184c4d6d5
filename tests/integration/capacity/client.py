"""A client process with one guard: it calls at a rate, whatever happens, and prints what it got.

``python -m tests.integration.capacity.client GUARD PORT RATE SEED``: it sees how long a call takes
where nobody waits, says ``ready``, begins at a line of input with the time to end, and prints JSON.
The guard is ``limit``, or ``aimd0.16`` with its slow calls, or the slots of a bulkhead. The clock is
the machine's, the same in all processes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
import time

from resilient import Policy, RefusedError, bulkhead, concurrency_limit
from resilient.guards.base import Guard

IDLE = 40  # calls, one after the other, of each of
TOGETHER = 4  # callers, for whom there are workers enough
EVERY = 0.1  # seconds between two looks at the limit

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def made(guard: str) -> Guard:
    """Return a guard by its word."""
    if guard == "limit":
        return concurrency_limit()
    if guard.startswith("aimd"):
        return concurrency_limit(algorithm="aimd", slow_call_duration=float(guard[4:]))
    return bulkhead(int(guard))


class Client:
    """Calls one service through one policy, on connections that it keeps.

    Attributes:
        calls: of each answer when it came, and how long the call took.
        refused: how many calls were refused.
        looks: now and then the time, how many calls the limit lets run at once (0 for a bulkhead),
            and by how many seconds this process was late.
    """

    def __init__(self, guard: str, port: int) -> None:
        self.calls: list[tuple[float, float]] = []
        self.refused = 0
        self.looks: list[tuple[float, int, float]] = []
        self.port = port
        self.kept: list[Connection] = []
        self.policy = Policy("service", made(guard))
        self.guarded = self.policy(self.ask)

    async def ask(self) -> None:
        """Ask once."""
        connection = self.kept.pop() if self.kept else await self.connect()
        reader, writer = connection
        writer.write(b"ask\n")
        if await reader.readline() != b"ok\n":
            raise ConnectionError("the service has gone")
        self.kept.append(connection)

    async def connect(self) -> Connection:
        """Open one more connection."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def idle(self) -> list[float]:
        """Return how long calls take where nobody waits, without the guard."""
        took = []

        async def ask_often() -> None:
            for _ in range(IDLE):
                began = time.monotonic()
                await self.ask()
                took.append(time.monotonic() - began)

        await asyncio.gather(*(ask_often() for _ in range(TOGETHER)))
        return took

    async def call(self) -> None:
        """Call, and note what came of it."""
        began = time.monotonic()
        try:
            await self.guarded()
        except RefusedError:
            self.refused += 1
        else:
            now = time.monotonic()
            self.calls.append((now, now - began))

    async def look(self) -> None:
        """Look again and again."""
        while True:
            due = time.monotonic() + EVERY
            await asyncio.sleep(EVERY)
            now, state = time.monotonic(), self.policy.snapshot()["guards"][0]
            self.looks.append((now, state.get("limit", 0), now - due))


async def call_until(end: float, client: Client, rate: float, chance: random.Random) -> None:
    """Call by chance at a rate, then wait for the answers."""
    at = time.monotonic()
    async with asyncio.TaskGroup() as group:
        while at < end:
            at += chance.expovariate(rate)
            if (pause := at - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            group.create_task(client.call())


async def main(guard: str, port: int, rate: float, seed: int) -> None:
    """Call until told, then say what came of it."""
    logging.disable(logging.WARNING)  # of the first refusal, of many that are meant
    client = Client(guard, port)
    idle = await client.idle()
    print("ready", flush=True)
    end = float(await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline))
    looks = asyncio.create_task(client.look())
    await call_until(end, client, rate, random.Random(seed))
    looks.cancel()
    for _, writer in client.kept:
        writer.close()
    told = {"calls": client.calls, "refused": client.refused, "looks": client.looks}
    print(json.dumps({"idle": idle, **told}))


if __name__ == "__main__":
    word, *numbers = sys.argv[1:]
    asyncio.run(main(word, int(numbers[0]), float(numbers[1]), int(numbers[2])))
