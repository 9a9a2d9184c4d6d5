"""What a library's own handlers catch of ours: they were written for an outage, and this is one."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
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
from resilient import CircuitOpenError, Policy, bulkhead
from resilient.integrations import httpx as for_httpx
from resilient.integrations import httpx2 as for_httpx2
from resilient.integrations.grpc import Interceptor, aio_interceptors
from resilient.integrations.requests import Adapter
from tests.integration.clients.kit import make_policy, plain
from tests.kit.servers.postgres_server import PostgresServer
from tests.kit.servers.process import HOST

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
