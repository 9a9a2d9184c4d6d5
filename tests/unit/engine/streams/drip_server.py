"""An HTTP/1.1 server in a process of its own: it drips some chunks and then stalls.

``GET /drip/3`` answers three chunks and stalls until the client goes away, ``GET /whole/3`` answers
three and ends, ``GET /open`` tells how many of those connections are open.
"""

from __future__ import annotations

import asyncio
import contextlib

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
connections = 0


def chunk(data: bytes) -> bytes:
    """Return data as a chunk of a body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request."""
    global connections  # noqa: PLW0603 - a program of one file
    counted = False
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ", 2)[1].decode()
        writer.write(HEAD)
        if path == "/open":
            writer.write(chunk(b"%d" % connections) + chunk(b""))
            await writer.drain()
            return
        counted = True
        connections += 1
        _, how, number = path.split("/")
        for place in range(int(number)):
            writer.write(chunk(b"drop %d" % place))
            await writer.drain()
            await asyncio.sleep(0)
        if how == "whole":
            writer.write(chunk(b""))
            await writer.drain()
        await reader.read()  # until the client goes away
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        connections -= counted
        with contextlib.suppress(OSError):
            writer.close()
            await writer.wait_closed()


async def main() -> None:
    """Tell the port, and serve for ever."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
