"""Clients of httpx and httpx2, and transports that keep to the deadline."""

# pyright: basic
from __future__ import annotations

from functools import update_wrapper
from typing import Any, ClassVar

from ..deadline import enclosing
from ..policy.clients.adapter import ClientAdapter
from .common import carry_in, cut_when_abandoned, methods_of, overran
from .http_library import AsyncTransport, Library, SyncTransport, shorten, socket_of


class HttpClient(ClientAdapter):
    """What `Policy.wrap` knows of a client of either package."""

    library: Library
    speaks_http: ClassVar[bool] = True

    def free(self, cls: type, name: str) -> bool:
        return name in ("build_request", "__enter__", "__aenter__")

    def is_data(self, cls: type) -> bool:
        module = self.library.module
        package = cls.__module__.partition(".")[0]
        own = package == module.__name__
        return own and not issubclass(cls, (module.Client, module.AsyncClient))

    def prepare(self, client: Any) -> None:
        module = self.library.module
        if not isinstance(client, (module.Client, module.AsyncClient)):
            return
        is_async = isinstance(client, module.AsyncClient)
        bind = _bound_async if is_async else _bound
        for transport in (client._transport, *client._mounts.values()):
            bind(self.library, transport)
        if "_transport_for_url" in vars(client):
            return

        # The client calls this for each request: so later mounts are bound, too.
        def transport_for_url(*args: Any, **kwargs: Any) -> Any:
            transport = method("_transport_for_url")(*args, **kwargs)
            bind(self.library, transport)
            return transport

        method = methods_of(client)
        client._transport_for_url = transport_for_url


def _needs(transport: Any, ours: type, name: str) -> bool:
    """Return whether a transport is not bound yet."""
    plain = hasattr(transport, "__dict__") and hasattr(type(transport), name)  # not a mock
    if isinstance(transport, ours) or not plain:
        return False
    return not hasattr(vars(transport).get(name), "_resilient")


def _bound(library: Library, transport: Any) -> None:
    """Make a client's own transport keep to the deadline, for headers and body."""
    if not _needs(transport, SyncTransport, "handle_request"):
        return
    method, kind = methods_of(transport), type(transport)

    def handle_request(request: Any) -> Any:
        handle, deadline = method("handle_request"), enclosing()
        if deadline is None:
            carry_in(request)
            return handle(request)
        shorten(request)
        try:
            response = handle(request)
        finally:
            overran(deadline, kind)
        cut_when_abandoned(response, socket_of)
        response.stream = library.body(response.stream, deadline)
        return response

    _put(transport, handle_request)


def _bound_async(library: Library, transport: Any) -> None:
    """Make an async client's own transport keep to the deadline, also while a body streams."""
    if not _needs(transport, AsyncTransport, "handle_async_request"):
        return
    method = methods_of(transport)

    async def handle_async_request(request: Any) -> Any:
        handle, deadline = method("handle_async_request"), enclosing()
        if deadline is None:
            carry_in(request)
            return await handle(request)
        shorten(request)
        response = await handle(request)
        response.stream = library.async_body(response.stream, deadline)
        return response

    _put(transport, handle_async_request)


def _put(transport: Any, made: Any) -> None:
    name = made.__name__
    update_wrapper(made, vars(transport).get(name, getattr(type(transport), name)))
    made._resilient = True
    setattr(transport, name, made)
