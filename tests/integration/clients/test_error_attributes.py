"""What a library's handlers read of an error of ours, its timeouts, and copies of it."""

from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import aiohttp
import grpc
import grpc.aio
import httpx
import httpx2
import pytest
import redis
import redis.asyncio
import redis.backoff
import redis.retry
import requests
import urllib3

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
from resilient.integrations import httpx as for_httpx
from resilient.integrations import httpx2 as for_httpx2
from resilient.knowledge.error_families import Family, _families
from tests.integration.clients.kit import make_policy
from tests.integration.clients.test_error_families import (
    URL,
    adapted,
    aio_channel,
    cut_off,
    listening,
    session,
    unary,
)
from tests.kit.servers.process import HOST

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
