"""Django: takes the caller's deadline, and answers a refusal with 503 and ``Retry-After``."""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpResponse

from ..priority_levels import of_request
from .server_edge import HEADER, PRIORITY, TOO_SHORT, ServerEdge, answer


class Middleware(ServerEdge):
    """Reads the caller's deadline, and answers a refusal with 503 and ``Retry-After``.

    For ``MIDDLEWARE``, sync and async. Options are settings: ``RESILIENT_HEADER``, the request
    header that says, in seconds, how long the caller will wait (default ``x-request-timeout``;
    None reads none), ``RESILIENT_AT_MOST``, the longest time that a header can set, and the limit
    without a header (default None: none), ``RESILIENT_PRIORITY_HEADER`` (see
    `resilient.priority`; default ``x-request-priority``), and ``RESILIENT_AT_LEAST``: the
    middleware answers a request with less time than this with 504 at once, and calls no view
    (default 0).

    Args:
        get_response: Django passes it.

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
            getattr(settings, "RESILIENT_AT_LEAST", 0.0),
            getattr(settings, "RESILIENT_PRIORITY_HEADER", PRIORITY),
        )
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        seconds = self._seconds(request)
        if self.too_short(seconds):
            early = _response(*TOO_SHORT)
            return _at_once(early) if self._is_async else early
        scope: Any = self._scope(request, seconds)
        if self._is_async:
            return self._async_call(request, scope)
        with scope:
            return self._get_response(request)

    async def _async_call(self, request: Any, scope: Any) -> Any:
        with scope:
            return await self._get_response(request)

    @contextmanager
    def _scope(self, request: Any, seconds: float | None) -> Generator[None]:
        said = self.priority_header
        with (
            of_request(None if said is None else request.headers.get(said)),
            nullcontext() if seconds is None else self.bounded(seconds),
        ):
            yield

    def _seconds(self, request: Any) -> float | None:
        asked = None if self.header is None else request.headers.get(self.header)
        return self.seconds(asked)

    def process_exception(self, request: Any, error: Exception) -> HttpResponse | None:
        """Answer an exception of a view, if it is a refusal or timeout of ours."""
        answered = answer(error)
        return None if answered is None else _response(*answered)


def _response(status: int, headers: dict[str, str], text: str) -> HttpResponse:
    return HttpResponse(
        text.encode(), status=status, headers=headers, content_type="text/plain; charset=utf-8"
    )


async def _at_once(response: HttpResponse) -> HttpResponse:
    return response
