"""httpx, sync and async, as transports and wrapped, on asyncio and trio."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

import resilient
from resilient.integrations.httpx import AsyncTransport, Transport
from tests.integration.clients import http_kit
from tests.integration.clients.kit import (
    LIMIT,
    MODES,
    AsyncLoad,
    Left,
    Load,
    async_outcome,
    check_at_rest,
    check_released,
    counted,
    interrupted,
    life_story,
    make_policy,
    outcome,
    plain,
    timed,
)
from tests.kit.servers.http_server import HttpServer
from tests.kit.waiting import until

SLACK = {"cooperative": 0.5, "thread": 0.5, "async": 0.5}  # seconds over a call's limit

WAYS = ["transport", "wrapped"]
mode = pytest.mark.parametrize("mode", MODES)
way = pytest.mark.parametrize("way", WAYS)
backend = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def make(policy: resilient.Policy, way: str, **options: Any) -> httpx.Client:
    """Return a guarded client; by itself it would wait for ever."""
    options = {"timeout": None, "trust_env": False, **options}
    if way == "transport":
        return httpx.Client(transport=Transport(policy), **options)
    return policy.wrap(httpx.Client(**options))


def make_async(policy: resilient.Policy, way: str, **options: Any) -> httpx.AsyncClient:
    """Return a guarded async client."""
    options = {"timeout": None, "trust_env": False, **options}
    if way == "transport":
        return httpx.AsyncClient(transport=AsyncTransport(policy), **options)
    return policy.wrap(httpx.AsyncClient(**options))


# -- the life story ---------------------------------------------


@mode
@way
def test_life_story(http_server: HttpServer, mode: str, way: str) -> None:
    left = Left(http_server.connections)
    policy = make_policy(mode, name="httpx")
    client = make(policy, way)
    life_story(
        http_server, policy, Load(lambda: client.get(f"{http_server.url}/json").json()),
        slack=SLACK[mode], allowed=(httpx.TransportError,),
    )  # fmt: skip
    client.close()
    left.check()


@pytest.mark.parametrize(
    ("way", "backend"), [("transport", "asyncio"), ("transport", "trio"), ("wrapped", "asyncio")]
)
def test_life_story_of_async(http_server: HttpServer, backend: str, way: str) -> None:
    left = Left(http_server.connections)
    policy = make_policy(name="httpx")

    @asynccontextmanager
    async def calls() -> Any:
        async with make_async(policy, way) as client:
            yield lambda: client.get(f"{http_server.url}/json")

    life_story(
        http_server, policy, AsyncLoad(calls, backend), slack=SLACK["async"],
        allowed=(httpx.TransportError,),
    )  # fmt: skip
    left.check()


# -- what is whose fault ---------------------------------------------


def said(response: httpx.Response) -> object:
    """Return what a response says."""
    headers = {k: v for k, v in response.headers.items() if k != "date"}
    history = [each.status_code for each in response.history]
    return response.status_code, headers, response.content, history, str(response.url)


def same(bare: Any, wrapped: Any) -> None:
    """Check that two results or exceptions are the same."""
    if isinstance(bare, Exception):
        assert (type(wrapped), str(wrapped)) == (type(bare), str(bare))
        assert wrapped.request.url == bare.request.url
    else:
        assert said(wrapped) == said(bare)


@mode
@way
def test_how_an_answer_counts(http_server: HttpServer, mode: str, way: str) -> None:
    left = Left(http_server.connections)
    policy = make_policy(mode, limit=5.0, failures=100)
    with (
        httpx.Client(trust_env=False, follow_redirects=True) as bare,
        make(policy, way, follow_redirects=True) as client,
    ):
        for path, expected in http_kit.ANSWERS.items():
            url = http_server.url + path
            alone = outcome(policy, lambda: bare.get(url))[1]
            found, guarded = outcome(policy, lambda: client.get(url))
            same(alone, guarded)
            hops = 2 if path.startswith("/redirect") and way == "transport" else 0
            assert found == {expected: 1 + hops}, path
    check_at_rest(policy)
    left.check()


@mode
@way
@http_kit.timeouts
def test_the_deadline_ends_it(http_server: HttpServer, mode: str, way: str, path: str) -> None:
    left = Left(http_server.connections)
    policy = make_policy(mode)
    client = make(policy, way)
    with timed(LIMIT + SLACK[mode], 0.25):
        found, error = outcome(policy, lambda: client.get(http_server.url + path))
    assert (found, plain(error)) == ({"failure": 1}, resilient.CallTimeoutError)
    check_released(policy)
    assert client.get(f"{http_server.url}/json").json() == {"ok": True}
    client.close()
    left.check()


@mode
@way
def test_a_refused_connection_fails(http_server: HttpServer, mode: str, way: str) -> None:
    policy = make_policy(mode)
    with make(policy, way) as client:
        http_server.kill()
        for _ in range(4):
            found, error = outcome(policy, lambda: client.get(f"{http_server.url}/json"))
            assert (found, type(error)) == ({"failure": 1}, httpx.ConnectError)
        assert policy.state == "open"
        with pytest.raises(resilient.CircuitOpenError):
            client.get(f"{http_server.url}/json")


@mode
@way
@pytest.mark.parametrize("url", ["no-scheme/path", "ftp://127.0.0.1/x", "http://", "http://a:b"])
def test_a_bad_url_is_the_callers_own(mode: str, way: str, url: str) -> None:
    policy = make_policy(mode)
    with httpx.Client(trust_env=False) as bare, pytest.raises(Exception) as alone:
        bare.get(url)
    with make(policy, way) as client, counted(policy) as found:
        for _ in range(20):
            with pytest.raises(type(alone.value)) as raised:
                client.get(url)
            assert str(raised.value) == str(alone.value)
    assert set(found) <= {"ignored"}, found
    assert policy.state == "closed"


@mode
@way
def test_many_that_were_not_found_leave_the_circuit_closed(
    http_server: HttpServer, mode: str, way: str
) -> None:
    policy = make_policy(mode, limit=2.0)
    with make(policy, way) as client:
        for _ in range(50):
            response = client.get(f"{http_server.url}/404")
            with pytest.raises(httpx.HTTPStatusError):
                response.raise_for_status()
        assert policy.state == "closed"
        assert http_server.connections() == 1  # one, again and again


@mode
@way
def test_too_many_redirects_are_no_failure(http_server: HttpServer, mode: str, way: str) -> None:
    policy = make_policy(mode, limit=5.0)
    with make(policy, way, follow_redirects=True) as client:
        found, error = outcome(policy, lambda: client.get(f"{http_server.url}/redirect?n=40"))
    assert isinstance(error, httpx.TooManyRedirects)
    assert "failure" not in found, found


# -- deadlines and the library's own limits ---------------------------------------------


@mode
@way
def test_an_enclosing_deadline_is_kept(http_server: HttpServer, mode: str, way: str) -> None:
    outer, policy = make_policy("cooperative", limit=0.2), make_policy(mode, limit=5.0)
    with make(policy, way) as client:
        for path in http_kit.TIMEOUTS:
            with (
                timed(0.2 + SLACK[mode], 0.15),
                pytest.raises(resilient.CallTimeoutError) as raised,
            ):
                outer.call(lambda: client.get(http_server.url + path))
            assert raised.value.policy == outer.name
        check_released(policy)


@mode
@way
def test_a_shorter_limit_of_its_own_stays(http_server: HttpServer, mode: str, way: str) -> None:
    policy = make_policy(mode, limit=5.0)
    with make(policy, way, timeout=0.2) as client:
        for path in ("/hang", "/hang-body"):
            with timed(0.2 + SLACK[mode], 0.15):
                found, error = outcome(policy, lambda: client.get(http_server.url + path))
            assert (found, type(error)) == ({"failure": 1}, httpx.ReadTimeout)
        with timed(5), pytest.raises(httpx.ReadTimeout):
            client.get(f"{http_server.url}/hang", timeout=0.1)


@mode
@way
def test_waiting_for_the_only_connection_ends_with_the_deadline(
    http_server: HttpServer, mode: str, way: str
) -> None:
    policy, limits = make_policy(mode), httpx.Limits(max_connections=1)
    if way == "transport":
        inner = httpx.HTTPTransport(limits=limits, trust_env=False)
        client = httpx.Client(transport=Transport(policy, inner), timeout=None)  # noqa: S113 - the limit is ours
    else:
        client = make(policy, way, limits=limits)
    with client, client.stream("GET", f"{http_server.url}/chunked?n=50&pause=0.05"):
        with timed(LIMIT + SLACK[mode], 0.2), pytest.raises(resilient.CallTimeoutError):
            client.get(f"{http_server.url}/json")
    check_released(policy)


# -- streams ---------------------------------------------


@mode
@way
def test_a_stream(http_server: HttpServer, mode: str, way: str) -> None:
    left = Left(http_server.connections)
    policy = make_policy(mode)
    client = make(policy, way)
    with client.stream("GET", f"{http_server.url}/chunked?n=3") as response:
        assert b"".join(response.iter_bytes()) == b"chunk 0\nchunk 1\nchunk 2\n"
    check_at_rest(policy)
    with client.stream("GET", f"{http_server.url}/chunked?n=1000&pause=0.05") as response:
        next(response.iter_bytes())
    check_at_rest(policy)
    with client.stream("GET", f"{http_server.url}/json") as response:
        response.read()
        assert response.json() == {"ok": True}
    client.close()
    left.check()


@mode
@way
def test_a_stream_that_drips_ends_with_the_deadline(
    http_server: HttpServer, mode: str, way: str
) -> None:
    left = Left(http_server.connections)
    policy = make_policy(mode)
    client = make(policy, way)
    for path in ("/chunked?n=100&pause=0.05", "/drip?seconds=5&bytes=2000000"):
        with timed(LIMIT + SLACK[mode], 0.2), pytest.raises(resilient.CallTimeoutError):
            with client.stream("GET", http_server.url + path) as response:
                for _ in response.iter_raw():
                    pass
        check_released(policy)
    client.close()
    left.check()


@mode
@way
def test_a_stream_that_is_read_later_hangs_no_longer_than_the_deadline(
    http_server: HttpServer, mode: str, way: str
) -> None:
    policy = make_policy(mode)
    with make(policy, way) as client:
        with client.stream("GET", f"{http_server.url}/chunked?n=3&pause=60") as response:
            items = response.iter_raw()
            with (
                timed(LIMIT + SLACK[mode]),
                pytest.raises((resilient.CallTimeoutError, httpx.ReadTimeout)),
            ):
                for _ in items:
                    pass
        check_released(policy)


# -- release ---------------------------------------------


@way
def test_the_worker_of_an_interrupted_caller_ends_at_once(
    http_server: HttpServer, way: str
) -> None:
    # Its own limits are far away: only that its socket was shut down can end it.
    policy = make_policy("thread", limit=30.0)
    with make(policy, way) as client:
        interrupted(lambda: client.get(f"{http_server.url}/hang-body"))
        with timed(2.0):
            check_released(policy)


@way
def test_abandoned_workers_end_while_the_server_is_frozen(
    http_server: HttpServer, way: str
) -> None:
    left = Left()
    policy = make_policy("thread", failures=100)
    client = make(policy, way)
    with Load(lambda: client.get(f"{http_server.url}/json"), 6) as load:
        until(lambda: load.good(0) >= 12)
        http_server.stop()
        until(lambda: load.kinds()["CallTimeoutError"] >= 6)
    check_released(policy)
    http_server.cont()
    client.close()
    left.check()


# -- async ---------------------------------------------


@backend
@way
def test_async_answers(http_server: HttpServer, backend: str, way: str) -> None:
    async def main() -> None:
        policy = make_policy(limit=5.0, failures=100)
        async with (
            httpx.AsyncClient(trust_env=False, follow_redirects=True) as bare,
            make_async(policy, way, follow_redirects=True) as client,
        ):
            for path, expected in http_kit.ANSWERS.items():
                url = http_server.url + path
                alone = (await async_outcome(policy, lambda: bare.get(url)))[1]
                found, guarded = await async_outcome(policy, lambda: client.get(url))
                same(alone, guarded)
                hops = 2 if path.startswith("/redirect") and way == "transport" else 0
                assert found == {expected: 1 + hops}, path

    left = Left(http_server.connections)
    anyio.run(main, backend=backend)
    left.check()


@backend
@way
def test_async_timeouts(http_server: HttpServer, backend: str, way: str) -> None:
    async def main() -> None:
        policy = make_policy(failures=100)
        async with make_async(policy, way) as client:
            for path in http_kit.TIMEOUTS:
                with timed(LIMIT + SLACK["async"], 0.25):
                    found, error = await async_outcome(
                        policy, lambda: client.get(http_server.url + path)
                    )
                assert (found, plain(error)) == ({"failure": 1}, resilient.CallTimeoutError)
            for path in ("/chunked?n=100&pause=0.05", "/drip?seconds=5&bytes=2000000"):
                with timed(LIMIT + SLACK["async"], 0.2), pytest.raises(resilient.CallTimeoutError):
                    async with client.stream("GET", http_server.url + path) as response:
                        async for _ in response.aiter_raw():
                            pass
            assert (await client.get(f"{http_server.url}/json")).json() == {"ok": True}
            async with client.stream("GET", f"{http_server.url}/chunked?n=2") as response:
                assert await response.aread() == b"chunk 0\nchunk 1\n"
            for url in ("ftp://127.0.0.1/x", "no-scheme"):
                found, error = await async_outcome(policy, lambda: client.get(url))
                assert isinstance(error, httpx.UnsupportedProtocol)
                assert set(found) <= {"ignored"}
        async with make_async(policy, way, timeout=0.1) as client:
            found, error = await async_outcome(
                policy, lambda: client.get(f"{http_server.url}/hang")
            )
            assert (found, type(error)) == ({"failure": 1}, httpx.ReadTimeout)
        check_at_rest(policy)

    left = Left(http_server.connections)
    anyio.run(main, backend=backend)
    left.check()


@backend
@way
def test_an_async_caller_who_leaves_is_no_failure(
    http_server: HttpServer, backend: str, way: str
) -> None:
    async def main() -> None:
        policy = make_policy(limit=5.0)
        async with make_async(policy, way) as client:
            with counted(policy) as found, anyio.move_on_after(0.1):
                await client.get(f"{http_server.url}/hang")
            assert found == {"cancelled": 1}
        check_at_rest(policy)

    left = Left(http_server.connections)
    anyio.run(main, backend=backend)
    left.check()


@backend
@way
def test_an_async_stream_that_hangs_ends_with_the_deadline(
    http_server: HttpServer, backend: str, way: str
) -> None:
    async def main() -> None:
        policy = make_policy()
        async with make_async(policy, way) as client:
            for path in ("/chunked?n=3&pause=60", "/drip?seconds=600&bytes=2000000"):
                with (
                    timed(LIMIT + SLACK["async"], 0.2),
                    pytest.raises((resilient.CallTimeoutError, httpx.ReadTimeout)),
                    anyio.fail_after(2),
                ):
                    async with client.stream("GET", http_server.url + path) as response:
                        async for _ in response.aiter_raw():
                            pass
        check_at_rest(policy)

    left = Left(http_server.connections)
    anyio.run(main, backend=backend)
    left.check()
