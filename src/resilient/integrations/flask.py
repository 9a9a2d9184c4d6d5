"""Flask: takes the caller's deadline, and answers a refusal with 503 and ``Retry-After``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response

from ..errors import CallTimeoutError, RefusedError
from .server_edge import HEADER, PRIORITY, answer
from .wsgi import Middleware

if TYPE_CHECKING:
    from flask import Flask


def install(
    app: Flask,
    *,
    header: str | None = HEADER,
    at_most: float | None = None,
    at_least: float = 0.0,
    priority_header: str | None = PRIORITY,
) -> None:
    """Make an application keep to its callers' deadlines, and answer refusals with 503.

    Args:
        app: the application. Its own handlers of `RefusedError` and `CallTimeoutError` win if they
            are registered later.
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
        >>> from flask import Flask
        >>> from resilient.integrations.flask import install
        >>> app = Flask("shop")
        >>> install(app, at_most=10.0)
    """
    app.wsgi_app = Middleware(  # type: ignore[method-assign]
        app.wsgi_app,
        header=header,
        at_most=at_most,
        at_least=at_least,
        priority_header=priority_header,
    )
    app.register_error_handler(RefusedError, _answered)
    app.register_error_handler(CallTimeoutError, _answered)


def _answered(error: Exception) -> Response:
    answered = answer(error)
    assert answered is not None
    status, headers, text = answered
    return Response(text, status, headers, content_type="text/plain; charset=utf-8")
