"""grpc.aio: an interceptor for each of gRPC's four kinds of call."""

# pyright: basic
from __future__ import annotations

from asyncio import ensure_future
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio

from ..deadline import raise_if_up
from ..policy.clients.client_policy import ClientPolicy
from ..policy.clients.lasting import Lasting
from .grpc_calls import JUDGE, AsyncDetails, in_time
from .grpc_errors import AIO_FAMILY

if TYPE_CHECKING:
    from ..policy.policy import Policy


class _AsyncBase:
    def __init__(self, policy: Policy) -> None:
        self._guarding = ClientPolicy(policy, (JUDGE,), kin=AIO_FAMILY.error)
        self._unary = self._guarding.function("async", _async_unary, skip=2)

    async def _stream(self, continuation: Any, details: Any, request: Any) -> Any:
        lasting = await self._guarding.async_lasting()
        with lasting.within():
            call = await _begun_async(lasting, continuation, details, request)
        _end_with(lasting, call)
        return _async_items(lasting, call)


class AsyncUnaryUnary(_AsyncBase, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await self._unary(continuation, details, request)


class AsyncStreamUnary(_AsyncBase, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(
        self, continuation: Any, details: Any, request_iterator: Any
    ) -> Any:
        lasting = await self._guarding.async_lasting()
        with lasting.within():
            call = await _begun_async(lasting, continuation, details, request_iterator)
        _end_with(lasting, call)
        return call  # at once: the caller may still write to it


_ending: Final[set[Any]] = set()  # strong references: a loop holds its tasks weakly


async def _begun_async(lasting: Lasting, continuation: Any, details: Any, request: Any) -> Any:
    try:
        return await continuation(in_time(AsyncDetails, details), request)
    except BaseException as error:
        lasting.end(error)
        raise


def _end_with(lasting: Lasting, call: Any) -> None:
    """Count a call when it ends, whether or not anybody awaits it."""
    task = ensure_future(_ended(lasting, call))
    _ending.add(task)
    task.add_done_callback(_ending.discard)


async def _ended(lasting: Lasting, call: Any) -> None:
    """Wait for a call's end and count its outcome."""
    code = await call.code()
    if code == grpc.StatusCode.OK:
        lasting.end(None)
    elif code == grpc.StatusCode.CANCELLED:
        lasting.end(GeneratorExit())
    else:
        lasting.end(grpc.aio.AioRpcError(code, await call.initial_metadata(),
                                         await call.trailing_metadata()))  # fmt: skip


class AsyncUnaryStream(_AsyncBase, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await self._stream(continuation, details, request)


class AsyncStreamStream(_AsyncBase, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self, continuation: Any, details: Any, request_iterator: Any
    ) -> Any:
        return await self._stream(continuation, details, request_iterator)


async def _async_unary(continuation: Any, details: Any, request: Any) -> Any:
    call = await continuation(in_time(AsyncDetails, details), request)
    try:
        await call
    except grpc.aio.AioRpcError as error:
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise_if_up()
        raise
    return call


async def _async_items(lasting: Lasting, call: Any) -> Any:
    try:
        async for item in call:
            yield item
    except GeneratorExit as gone:
        lasting.end(gone)
        call.cancel()
        raise
    except BaseException as error:
        told = lasting.end(error)
        if told is not None and told is not error:
            raise told from error
        raise
    lasting.end(None)
