"""Django: the caller's deadline comes in, a refusal goes out as 503 with ``Retry-After``."""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpResponse

from .edges import HEADER, Edge, answer


class Middleware(Edge):
    """Reads the caller's deadline, and answers a refusal with 503 and ``Retry-After``.

    For ``MIDDLEWARE``, sync and async. Options are settings: ``RESILIENT_HEADER``, the request
    header that says, in seconds, how long the caller will wait (default ``x-request-timeout``;
    None reads none), and ``RESILIENT_AT_MOST``, the longest time that is believed, and the one that
    applies where there is no header (default None: none).

    Args:
        get_response: what Django gives it.

    Raises:
        TypeError: an option is of a wrong type.
        ValueError: an option is not allowed.

    Example:
        >>> MIDDLEWARE = ["resilient.integrations.django.Middleware"]
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        super().__init__(
            getattr(settings, "RESILIENT_HEADER", HEADER),
            getattr(settings, "RESILIENT_AT_MOST", None),
        )
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        scope = self._scope(request)
        if self._is_async:
            return self._async_call(request, scope)
        with scope:
            return self._get_response(request)

    async def _async_call(self, request: Any, scope: Any) -> Any:
        with scope:
            return await self._get_response(request)

    def _scope(self, request: Any) -> Any:
        asked = None if self.header is None else request.headers.get(self.header)
        seconds = self.seconds(asked)
        return nullcontext() if seconds is None else self.bounded(seconds)

    def process_exception(self, request: Any, error: Exception) -> HttpResponse | None:
        """Answer a view's exception, if it is one of ours."""
        answered = answer(error)
        if answered is None:
            return None
        status, headers, text = answered
        return HttpResponse(
            text.encode(), status=status, headers=headers, content_type="text/plain; charset=utf-8"
        )
