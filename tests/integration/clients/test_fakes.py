"""What tests put in the place of a client: fakes, specs and mocks, wrapped as the real one is."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import aiohttp
import boto3
import fakeredis
import httpx
import moto
import pytest
import redis
import redis.asyncio
import requests
import responses
import respx
import sqlalchemy as sa
from botocore.stub import Stubber
from requests.adapters import HTTPAdapter

from resilient import CallTimeoutError, CircuitOpenError, Policy
from tests.integration.clients.kit import MODES, check_at_rest, make_policy

mode = pytest.mark.parametrize("mode", [None, *MODES])


def policy_of(mode: str | None, **options: Any) -> Policy:
    from resilient import bulkhead, circuit_breaker

    if mode is None:
        return Policy(f"fake-{id(options)}", circuit_breaker(), bulkhead(5))
    return make_policy(mode, limit=20.0, failures=100, **options)


@mode
@pytest.mark.parametrize("kind", [fakeredis.FakeRedis, fakeredis.FakeStrictRedis])
def test_fakeredis(mode: str | None, kind: Any) -> None:
    policy = policy_of(mode)
    client = policy.wrap(kind(decode_responses=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.set("a", "1")
        assert client.get("a") == "1"
        with client.pipeline() as pipeline:
            assert pipeline.set("b", "2").get("b").execute() == [True, "2"]
        assert list(client.scan_iter()) == ["a", "b"]
        with pytest.raises(redis.ResponseError):
            client.lpush("a", "1")
        listener = client.pubsub()
        listener.subscribe("news")
        client.publish("news", "hello")
        assert listener.get_message()["type"] == "subscribe"
        listener.close()
    assert policy.snapshot()["calls"]["failure"] == 0
    check_at_rest(policy)


@mode
def test_a_fake_server_that_is_down_is_a_failure(mode: str | None) -> None:
    server = fakeredis.FakeServer()
    server.connected = False
    policy = policy_of(mode)
    client = policy.wrap(fakeredis.FakeRedis(server=server))
    with pytest.raises(redis.ConnectionError):
        client.get("a")
    assert policy.snapshot()["calls"]["failure"] == 1


def test_a_fake_that_waits_past_the_limit_is_warned_of() -> None:
    policy = make_policy("cooperative", limit=0.1, failures=100)
    client = policy.wrap(fakeredis.FakeRedis())
    with pytest.warns(RuntimeWarning, match="FakeRedis.*went on for"), suppressed():
        client.blpop("nothing", timeout=1)
    bounded = make_policy("thread", limit=0.1, failures=100).wrap(fakeredis.FakeRedis())
    with pytest.raises(CallTimeoutError):
        bounded.blpop("nothing", timeout=1)


def suppressed() -> Any:
    from contextlib import suppress

    return suppress(CallTimeoutError)


def test_fakeredis_of_asyncio() -> None:
    async def main() -> None:
        policy = make_policy(None, limit=0.2, failures=100)
        async with fakeredis.FakeAsyncRedis(decode_responses=True) as bare:
            client = policy.wrap(bare)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                await client.set("a", "1")
                assert await client.get("a") == "1"
                async with client.pipeline() as pipeline:
                    assert await pipeline.get("a").execute() == ["1"]
            with pytest.raises(redis.RedisError) as raised:
                await client.blpop("nothing", timeout=20)
            assert isinstance(raised.value, CallTimeoutError)
        assert policy.snapshot()["calls"]["failure"] == 1

    asyncio.run(main())


# Mocks ---------------------------------

SPECS: dict[str, Callable[[], Any]] = {
    "autospec of a class": lambda: mock.create_autospec(redis.Redis)(),
    "autospec of an instance": lambda: mock.create_autospec(redis.Redis, instance=True),
    "autospec of a real one": lambda: mock.create_autospec(redis.Redis()),
    "MagicMock": lambda: mock.MagicMock(spec=redis.Redis),
    "MagicMock of a real one": lambda: mock.MagicMock(spec=redis.Redis()),
    "spec_set": lambda: mock.MagicMock(spec_set=redis.Redis),
    "NonCallableMagicMock": lambda: mock.NonCallableMagicMock(spec=redis.Redis),
    "Mock": mock.Mock,
    "httpx": lambda: mock.create_autospec(httpx.Client, instance=True),
    "requests": lambda: mock.create_autospec(requests.Session, instance=True),
    "requests MagicMock": lambda: mock.MagicMock(spec=requests.Session()),
}


@mode
@pytest.mark.parametrize("what", SPECS)
def test_a_mock_of_a_client(mode: str | None, what: str) -> None:
    made, policy = SPECS[what](), policy_of(mode)
    made.get.return_value = b"1"
    client = policy.wrap(made)
    assert client.get("a") == b"1"
    made.get.assert_called_once_with("a")
    made.get.side_effect = redis.ConnectionError("down")
    with pytest.raises(redis.ConnectionError):
        client.get("b")
    assert policy.snapshot()["calls"]["failure"] == 1
    policy.force_open("a test")
    with pytest.raises(CircuitOpenError):
        client.get("c")


ASYNC_SPECS: dict[str, Callable[[], Any]] = {
    "httpx": lambda: mock.create_autospec(httpx.AsyncClient, instance=True),
    "AsyncMock": mock.AsyncMock,
    "AsyncMock of redis": lambda: mock.AsyncMock(spec=redis.asyncio.Redis),
    "AsyncMock of aiohttp": lambda: mock.AsyncMock(spec=aiohttp.ClientSession),
}


@pytest.mark.parametrize("what", ASYNC_SPECS)
def test_a_mock_of_an_async_client(what: str) -> None:
    async def main() -> None:
        made, policy = ASYNC_SPECS[what](), make_policy(None, limit=20.0)
        made.close = mock.AsyncMock(return_value=b"1")
        client = policy.wrap(made)
        assert await client.close() == b"1"

    asyncio.run(main())


@mode
def test_a_pool_adapter_or_transport_that_is_a_mock(mode: str | None) -> None:
    client = redis.Redis()
    client.connection_pool = mock.MagicMock()
    policy_of(mode).wrap(client)
    session = requests.Session()
    adapter = mock.MagicMock()
    adapter.send.side_effect = requests.ConnectionError("down")
    session.mount("http://", adapter)
    with pytest.raises(requests.ConnectionError):
        policy_of(mode).wrap(session).get("http://x/")
    with httpx.Client() as bare:
        bare._transport = mock.MagicMock()
        bare._transport.handle_request.side_effect = httpx.ConnectError("down")
        with pytest.raises(httpx.ConnectError):
            policy_of(mode).wrap(bare).get("http://x/")


# What patches a library from outside ---------------------------------


@mode
def test_a_method_patched_on_the_class(mode: str | None) -> None:
    client = policy_of(mode).wrap(redis.Redis(port=9))
    with mock.patch.object(redis.Redis, "execute_command", return_value=b"1", autospec=True):
        assert client.get("a") == b"1"
    with mock.patch("redis.Redis.get", return_value=b"2"):
        assert client.get("a") == b"2"


@mode
def test_responses(mode: str | None) -> None:
    session = policy_of(mode).wrap(requests.Session())
    for _ in range(2):  # a session that was there before, and has been used
        with responses.RequestsMock() as mocked:
            mocked.get("http://shop.example/a", json={"a": 1})
            mocked.get("http://shop.example/b", status=404)
            assert session.get("http://shop.example/a").json() == {"a": 1}
            assert session.get("http://shop.example/b").status_code == 404


@mode
def test_respx(mode: str | None) -> None:
    client = policy_of(mode).wrap(httpx.Client())
    for _ in range(2):
        with respx.mock:
            respx.get("http://shop.example/a").respond(json={"a": 1})
            assert client.get("http://shop.example/a").json() == {"a": 1}


@mode
def test_a_transport_patched_on_its_class(mode: str | None, monkeypatch: Any) -> None:
    client = policy_of(mode).wrap(httpx.Client(trust_env=False))

    def answers(transport: object, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=str(request.url))

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answers)  # as pytest-httpx does
    assert client.get("http://shop.example/a").text == "http://shop.example/a"


@mode
def test_a_mock_on_the_class_of_an_adapter_or_transport(mode: str | None) -> None:
    session = policy_of(mode).wrap(requests.Session())
    found = requests.Response()
    found.status_code, found._content = 200, b"mocked"
    with mock.patch.object(HTTPAdapter, "send", return_value=found):
        assert session.get("http://shop.example/").text == "mocked"
    adapter = mock.Mock(spec=HTTPAdapter)
    adapter.send.return_value = found
    with mock.patch.object(requests.Session, "get_adapter", return_value=adapter):
        assert session.get("http://shop.example/").text == "mocked"
    client = policy_of(mode).wrap(httpx.Client(trust_env=False))
    with mock.patch("httpx.HTTPTransport.handle_request", return_value=httpx.Response(204)):
        assert client.get("http://shop.example/").status_code == 204


@mode
def test_mock_transport(mode: str | None) -> None:
    def answers(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"path": request.url.path})

    client = policy_of(mode).wrap(httpx.Client(transport=httpx.MockTransport(answers)))
    assert client.get("http://shop.example/a").json() == {"path": "/a"}


def s3() -> Any:
    return boto3.client(
        "s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )


@mode
def test_the_stubber_of_botocore_and_moto(mode: str | None) -> None:
    bare = s3()
    client = policy_of(mode).wrap(bare)
    with Stubber(bare) as stub:
        stub.add_response("list_buckets", {"Buckets": []})
        assert client.list_buckets()["Buckets"] == []
    with moto.mock_aws():
        client = policy_of(mode).wrap(s3())
        client.create_bucket(Bucket="kept")
        assert [each["Name"] for each in client.list_buckets()["Buckets"]] == ["kept"]


@mode
def test_a_mock_engine_of_sqlalchemy(mode: str | None) -> None:
    policy = policy_of(mode)
    seen: list[str] = []
    engine = sa.create_mock_engine("sqlite://", lambda sql, *_, **__: seen.append(str(sql)))
    policy.wrap(engine).execute(sa.text("SELECT 1"))
    assert seen == ["SELECT 1"]
