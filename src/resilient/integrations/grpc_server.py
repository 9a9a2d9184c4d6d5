"""grpcio: server interceptors, sync and aio, that take the priority of a call from its caller."""

# pyright: basic
from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import grpc
import grpc.aio

from ..callables import kind_of
from ..priority_levels import HEADER, LEVELS, of_request

_MADE: Final[dict[tuple[bool, bool], tuple[str, Callable[..., Any]]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


class ServerInterceptor(grpc.ServerInterceptor):
    """Has each call of a server run with the priority that its caller says; see `priority`.

    The caller's deadline needs no interceptor: gRPC tells it, and ends the call.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> import grpc
        >>> from resilient.integrations.grpc_server import ServerInterceptor
        >>> server = grpc.server(ThreadPoolExecutor(4), interceptors=[ServerInterceptor()])
    """

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Return the handler of a call, which sets the priority."""
        return _handler(continuation(details), details, _unary, _stream)


class AsyncServerInterceptor(grpc.aio.ServerInterceptor):
    """As `ServerInterceptor`, for a server of grpc.aio.

    Example:
        >>> import asyncio
        >>> import grpc.aio
        >>> from resilient.integrations.grpc_server import AsyncServerInterceptor
        >>> async def made():
        ...     return grpc.aio.server(interceptors=[AsyncServerInterceptor()])
        >>> server = asyncio.run(made())
    """

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Return the handler of a call, which sets the priority."""
        return _handler(await continuation(details), details, _async_unary, _async_stream)


def _handler(handler: Any, details: Any, unary: Any, stream: Any) -> Any:
    said = next((value for key, value in details.invocation_metadata if key == HEADER), None)
    if handler is None or said not in LEVELS:
        return handler
    name, made = _MADE[handler.request_streaming, handler.response_streaming]
    if kind_of(getattr(handler, name)) in ("sync", "generator"):  # grpc.aio runs it on a thread
        unary, stream = _unary, _stream
    kind = stream if handler.response_streaming else unary
    return made(
        kind(getattr(handler, name), said),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _unary(behaviour: Any, said: Any) -> Any:
    def answer(request: Any, context: Any) -> Any:
        with of_request(said):
            return behaviour(request, context)

    return answer


def _stream(behaviour: Any, said: Any) -> Any:
    def answers(request: Any, context: Any) -> Iterator[Any]:
        level, done = of_request(said), object()
        with level:
            items = iter(behaviour(request, context))
        while True:
            with level:
                item = next(items, done)
            if item is done:
                return
            yield item

    return answers


def _async_unary(behaviour: Any, said: Any) -> Any:
    async def answer(request: Any, context: Any) -> Any:
        with of_request(said):
            return await behaviour(request, context)

    return answer


def _async_stream(behaviour: Any, said: Any) -> Any:
    async def answers(request: Any, context: Any) -> AsyncIterator[Any]:
        level, done = of_request(said), object()
        with level:
            begun = behaviour(request, context)
            items = None if hasattr(begun, "__await__") else begun.__aiter__()
            if items is None:  # it writes to the context
                await begun
                return
        while True:
            with level:
                item = await anext(items, done)
            if item is done:
                return
            yield item

    return answers
