"""urllib3, under requests and botocore: time limits that end with the deadline."""

# pyright: basic
from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from copy import copy
from functools import update_wrapper
from typing import Any, ClassVar, Final, cast

import urllib3.exceptions as errors
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPHeaderDict, PoolManager
from urllib3.util import Retry, Timeout

from ..deadline import check, enclosing, remaining
from ..errors import CallTimeoutError
from ..knowledge.error_families import Family
from ..outcomes import Judge
from ..policy.clients.adapter import ClientAdapter
from ..priority_levels import carried
from .common import FAILED_STATUSES, carry, methods_of, shorter


def within(timeout: Any) -> Timeout:
    """Return the time limits of requests or urllib3, shortened to the deadline."""
    if isinstance(timeout, Timeout):
        usual = timeout
    else:  # urllib3 rejects what is not a number
        connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        usual = Timeout(connect=connect, read=read)
    return Timeout(
        connect=_shorter(usual._connect), read=_shorter(usual._read), total=_shorter(usual.total)
    )


def _shorter(seconds: Any) -> Any:
    usual = None if seconds is Timeout.DEFAULT_TIMEOUT else seconds
    return shorter(usual) if usual is None or isinstance(usual, (int, float)) else usual


def socket_of(raw: Any) -> Any:
    """Return the socket of a response that is not read to its end yet, else None."""
    return getattr(getattr(raw, "_connection", None), "sock", None)


def look_at_deadline(raw: Any) -> None:
    """Make a response check the deadline after each piece of its body that arrives."""
    if remaining() is None or not hasattr(raw, "read1"):
        return
    inner = raw.stream

    def stream(amt: int = 65536, decode_content: bool | None = None) -> Iterator[bytes]:
        vars(raw).pop("stream", None)  # otherwise response and function would be a cycle
        try:
            yield from pieces(amt, decode_content)
        except CallTimeoutError:
            raw.close()
            raise

    def pieces(amt: int, decode_content: bool | None) -> Iterator[bytes]:
        if raw.chunked and raw.supports_chunked_reads():
            for chunk in inner(amt, decode_content=decode_content):
                check()
                yield chunk
            return
        while True:
            chunk = raw.read1(amt, decode_content=decode_content)
            # Its last read closes http.client's side of the connection.
            chunk = chunk or raw.read(amt, decode_content=decode_content)
            check()
            if not chunk:
                return
            yield chunk

    raw.stream = stream


def bind_pools(manager: Any) -> None:
    """Make responses of a manager's pools check the deadline; call it before it has any pool."""
    manager.pool_classes_by_scheme = {
        scheme: type(pool.__name__, (pool,), {
            "ConnectionCls": type(pool.ConnectionCls.__name__, (_Looking, pool.ConnectionCls), {}),
        })
        for scheme, pool in manager.pool_classes_by_scheme.items()
    }  # fmt: skip


def bind_pool(pool: Any) -> Any:
    """Make one pool's requests end with the deadline, whatever code sends them."""
    known = getattr(pool, "__dict__", {}).get("urlopen")
    if not hasattr(type(pool), "urlopen") or hasattr(known, "_resilient"):
        return pool
    method, there = methods_of(pool), cast("Callable[[], Any]", weakref.ref(pool))

    def urlopen(*args: Any, **kwargs: Any) -> Any:
        check()  # urlopen retries by calling itself
        args = _carry(there(), args, kwargs)
        if remaining() is not None and len(args) < _TIMEOUT_AT:
            given = kwargs.get("timeout", Timeout.DEFAULT_TIMEOUT)
            usual = there().timeout if given is Timeout.DEFAULT_TIMEOUT else given
            kwargs["timeout"] = _within_given(usual)
        return method("urlopen")(*args, **kwargs)

    pool.urlopen = update_wrapper(urlopen, type(pool).urlopen)
    vars(pool.urlopen)["_resilient"] = True
    return pool


