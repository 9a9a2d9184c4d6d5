"""httpx2: transports that guard every request of a client, sync and async."""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final

import httpx2

from ..knowledge.error_families import Family
from ..outcomes import Judge
from . import http_library
from .http_client import HttpClient
from .http_library import Library

if TYPE_CHECKING:
    from ..policy.policy import Policy

_LIBRARY: Final = Library(httpx2, "httpx2")


def callers_fault(error: Exception) -> bool:
    """Return whether an error is the caller's own doing, not a failure of the server.

    For ``ignore=`` of a guard: a bad URL, too many redirects, and `raise_for_status` errors for any
    status but 429, 500, 502, 503 and 504. `Policy.wrap`, `resilient.patch` and the transports
    apply it by themselves.

    Args:
        error: what a call raised.

    Returns:
        True if the server is not to blame.

    Example:
        >>> import httpx2
        >>> from resilient import Policy, circuit_breaker
        >>> from resilient.integrations.httpx2 import callers_fault, failed_response
        >>> pages = Policy(
        ...     "httpx2-pages",
        ...     circuit_breaker(ignore=callers_fault, failed_result=failed_response),
        ... )
        >>> callers_fault(httpx2.InvalidURL("no host")), callers_fault(httpx2.ReadTimeout("late"))
        (True, False)
    """
    return _LIBRARY.callers_fault(error)


def failed_response(response: object) -> bool:
    """Return whether a response is a failure of the server: 429, 500, 502, 503 or 504.

    For ``failed_result=`` of a guard; see `callers_fault`.

    Args:
        response: what a call returned. Anything but an `httpx2.Response` is not a failure.

    Returns:
        True if the server has failed, though it answered.

    Example:
        >>> import httpx2
        >>> from resilient.integrations.httpx2 import failed_response
        >>> failed_response(httpx2.Response(503)), failed_response(httpx2.Response(404))
        (True, False)
    """
    return _LIBRARY.failed_response(response)


class Transport(http_library.SyncTransport, httpx2.BaseTransport):
    """A transport that sends every request of a client through a policy.

    The guarded call reads a body of a known length up to 1 MiB. A longer one, or one without a
    length, is read later: its deadline stays, its failures are not counted.

    A refusal or timeout that it raises is an `httpx2.TransportError` as well.

    Args:
        policy: guards the requests. A fallback gets the `httpx2.Request`, and must
            return an `httpx2.Response`.
        transport: sends the requests; it is entered, exited and closed with this one. Default an
            `httpx2.HTTPTransport`.
        key: ``"host"``, or a function of the request: each request has the guards of its key; see
            `Policy.keyed`. Default none: all have the policy's.

    Raises:
        TypeError: the policy's timeout does not say how to bound sync calls.

    Example:
        >>> import httpx2
        >>> from resilient import Policy, circuit_breaker, timeout
        >>> from resilient.integrations.httpx2 import Transport
        >>> shop = Policy("shop-api-2", circuit_breaker(), timeout(0.5, sync="thread"))
        >>> client = httpx2.Client(transport=Transport(shop), base_url="https://shop.example")
    """

    library = _LIBRARY

    def __init__(
        self, policy: Policy, transport: httpx2.BaseTransport | None = None, *,
        key: str | Callable[..., object] | None = None,
    ) -> None:  # fmt: skip
        self._guard(policy, httpx2.HTTPTransport() if transport is None else transport, key)


class AsyncTransport(http_library.AsyncTransport, httpx2.AsyncBaseTransport):
    """As `Transport`, for an `httpx2.AsyncClient`, on asyncio and trio.

    Args:
        policy: guards the requests.
        transport: sends the requests. Default an `httpx2.AsyncHTTPTransport`.
        key: ``"host"``, or a function of the request: each request has the guards of its key; see
            `Policy.keyed`. Default none: all have the policy's.

    Example:
        >>> import httpx2
        >>> from resilient import Policy, circuit_breaker, timeout
        >>> from resilient.integrations.httpx2 import AsyncTransport
        >>> prices = Policy("price-api-2", circuit_breaker(), timeout(0.5))
        >>> client = httpx2.AsyncClient(transport=AsyncTransport(prices))
    """

    library = _LIBRARY

    def __init__(
        self, policy: Policy, transport: httpx2.AsyncBaseTransport | None = None, *,
        key: str | Callable[..., object] | None = None,
    ) -> None:  # fmt: skip
        self._guard(policy, httpx2.AsyncHTTPTransport() if transport is None else transport, key)


class Httpx2Client(HttpClient):
    """What `Policy.wrap` knows of an `httpx2.Client` or `httpx2.AsyncClient`."""

    library = _LIBRARY
    judge: ClassVar[Judge | None] = _LIBRARY.judge
    family: ClassVar[Family | None] = _LIBRARY.family
    timeouts: ClassVar[tuple[type[Exception], ...]] = _LIBRARY.timeouts


ADAPTER: Final = Httpx2Client()
