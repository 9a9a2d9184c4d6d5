"""aiohttp.ClientSession, bare and wrapped."""

from __future__ import annotations

import asyncio
import pickle
import re
from typing import Any

import aiohttp
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.transparency.harness import (
    Operations,
    Side,
    aplay,
    few,
    inspect_pair,
    policy_of,
    run,
    same,
)
from tests.integration.transparency.test_httpx import methods, paths
from tests.kit.servers.http_server import HttpServer

operation = Operations()
bodies = st.sampled_from([
    {}, {"data": b"raw"}, {"json": {"a": [1, None]}}, {"data": {"f": "v"}}, {"json": object()},
    {"params": {"p": "q"}}, {"headers": {"X-Mine": "1"}}, {"cookies": {"c": "d"}},
    {"nothing_such": 1}, {"auth": ("user", "password")}, {"data": object()},
    {"raise_for_status": True}, {"allow_redirects": False}, {"max_redirects": 0},
])  # fmt: skip
errors = st.sampled_from([ValueError("in the body"), aiohttp.ClientError("in the body"), None])
bad_urls = st.sampled_from(["ftp://x", "http://", "http://[", "mailto:a", 5, None])


def told(response: Any) -> Any:
    """Return all there is to a response."""
    return {
        "repr": repr(response),
        "status": (response.status, response.reason, response.ok, str(response.version)),
        "headers": sorted(response.headers.items()),
        "raw headers": response.raw_headers,
        "url": (str(response.url), str(response.real_url), response.host),
        "history": [each.status for each in response.history],
        "request": (response.request_info.method, str(response.request_info.url)),
        "cookies": {key: each.value for key, each in response.cookies.items()},
        "charset": (response.charset, response.content_type),
        "isinstance": isinstance(response, aiohttp.ClientResponse),
        "method": response.method,
        "content": type(response.content).__name__,
        "disposition": response.content_disposition,
    }


@operation(method=methods, path=paths)
async def simple(side: Side, method: str, path: str) -> Any:
    response = await getattr(side.client, method)(path)
    early = told(response)
    return early, await response.read(), await response.text(), told(response)


@operation(path=paths, body=bodies)
async def sends(side: Side, path: str, body: Any) -> Any:
    async with side.client.post(path, **body) as response:
        return told(response), await response.read()


@operation(path=paths)
async def context(side: Side, path: str) -> Any:
    asked = side.client.get(path)
    shape = [
        hasattr(asked, name) for name in ("__await__", "__aenter__", "__aexit__", "send", "close")
    ]
    async with asked as response:
        text = await response.text()  # whether it is closed before depends on when packets come
    return shape, text, response.closed, asked.__class__.__name__


@operation(path=paths)
async def released(side: Side, path: str) -> Any:
    response = await side.client.get(path)
    done = response.release()
    if done is not None and hasattr(done, "__await__"):
        done = await done
    return done, told(response)


@operation(path=paths)
async def not_read(side: Side, path: str) -> Any:
    async with side.client.get(path) as response:
        pass
    return await response.read()


@operation(path=paths, error=errors)
async def read_partly(side: Side, path: str, error: Any) -> Any:
    async with side.client.get(path) as response:
        first = await response.content.read(2)
        if error is not None:
            raise error.with_traceback(None)
        rest = [each async for each in response.content.iter_chunked(3)]
    return first, rest


@operation(path=paths)
async def lines(side: Side, path: str) -> Any:
    async with side.client.get(path) as response:
        return [each async for each in response.content], response.content.at_eof()


@operation(path=paths)
async def json_of(side: Side, path: str) -> Any:
    async with side.client.get(path) as response:
        return await response.json()


@operation(path=paths)
async def raises_for_status(side: Side, path: str) -> Any:
    async with side.client.get(path) as response:
        response.raise_for_status()


@operation()
async def generates(side: Side) -> Any:
    async def body() -> Any:
        yield b"a"
        yield b"b"

    async with side.client.post("/echo", data=body()) as response:
        return await response.read()


@operation()
async def broken_body(side: Side) -> Any:
    async def body() -> Any:
        yield b"a"
        raise LookupError("in the generator")

    return await side.client.post("/echo", data=body())


@operation(url=bad_urls)
async def bad_url(side: Side, url: Any) -> Any:
    return await side.client.get(url)


@operation(url=bad_urls)
async def bad_url_context(side: Side, url: Any) -> Any:
    async with side.client.get(url) as response:
        return response


