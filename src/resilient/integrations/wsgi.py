"""A WSGI middleware, for any WSGI application; Flask and Django have their own modules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import GeneratorType
from typing import Any, cast

from ..deadline import Deadline, current, leave
from ..priority_levels import OfRequest, of_request
from .server_edge import HEADER, PRIORITY, TOO_SHORT, ServerEdge, answer

_Start = Callable[..., Any]
_App = Callable[[dict[str, Any], _Start], Iterable[bytes]]
_REASONS = {503: "503 Service Unavailable", 504: "504 Gateway Timeout"}


class Middleware(ServerEdge):
    """Reads the caller's deadline, and answers a refusal with 503 and ``Retry-After``.

    Inside a request, also while the server iterates over its response, `resilient.remaining`
    returns the time left, and every policy keeps to it. A `RefusedError` that leaves the
    application becomes 503, a `CallTimeoutError` 504, unless the response has begun. Flask and
    Django turn every exception into a response of their own first: use
    `resilient.integrations.flask` and `resilient.integrations.django` there.

    Args:
        app: the WSGI application.
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
        >>> from resilient.integrations.wsgi import Middleware
        >>> def app(environ, start_response):
        ...     start_response("200 OK", [])
        ...     return [b"hello"]
        >>> guarded = Middleware(app, at_most=10.0)
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

    def __call__(self, environ: dict[str, Any], start_response: _Start) -> Iterable[bytes]:
        seconds, said = self.seconds(_header(environ, self.header)), self.priority_header
        level = of_request(_header(environ, said))
        if self.too_short(seconds):
            return _Reply(environ, start_response, None).give(*TOO_SHORT)
        limit = None if seconds is None else self.bounded(seconds)
        reply = _Reply(environ, start_response, None if limit is None else limit.deadline)
        try:
            with level, nullcontext() if limit is None else limit:
                body = self._app(environ, reply.start)
        except Exception as error:
            return reply.answer(error)
        made_later = isinstance(cast("object", body), GeneratorType)
        if isinstance(level, OfRequest):  # but for a file that the server sends in its own way
            of_file = environ.get("wsgi.file_wrapper")
            file = isinstance(of_file, type) and isinstance(cast("object", body), of_file)
            made_later = not file and not isinstance(body, (list, tuple))
        if limit is None and not made_later:
            return body
        return _Body(body, reply, level)


def _header(environ: dict[str, Any], header: str | None) -> str | None:
    return None if header is None else environ.get("HTTP_" + header.upper().replace("-", "_"))


class _Reply:
    """The response to one request: whether it has begun, and its replacement."""

    def __init__(self, environ: dict[str, Any], start: _Start, deadline: Deadline | None) -> None:
        self.deadline = deadline
        self._bodiless = environ.get("REQUEST_METHOD") == "HEAD"
        self._start = start
        self._begun = False

    def start(self, *args: Any, **kwargs: Any) -> Any:
        """Start the response for the application."""
        self._begun = True
        return self._start(*args, **kwargs)

    def answer(self, error: Exception) -> list[bytes]:
        """Return the answer to a refusal or timeout of ours; raise other errors."""
        answered = answer(error)
        if answered is None:
            raise error
        return self.give(*answered)

    def give(self, status: int, headers: dict[str, str], text: str) -> list[bytes]:
        """Answer instead of the application."""
        body = text.encode()
        fields = [(name.title(), value) for name, value in headers.items()]
        fields += [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
        ]
        # With exc_info a server that has already sent headers raises the error again.
        told = (sys.exc_info(),) if self._begun else ()
        self._start(_REASONS[status], fields, *told)
        return [] if self._bodiless else [body]


class _Body:
    """A response that is iterated over under the deadline and with the priority of its request."""

    def __init__(
        self, inner: Iterable[bytes], reply: _Reply, level: AbstractContextManager[Any]
    ) -> None:
        self._inner = inner
        self._reply = reply
        self._level = level

    def __iter__(self) -> Iterator[bytes]:
        parts, made = iter(self._inner), False
        while True:
            try:
                part = self._next(parts)
            except StopIteration:
                return
            except Exception as error:
                if made:
                    raise
                yield from self._reply.answer(error)
                return
            made = True
            yield part

    def _next(self, parts: Iterator[bytes]) -> bytes:
        own = self._reply.deadline
        with self._level:
            if own is None:
                return next(parts)
            own.outer, own.open = current.get(), True
            current.set(own)
            try:
                return next(parts)
            finally:
                leave(own)

    def close(self) -> None:
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()
