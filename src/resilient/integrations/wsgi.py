"""A WSGI middleware, for any WSGI application; Flask and Django have a module of their own each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

from ..deadline import Deadline, current, leave
from .edges import HEADER, Edge, answer

_Start = Callable[..., Any]
_App = Callable[[dict[str, Any], _Start], Iterable[bytes]]
_REASONS = {503: "503 Service Unavailable", 504: "504 Gateway Timeout"}


class Middleware(Edge):
    """Reads the caller's deadline, and answers a refusal with 503 and ``Retry-After``.

    Inside a request, also while its response is iterated over, `resilient.remaining` says what is
    left, and every policy keeps to it. A `RefusedError` that leaves the application becomes 503, a
    `CallTimeoutError` 504, unless the response has begun. Flask and Django turn every exception
    into a response of their own before it gets here: use `resilient.integrations.flask` and
    `resilient.integrations.django` there.

    Args:
        app: the WSGI application.
        header: the request header that says, in seconds, how long the caller will wait. Default
            ``x-request-timeout``; None reads none.
        at_most: the longest time, in seconds, that is believed, and the one that applies where
            there is no such header. Default None: none.

    Raises:
        TypeError: an option is of a wrong type.
        ValueError: an option is not allowed.

    Example:
        >>> from resilient.integrations.wsgi import Middleware
        >>> def app(environ, start_response):
        ...     start_response("200 OK", [])
        ...     return [b"hello"]
        >>> guarded = Middleware(app, at_most=10.0)
    """

    def __init__(
        self, app: _App, *, header: str | None = HEADER, at_most: float | None = None
    ) -> None:
        super().__init__(header, at_most)
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: _Start) -> Iterable[bytes]:
        asked = None
        if self.header is not None:
            asked = environ.get("HTTP_" + self.header.upper().replace("-", "_"))
        seconds = self.seconds(asked)
        begun = False

        def started(*args: Any, **kwargs: Any) -> Any:
            nonlocal begun
            begun = True
            return start_response(*args, **kwargs)

        scope = nullcontext() if seconds is None else self.bounded(seconds)
        try:
            with scope:
                body = self._app(environ, started)
        except Exception as error:
            answered = answer(error)
            if answered is None:
                raise
            return _respond(start_response, *answered, sys.exc_info() if begun else None)
        return body if isinstance(scope, nullcontext) else _Body(body, scope.again())


class _Body:
    """A response whose parts are made under the deadline of its request."""

    def __init__(self, inner: Iterable[bytes], own: Deadline) -> None:
        self._inner = inner
        self._own = own

    def __iter__(self) -> Iterator[bytes]:
        own, parts = self._own, iter(self._inner)
        while True:
            own.outer, own.open = current.get(), True
            current.set(own)
            try:
                part = next(parts)
            except StopIteration:
                return
            finally:
                leave(own)
            yield part

    def close(self) -> None:
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()


def _respond(
    start: _Start, status: int, headers: dict[str, str], text: str, begun: Any
) -> list[bytes]:
    body = text.encode()
    fields = [(name.title(), value) for name, value in headers.items()]
    fields += [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    # With exc_info a server that has sent the first headers already raises the error again.
    start(_REASONS[status], fields, begun) if begun else start(_REASONS[status], fields)
    return [body]
