"""What httpx and httpx2 have in common: two packages with the same interface."""

# pyright: basic
from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..deadline import Deadline, check, enclosing, raise_if_over
from ..engine.key_states import KeyState
from ..errors import CallTimeoutError
from ..knowledge.error_families import Family
from ..knowledge.hosts import host_over_http
from ..knowledge.repeats import once_over_http
from ..outcomes import Judge
from ..policy.clients.client_policy import ClientPolicy
from ..policy.clients.keying import keying_of
from ..policy.clients.proxy_methods import in_time
from ..policy.key_calls import view_of
from .common import FAILED_STATUSES, carry_in, cut_when_abandoned, shortened, shorter

if TYPE_CHECKING:
    from ..policy.policy import Policy

_READ_AHEAD: Final = 1 << 20  # a body up to this length is part of the guarded call


class Library:
    """One of the two packages: its errors, its responses, and bodies that keep to a deadline."""

    def __init__(self, module: Any, name: str) -> None:
        self.module: Any = module
        self.timeouts: tuple[type[Exception], ...] = (module.TimeoutException,)
        self.ends: tuple[type[Exception], ...] = (CallTimeoutError, module.TimeoutException)
        # The caller's own errors, raised before anything reached the server.
        self._own: tuple[type[Exception], ...] = (
            module.InvalidURL, module.UnsupportedProtocol, module.LocalProtocolError,
            module.CookieConflict, module.StreamError, module.TooManyRedirects,
        )  # fmt: skip
        self.family: Family = Family(name, module.TransportError, _Shape, self._fill)
        self.judge: Judge = Judge(ignore=self.callers_fault, failed_result=self.failed_response)
        self.body: Any = type("_Body", (_Body, module.SyncByteStream), {"library": self})
        self.async_body: Any = type(
            "_AsyncBody", (_AsyncBody, module.AsyncByteStream), {"library": self}
        )

    def callers_fault(self, error: Any) -> bool:
        """Return whether an error is the caller's own doing."""
        if isinstance(error, self.module.HTTPStatusError):
            return error.response.status_code not in FAILED_STATUSES
        return isinstance(error, self._own)

    def failed_response(self, response: Any) -> bool:
        """Return whether a response is a failure of the server."""
        return isinstance(response, self.module.Response) and (
            response.status_code in FAILED_STATUSES
        )

    def _fill(self, error: Any, fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Give an error its request, or the means to make one on demand."""
        request = self.module.Request
        given = next(
            (each for each in (*args, *kwargs.values()) if isinstance(each, request)), None
        )
        error._resilient_request = given
        if given is None:
            error._resilient_asked = request, *asked(fn, args, kwargs)


def asked(fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the HTTP method and URL of a client's method call, as far as its arguments show."""
    name = str(getattr(fn, "__name__", ""))
    given = [each for each in args if isinstance(each, str) or type(each).__name__ == "URL"]
    method = kwargs.get("method") or (given.pop(0) if name in _WITH_METHOD and given else name)
    url = kwargs.get("url") or next(iter(given), None)
    return str(method).upper(), url


_WITH_METHOD: Final = frozenset({"request", "stream"})


class _Shape:
    """The attributes of the library's errors that their handlers read."""

    _resilient_request: Any = None
    _resilient_asked: Any = None

    @property
    def request(self) -> Any:
        """The request that was not sent, or not answered."""
        made = self._resilient_request
        if made is None and self._resilient_asked is not None:
            kind, method, url = self._resilient_asked
            try:
                made = self._resilient_request = kind(method, url)
            except Exception:
                self._resilient_asked = None  # its URL or method is invalid
        if made is None:
            raise RuntimeError("The .request property has not been set.")
        return made

    @request.setter
    def request(self, request: Any) -> None:
        self._resilient_request = request


def _guarded(policy: Policy, library: Library, kind: Any, send: Any, key: object) -> Any:
    guarding = ClientPolicy(policy, (library.judge,), kin=library.family.error, once=once_over_http)
    keying = keying_of(policy, key, host_over_http)
    if keying is None:
        return guarding.function(kind, send)

    def make(state: KeyState) -> Any:
        return guarding.of(view_of(policy._core, state)).function(kind, send)

    return keying.function(kind, make, skip=0)


class SyncTransport:
    """A sync transport, common to both packages."""

    library: Library
    _inner: Any

    def _guard(self, policy: Policy, inner: Any, key: object) -> None:
        self._inner, self._left = inner, False
        self._guarded = _guarded(policy, self.library, "sync", self._send, key)

    def handle_request(self, request: Any) -> Any:
        """Send a request through the policy."""
        return self._guarded(request)

    def _send(self, request: Any) -> Any:
        library, self._left = self.library, False  # a request reopens a closed transport
        shorten(request)
        with shortened(*library.timeouts):
            response = self._inner.handle_request(request)
            cut_when_abandoned(response, socket_of)
            if not is_short(response):
                deadline = enclosing()
                if deadline is not None:
                    response.stream = library.body(response.stream, deadline)
                return response
            chunks: list[bytes] = []
            try:
                for chunk in response.stream:
                    chunks.append(chunk)
                    check()
            finally:
                response.stream.close()
        response.stream = library.module.ByteStream(b"".join(chunks))
        return response

    def __enter__(self) -> Any:
        self._inner.__enter__()
        self._left = False
        return self

    def __exit__(self, *exc: object) -> None:
        left, self._left = self._left, True
        if not left:
            self._inner.__exit__(*exc)

    def close(self) -> None:
        """Close the inner transport, once."""
        left, self._left = self._left, True
        if not left:
            self._inner.close()


class AsyncTransport:
    """An async transport, on asyncio and trio."""

    library: Library
    _inner: Any

    def _guard(self, policy: Policy, inner: Any, key: object) -> None:
        self._inner, self._left = inner, False
        self._guarded = _guarded(policy, self.library, "async", self._send, key)

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request through the policy."""
        return await self._guarded(request)

    async def _send(self, request: Any) -> Any:
        library, self._left = self.library, False  # a request reopens a closed transport
        shorten(request)
        response = await self._inner.handle_async_request(request)
        if not is_short(response):
            deadline = enclosing()
            if deadline is not None:
                response.stream = library.async_body(response.stream, deadline)
            return response
        try:
            chunks = [chunk async for chunk in response.stream]
        finally:
            await response.stream.aclose()
        response.stream = library.module.ByteStream(b"".join(chunks))
        return response

    async def __aenter__(self) -> Any:
        await self._inner.__aenter__()
        self._left = False
        return self

    async def __aexit__(self, *exc: object) -> None:
        left, self._left = self._left, True
        if not left:
            await self._inner.__aexit__(*exc)

    async def aclose(self) -> None:
        """Close the inner transport, once."""
        left, self._left = self._left, True
        if not left:
            await self._inner.aclose()


class _Body:
    """A body whose reading ends with the deadline of its request."""

    library: Library

    def __init__(self, inner: Any, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._inner:
                if self._deadline.now() >= self._deadline.when:
                    raise self._deadline.error()
                yield chunk
        except self.library.ends as error:
            raise _told(self, error) from error.__cause__

    def close(self) -> None:
        self._inner.close()


class _AsyncBody:
    """The same for an async request."""

    library: Library

    def __init__(self, inner: Any, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks, deadline = aiter(self._inner), self._deadline
        try:
            while True:
                left = max(0.0, deadline.when - deadline.now())
                # Cancel the wait for a piece rather than stop between two, so that httpx cleans up.
                chunk = await in_time(left, deadline.policy, partial(anext, chunks))
                yield chunk
        except StopAsyncIteration:
            return
        except self.library.ends as error:
            raise _told(self, error) from error.__cause__
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    async def aclose(self) -> None:
        await self._inner.aclose()


def _told(body: _Body | _AsyncBody, error: Exception) -> Exception:
    """Return the error for a reader of a body: the timeout if the deadline is up."""
    try:
        raise_if_over(body._deadline)
    except CallTimeoutError as timeout:
        error = timeout
    return body.library.family.error(error)


def is_short(response: Any) -> bool:
    """Return whether a response declares a body short enough to read at once."""
    length = response.headers.get("content-length", "")
    return length.isdigit() and int(length) <= _READ_AHEAD


def shorten(request: Any) -> None:
    """Have a request say its priority, and take no longer than until the deadline."""
    carry_in(request)
    usual = request.extensions.get("timeout") or {}
    parts = ("connect", "read", "write", "pool")
    limits = {part: shorter(usual.get(part)) for part in parts}
    request.extensions = {**request.extensions, "timeout": limits}


def socket_of(response: Any) -> Any:
    """Return the socket of a response, if it has one."""
    stream = response.extensions.get("network_stream")
    return None if stream is None else stream.get_extra_info("socket")
