"""Channels of grpc and grpc.aio, without interceptors and with ours."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.integrations.grpc import Interceptor, aio_interceptors
from tests.integration.transparency.harness import (
    MODES,
    Operations,
    Side,
    aplay,
    few,
    play,
    policy_of,
    run,
    same,
)
from tests.kit.servers.grpc_server import GrpcServer

operation = Operations()
async_operation = Operations()
requests = st.sampled_from([b"x", b"", "no bytes", None, 5])
codes = st.sampled_from([code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
how = st.sampled_from([
    {}, {"timeout": 5}, {"metadata": [("k", "v")]}, {"metadata": (("k-bin", b"\x00"),)}, {"wait_for_ready": True},
    {"compression": grpc.Compression.Gzip}, {"nothing_such": 1}, {"metadata": [("K", "upper")]},
    {"timeout": "x"}, {"metadata": "x"},
])  # fmt: skip
errors = st.sampled_from([ValueError("in the body"), None])


def told(call: Any) -> Any:
    """Return all there is to a call that has ended."""
    return {
        "code": call.code(), "details": call.details(), "trailing": tuple(call.trailing_metadata() or ()),
        "initial": tuple(call.initial_metadata() or ()),
    }  # fmt: skip


def error_told(error: Any) -> Any:
    return {
        **told(error), "types": [isinstance(error, each) for each in (grpc.RpcError, grpc.Call, grpc.Future)],
        "debug": bool(error.debug_error_string()),
    }  # fmt: skip


@operation(request=requests, how=how)
def unary(side: Side, request: Any, how: Any) -> Any:
    return side.call("Echo")(request, **how)


@operation(code=codes)
def fails(side: Side, code: str) -> Any:
    return side.call("Fail")(code.encode(), timeout=5)


@operation(code=codes)
def fails_caught(side: Side, code: str) -> Any:
    try:
        side.call("Fail")(code.encode(), timeout=5)
    except grpc.RpcError as error:
        return error_told(error)


@operation(request=requests, how=how)
def with_call(side: Side, request: Any, how: Any) -> Any:
    response, call = side.call("Echo").with_call(request, **how)
    return response, told(call), isinstance(call, grpc.Call)


@operation(how=how)
def future(side: Side, how: Any) -> Any:
    call = side.call("Echo").future(b"later", **how)
    seen: list[Any] = []
    call.add_done_callback(lambda done: seen.append(done.done()))
    response = call.result(5)
    side.settle(seen)
    return (
        response, call.done(), call.cancelled(), call.exception(), call.traceback(), told(call), seen,
        isinstance(call, grpc.Future), isinstance(call, grpc.Call), call.running(), call.is_active(),
    )  # fmt: skip


@operation(code=codes)
def future_fails(side: Side, code: str) -> Any:
    call = side.call("Fail").future(code.encode())
    error = call.exception(5)
    seen = error_told(error), told(call), call.cancelled(), call.done(), error is call.exception()
    return seen, call.result()


@operation()
def future_cancelled(side: Side) -> Any:
    call = side.call("Sleep").future(b"5")
    early = call.done(), call.running(), call.cancelled()
    return early, call.cancel(), call.cancelled(), call.done(), call.code(), call.result()


@operation()
def future_waits(side: Side) -> Any:
    call = side.call("Sleep").future(b"5")
    try:
        return call.result(timeout=0.01)
    except grpc.FutureTimeoutError as error:
        return error, call.done(), call.cancel()


@operation(count=st.integers(0, 4), stop=st.integers(0, 5))
def streams(side: Side, count: int, stop: int) -> Any:
    call = side.call("Count")(b"%d" % count, timeout=5)
    got = []
    for item in call:
        got.append(item)
        if len(got) >= stop:
            break
    shape = (
        iter(call) is call,
        isinstance(call, grpc.Call),
        isinstance(call, grpc.RpcError),
        tuple(call.initial_metadata()),
    )
    return (
        got,
        shape,
        next(call, "over"),
        list(call),
        told(call) if call.code() else None,
        call.is_active(),
    )


@operation()
def stream_cancelled(side: Side) -> Any:
    call = side.call("Count")(b"5 1", timeout=5)
    first, gone = next(call), call.cancel()
    return (
        first,
        gone,
        call.code(),
        call.cancelled() if hasattr(call, "cancelled") else None,
        next(call),
    )


@operation()
def stream_fails(side: Side) -> Any:
    return list(side.call("Count")(b"not a number", timeout=5))


@operation()
def stream_late(side: Side) -> Any:
    return list(side.call("Count")(b"3 5", timeout=0.1))


@operation()
def late(side: Side) -> Any:
    return side.call("Sleep")(b"5", timeout=0.05)


@operation(items=st.lists(st.sampled_from([b"1", b"2", b"x"]), max_size=3), how=how)
def sums(side: Side, items: Any, how: Any) -> Any:
    return side.call("Sum")(iter(items), **how)


@operation()
def sums_brokenly(side: Side) -> Any:
    def items() -> Any:
        yield b"1"
        raise LookupError("in the generator")

    return side.call("Sum")(items(), timeout=5)


@operation(items=st.lists(st.sampled_from([b"1", b"2"]), max_size=3))
def chats(side: Side, items: Any) -> Any:
    call = side.call("Chat")(iter(items), timeout=5)
    return list(call), told(call)


@operation()
def sends_metadata(side: Side) -> Any:
    said = json.loads(side.call("Metadata")(b"", metadata=[("key", "value")]))
    return [pair for pair in said["metadata"] if pair[0] != "user-agent"]


@operation()
def sends_deadline(side: Side) -> Any:
    return json.loads(side.call("Metadata")(b""))["time_remaining"] is None


@operation()
def no_such_method(side: Side) -> Any:
    return side.client.unary_unary("/kit.Kit/Nothing")(b"", timeout=5)


@operation(what=st.sampled_from(["serializer", "deserializer"]))
def serializers(side: Side, what: str) -> Any:
    def broken(data: Any) -> Any:
        raise LookupError(what)

    option = {"request_serializer" if what == "serializer" else "response_deserializer": broken}
    return side.client.unary_unary("/kit.Kit/Echo", **option)(b"x", timeout=5)


@operation()
def looks(side: Side) -> Any:
    call = side.call("Echo")
    return (
        isinstance(side.client, grpc.Channel), isinstance(call, grpc.UnaryUnaryMultiCallable),
        isinstance(side.call("Count"), grpc.UnaryStreamMultiCallable),
        sorted(each for each in dir(side.client) if each[0] != "_"), callable(call),
    )  # fmt: skip


@operation(error=errors)
def entered(side: Side, error: Any) -> Any:
    with side.bag["open"]() as inside:
        if error is not None:
            raise error.with_traceback(None)
        return inside.unary_unary("/kit.Kit/Echo")(b"in")


@operation()
def closed(side: Side) -> Any:
    channel = side.bag["open"]()
    return channel.close(), side.more.method(channel, "Echo")(b"x")


@operation()
def closed_within(side: Side) -> Any:
    channel = side.bag["open"]()
    call = side.more.method(channel, "Count")(b"5 1")
    return next(call), channel.close(), next(call)


class GrpcSide(Side):
    """A side whose client is a channel."""

    def call(self, name: str) -> Any:
        return self.more.method(self.client, name)

    def settle(self, seen: list[Any]) -> None:
        """Wait for a callback."""
        end = time.monotonic() + 30
        while not seen and time.monotonic() < end:
            time.sleep(0.002)


# -- aio ---------------------------------------------


@async_operation(request=requests, how=how)
async def aunary(side: Any, request: Any, how: Any) -> Any:
    return await side.call("Echo")(request, **how)


@async_operation()
async def aunary_call(side: Any) -> Any:
    call = side.call("Echo")(b"x", timeout=5)
    said = await call
    return (
        said, await call.code(), await call.details(), tuple(await call.initial_metadata()),
        tuple(await call.trailing_metadata()), call.done(), call.cancelled(), isinstance(call, grpc.aio.Call),
        isinstance(call, grpc.aio.UnaryUnaryCall), await call, call.cancel(),
    )  # fmt: skip


@async_operation(code=codes)
async def afails(side: Any, code: str) -> Any:
    return await side.call("Fail")(code.encode(), timeout=5)


@async_operation(code=codes)
async def afails_caught(side: Any, code: str) -> Any:
    call = side.call("Fail")(code.encode(), timeout=5)
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return (
            error.code(), error.details(), tuple(error.trailing_metadata()), tuple(error.initial_metadata()),
            await call.code(), await call.details(), call.done(), call.cancelled(),
        )  # fmt: skip


@async_operation()
async def acancelled(side: Any) -> Any:
    call = side.call("Sleep")(b"5")
    await asyncio.sleep(0.01)
    seen = call.cancel(), call.cancelled()
    try:
        await call
    except asyncio.CancelledError as error:
        return seen, type(error), call.cancelled(), call.done()


@async_operation(count=st.integers(0, 4), stop=st.integers(0, 5))
async def astreams(side: Any, count: int, stop: int) -> Any:
    call = side.call("Count")(b"%d" % count, timeout=5)
    got = []
    async for item in call:
        got.append(item)
        if len(got) >= stop:
            break
    rest = [each async for each in call]
    return got, rest, await call.code(), isinstance(call, grpc.aio.UnaryStreamCall), call.done()


@async_operation(count=st.integers(0, 3))
async def areads(side: Any, count: int) -> Any:
    call = side.call("Count")(b"%d" % count, timeout=5)
    got = [await call.read() for _ in range(count + 1)]
    return [each if isinstance(each, bytes) else "EOF" for each in got], await call.code()


@async_operation()
async def astream_cancelled(side: Any) -> Any:
    call = side.call("Count")(b"5 1", timeout=5)
    async for item in call:
        gone = call.cancel()
        return item, gone, call.cancelled()
    return None


@async_operation()
async def astream_fails(side: Any) -> Any:
    return [each async for each in side.call("Count")(b"not a number", timeout=5)]


@async_operation()
async def alate(side: Any) -> Any:
    return await side.call("Sleep")(b"5", timeout=0.05)


@async_operation()
async def astream_late(side: Any) -> Any:
    return [each async for each in side.call("Count")(b"3 5", timeout=0.1)]


@async_operation(items=st.lists(st.sampled_from([b"1", b"2", b"x"]), max_size=3))
async def asums(side: Any, items: Any) -> Any:
    async def sent() -> Any:
        for each in items:
            yield each

    return await side.call("Sum")(sent(), timeout=5)


@async_operation(items=st.lists(st.sampled_from([b"1", b"2"]), max_size=3))
async def achats(side: Any, items: Any) -> Any:
    async def sent() -> Any:
        for each in items:
            yield each

    call = side.call("Chat")(sent(), timeout=5)
    return [each async for each in call], await call.code()


@async_operation(items=st.lists(st.sampled_from([b"1", b"2"]), max_size=3))
async def awrites(side: Any, items: Any) -> Any:
    call = side.call("Sum")(timeout=1)
    for each in items:
        await call.write(each)
    await call.done_writing()
    return await call


@async_operation(items=st.lists(st.sampled_from([b"1", b"2"]), max_size=3))
async def awrites_and_reads(side: Any, items: Any) -> Any:
    call = side.call("Chat")(timeout=5)
    got = []
    for each in items:
        await call.write(each)
        got.append(await call.read())
    await call.done_writing()
    return got, (await call.read()) is grpc.aio.EOF, await call.code()


@async_operation()
async def asends_metadata(side: Any) -> Any:
    said = json.loads(await side.call("Metadata")(b"", metadata=[("key", "value")]))
    return [pair for pair in said["metadata"] if pair[0] != "user-agent"]


@async_operation()
async def asends_deadline(side: Any) -> Any:
    return json.loads(await side.call("Metadata")(b""))["time_remaining"] is None


@async_operation(error=errors)
async def aentered(side: Any, error: Any) -> Any:
    async with side.bag["open"]() as inside:
        if error is not None:
            raise error.with_traceback(None)
        return await inside.unary_unary("/kit.Kit/Echo")(b"in")


@async_operation()
async def aat_once(side: Any) -> Any:
    return await asyncio.gather(*(side.call("Echo")(b"%d" % number) for number in range(5)))


# -- the tests ---------------------------------------------


def scrub(text: str) -> str:
    text = re.sub(r"transparency-\d+", "<policy>", text)
    text = text.replace("Stream removed (Deadline Exceeded)", "Deadline Exceeded")
    text = re.sub(r"debug_error_string = .*", "debug", text)
    return re.sub(r"\d\.\d+", "<n>", text)


def played(server: GrpcServer, steps: Any, mode: str | None) -> Any:
    def opened() -> Any:
        channel = grpc.insecure_channel(server.target)
        if mode is None:
            return channel
        return grpc.intercept_channel(channel, Interceptor(policy_of("grpc", mode)))

    channel = opened()
    log = play(GrpcSide(channel, bag={"open": opened}, more=server), steps, scrub)
    channel.close()
    return log


def aplayed(server: GrpcServer, steps: Any, ours: bool) -> Any:
    async def main() -> Any:
        def opened() -> Any:
            found = aio_interceptors(policy_of("grpc")) if ours else None
            return grpc.aio.insecure_channel(server.target, interceptors=found)

        async with opened() as channel:
            return await aplay(GrpcSide(channel, bag={"open": opened}, more=server), steps, scrub)

    return run(main)


@pytest.mark.parametrize("mode", MODES)
@few(max_examples=15)
@given(steps=operation.sequences())
def test_a_sequence_comes_to_the_same(grpc_server: GrpcServer, mode: str, steps: Any) -> None:
    bare = played(grpc_server, steps, None)
    same("grpc", bare, played(grpc_server, steps, mode))


@few(max_examples=15)
@given(steps=async_operation.sequences())
def test_an_async_sequence_comes_to_the_same(grpc_server: GrpcServer, steps: Any) -> None:
    bare = aplayed(grpc_server, steps, False)
    same("grpc", bare, aplayed(grpc_server, steps, True))
