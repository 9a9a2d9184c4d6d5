"""httpx: transports that guard every request of a client, sync and async."""

# pyright: basic
from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ClassVar, Final

import httpx

from ..clients.guarding import Guarding
from ..clients.knowledge import Knowledge
from ..clients.methods import in_time
from ..deadline import Deadline, check, enclosing, raise_if_over
from ..errors import CallTimeoutError
from ..outcomes import Judge
from .common import FAILED_STATUSES, cut_when_abandoned, shortened, shorter

if TYPE_CHECKING:
    from ..policy import Policy

# What the caller got wrong; none of it reached the server.
_OWN: Final = (
    httpx.InvalidURL,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
    httpx.CookieConflict,
    httpx.StreamError,
    httpx.TooManyRedirects,
)
_READ_AHEAD: Final = 1 << 20  # a body up to this length is part of the guarded call


def callers_own(error: Exception) -> bool:
    """Tell whether an error is no failure of the server: a bad URL, a status of the caller's."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code not in FAILED_STATUSES
    return isinstance(error, _OWN)


def failed(response: object) -> bool:
    """Tell whether a response is a failure of the server: 429, 500, 502, 503 or 504."""
    return isinstance(response, httpx.Response) and response.status_code in FAILED_STATUSES


JUDGE: Final = Judge(ignore=callers_own, failed_result=failed)


class Transport(httpx.BaseTransport):
    """A transport that sends every request of a client through a policy.

    A body of a known length up to 1 MiB is read within the guarded call. A longer one, or one
    without a length, is read later: its deadline stays, its failures are not counted.

    Args:
        policy: what guards the requests. A fallback gets the `httpx.Request`, and has to return an
            `httpx.Response`.
        transport: what sends them. Default an `httpx.HTTPTransport`.

    Raises:
        TypeError: the policy's timeout does not say how to bound sync calls.

    Example:
        >>> import httpx
        >>> from resilient import Policy, circuit_breaker, timeout
        >>> from resilient.integrations.httpx import Transport
        >>> shop = Policy("shop-api", circuit_breaker(), timeout(0.5, sync="thread"))
        >>> client = httpx.Client(transport=Transport(shop), base_url="https://shop.example")
    """

    def __init__(self, policy: Policy, transport: httpx.BaseTransport | None = None) -> None:
        self._inner = httpx.HTTPTransport() if transport is None else transport
        self._guarded = Guarding(policy, (JUDGE,)).function("sync", self._send)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response: httpx.Response = self._guarded(request)
        return response

    def _send(self, request: httpx.Request) -> httpx.Response:
        shorten(request)
        with shortened(httpx.TimeoutException):
            response = self._inner.handle_request(request)
            cut_when_abandoned(response, _socket)
            if not is_short(response):
                deadline = enclosing()
                if deadline is not None:
                    response.stream = _Body(response.stream, deadline)
                return response
            stream: Any = response.stream
            chunks: list[bytes] = []
            try:
                for chunk in stream:
                    chunks.append(chunk)
                    check()
            finally:
                stream.close()
        response.stream = httpx.ByteStream(b"".join(chunks))
        return response

    def close(self) -> None:
        self._inner.close()


class AsyncTransport(httpx.AsyncBaseTransport):
    """As `Transport`, for an `httpx.AsyncClient`, on asyncio and trio.

    Args:
        policy: what guards the requests.
        transport: what sends them. Default an `httpx.AsyncHTTPTransport`.

    Example:
        >>> import httpx
        >>> from resilient import Policy, circuit_breaker, timeout
        >>> from resilient.integrations.httpx import AsyncTransport
        >>> prices = Policy("price-api", circuit_breaker(), timeout(0.5))
        >>> client = httpx.AsyncClient(transport=AsyncTransport(prices))
    """

    def __init__(self, policy: Policy, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._inner = httpx.AsyncHTTPTransport() if transport is None else transport
        self._guarded = Guarding(policy, (JUDGE,)).function("async", self._send)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response: httpx.Response = await self._guarded(request)
        return response

    async def _send(self, request: httpx.Request) -> httpx.Response:
        shorten(request)
        response = await self._inner.handle_async_request(request)
        if not is_short(response):
            deadline = enclosing()
            if deadline is not None:
                response.stream = _AsyncBody(response.stream, deadline)
            return response
        stream: Any = response.stream
        try:
            chunks = [chunk async for chunk in stream]
        finally:
            await stream.aclose()
        response.stream = httpx.ByteStream(b"".join(chunks))
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Body(httpx.SyncByteStream):
    """A body whose reading ends with the deadline of its request."""

    def __init__(self, inner: Any, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._inner:
                if self._deadline.now() >= self._deadline.when:
                    raise self._deadline.error()
                yield chunk
        except httpx.TimeoutException:
            raise_if_over(self._deadline)
            raise

    def close(self) -> None:
        self._inner.close()


class _AsyncBody(httpx.AsyncByteStream):
    """The same of an async request."""

    def __init__(self, inner: Any, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks, deadline = aiter(self._inner), self._deadline
        try:
            while True:
                left = max(0.0, deadline.when - deadline.now())
                # Cancelled in its wait, and not left between two pieces: so httpx cleans up.
                chunk = await in_time(left, deadline.policy, partial(anext, chunks))
                yield chunk
        except StopAsyncIteration:
            return
        except (CallTimeoutError, httpx.TimeoutException):
            raise_if_over(deadline)
            raise
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    async def aclose(self) -> None:
        await self._inner.aclose()


def is_short(response: httpx.Response) -> bool:
    """Tell whether a response says that its body is short enough to be read at once."""
    length = response.headers.get("content-length", "")
    return length.isdigit() and int(length) <= _READ_AHEAD


def shorten(request: httpx.Request) -> None:
    """Shorten the time limits of a request to what is left of the deadline."""
    usual = request.extensions.get("timeout") or {}
    parts = ("connect", "read", "write", "pool")
    limits = {part: shorter(usual.get(part)) for part in parts}
    request.extensions = {**request.extensions, "timeout": limits}


def _socket(response: httpx.Response) -> Any:
    stream = response.extensions.get("network_stream")
    return None if stream is None else stream.get_extra_info("socket")


class HttpxKnowledge(Knowledge):
    """What `Policy.wrap` knows of an `httpx.Client` or `httpx.AsyncClient`."""

    judge: ClassVar[Judge | None] = JUDGE
    timeouts: ClassVar[tuple[type[Exception], ...]] = (httpx.TimeoutException,)

    def free(self, cls: type, name: str) -> bool:
        return name in ("build_request", "__enter__", "__aenter__")

    def is_data(self, cls: type) -> bool:
        return cls.__module__.startswith("httpx") and not issubclass(
            cls, (httpx.Client, httpx.AsyncClient)
        )

    def prepare(self, client: Any) -> None:
        if not isinstance(client, (httpx.Client, httpx.AsyncClient)):
            return
        is_async = isinstance(client, httpx.AsyncClient)
        handle = "handle_async_request" if is_async else "handle_request"
        for transport in (client._transport, *client._mounts.values()):
            if transport is not None and handle not in vars(transport):
                (_bound_async if is_async else _bound)(transport)


def _bound(transport: Any) -> None:
    """Have a client's own transport keep to the deadline, headers and body."""
    handle = transport.handle_request

    @wraps(handle)
    def handle_request(request: httpx.Request) -> httpx.Response:
        deadline = enclosing()
        if deadline is None:
            return handle(request)  # type: ignore[no-any-return]
        shorten(request)
        response: httpx.Response = handle(request)
        cut_when_abandoned(response, _socket)
        response.stream = _Body(response.stream, deadline)
        return response

    transport.handle_request = handle_request


def _bound_async(transport: Any) -> None:
    """Have an async client's own transport keep to the deadline, also while a body is streamed."""
    handle = transport.handle_async_request

    @wraps(handle)
    async def handle_async_request(request: httpx.Request) -> httpx.Response:
        deadline = enclosing()
        if deadline is None:
            return await handle(request)  # type: ignore[no-any-return]
        shorten(request)
        response: httpx.Response = await handle(request)
        response.stream = _AsyncBody(response.stream, deadline)
        return response

    transport.handle_async_request = handle_async_request


KNOWLEDGE: Final = HttpxKnowledge()
