"""aiohttp's client session, wrapped."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

import resilient
from tests.integration.clients import http_kit
from tests.integration.clients.kit import (
    LIMIT,
    AsyncLoad,
    Left,
    async_outcome,
    check_at_rest,
    counted,
    life_story,
    make_policy,
    timed,
)
from tests.kit.servers.http_server import HttpServer

SLACK = 0.5  # seconds over a call's limit


# -- the life story ---------------------------------------------


@pytest.mark.parametrize("how", ["with", "await"])
def test_life_story(http_server: HttpServer, how: str) -> None:
    left = Left(http_server.connections)
    policy = make_policy(name="aiohttp")
    url = f"{http_server.url}/json"

    @asynccontextmanager
    async def calls() -> Any:
        async with aiohttp.ClientSession() as bare:
            session = policy.wrap(bare)

            async def entered() -> object:
                async with session.get(url) as response:
                    return await response.json()

            async def awaited() -> object:
                response = await session.get(url)
                try:
                    return await response.json()
                finally:
                    response.release()

            yield entered if how == "with" else awaited

    life_story(
        http_server, policy, AsyncLoad(calls), slack=SLACK, allowed=(aiohttp.ClientError,)
    )  # fmt: skip
    left.check()


# -- what is whose fault ---------------------------------------------


async def said(response: aiohttp.ClientResponse) -> object:
    """Return what a response says, all of it read."""
    headers = {k: v for k, v in response.headers.items() if k != "date"}
    body = await response.read()
    return response.status, headers, body, len(response.history), str(response.url)


async def fetch(session: aiohttp.ClientSession, url: str) -> object:
    async with session.get(url) as response:
        return await said(response)


def test_how_an_answer_counts(http_server: HttpServer) -> None:
    async def main() -> None:
        policy = make_policy(limit=5.0, failures=100)
        async with aiohttp.ClientSession() as bare:
            session = policy.wrap(bare)
            for path, expected in http_kit.ANSWERS.items():
                url = http_server.url + path
                alone = (await async_outcome(policy, lambda: fetch(bare, url)))[1]
                found, guarded = await async_outcome(policy, lambda: fetch(session, url))
                if isinstance(alone, Exception):
                    assert (type(guarded), str(guarded)) == (type(alone), str(alone))
                else:
                    assert guarded == alone
                assert found.get(expected, 0) >= 1, (path, found)
                assert set(found) <= {expected, "success"}, (path, found)
        check_at_rest(policy)

    left = Left(http_server.connections)
    asyncio.run(main())
    left.check()


@http_kit.timeouts
def test_the_deadline_ends_it(http_server: HttpServer, path: str) -> None:
    async def main() -> None:
        policy = make_policy()
        async with aiohttp.ClientSession() as bare:
            session = policy.wrap(bare)
            # To get the headers and to read the body are a call each.
            with timed(2 * LIMIT + SLACK, 0.25):
                found, error = await async_outcome(
                    policy, lambda: fetch(session, http_server.url + path)
                )
            assert isinstance(error, resilient.CallTimeoutError)
            assert found["failure"] == 1
            assert await fetch(session, f"{http_server.url}/json")
        check_at_rest(policy)

    left = Left(http_server.connections)
    asyncio.run(main())
    left.check()


def test_whose_fault(http_server: HttpServer) -> None:
    async def main() -> None:
        policy = make_policy(limit=2.0)
        async with aiohttp.ClientSession(raise_for_status=True) as bare:
            session = policy.wrap(bare)
            for _ in range(20):
                with pytest.raises(aiohttp.ClientResponseError):
                    await fetch(session, f"{http_server.url}/404")
                for url in ("no-scheme", "ftp://127.0.0.1/x", "http://"):
                    with pytest.raises((aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
                        await fetch(session, url)
            assert policy.state == "closed"
            found, error = await async_outcome(
                policy, lambda: fetch(session, f"{http_server.url}/redirect?n=20")
            )
            assert isinstance(error, aiohttp.TooManyRedirects)
            assert "failure" not in found, found
            async with session.get(f"{http_server.url}/chunked?n=1") as response:
                with pytest.raises(aiohttp.ContentTypeError):
                    await response.json()
            assert policy.state == "closed"
            http_server.kill()
            for _ in range(10):
                with pytest.raises((aiohttp.ClientConnectorError, resilient.CircuitOpenError)):
                    await fetch(session, f"{http_server.url}/json")
            assert policy.state == "open"

    asyncio.run(main())


# -- deadlines and the library's own limits ---------------------------------------------


def test_deadlines(http_server: HttpServer) -> None:
    async def main() -> None:
        outer, policy = make_policy(limit=0.2), make_policy(limit=5.0)
        url = f"{http_server.url}/hang"
        async with aiohttp.ClientSession() as bare:
            session = policy.wrap(bare)
            with timed(0.2 + SLACK, 0.15), pytest.raises(resilient.CallTimeoutError) as raised:
                await outer.acall(fetch, session, url)
            assert raised.value.policy == outer.name
            own = aiohttp.ClientTimeout(total=0.2)
            with timed(0.2 + SLACK, 0.15):
                found, error = await async_outcome(policy, lambda: session.get(url, timeout=own))
            assert found == {"failure": 1}
            assert isinstance(error, TimeoutError)
            assert not isinstance(error, resilient.CallTimeoutError)
            with counted(policy) as found:
                task = asyncio.ensure_future(fetch(session, url))
                await asyncio.sleep(0.1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert found == {"cancelled": 1}
        check_at_rest(policy)

    left = Left(http_server.connections)
    asyncio.run(main())
    left.check()


def test_the_only_connection_is_waited_for_until_the_deadline(http_server: HttpServer) -> None:
    async def main() -> None:
        policy = make_policy()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as bare:
            session = policy.wrap(bare)
            async with bare.get(f"{http_server.url}/chunked?n=1000&pause=0.05"):
                with timed(LIMIT + SLACK, 0.25), pytest.raises(resilient.CallTimeoutError):
                    await fetch(session, f"{http_server.url}/json")
            assert await fetch(session, f"{http_server.url}/json")
        check_at_rest(policy)

    left = Left(http_server.connections)
    asyncio.run(main())
    left.check()


# -- streams ---------------------------------------------


def test_streams(http_server: HttpServer) -> None:
    async def main() -> None:
        policy = make_policy()
        async with aiohttp.ClientSession() as bare:
            session = policy.wrap(bare)
            async with session.get(f"{http_server.url}/chunked?n=3") as response:
                got = [chunk async for chunk in response.content.iter_any()]
            assert b"".join(got) == b"chunk 0\nchunk 1\nchunk 2\n"
            async with session.get(f"{http_server.url}/chunked?n=3") as response:
                assert await response.content.readline() == b"chunk 0\n"
                assert await response.text() == "chunk 1\nchunk 2\n"
            async with session.get(f"{http_server.url}/chunked?n=1000&pause=0.05") as response:
                async for _ in response.content.iter_chunked(10):
                    break
            check_at_rest(policy)
            async with session.get(f"{http_server.url}/chunked?n=3&pause=60") as response:
                with timed(LIMIT + SLACK, 0.25), pytest.raises(resilient.CallTimeoutError):
                    await response.read()
        check_at_rest(policy)

    left = Left(http_server.connections)
    asyncio.run(main())
    left.check()