@operation(n=st.integers(1, 4))
async def redirected(side: Side, n: int) -> Any:
    async with side.client.get(f"/redirect?n={n}", max_redirects=2) as response:
        return told(response)


@operation(path=st.sampled_from(["/hang", "/hang-body", "/drip?seconds=5&bytes=3"]))
async def times_out(side: Side, path: str) -> Any:
    async with side.client.get(path, timeout=aiohttp.ClientTimeout(sock_read=0.05)) as response:
        return await response.read()


@operation()
async def socket_(side: Side) -> Any:
    async with side.client.ws_connect("/json") as ws:
        return ws


@operation()
async def settings_of(side: Side) -> Any:
    client = side.client
    client.headers["X-Kept"] = "yes"
    client.cookie_jar.update_cookies({"kept": "1"})
    async with client.get("/echo") as response:
        said = await response.json()
    return (
        said, sorted(client.headers), client.closed, client.timeout, client.raise_for_status,
        client.auto_decompress, client.trust_env, client.version, client.requote_redirect_url,
        isinstance(client.connector, aiohttp.BaseConnector), client.connector is client.connector,
        client.cookie_jar is client.cookie_jar, len(client.cookie_jar),
    )  # fmt: skip


@operation()
async def identity(side: Side) -> Any:
    client = side.client
    return (
        client == client, client in [client], {client: 1}[client],
        isinstance(client, aiohttp.ClientSession), client.get == client.get,
    )  # fmt: skip


@operation()
async def sync_entered(side: Side) -> Any:
    with side.client:
        pass


@operation(error=errors)
async def entered(side: Side, error: Any) -> Any:
    async with side.client as inside:
        if error is not None:
            raise error.with_traceback(None)
        async with inside.get("/json") as response:
            return inside is side.client, await response.json()


@operation()
async def closed(side: Side) -> Any:
    return await side.client.close(), side.client.closed, await side.client.close()


@operation()
async def pickled(side: Side) -> Any:
    return type(pickle.loads(pickle.dumps(side.client)))


@operation()
async def nowhere(side: Side) -> Any:
    return await side.client.get("http://127.0.0.1:1/")


@operation(path=paths)
async def at_once(side: Side, path: str) -> Any:
    async def one() -> Any:
        async with side.client.get(path) as response:
            return response.status, await response.read()

    said = await asyncio.gather(*(one() for _ in range(4)), return_exceptions=True)
    return [each if isinstance(each, tuple) else type(each).__name__ for each in said]


@operation()
async def never_awaited(side: Side) -> Any:
    side.client.get("/json").close()


def scrub(text: str) -> str:
    text = re.sub(r"transparency-\d+", "<policy>", text)
    return re.sub(r"[\w+/]{22}==", "<key>", text)


def played(server: HttpServer, steps: Any, wrapped: bool) -> Any:
    server.clear()

    async def main() -> Any:
        client = aiohttp.ClientSession(server.url)
        used = policy_of("aiohttp").wrap(client) if wrapped else client
        log = await aplay(Side(used, wrapped), steps, scrub)
        connector = client.connector
        state = None if connector is None else len(connector._acquired)
        log.append(("at the end", {}, state, client.closed, server.counts()))
        await client.close()
        return log

    return run(main)


@few(max_examples=25)
@given(steps=operation.sequences())
def test_a_sequence_comes_to_the_same(http_server: HttpServer, steps: Any) -> None:
    bare = played(http_server, steps, False)
    same("aiohttp", bare, played(http_server, steps, True))


def test_it_looks_the_same(http_server: HttpServer) -> None:
    async def main() -> list[str]:
        bare, inner = aiohttp.ClientSession(http_server.url), aiohttp.ClientSession(http_server.url)
        wrapped = policy_of("aiohttp").wrap(inner)
        found = []
        for name, get in {
            "ClientSession": lambda client: client,
            "method get": lambda client: client.get,
            "request context": lambda client: client.get("/json"),
            "connector": lambda client: client.connector,
        }.items():
            one, other = get(bare), get(wrapped)
            found += inspect_pair(
                "aiohttp", one, other, name, skip=("loop", "requote_redirect_url")
            )
            if name == "request context":
                answers = await one, await other
                for each in answers:  # its connection is given back when its last packet came
                    await each.read()
                found += inspect_pair("aiohttp", *answers, "ClientResponse")
                for each in answers:
                    each.release()
        await bare.close()
        await inner.close()
        return found

    found = run(main)
    assert not found, "\n".join(found)
