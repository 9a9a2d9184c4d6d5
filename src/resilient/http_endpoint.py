"""An application of WSGI and ASGI that answers GET and HEAD on any path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, Final

Message = MutableMapping[str, Any]
WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
ASGI = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]
_EMPTY: Final = ("Content-Length", "0")

Answer = tuple[int, str, bytes]  # status, content type, body


class Endpoint:
    """Serves the answer of a function of the header ``Accept``."""

    def __init__(self, answer: Callable[[str], Answer], *, quick: bool = False) -> None:
        self._answer = answer
        self._quick = quick  # the function is fast enough to run without a thread

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request of WSGI."""
        method = environ.get("REQUEST_METHOD")
        if method not in ("GET", "HEAD"):
            headers = [("Allow", "GET, HEAD"), ("Content-Type", "text/plain"), _EMPTY]
            start_response("405 Method Not Allowed", headers)
            return [b""]
        status, kind, body = self._answer(environ.get("HTTP_ACCEPT", ""))
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return [b"" if method == "HEAD" else body]

    async def asgi(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer a request of ASGI; a slow function runs in a thread, under a limit of its own.

        The default limit is shared with the application's own threads, which may all hang.
        """
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"this is served over http; got {scope['type']!r}")
        if scope["method"] not in ("GET", "HEAD"):
            await _send(send, 405, [(b"allow", b"GET, HEAD")], b"")
            return
        accept = ",".join(v.decode("latin-1") for k, v in scope["headers"] if k == b"accept")
        if self._quick:
            status, kind, body = self._answer(accept)
        else:
            from anyio import CapacityLimiter
            from anyio.to_thread import run_sync

            status, kind, body = await run_sync(self._answer, accept, limiter=CapacityLimiter(1))
        length = str(len(body)).encode()
        headers = [(b"content-type", kind.encode()), (b"content-length", length)]
        await _send(send, status, headers, b"" if scope["method"] == "HEAD" else body)


async def _send(
    send: Callable[[Message], Awaitable[None]],
    status: int,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(
    receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
