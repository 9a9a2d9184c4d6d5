"""A small service on loopback: workers, a bounded queue, and a stall on request.

A line in, a line out: ``ask`` is answered by ``ok`` or ``full``, ``stall 5`` stops all work for 5 s.
It works also for those who have gone. It ends when its standard input does, or after two minutes.
"""

from __future__ import annotations

import asyncio
import math
import random
import sys

WORKERS = 5
QUEUE = 62  # a second of work: twice as long as a client waits
MEAN = 0.08  # seconds a call, so that 62 calls a second are what it can do
SIGMA = 0.5
LIFE = 120.0


class Service:
    """The queue, and those who work it off."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue(QUEUE)
        self.going = asyncio.Event()
        self.going.set()
        self.random = random.Random(1)

    async def work(self) -> None:
        """Answer one after the other, whether anybody waits or not."""
        middle = math.log(MEAN) - SIGMA * SIGMA / 2
        while True:
            writer = await self.queue.get()
            await asyncio.sleep(math.exp(self.random.gauss(middle, SIGMA)))
            await self.going.wait()
            say(writer, b"ok\n")

    async def stall(self, seconds: float) -> None:
        """Finish nothing for a while."""
        self.going.clear()
        await asyncio.sleep(seconds)
        self.going.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request."""
        try:
            words = (await reader.readline()).split()
        except OSError:
            words = []
        if words[:1] == [b"stall"]:
            say(writer, b"ok\n")
            await self.stall(float(words[1]))
        elif words == [b"ask"]:
            try:
                self.queue.put_nowait(writer)
            except asyncio.QueueFull:
                say(writer, b"full\n")
        else:
            writer.close()


def say(writer: asyncio.StreamWriter, line: bytes) -> None:
    """Write a line and close; who has gone does not matter."""
    if not writer.is_closing():
        writer.write(line)
        writer.close()


async def main() -> None:
    """Serve until the parent is gone."""
    service = Service()
    workers = [asyncio.create_task(service.work()) for _ in range(WORKERS)]
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    ended = loop.run_in_executor(None, sys.stdin.read)
    await asyncio.wait([ended], timeout=LIFE)
    for worker in workers:
        worker.cancel()


if __name__ == "__main__":
    asyncio.run(main())
