"""What a library's own handlers catch of ours: they were written for an outage, and this is one."""

from __future__ import annotations

import asyncio
import copy
import pickle
import socket
import subprocess
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import aiohttp
import boto3
import botocore.exceptions
import grpc
import grpc.aio
import httpx
import httpx2
import psycopg
import pytest
import redis
import redis.asyncio
import redis.backoff
import redis.retry
import requests
import sqlalchemy as sa
import tenacity
import urllib3
from botocore.config import Config
from requests.adapters import HTTPAdapter
from sqlalchemy.ext.asyncio import create_async_engine

import resilient
from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    Policy,
    RefusedError,
    bulkhead,
    circuit_breaker,
    fallback,
    timeout,
)
from resilient.families import Family, _families
from resilient.integrations import httpx as for_httpx
from resilient.integrations import httpx2 as for_httpx2
from resilient.integrations.grpc import Interceptor, aio_interceptors
from resilient.integrations.requests import Adapter

from ..servers.postgres_server import PostgresServer
from ..servers.process import HOST
from .kit import make_policy, plain

URL = "http://127.0.0.1:9/x"  # where nobody listens; a refused call does not get so far


def cut_off(mode: str | None = "cooperative") -> Policy:
    policy = make_policy(mode, failures=100)
    policy.force_open("a test")
    return policy


# Refused calls, each with the retries of its library switched on ---------------------------------


def s3(policy: Policy, retries: str) -> Any:
    return policy.wrap(
        boto3.client(
            "s3", endpoint_url="http://127.0.0.1:9", region_name="eu-west-1",
            aws_access_key_id="a", aws_secret_access_key="b",
            config=Config(retries={"mode": retries, "total_max_attempts": 5}),
        )
    )  # fmt: skip


def session(policy: Policy) -> Any:
    bare = requests.Session()
    bare.mount("http://", HTTPAdapter(max_retries=urllib3.Retry(3, backoff_factor=0.0)))
    return policy.wrap(bare)


def adapted(policy: Policy) -> Any:
    bare = requests.Session()
    bare.mount("http://", Adapter(policy, max_retries=urllib3.Retry(3, backoff_factor=0.0)))
    return bare


def redis_client(policy: Policy, library: Any = redis) -> Any:
    again = redis.retry.Retry if library is redis else redis.asyncio.retry.Retry
    return policy.wrap(
        library.Redis(
            port=9, retry=again(redis.backoff.NoBackoff(), 3),
            retry_on_error=[redis.ConnectionError, redis.TimeoutError],
        )
    )  # fmt: skip


def engine(policy: Policy) -> Any:
    return policy.wrap(sa.create_engine("sqlite://", pool_pre_ping=True))


RETRIES = (
    ("grpc.service_config", ('{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 4,'
     '"initialBackoff": "0.001s", "maxBackoff": "0.01s", "backoffMultiplier": 1,'
     '"retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]}}]}')),
)  # fmt: skip


def channel(policy: Policy, *outside: Any) -> Any:
    bare = grpc.insecure_channel("127.0.0.1:9", options=RETRIES)
    return grpc.intercept_channel(bare, *outside, Interceptor(policy))


def unary(policy: Policy, *outside: Any) -> Any:
    return channel(policy, *outside).unary_unary("/shop.Shop/Find")


