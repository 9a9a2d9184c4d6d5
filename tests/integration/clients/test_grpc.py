"""grpcio, sync and aio, by interceptors."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

import resilient
from resilient.integrations.grpc import Interceptor, aio_interceptors
from tests.integration.clients.kit import (
    LIMIT,
    MODES,
    AsyncLoad,
    Left,
    Load,
    async_outcome,
    check_at_rest,
    counted,
    life_story,
    make_policy,
    outcome,
    plain,
    timed,
)
from tests.kit.servers.grpc_server import GrpcServer
from tests.kit.waiting import until

SLACK = {"cooperative": 0.5, "thread": 0.5, "async": 0.5}  # seconds over a call's limit
# gRPC waits longer and longer before it connects again; services that want it sooner say so.
OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
]

mode = pytest.mark.parametrize("mode", MODES)


@contextmanager
def opened(server: GrpcServer, policy: resilient.Policy) -> Iterator[Any]:
    """Give what calls a method of a guarded channel by its name."""
    with grpc.insecure_channel(server.target, options=OPTIONS) as channel:
        guarded = grpc.intercept_channel(channel, Interceptor(policy))
        yield lambda name: server.method(guarded, name)


@asynccontextmanager
async def async_opened(server: GrpcServer, policy: resilient.Policy) -> Any:
    """Give the same of a guarded aio channel."""
    async with grpc.aio.insecure_channel(
        server.target, options=OPTIONS, interceptors=aio_interceptors(policy)
    ) as channel:
        yield lambda name: server.method(channel, name)


# -- the life story ---------------------------------------------


@mode
def test_life_story(grpc_server: GrpcServer, mode: str) -> None:
    policy = make_policy(mode, name="grpc")
    left = Left()
    with opened(grpc_server, policy) as method:
        echo = method("Echo")
        life_story(
            grpc_server, policy, Load(lambda: echo(b"hello")), slack=SLACK[mode],
            allowed=(grpc.RpcError,),
        )  # fmt: skip
    left.check()


def test_life_story_of_aio(grpc_server: GrpcServer) -> None:
    policy = make_policy(name="grpc")
    left = Left()

    @asynccontextmanager
    async def calls() -> Any:
        async with async_opened(grpc_server, policy) as method:
            echo = method("Echo")
            yield lambda: echo(b"hello")

    life_story(
        grpc_server, policy, AsyncLoad(calls), slack=SLACK["async"], allowed=(grpc.RpcError,)
    )  # fmt: skip
    left.check(collect=True)  # grpc.aio has cycles wherever an interceptor awaits a failed call


# -- the four kinds of call ---------------------------------------------


@mode
def test_the_four_kinds(grpc_server: GrpcServer, mode: str) -> None:
    policy = make_policy(mode, limit=2.0)
    with opened(grpc_server, policy) as method:
        with counted(policy) as found:
            assert method("Echo")(b"hello") == b"hello"
            assert list(method("Count")(b"3")) == [b"0", b"1", b"2"]
            assert method("Sum")(iter([b"1", b"2"])) == b"3"
            assert list(method("Chat")(iter([b"a", b"b"]))) == [b"a", b"b"]
            response, call = method("Echo").with_call(b"x")
            assert (response, call.code()) == (b"x", grpc.StatusCode.OK)
            response, call = method("Sum").with_call(iter([b"1"]))
            assert (response, call.code()) == (b"1", grpc.StatusCode.OK)
            assert method("Echo").future(b"y").result(2) == b"y"
            assert method("Sum").future(iter([b"4", b"5"])).result(2) == b"9"
            until(lambda: policy.snapshot()["in_flight"] == 0)
        assert found == {"success": 8}
    check_at_rest(policy)


FAILURES = ["UNAVAILABLE", "INTERNAL", "RESOURCE_EXHAUSTED", "UNKNOWN", "DATA_LOSS",
            "DEADLINE_EXCEEDED"]  # fmt: skip
OWN = ["NOT_FOUND", "INVALID_ARGUMENT", "ALREADY_EXISTS", "PERMISSION_DENIED", "UNAUTHENTICATED",
       "FAILED_PRECONDITION", "OUT_OF_RANGE", "ABORTED"]  # fmt: skip


@mode
@pytest.mark.parametrize("way", ["call", "with_call", "future"])
def test_statuses(grpc_server: GrpcServer, mode: str, way: str) -> None:
    policy = make_policy(mode, limit=2.0, failures=100)
    with opened(grpc_server, policy) as method:
        fail = method("Fail")
        ask = {
            "call": fail, "with_call": fail.with_call,
            "future": lambda request: fail.future(request).result(2),
        }[way]  # fmt: skip
        for status in OWN + FAILURES:
            with counted(policy) as found:
                with pytest.raises(grpc.RpcError) as raised:
                    ask(status.encode())
                until(lambda: policy.snapshot()["in_flight"] == 0)
            assert raised.value.code() is grpc.StatusCode[status]
            assert raised.value.details() == "asked to fail"
            assert found == {"ignored" if status in OWN else "failure": 1}, status


@mode
def test_not_found_leaves_the_circuit_closed(grpc_server: GrpcServer, mode: str) -> None:
    policy = make_policy(mode, limit=2.0, recovery=60.0)
    with opened(grpc_server, policy) as method:
        for _ in range(50):
            with pytest.raises(grpc.RpcError):
                method("Fail")(b"NOT_FOUND")
        assert policy.state == "closed"
        for _ in range(20):
            with pytest.raises((grpc.RpcError, resilient.CircuitOpenError)):
                method("Fail")(b"UNAVAILABLE")
        assert policy.state == "open"
        asks = {
            "call": lambda: method("Echo")(b"1"),
            "future": lambda: method("Echo").future(b"1").result(2),
            "stream": lambda: list(method("Count")(b"1")),
        }
        for ask in asks.values():
            with pytest.raises(resilient.CircuitOpenError):
                ask()


# -- deadlines ---------------------------------------------


@mode
@pytest.mark.parametrize("kind", ["Echo", "Sum", "Metadata"])
def test_the_deadline_reaches_the_server(grpc_server: GrpcServer, mode: str, kind: str) -> None:
    policy, outer = make_policy(mode, limit=20.0), make_policy("cooperative", limit=10.0)
    with opened(grpc_server, policy) as method:

        def left(**options: Any) -> float:
            return json.loads(method("Metadata")(b"", **options))["time_remaining"]

        assert 12 < left() <= 20.5
        assert 3 < outer.call(left) <= 10.5
        assert 1 < left(timeout=7) <= 7.5
        assert 12 < left(timeout=300) <= 20.5
        said = json.loads(method("Metadata")(b"", metadata=[("key", "value")]))
        assert ["key", "value"] in said["metadata"]


@mode
def test_calls_that_take_too_long(grpc_server: GrpcServer, mode: str) -> None:
    policy, outer = make_policy(mode, failures=100), make_policy("cooperative", limit=0.2)
    with opened(grpc_server, policy) as method:
        sleep = method("Sleep")
        method("Echo")(b"")
        for ask in (sleep, sleep.with_call):
            with timed(LIMIT + SLACK[mode], 0.25):
                found, error = outcome(policy, lambda: ask(b"3"))
            assert (found, plain(error)) == ({"failure": 1}, resilient.CallTimeoutError)
        with timed(0.2 + SLACK[mode], 0.15), pytest.raises(resilient.CallTimeoutError) as raised:
            outer.call(sleep, b"3")
        assert raised.value.policy == outer.name
        # A limit of its own that is shorter is the library's.
        with timed(0.1 + SLACK[mode], 0.05):
            found, error = outcome(policy, lambda: sleep(b"3", timeout=0.1))
        assert found == {"failure": 1}
        assert isinstance(error, grpc.RpcError), error
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        # A future of grpc is grpc's: it tells by its status.
        with counted(policy) as found, timed(LIMIT + SLACK[mode], 0.25):
            future = sleep.future(b"3")
            error = future.exception(5)
            until(lambda: policy.snapshot()["in_flight"] == 0)
        assert found == {"failure": 1}
        assert isinstance(error, (grpc.RpcError, resilient.CallTimeoutError))
        # A stream: at the item that does not come.
        with timed(LIMIT + SLACK[mode], 0.25):
            found, error = outcome(policy, lambda: list(method("Count")(b"3 1")))
        assert (found, plain(error)) == ({"failure": 1}, resilient.CallTimeoutError)
        check_at_rest(policy)


# -- what is dropped ---------------------------------------------


@mode
def test_what_is_dropped_gives_its_slot_back(grpc_server: GrpcServer, mode: str) -> None:
    policy = make_policy(mode, limit=20.0, slots=2)
    with opened(grpc_server, policy) as method:
        count = method("Count")
        for _ in range(5):
            with counted(policy) as found:
                stream = count(b"1000 0.01")
                assert next(stream) == b"0"
                assert policy.snapshot()["in_flight"] == 1
                del stream
                gc.collect()
                check_at_rest(policy)
            assert "failure" not in found, found
            with counted(policy) as found:
                stream = count(b"1000 0.01")
                next(stream)
                stream.cancel()
                check_at_rest(policy)
                with pytest.raises(grpc.RpcError):
                    list(stream)
            assert "failure" not in found, found
            with counted(policy) as found:
                future = method("Sleep").future(b"5")
                future.cancel()
                check_at_rest(policy)
                with pytest.raises(grpc.FutureCancelledError):
                    future.result(1)
            assert "failure" not in found, found
        # One that is never read from, and one whose future nobody keeps.
        count(b"10")
        method("Sleep").future(b"0.05")
        check_at_rest(policy)
        assert policy.state == "closed"


@mode
def test_streams_under_load_and_a_kill(grpc_server: GrpcServer, mode: str) -> None:
    left = Left()
    policy = make_policy(mode, limit=2.0, slots=8)
    with opened(grpc_server, policy) as method:
        count = method("Count")
        with Load(lambda: list(count(b"20 0.01")), 6) as load:
            until(lambda: load.good(0) >= 12)
            grpc_server.kill()
            until(lambda: load.kinds()["CircuitOpenError"])
            grpc_server.start()
            until(lambda: load.good(0) and policy.state == "closed")
            since = time.monotonic()
            until(lambda: load.good(since) >= 6)
        check_at_rest(policy)
    left.check()


@mode
def test_a_stream_of_requests_under_freeze(grpc_server: GrpcServer, mode: str) -> None:
    policy = make_policy(mode)

    def slow() -> Iterator[bytes]:
        for n in range(100):
            yield str(n).encode()
            time.sleep(0.02)

    with opened(grpc_server, policy) as method:
        method("Echo")(b"")
        grpc_server.stop()
        for name, read in (("Sum", lambda answer: answer), ("Chat", list)):
            with timed(LIMIT + SLACK[mode], 0.25), pytest.raises(resilient.CallTimeoutError):
                read(method(name)(slow()))
        grpc_server.cont()
        check_at_rest(policy)


@mode
def test_a_fallback_answers(grpc_server: GrpcServer, mode: str) -> None:
    policy = resilient.Policy(
        f"grpc-fallback-{mode}", resilient.fallback(lambda *args, **kwargs: b"cached"),
        resilient.circuit_breaker(), resilient.timeout(0.3, sync=mode),
    )  # fmt: skip
    with opened(grpc_server, policy) as method:
        assert method("Fail")(b"UNAVAILABLE") == b"cached"
        response, call = method("Fail").with_call(b"UNAVAILABLE")
        assert (response, call.code()) == (b"cached", grpc.StatusCode.OK)
        assert method("Sleep")(b"3") == b"cached"


# -- aio ---------------------------------------------


def test_aio(grpc_server: GrpcServer) -> None:
    async def main() -> None:
        policy, outer = make_policy(failures=100, limit=20.0), make_policy(limit=10.0)
        async with async_opened(grpc_server, policy) as method:
            with counted(policy) as found:
                assert await method("Echo")(b"hello") == b"hello"
                assert [item async for item in method("Count")(b"3")] == [b"0", b"1", b"2"]
                assert await method("Sum")(iter([b"1", b"2"])) == b"3"
                chat = method("Chat")(iter([b"a", b"b"]))
                assert [item async for item in chat] == [b"a", b"b"]
            assert found == {"success": 4}
            for status in OWN + FAILURES:
                with counted(policy) as found, pytest.raises(grpc.RpcError) as raised:
                    await method("Fail")(status.encode())
                assert raised.value.code() is grpc.StatusCode[status]
                assert found == {"ignored" if status in OWN else "failure": 1}, status

            async def left(**options: Any) -> float:
                return json.loads(await method("Metadata")(b"", **options))["time_remaining"]

            assert 12 < await left() <= 20.5
            assert 3 < await outer.acall(left) <= 10.5
            assert 1 < await left(timeout=7) <= 7.5
        check_at_rest(policy)

    left = Left()
    asyncio.run(main())
    left.check(collect=True)


def test_aio_deadlines(grpc_server: GrpcServer) -> None:
    async def main() -> None:
        policy = make_policy(failures=100)
        async with async_opened(grpc_server, policy) as method:
            await method("Echo")(b"")
            slack = LIMIT + SLACK["async"]
            with timed(slack, 0.25):
                found, error = await async_outcome(policy, lambda: method("Sleep")(b"3"))
            assert (found, plain(error)) == ({"failure": 1}, resilient.CallTimeoutError)
            with timed(slack):
                found, error = await async_outcome(
                    policy, lambda: method("Sleep")(b"3", timeout=0.1)
                )
            assert isinstance(error, grpc.RpcError)
            assert found == {"failure": 1}

            async def items() -> list[bytes]:
                return [item async for item in method("Count")(b"3 1")]

            with timed(slack, 0.25):
                found, error = await async_outcome(policy, items)
            assert (found, plain(error)) == ({"failure": 1}, resilient.CallTimeoutError)
            grpc_server.stop()
            try:
                # This one goes on after the interceptor, since its caller may write to it.
                with timed(slack), counted(policy) as found:
                    with pytest.raises((resilient.CallTimeoutError, grpc.RpcError)):
                        await method("Sum")(iter([b"1"]))
                assert found == {"failure": 1}
            finally:
                grpc_server.cont()
        check_at_rest(policy)

    left = Left()
    asyncio.run(main())
    left.check(collect=True)


def test_aio_what_is_dropped_gives_its_slot_back(grpc_server: GrpcServer) -> None:
    async def main() -> None:
        policy = make_policy(limit=1.0, slots=2)
        async with async_opened(grpc_server, policy) as method:
            await method("Echo")(b"")
            # Bare grpc.aio does not notice a stream that is left, and goes on to its deadline.
            for how, most in (("break", 1.0 + SLACK["async"]), ("cancel", 0.5), ("task", 0.5)):
                began = time.monotonic()
                with counted(policy) as found:
                    if how == "task":
                        task = asyncio.ensure_future(wait(method("Sleep")(b"5")))
                        await asyncio.sleep(0.05)
                        task.cancel()
                        with pytest.raises(asyncio.CancelledError):
                            await task
                    else:
                        stream = method("Count")(b"1000 0.01")
                        async for item in stream:
                            assert item == b"0"
                            break
                        if how == "cancel":
                            stream.cancel()
                        del stream
                        gc.collect()
                    with timed(most):
                        while policy.snapshot()["in_flight"]:
                            await asyncio.sleep(0.02)
                            assert time.monotonic() - began < 60, how
                assert "failure" not in found or how == "break", (how, found)
            assert policy.state == "closed"
        check_at_rest(policy)

    async def wait(call: Any) -> Any:
        return await call

    left = Left()
    asyncio.run(main())
    left.check(collect=True)