def _carry(pool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Have a request say its priority; return its positional arguments."""
    if carried() is None:
        return args
    given = args[_HEADERS_AT] if len(args) > _HEADERS_AT else kwargs.get("headers")
    headers = HTTPHeaderDict(pool.headers if given is None else given)
    carry(headers)
    if len(args) > _HEADERS_AT:
        return (*args[:_HEADERS_AT], headers, *args[_HEADERS_AT + 1 :])
    kwargs["headers"] = headers
    return args


_HEADERS_AT: Final = 3  # positions among urlopen's arguments, which callers pass by name
_TIMEOUT_AT: Final = 7  # position among urlopen's arguments, which callers pass by name


def _within_given(timeout: Any) -> Any:
    known = timeout is None or isinstance(timeout, (int, float, Timeout))
    return within(timeout) if known else timeout


class _Looking:
    """A connection whose responses check the deadline."""

    def getresponse(self, *args: Any, **kwargs: Any) -> Any:
        response = super().getresponse(*args, **kwargs)  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
        look_at_deadline(response)
        return response


class DeadlineRetry(Retry):
    """Retries that never begin, and never pause, past the deadline."""

    def increment(self, *args: Any, **kwargs: Any) -> Any:
        check()
        return super().increment(*args, **kwargs)

    def sleep(self, response: Any = None) -> None:
        found, left = enclosing(), remaining()
        pause = self.get_backoff_time()
        if response is not None and self.respect_retry_after_header:
            pause = self.get_retry_after(response) or pause
        if found is not None and left is not None and pause >= left:
            raise found.error()
        super().sleep(response)


def deadline_retry(usual: Retry) -> Retry:
    """Return the same retries, ended by the deadline; return disabled ones unchanged."""
    if not usual.total or isinstance(usual, DeadlineRetry):
        return usual
    bound = copy(usual)
    bound.__class__ = type(type(usual).__name__, (DeadlineRetry, type(usual)), {})
    return bound


class DeadlineTimeout(Timeout):
    """Time limits of a pool, shortened to the deadline for each request under one."""

    @classmethod
    def of(cls, usual: Any) -> DeadlineTimeout:
        """Return the same limits, for a pool."""
        if isinstance(usual, Timeout):
            return cls(connect=usual._connect, read=usual._read, total=usual.total)
        return cls(connect=usual, read=usual)

    def clone(self) -> Timeout:
        return super().clone() if remaining() is None else within(self)


_OWN: Final = (  # the caller's own errors, raised before anything reached the server
    errors.BodyNotHttplibCompatible,
    errors.LocationValueError,
    errors.URLSchemeUnknown,
)


def callers_fault(error: Exception) -> bool:
    """Return whether an error is the caller's own doing, not a failure of the server.

    For ``ignore=`` of a guard: a bad URL. `Policy.wrap` and `resilient.patch` apply it by
    themselves.

    Args:
        error: what a call raised.

    Returns:
        True if the server is not to blame.

    Example:
        >>> import urllib3.exceptions as errors
        >>> from resilient.integrations.urllib3 import callers_fault
        >>> callers_fault(errors.URLSchemeUnknown("x")), callers_fault(errors.HTTPError())
        (True, False)
    """
    return isinstance(error, _OWN)


def failed_response(response: object) -> bool:
    """Return whether a response is a failure of the server: 429, 500, 502, 503 or 504.

    For ``failed_result=`` of a guard; see `callers_fault`.

    Args:
        response: what a call returned. Anything but a response of urllib3 is not a failure.

    Returns:
        True if the server has failed, though it answered.

    Example:
        >>> import urllib3
        >>> from resilient.integrations.urllib3 import failed_response
        >>> failed_response(urllib3.HTTPResponse(status=503)), failed_response(None)
        (True, False)
    """
    return isinstance(response, BaseHTTPResponse) and response.status in FAILED_STATUSES


class Urllib3Client(ClientAdapter):
    """What `Policy.wrap` knows of a `urllib3.PoolManager`."""

    speaks_http: ClassVar[bool] = True
    judge: ClassVar[Judge | None] = Judge(ignore=callers_fault, failed_result=failed_response)
    family: ClassVar[Family | None] = Family("urllib3", errors.HTTPError)
    timeouts: ClassVar[tuple[type[Exception], ...]] = (errors.TimeoutError, errors.MaxRetryError)

    def asks_again(self, client: Any) -> str:
        given = getattr(client, "connection_pool_kw", {}).get("retries", Retry.DEFAULT)
        total = Retry.from_int(given).total
        return f"{total} times (retries=)" if total else ""

    def free(self, cls: type, name: str) -> bool:
        return name in _FREE

    def is_data(self, cls: type) -> bool:
        return issubclass(cls, BaseHTTPResponse)

    def prepare(self, client: Any) -> None:
        if isinstance(client, HTTPConnectionPool):
            bind_pool(client)
            return
        if not isinstance(client, PoolManager) or "connection_from_pool_key" in vars(client):
            return
        method = methods_of(client)

        def connection_from_pool_key(*args: Any, **kwargs: Any) -> Any:
            return bind_pool(method("connection_from_pool_key")(*args, **kwargs))

        client.connection_from_pool_key = connection_from_pool_key  # type: ignore[method-assign]


_FREE: Final = frozenset({
    "connection_from_context", "connection_from_host", "connection_from_pool_key",
    "connection_from_url", "__enter__",
})  # fmt: skip

ADAPTER: Final = Urllib3Client()
