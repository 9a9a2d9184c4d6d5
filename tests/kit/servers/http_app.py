"""Run a server of HTTP/1.1 on the loopback: http_app.py PORT.

/json                        {"ok": true}
/echo                        any method; its method, path, query, headers and body, as JSON
/status/503?retry_after=2    any status, and if asked for a Retry-After
/404                         the same as /status/404
/flaky/KEY?times=2           503 (?status=) the first times, then {"ok": true}; each KEY by itself
/reset                       ends the connection with an RST
/close                       ends the connection with no answer
/garbage                     answers, and not in HTTP
/hang?seconds=1              answers late; without seconds never
/hang-body                   headers, half of the body, then silence
/drip?seconds=1&bytes=10     a body with Content-Length, a byte at a time over these seconds
/chunked?n=5&pause=0         a body in so many chunks
/redirect?to=/json&status=302&n=1   n redirects, the last leads there
/gzip                        {"ok": true}, compressed
/set-cookie?name=kit&value=1 sets a cookie
/basic-auth?user=user&password=secret   401 for others
/counts                      requests of each path, {"/json": 3}; ?clear=1 sets them to zero
/connections                 {"open": connections of others}
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import http
import json
import socket
import struct
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

OK = b'{"ok": true}'
Headers = list[tuple[str, str]]
counts: Counter[str] = Counter()
tries: Counter[str] = Counter()
connections: set[asyncio.StreamWriter] = set()


class Over(Exception):
    """The connection ends here."""


@dataclass
class Request:
    """A request, its whole body, and what to answer through."""

    method: str
    path: str
    query: dict[str, str]
    headers: Headers
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def header(self, name: str) -> str:
        """Return a header, "" where there is none."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    def get(self, name: str, otherwise: float) -> float:
        """Return a number of the query."""
        return float(self.query.get(name, otherwise))

    async def head(self, status: int, headers: Headers) -> None:
        """Send the status and the headers."""
        try:
            phrase = http.HTTPStatus(status).phrase
        except ValueError:
            phrase = "Unknown"
        lines = [f"HTTP/1.1 {status} {phrase}", *(f"{key}: {value}" for key, value in headers)]
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(
        self, status: int, body: bytes = OK, *more: tuple[str, str], kind: str = "application/json"
    ) -> None:
        """Send a whole answer."""
        if status < 200 or status in {204, 304}:
            await self.head(status, [*more])
            return
        await self.head(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *more])
        if self.method != "HEAD":
            await self.send(body)

    async def left(self, seconds: float | None) -> None:
        """Wait so long, for ever with None, and end where the other side leaves before."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.reader.read(1), seconds)
            raise Over


async def echo(request: Request) -> None:
    """Answer with the request."""
    said = {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": {key.lower(): value for key, value in request.headers},
        "body": request.body.decode("latin-1"),
    }
    await request.answer(200, json.dumps(said).encode())


async def status(request: Request) -> None:
    """Answer with a status."""
    number = int(request.path.rpartition("/")[2])
    wait = request.query.get("retry_after")
    more = [] if wait is None else [("Retry-After", wait)]
    await request.answer(number, json.dumps({"status": number}).encode(), *more)


async def flaky(request: Request) -> None:
    """Fail the first times."""
    tries[request.path] += 1
    good = tries[request.path] > request.get("times", 1)
    await request.answer(200 if good else int(request.get("status", 503)))


async def reset(request: Request) -> None:
    """End the connection with an RST."""
    sock = request.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.writer.transport.abort()
    raise Over


async def close(request: Request) -> None:
    """End the connection."""
    raise Over


async def garbage(request: Request) -> None:
    """Send what is not HTTP."""
    await request.send(b"\x00\x01this is not HTTP\r\n\r\n\xff\xfe")
    raise Over


async def hang(request: Request) -> None:
    """Answer late or never."""
    seconds = request.query.get("seconds")
    await request.left(None if seconds is None else float(seconds))
    await request.answer(200)


async def hang_body(request: Request) -> None:
    """Stop in the middle of the body."""
    await request.head(200, [("Content-Type", "text/plain"), ("Content-Length", "1000")])
    await request.send(b"x" * 500)
    await request.left(None)


async def drip(request: Request) -> None:
    """Send a body slowly."""
    number = int(request.get("bytes", 10))
    await request.head(200, [("Content-Type", "text/plain"), ("Content-Length", str(number))])
    for _ in range(number):
        await request.left(request.get("seconds", 1) / number)
        await request.send(b"x")


async def chunked(request: Request) -> None:
    """Send a body in chunks."""
    await request.head(200, [("Content-Type", "text/plain"), ("Transfer-Encoding", "chunked")])
    for number in range(int(request.get("n", 5))):
        if number and request.get("pause", 0):
            await request.left(request.get("pause", 0))
        line = f"chunk {number}\n".encode()
        await request.send(b"%x\r\n%s\r\n" % (len(line), line))
    await request.send(b"0\r\n\r\n")


async def redirect(request: Request) -> None:
    """Send the client elsewhere."""
    more = int(request.get("n", 1)) - 1
    to = request.query.get("to", "/json")
    if more > 0:
        to = f"/redirect?{urlencode({**request.query, 'n': more})}"
    await request.answer(int(request.get("status", 302)), b"", ("Location", to))


async def gzipped(request: Request) -> None:
    """Answer compressed."""
    await request.answer(200, gzip.compress(OK), ("Content-Encoding", "gzip"))


async def set_cookie(request: Request) -> None:
    """Set a cookie."""
    pair = f"{request.query.get('name', 'kit')}={request.query.get('value', '1')}"
    await request.answer(200, OK, ("Set-Cookie", f"{pair}; Path=/"))


async def basic_auth(request: Request) -> None:
    """Ask for a name and a password."""
    pair = f"{request.query.get('user', 'user')}:{request.query.get('password', 'secret')}"
    if request.header("authorization") == f"Basic {base64.b64encode(pair.encode()).decode()}":
        await request.answer(200)
    else:
        await request.answer(401, b"{}", ("WWW-Authenticate", 'Basic realm="kit"'))


async def say_counts(request: Request) -> None:
    """Say how many requests there were."""
    said = json.dumps(counts).encode()
    if request.query.get("clear"):
        counts.clear()
        tries.clear()
    await request.answer(200, said)


async def say_connections(request: Request) -> None:
    """Say how many connections there are."""
    await request.answer(200, json.dumps({"open": len(connections) - 1}).encode())


async def json_(request: Request) -> None:
    """Answer."""
    await request.answer(200)


async def not_found(request: Request) -> None:
    """Answer that there is no such path."""
    await request.answer(404, b'{"status": 404}')


PATHS: dict[str, Any] = {
    "json": json_, "echo": echo, "status": status, "flaky": flaky, "reset": reset, "close": close,
    "garbage": garbage, "hang": hang, "hang-body": hang_body, "drip": drip, "chunked": chunked,
    "redirect": redirect, "gzip": gzipped, "set-cookie": set_cookie, "basic-auth": basic_auth,
    "counts": say_counts, "connections": say_connections,
}  # fmt: skip


async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    """Read a request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = [
        (key, value.strip()) for key, _, value in (line.partition(":") for line in head[1:-2])
    ]
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query))
    request = Request(method, parts.path, query, headers, b"", reader, writer)
    if request.header("expect").lower() == "100-continue":
        await request.head(100, [])
    if request.header("transfer-encoding").lower() == "chunked":
        while size := int(await reader.readline(), 16):
            request.body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        request.body = await reader.readexactly(int(request.header("content-length") or 0))
    return request


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of a connection, until one side ends it."""
    connections.add(writer)
    try:
        while True:
            request = await read(reader, writer)
            name = request.path.split("/")[1]
            if name not in {"counts", "connections"}:
                counts[request.path] += 1
            await PATHS.get(name, not_found)(request)
            if request.header("connection").lower() == "close":
                break
    except (Over, OSError, asyncio.IncompleteReadError):
        pass
    except ValueError:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    finally:
        connections.discard(writer)
        writer.close()


async def main(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
