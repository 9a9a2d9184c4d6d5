"""What a patch knows of the library that it patches: the same as `Policy.wrap`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import boto3
import botocore.exceptions
import httpx
import pytest
import redis
import requests
import sqlalchemy as sa
import urllib3

import resilient
from resilient import CircuitOpenError, Policy, circuit_breaker, fallback, timeout
from tests.kit.servers.fixtures import http_server, redis_server
from tests.kit.servers.http_server import HttpServer
from tests.kit.servers.process import HOST
from tests.kit.servers.redis_server import RedisServer

__all__ = ["http_server", "redis_server"]

_numbers = itertools.count(1)


def new_policy(*guards: Any) -> Policy:
    return Policy(f"known-{next(_numbers)}", *(guards or (circuit_breaker(failure_threshold=2),)))


def ended(call: Callable[[], object], policy: Policy) -> dict[str, int]:
    """Return how one call was counted."""
    before = policy.snapshot()["calls"]
    try:
        call()
    except Exception as error:
        assert not isinstance(error, CircuitOpenError)
    after = policy.snapshot()["calls"]
    return {word: n - before[word] for word, n in after.items() if n != before[word]}


async def a_get(url: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        response.raise_for_status()


async def x_get(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        (await client.get(url)).raise_for_status()


def httpx_get(url: str) -> None:
    with httpx.Client(trust_env=False) as client:
        client.get(url).raise_for_status()


HTTP: dict[str, tuple[type[Exception], Callable[[str], object]]] = {
    "httpx:Client.send": (httpx.TransportError, httpx_get),
    "httpx._client:Client.request": (httpx.TransportError, httpx_get),
    "httpx:AsyncClient.send": (httpx.TransportError, lambda url: asyncio.run(x_get(url))),
    "requests:Session.send": (requests.RequestException, requests.get),
    "requests.sessions:Session.request": (requests.RequestException, requests.get),
    "requests.api:request": (requests.RequestException, requests.get),
    "aiohttp:ClientSession._request": (
        aiohttp.ClientError, lambda url: asyncio.run(a_get(url))
    ),
    "urllib3:PoolManager.urlopen": (
        urllib3.exceptions.HTTPError, lambda url: urllib3.PoolManager().request("GET", url)
    ),
}  # fmt: skip


@pytest.mark.parametrize("target", HTTP)
def test_a_response_is_judged_by_its_status(http_server: HttpServer, target: str) -> None:
    family, get = HTTP[target]
    policy = new_policy()
    with resilient.patch(target, policy):
        assert ended(lambda: get(f"{http_server.url}/status/404"), policy) == {"success": 1}
        assert ended(lambda: get(f"{http_server.url}/json"), policy) == {"success": 1}
        for status in (503, 500):
            found = ended(lambda: get(f"{http_server.url}/status/{status}"), policy)
            assert found == {"failure": 1}
        assert policy.state == "open"
        with pytest.raises(family) as raised:
            get(f"{http_server.url}/json")
        assert isinstance(raised.value, CircuitOpenError)
    assert ended(lambda: get(f"{http_server.url}/json"), policy) == {}


def test_a_class_of_ones_own_that_inherits_is_known_too(http_server: HttpServer) -> None:
    policy = new_policy()
    with resilient.patch(f"{__name__}:Shop.send", policy):
        assert ended(lambda: Shop().get(f"{http_server.url}/status/503"), policy) == {"failure": 1}


class Shop(requests.Session):
    """A service's own session."""


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis(host=HOST, port=redis_server.port) as made:
        yield made


def test_errors_of_redis_are_the_callers_own_or_not(client: redis.Redis) -> None:
    policy = new_policy(circuit_breaker(failure_threshold=1))
    with resilient.patch("redis.client:Redis.execute_command", policy):
        client.set("text", "a")
        assert ended(lambda: client.lpush("text", "b"), policy) == {"ignored": 1}
        assert policy.state == "closed"
        assert ended(redis.Redis(port=9).ping, policy) == {"failure": 1}
        with pytest.raises(redis.RedisError):
            client.get("text")


def test_errors_of_asyncio_redis_too(redis_server: RedisServer) -> None:
    policy = new_policy()

    async def main() -> None:
        async with redis.asyncio.Redis(host=HOST, port=redis_server.port) as made:
            await made.set("text", "a")
            await made.lpush("text", "b")  # type: ignore[misc]

    with resilient.patch("redis.asyncio.client:Redis.execute_command", policy):
        assert ended(lambda: asyncio.run(main()), policy) == {"success": 1, "ignored": 1}


def test_errors_of_sqlalchemy() -> None:
    policy = new_policy()
    engine = sa.create_engine("sqlite://")
    with resilient.patch("sqlalchemy.engine:Connection.execute", policy), engine.connect() as made:
        assert ended(lambda: made.execute(sa.text("SELECT :x")), policy) == {"ignored": 1}
        assert ended(lambda: made.execute(sa.text("SELECT 1")), policy) == {"success": 1}
        policy.force_open("a test")
        with pytest.raises(sa.exc.SQLAlchemyError):
            made.execute(sa.text("SELECT 1"))
    engine.dispose()


def test_errors_of_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = new_policy()
    client = boto3.client(
        "s3", endpoint_url="http://127.0.0.1:9", region_name="eu-west-1", aws_access_key_id="a",
        aws_secret_access_key="b",
    )  # fmt: skip
    with resilient.patch("botocore.client:BaseClient._make_api_call", policy):
        assert ended(lambda: client.get_object(Bucket="b"), policy) == {"ignored": 1}
        assert ended(client.list_buckets, policy) == {"failure": 1}
        policy.force_open("a test")
        with pytest.raises(botocore.exceptions.BotoCoreError):
            client.list_buckets()


