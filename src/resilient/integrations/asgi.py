"""A pure ASGI middleware, for Starlette, FastAPI and other ASGI applications."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import nullcontext
from typing import Any

from ..priority_levels import of_request
from .server_edge import HEADER, PRIORITY, TOO_SHORT, ServerEdge, answer

_Messages = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App = Callable[[MutableMapping[str, Any], _Messages, _Send], Awaitable[None]]


class Middleware(ServerEdge):
    """Reads the caller's deadline, and answers a refusal with 503 and ``Retry-After``.

    Inside a request `resilient.remaining` returns the time left, and every policy keeps to it. A
    `RefusedError` that the application does not handle becomes 503, a `CallTimeoutError` 504,
    unless the response has begun. Add it to Starlette and FastAPI with ``app.add_middleware``,
    which puts it inside their own error handling.

    Args:
        app: the ASGI application.
        header: the request header that says, in seconds, how long the caller will wait. Default
            ``x-request-timeout``; None reads none.
        at_most: the longest time, in seconds, that a header can set, and the limit without a
            header. Default None: none.
        at_least: a request with less time than this, in seconds, gets 504 at once, without a call
            of the application. Default 0.
        priority_header: the request header that says how important the request is: see
            `resilient.priority`. Default ``x-request-priority``; None reads none, as where anybody
            may call.

    Raises:
        TypeError: an option is of a wrong type.
        ValueError: an option is not allowed.

    Example:
        >>> from starlette.applications import Starlette
        >>> from resilient.integrations.asgi import Middleware
        >>> app = Starlette()
        >>> app.add_middleware(Middleware, at_most=10.0)
    """

    def __init__(
        self,
        app: _App,
        *,
        header: str | None = HEADER,
        at_most: float | None = None,
        at_least: float = 0.0,
        priority_header: str | None = PRIORITY,
    ) -> None:
        super().__init__(header, at_most, at_least, priority_header)
        self._app = app

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: _Messages, send: _Send
    ) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seconds, bodiless = self.seconds(_header(scope, self.header)), scope["method"] == "HEAD"
        if self.too_short(seconds):
            await _respond(send, *TOO_SHORT, bodiless=bodiless)
            return
        begun, limit = False, None if seconds is None else self.bounded(seconds)

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            begun = True
            await send(message)
            last = message["type"] == "http.response.body" and not message.get("more_body")
            if last and limit is not None:
                limit.deadline.open = False  # work after the response has no deadline

        try:
            level = of_request(_header(scope, self.priority_header))
            with level, nullcontext() if limit is None else limit:
                await self._app(scope, receive, watched)
        except Exception as error:
            answered = None if begun else answer(error)
            if answered is None:
                raise
            await _respond(send, *answered, bodiless=bodiless)


def _header(scope: MutableMapping[str, Any], header: str | None) -> str | None:
    if header is None:
        return None
    name = header.encode("ascii")
    values = (value for key, value in scope["headers"] if key.lower() == name)
    found = next(values, None)
    return None if found is None else found.decode("latin-1")


async def _respond(
    send: _Send, status: int, headers: dict[str, str], text: str, *, bodiless: bool
) -> None:
    body = text.encode()
    fields = {**headers, "content-type": "text/plain; charset=utf-8", "content-length": len(body)}
    await send({
        "type": "http.response.start",
        "status": status,
        "headers": [(name.encode(), str(value).encode()) for name, value in fields.items()],
    })  # fmt: skip
    await send({"type": "http.response.body", "body": b"" if bodiless else body})