SYNC: dict[str, tuple[type[Exception], Callable[[Policy], object]]] = {
    "httpx wrapped": (httpx.TransportError, lambda p: p.wrap(httpx.Client()).get(URL)),
    "httpx transport": (
        httpx.TransportError,
        lambda p: httpx.Client(
            transport=for_httpx.Transport(p, httpx.HTTPTransport(retries=3))
        ).get(URL),
    ),
    "httpx2 wrapped": (httpx2.TransportError, lambda p: p.wrap(httpx2.Client()).get(URL)),
    "httpx2 transport": (
        httpx2.TransportError,
        lambda p: httpx2.Client(
            transport=for_httpx2.Transport(p, httpx2.HTTPTransport(retries=3))
        ).get(URL),
    ),
    "requests wrapped": (requests.RequestException, lambda p: session(p).get(URL)),
    "requests adapter": (requests.RequestException, lambda p: adapted(p).get(URL)),
    "urllib3": (
        urllib3.exceptions.HTTPError,
        lambda p: p.wrap(urllib3.PoolManager(retries=urllib3.Retry(3))).request("GET", URL),
    ),
    "redis": (redis.RedisError, lambda p: redis_client(p).get("key")),
    "redis pipeline": (redis.RedisError, lambda p: redis_client(p).pipeline().get("k").execute()),
    "boto3 standard": (
        botocore.exceptions.BotoCoreError, lambda p: s3(p, "standard").list_buckets()
    ),
    "boto3 legacy": (botocore.exceptions.BotoCoreError, lambda p: s3(p, "legacy").list_buckets()),
    "boto3 adaptive": (
        botocore.exceptions.BotoCoreError, lambda p: s3(p, "adaptive").list_buckets()
    ),
    "sqlalchemy": (sa.exc.SQLAlchemyError, lambda p: engine(p).connect()),
    "sqlalchemy begin": (sa.exc.SQLAlchemyError, lambda p: engine(p).begin().__enter__()),
    "grpc": (grpc.RpcError, lambda p: unary(p)(b"")),
    "grpc future": (grpc.RpcError, lambda p: unary(p).future(b"").result()),
    "grpc stream": (
        grpc.RpcError, lambda p: list(channel(p).unary_stream("/shop.Shop/Watch")(b""))
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", SYNC)
@pytest.mark.parametrize("mode", ["cooperative", "thread"])
def test_a_refusal_is_of_the_librarys_errors_and_not_tried_again(what: str, mode: str) -> None:
    family, call = SYNC[what]
    policy = cut_off(mode)
    with pytest.raises(family) as raised:
        call(policy)
    check_refusal(policy, raised.value)


def check_refusal(policy: Policy, error: Any) -> None:
    assert policy.snapshot()["calls"]["refused"] == 1
    assert isinstance(error, CircuitOpenError)
    assert (type(error).__name__, plain(error)) == ("CircuitOpenError", CircuitOpenError)
    assert (error.policy, error.guard) == (policy.name, "policy")
    assert "a test" in str(error)
    shown = "".join(traceback.format_exception(error))
    assert shown.count("Traceback") == 1  # and not that of the plain one before
    assert f"\nresilient.errors.CircuitOpenError: {error}" in shown


async def with_client(client: Any, call: Callable[[Any], Awaitable[object]]) -> object:
    try:
        return await call(client)
    finally:
        close = getattr(client, "aclose", None) or client.close
        await close()


async def aio_channel(policy: Policy, call: Callable[[Any], Awaitable[object]]) -> object:
    async with grpc.aio.insecure_channel(
        "127.0.0.1:9", options=RETRIES, interceptors=aio_interceptors(policy)
    ) as made:
        return await call(made)


async def aiohttp_get(policy: Policy) -> object:
    async with aiohttp.ClientSession() as bare:
        return await policy.wrap(bare).get(URL)


async def aiohttp_with(policy: Policy) -> object:
    async with aiohttp.ClientSession() as bare, policy.wrap(bare).get(URL) as response:
        return response


async def each(stream: Any) -> list[object]:
    return [item async for item in stream]


async def a_engine(policy: Policy) -> object:
    made = create_async_engine("postgresql+psycopg://127.0.0.1:9/x")
    return await with_client(policy.wrap(made), lambda e: e.connect())


def a_get(client: Any) -> Awaitable[object]:
    found: Awaitable[object] = client.get(URL)
    return found


ASYNC: dict[str, tuple[type[Exception], Callable[[Policy], Awaitable[object]]]] = {
    "httpx wrapped": (
        httpx.TransportError, lambda p: with_client(p.wrap(httpx.AsyncClient()), a_get)
    ),
    "httpx transport": (
        httpx.TransportError,
        lambda p: with_client(httpx.AsyncClient(transport=for_httpx.AsyncTransport(p)), a_get),
    ),
    "httpx2 wrapped": (
        httpx2.TransportError, lambda p: with_client(p.wrap(httpx2.AsyncClient()), a_get)
    ),
    "httpx2 transport": (
        httpx2.TransportError,
        lambda p: with_client(httpx2.AsyncClient(transport=for_httpx2.AsyncTransport(p)), a_get),
    ),
    "aiohttp": (aiohttp.ClientError, aiohttp_get),
    "aiohttp with": (aiohttp.ClientError, aiohttp_with),
    "redis": (redis.RedisError, lambda p: with_client(redis_client(p, redis.asyncio), a_get)),
    "grpc": (
        grpc.aio.AioRpcError,
        lambda p: aio_channel(p, lambda c: c.unary_unary("/shop.Shop/Find")(b"")),
    ),
    "grpc stream": (
        grpc.aio.AioRpcError,
        lambda p: aio_channel(p, lambda c: each(c.unary_stream("/shop.Shop/Find")(b""))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ASYNC)
def test_an_async_refusal_is_of_the_librarys_errors(what: str) -> None:
    family, call = ASYNC[what]
    policy = cut_off(None)
    with pytest.raises(family) as raised:
        asyncio.run(call(policy))  # type: ignore[arg-type]
    assert isinstance(raised.value, CircuitOpenError)
    assert policy.snapshot()["calls"]["refused"] == 1


def test_a_connection_of_psycopg(postgres_server: PostgresServer) -> None:
    policy = cut_off()
    with psycopg.connect(postgres_server.conninfo) as bare:
        with pytest.raises(psycopg.Error) as raised:
            policy.wrap(bare).execute("SELECT 1")
    check_refusal(policy, raised.value)
    assert (raised.value.sqlstate, raised.value.diag.message_primary) == (None, None)


# Inside the library, where its retries stand outside of the guard ---------------------------------


def again(call: Callable[[], object]) -> Callable[[Policy], object]:
    return lambda _: call()


INSIDE: dict[str, tuple[str, type[Exception], Callable[[Policy], object]]] = {
    "redis": (
        "redis.connection:AbstractConnection.send_packed_command", redis.RedisError,
        lambda p: redis_client(Policy(p.name + "-outer", bulkhead(9))).get("key"),
    ),
    "urllib3": (
        "urllib3.connectionpool:HTTPConnectionPool._make_request", urllib3.exceptions.HTTPError,
        again(lambda: urllib3.PoolManager(retries=urllib3.Retry(3)).request("GET", URL)),
    ),
    "botocore": (
        "botocore.httpsession:URLLib3Session.send", botocore.exceptions.BotoCoreError,
        lambda p: s3(Policy(p.name + "-outer", bulkhead(9)), "standard").list_buckets(),
    ),
    "requests": (
        "requests.adapters:HTTPAdapter.send", requests.RequestException,
        again(lambda: requests.get(URL, timeout=1)),
    ),
    "httpx": (
        "httpx:HTTPTransport.handle_request", httpx.TransportError,
        again(lambda: httpx.Client(transport=httpx.HTTPTransport(retries=3)).get(URL)),
    ),
}  # fmt: skip


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("what", INSIDE)
def test_a_patch_inside_of_a_librarys_retries_refuses_once(what: str) -> None:
    target, family, call = INSIDE[what]
    policy = cut_off()
    if what == "redis":
        with listening() as port, resilient.patch(target, policy), pytest.raises(family) as raised:
            retry = redis.retry.Retry(redis.backoff.NoBackoff(), 3)
            redis.Redis(port=port, retry=retry).get("key")
    else:
        with resilient.patch(target, policy), pytest.raises(family) as raised:
            call(policy)
    assert isinstance(raised.value, CircuitOpenError)
    assert policy.snapshot()["calls"]["refused"] == 1


def test_tenacity_round_a_wrapped_client_tries_again_what_it_is_told_to() -> None:
    policy = cut_off()
    client = policy.wrap(httpx.Client())
    kinds = httpx.TimeoutException, httpx.NetworkError, httpx.ProtocolError
    retrying = tenacity.retry(
        retry=tenacity.retry_if_exception_type(kinds), stop=tenacity.stop_after_attempt(3)
    )
    with pytest.raises(CircuitOpenError):
        retrying(client.get)(URL)
    assert policy.snapshot()["calls"]["refused"] == 1


# What handlers read ---------------------------------


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_httpx_errors_have_the_request(library: Any) -> None:
    client = cut_off().wrap(library.Client(base_url="http://shop.example"))
    given = library.Request("PUT", URL)
    for call, method, url in [
        (lambda: client.send(given), "PUT", URL),
        (lambda: client.get(URL), "GET", URL),
        (lambda: client.request("DELETE", url=URL), "DELETE", URL),
        (lambda: client.request("PATCH", URL), "PATCH", URL),
        (lambda: client.stream("GET", URL).__enter__(), "GET", URL),
        (lambda: client.post(url=library.URL(URL)), "POST", URL),
    ]:
        with pytest.raises(library.TransportError) as raised:
            call()
        assert (raised.value.request.method, str(raised.value.request.url)) == (method, url)
    with pytest.raises(library.TransportError) as raised:
        client.get(5)
    with pytest.raises(RuntimeError, match=r"\.request property has not been set"):
        raised.value.request  # noqa: B018
    transport = (for_httpx if library is httpx else for_httpx2).Transport(cut_off())
    with pytest.raises(library.TransportError) as raised:
        transport.handle_request(given)
    assert raised.value.request is given


def test_requests_errors_have_request_and_response() -> None:
    with pytest.raises(requests.RequestException) as raised:
        session(cut_off()).post(URL, json={})
    assert raised.value.request is not None
    assert (raised.value.request.method, raised.value.request.url) == ("POST", URL)
    assert raised.value.response is None
    assert raised.value.errno is None
    with pytest.raises(requests.RequestException) as raised:
        adapted(cut_off()).get(URL)
    assert raised.value.request is not None
    assert raised.value.request.url == URL


GRPC = grpc.StatusCode


def test_grpc_errors_have_code_and_details(grpc_server: Any) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        unary(cut_off())(b"")
    error: Any = raised.value
    assert isinstance(error, grpc.Call)
    assert (error.code(), error.details()) == (GRPC.UNAVAILABLE, str(error))
    assert tuple(error.trailing_metadata()) == tuple(error.initial_metadata()) == ()
    assert error.exception() is error
    full = Policy("grpc-full", bulkhead(1))
    with full.block(), pytest.raises(grpc.RpcError) as raised:
        unary(full)(b"")
    assert isinstance(raised.value, BulkheadFullError)
    assert raised.value.code() is GRPC.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]


def test_an_interceptor_outside_of_ours_sees_a_call_that_failed() -> None:
    seen: list[object] = []

    class Outside(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
        def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            call = continuation(details, request)
            call.add_done_callback(lambda done: seen.append(done.code()))
            seen.extend([call.code(), call.details(), call.done(), call.cancelled()])
            return call

    with pytest.raises(CircuitOpenError) as raised:
        unary(cut_off(), Outside())(b"")
    assert seen == [GRPC.UNAVAILABLE, GRPC.UNAVAILABLE, str(raised.value), True, False]


def test_an_aio_call_knows_its_code() -> None:
    async def main(made: Any) -> object:
        call = made.unary_unary("/shop.Shop/Find")(b"")
        return await call.code(), await call.details()

    policy = cut_off(None)
    code, details = asyncio.run(aio_channel(policy, main))  # type: ignore[arg-type, misc]
    assert code is GRPC.UNAVAILABLE
    assert policy.name in details


# Timeouts ---------------------------------


@pytest.mark.parametrize("mode", ["cooperative", "thread"])
def test_a_timeout_is_of_the_librarys_errors(mode: str) -> None:
    with listening() as port:
        url = f"http://{HOST}:{port}/"
        calls: list[tuple[type[Exception], Callable[[Policy], object]]] = [
            (httpx.TransportError, lambda p: p.wrap(httpx.Client(trust_env=False)).get(url)),
            (
                httpx.TransportError,
                lambda p: httpx.Client(transport=for_httpx.Transport(p)).get(url),
            ),
            (requests.RequestException, lambda p: p.wrap(requests.Session()).get(url)),
            (urllib3.exceptions.HTTPError,
             lambda p: p.wrap(urllib3.PoolManager(retries=urllib3.Retry(3))).request("GET", url)),
            (redis.RedisError, lambda p: p.wrap(redis.Redis(port=port)).get("key")),
        ]  # fmt: skip
        for family, call in calls:
            policy = make_policy(mode, limit=0.1, failures=100)
            with pytest.raises(family) as raised:
                call(policy)
            assert isinstance(raised.value, CallTimeoutError)
            assert (raised.value.policy, raised.value.timeout) == (policy.name, 0.1)
            assert policy.snapshot()["calls"]["failure"] == 1


def test_an_async_timeout_is_of_the_librarys_errors() -> None:
    async def main() -> None:
        with listening() as port:
            async with httpx.AsyncClient(trust_env=False) as bare:
                client = make_policy(None, limit=0.1).wrap(bare)
                with pytest.raises(httpx.TransportError) as raised:
                    await client.get(f"http://{HOST}:{port}/")
                assert isinstance(raised.value, CallTimeoutError)
                assert raised.value.request.method == "GET"
            async with aiohttp.ClientSession() as session:
                wrapped = make_policy(None, limit=0.1).wrap(session)
                with pytest.raises(aiohttp.ClientError) as told:
                    await wrapped.get(f"http://{HOST}:{port}/")
                assert isinstance(told.value, CallTimeoutError)

    asyncio.run(main())


def test_an_enclosing_deadline_is_told_in_the_librarys_words_too() -> None:
    outer = Policy("families-outer", circuit_breaker(), timeout(0.1, sync="cooperative"))
    with listening() as port:
        client = make_policy("cooperative", limit=5.0).wrap(redis.Redis(port=port))
        with pytest.raises(redis.RedisError) as raised:
            outer.call(client.get, "key")
    assert isinstance(raised.value, CallTimeoutError)
    assert raised.value.policy == "families-outer"
    assert outer.snapshot()["calls"]["failure"] == 1  # its own time was up


# What else stays as it was ---------------------------------


def test_a_fallback_and_its_error_see_a_refusal_as_ever() -> None:
    seen: list[Exception] = []

    def answers(error: Exception, *_: object) -> str:
        seen.append(error)
        return "from the cache"

    policy = Policy("families-answered", fallback(answers, with_error=True), circuit_breaker())
    policy.force_open("a test")
    assert policy.wrap(redis.Redis(port=9)).get("key") == "from the cache"
    assert isinstance(seen[0], CircuitOpenError)


def test_a_refusal_of_another_policy_is_a_failure_as_ever() -> None:
    inner, outer = cut_off(), make_policy("cooperative", failures=100)
    client = outer.wrap(inner.wrap(redis.Redis(port=9)))
    with pytest.raises(redis.RedisError) as raised:
        client.get("key")
    assert isinstance(raised.value, CircuitOpenError)
    assert raised.value.policy == inner.name
    assert outer.snapshot()["calls"]["failure"] == 1


def test_the_callers_own_predicates_do_not_take_a_refusal_for_theirs() -> None:
    from resilient.integrations import aiohttp as a
    from resilient.integrations import boto3 as b
    from resilient.integrations import grpc as g
    from resilient.integrations import redis as r
    from resilient.integrations import requests as q
    from resilient.integrations import sqlalchemy as s

    for family in _families.values():
        error = family.error(CircuitOpenError("shop: no", policy="shop"))
        for knows in (a, b, g, q, r, s, for_httpx):
            assert not knows.callers_fault(error), family.name  # type: ignore[attr-defined]


def families() -> list[Family]:
    for module in ("aiohttp", "boto3", "grpc", "psycopg", "redis", "sqlalchemy", "urllib3"):
        import_module(f"resilient.integrations.{module}")
    return [family for family in _families.values() if family.name != "test"]


@pytest.mark.parametrize("kind", [CircuitOpenError, CallTimeoutError, RefusedError])
def test_a_copy_is_of_the_same_class(kind: type[Any]) -> None:
    assert len(families()) == 11
    for family in families():
        told = kind("shop: no", policy="shop", guard="bulkhead")
        error = family.error(told)
        for again in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
            assert type(again) is type(error) is family.kind(kind)
            assert isinstance(again, family.base)
            assert (str(again), repr(again)) == (str(told), repr(told))
            assert vars(pickle.loads(pickle.dumps(error))) == vars(told)
    grouped = pickle.loads(pickle.dumps(ExceptionGroup("both", [error, told])))
    assert [type(each) for each in grouped.exceptions] == [type(error), kind]


def test_it_is_unpickled_as_the_plain_class_where_the_library_is_not() -> None:
    error = _families["redis"].error(CircuitOpenError("shop: no", policy="shop", retry_after=1.5))
    code = (
        "import pickle, sys; error = pickle.loads(sys.stdin.buffer.read());"
        "assert 'redis' not in sys.modules, 'imported';"
        "import resilient; assert type(error) is resilient.CircuitOpenError, type(error);"
        "assert (str(error), error.policy, error.retry_after) == ('shop: no', 'shop', 1.5)"
    )
    subprocess.run([sys.executable, "-c", code], input=pickle.dumps(error), check=True)
    loaded = code.split("assert 'redis'", maxsplit=1)[0].replace(
        "import pickle", "import redis, pickle"
    )
    loaded += "assert isinstance(error, redis.RedisError)"
    subprocess.run([sys.executable, "-c", loaded], input=pickle.dumps(error), check=True)


def test_what_no_class_can_be_made_of_stays_as_it_is() -> None:
    class Slotted(Exception):
        __slots__ = ("a", "b")

    class Odd(CircuitOpenError, OSError):
        """Of another layout."""

    family = Family("test", Slotted)
    error = Odd("shop: no", policy="shop")
    assert family.error(error) is error
    assert family.error(other := ValueError("x")) is other