def test_what_the_guards_say_themselves_counts_beside_it(http_server: HttpServer) -> None:
    gone = circuit_breaker(failed_result=lambda response: response.status_code == 404)
    policy = new_policy(gone, timeout(5, sync="thread"))
    with resilient.patch("httpx:Client.send", policy):
        for status in (404, 500):
            found = ended(lambda: httpx_get(f"{http_server.url}/status/{status}"), policy)
            assert found == {"failure": 1}


def test_a_decorator_takes_the_public_predicates(http_server: HttpServer) -> None:
    from resilient.integrations.requests import callers_fault, failed_response

    policy = new_policy(
        circuit_breaker(failed_result=failed_response, ignore=callers_fault, failure_threshold=2)
    )

    @policy
    def fetch(path: str) -> requests.Response:
        response = requests.get(http_server.url + path, timeout=5)
        if path == "/status/404":
            response.raise_for_status()
        return response

    assert ended(lambda: fetch("/status/404"), policy) == {"ignored": 1}
    assert ended(lambda: fetch("/json"), policy) == {"success": 1}
    assert ended(lambda: fetch("/status/503"), policy) == {"failure": 1}


# A decorated function that calls a library by itself ---------------------------------


def by_httpx(url: str) -> httpx.Response:
    with httpx.Client(trust_env=False) as client:
        return client.get(url)


def by_urllib3(url: str) -> urllib3.BaseHTTPResponse:
    return urllib3.PoolManager().request("GET", url)


GETS = [by_httpx, requests.get, by_urllib3]


@pytest.mark.parametrize("get", GETS)
@pytest.mark.parametrize(
    "guards",
    [(), (timeout(5, sync="cooperative"),), (timeout(5, sync="thread"),)],
    ids=["plain", "cooperative", "thread"],
)
def test_a_decorated_function_is_judged_by_what_it_returns(
    http_server: HttpServer, get: Callable[[str], Any], guards: tuple[Any, ...]
) -> None:
    ways = [guard.sync for guard in guards]
    policy = new_policy(
        circuit_breaker(failure_threshold=2), *(timeout(5, sync=way) for way in ways)
    )
    fetch = policy(lambda path: get(http_server.url + path))
    for path, how in [
        ("/json", "success"), ("/status/404", "success"), ("/status/503", "failure"),
        ("/json", "success"), ("/status/429", "failure"), ("/status/500", "failure"),
    ]:  # fmt: skip
        assert ended(lambda: fetch(path), policy) == {how: 1}, path
    assert policy.state == "open"
    called = new_policy()
    assert ended(lambda: called.call(get, f"{http_server.url}/status/503"), called) == {
        "failure": 1
    }


@pytest.mark.parametrize("limit", [None, 5.0])
def test_a_decorated_async_function_too(http_server: HttpServer, limit: float | None) -> None:
    guards = [circuit_breaker(failure_threshold=2)] + ([timeout(limit)] if limit else [])
    policy = new_policy(*guards)

    @policy
    async def by_httpx(path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(http_server.url + path)

    @policy
    async def by_aiohttp(path: str) -> aiohttp.ClientResponse:
        async with aiohttp.ClientSession() as session:
            async with session.get(http_server.url + path) as response:
                return response

    for fetch in (by_httpx, by_aiohttp):
        for path, how in [("/json", "success"), ("/status/404", "success"),
                          ("/status/503", "failure"), ("/json", "success")]:  # fmt: skip
            assert ended(lambda: asyncio.run(fetch(path)), policy) == {how: 1}  # type: ignore[arg-type]


def test_errors_of_a_decorated_function_are_the_callers_own_or_not(client: redis.Redis) -> None:
    policy = new_policy(circuit_breaker(failure_threshold=1))
    push = policy(client.lpush)
    client.set("text", "a")
    assert ended(lambda: push("text", "b"), policy) == {"ignored": 1}
    result = policy.try_call(client.lpush, "text", "b")
    assert (result.served, policy.state) == ("caller_error", "closed")
    assert ended(lambda: policy.call(redis.Redis(port=9).ping), policy) == {"failure": 1}
    assert policy.state == "open"


def test_a_fallback_answers_what_is_the_callers_own_all_the_same(client: redis.Redis) -> None:
    policy = new_policy(fallback(value=0), circuit_breaker(failure_threshold=1))
    client.set("text", "a")
    assert policy.call(client.lpush, "text", "b") == 0
    assert (policy.snapshot()["calls"]["ignored"], policy.state) == (1, "closed")


def test_a_group_is_the_callers_own_if_every_leaf_is() -> None:
    own, down = redis.WatchError("lost"), redis.ConnectionError("down")

    def fails(*errors: Exception) -> None:
        raise ExceptionGroup("several", errors)

    policy = new_policy()
    assert ended(lambda: policy.call(fails, own, own), policy) == {"ignored": 1}
    assert ended(lambda: policy.call(fails, own, down), policy) == {"failure": 1}


def test_what_a_guard_is_told_goes_before_what_is_known(
    http_server: HttpServer, client: redis.Redis
) -> None:
    client.set("text", "a")
    strict = new_policy(circuit_breaker(on=redis.ResponseError))
    assert ended(lambda: strict.call(client.lpush, "text", "b"), strict) == {"failure": 1}
    lenient = new_policy(circuit_breaker(failed_result=lambda response: False))
    get = f"{http_server.url}/status/503"
    assert ended(lambda: lenient.call(requests.get, get), lenient) == {"success": 1}
