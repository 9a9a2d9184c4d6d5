"""The upstream: a small HTTP/1.1 server in a process of its own, which does as it is told.

It reads a mode a line from standard input, and ends when that is closed. It can be healthy, slow
or failing; to be dead, it is killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys


class Upstream:
    """Personal picks, as well as the mode of the moment allows."""

    def __init__(self, hang: float) -> None:
        self.hang = hang
        self.mode = "healthy"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, one after the other."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self.answer(head.split(b" ", 2)[1].decode()))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client is gone
        finally:
            writer.close()

    async def answer(self, path: str) -> bytes:
        """Return one response; a slow one is slow even if the mode changes meanwhile."""
        if self.mode == "failing":
            await asyncio.sleep(0.002)
            return response("503 Service Unavailable", {"error": "no database"})
        await asyncio.sleep(self.hang if self.mode == "slow" else random.uniform(0.01, 0.03))
        user = path.rpartition("/")[2]
        return response("200 OK", {"picks": [f"pick {n} for {user}" for n in range(10)]})


def response(status: str, body: dict[str, object]) -> bytes:
    """Return an HTTP/1.1 response; the connection stays open."""
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def main(port: int, hang: float) -> None:
    """Serve until standard input is closed."""
    upstream = Upstream(hang)
    await asyncio.start_server(upstream.serve, "127.0.0.1", port, backlog=1024)
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print(json.dumps({"ready": port}), flush=True)
    while line := await orders.readline():
        upstream.mode = line.decode().strip()
    os._exit(0)  # hanging requests and all


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
