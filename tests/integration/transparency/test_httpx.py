"""httpx.Client and httpx.AsyncClient: wrapped, and with a transport of ours."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.integrations.httpx import AsyncTransport, Transport
from tests.integration.transparency.harness import (
    MODES,
    Operations,
    Side,
    aplay,
    few,
    inspect_pair,
    play,
    policy_of,
    run,
    same,
)
from tests.kit.servers.http_server import HttpServer

operation = Operations()
async_operation = Operations()
methods = st.sampled_from(["get", "head", "options", "post", "put", "patch", "delete"])
paths = st.sampled_from([
    "/json", "/echo?a=1", "/status/201", "/status/204", "/404", "/status/503?retry_after=2", "/gzip",
    "/chunked?n=3", "/set-cookie?name=x", "/redirect", "/reset", "/close", "/garbage", "/basic-auth",
])  # fmt: skip
bodies = st.sampled_from([
    {}, {"content": b"raw"}, {"json": {"a": [1, None]}}, {"data": {"f": "v"}}, {"json": object()},
    {"content": "\u1234"}, {"files": {"f": ("n.txt", b"inside")}}, {"params": {"p": "q"}},
    {"headers": {"X-Mine": "1"}}, {"cookies": {"c": "d"}}, {"nothing_such": 1},
    {"auth": ("user", "password")}, {"extensions": {"trace_id": 7}},
])  # fmt: skip
errors = st.sampled_from([ValueError("in the body"), httpx.ReadTimeout("in the body"), None])
bad_urls = st.sampled_from(["ftp://x", "http://", "http://[", "/x\x00", "mailto:a", 5, None])


def told(response: httpx.Response) -> Any:
    """Return all there is to a response."""
    request = response.request
    extensions = {k: v for k, v in response.extensions.items() if k != "network_stream"}
    return {
        "repr": repr(response),
        "status": (response.status_code, response.reason_phrase, response.http_version),
        "headers": sorted(response.headers.multi_items()),
        "closed": (response.is_closed, response.is_stream_consumed),
        "url": str(response.url),
        "history": [each.status_code for each in response.history],
        "extensions": extensions,
        "elapsed": response.elapsed.total_seconds() >= 0 if response.is_closed else None,
        "request": (request.method, str(request.url), sorted(request.headers.items())),
        "request extensions": sorted(request.extensions),
        "cookies": dict(response.cookies),
        "encoding": response.encoding,
        "stream": type(response.stream).__name__,
        "timeout": request.extensions.get("timeout"),
    }


@operation(method=methods, path=paths)
def simple(side: Side, method: str, path: str) -> Any:
    response = getattr(side.client, method)(path)
    return told(response), response.content, response.text


@operation(path=paths, body=bodies)
def sends(side: Side, path: str, body: Any) -> Any:
    response = side.client.post(path, **body)
    said = response.content
    return response.status_code, said if b"boundary" not in said else len(said)


@operation(path=paths, body=bodies)
def generates(side: Side, path: str, body: Any) -> Any:
    return told(side.client.request("POST", path, content=(each for each in [b"a", b"b"])))


@operation()
def broken_body(side: Side) -> Any:
    def body() -> Any:
        yield b"a"
        raise LookupError("in the generator")

    return side.client.post("/echo", content=body())


@operation(url=bad_urls)
def bad_url(side: Side, url: Any) -> Any:
    return side.client.get(url)


@operation(path=paths)
def json_of(side: Side, path: str) -> Any:
    return side.client.get(path).json()


@operation(path=paths)
def raises_for_status(side: Side, path: str) -> Any:
    response = side.client.get(path)
    return response.raise_for_status() is response


@operation(n=st.integers(1, 4))
def redirected(side: Side, n: int) -> Any:
    side.client.max_redirects = 2
    return told(side.client.get(f"/redirect?n={n}", follow_redirects=True))


@operation(
    path=paths, how=st.sampled_from(["iter_bytes", "iter_raw", "iter_text", "iter_lines", "read"])
)
def streamed(side: Side, path: str, how: str) -> Any:
    with side.client.stream("GET", path) as response:
        early = told(response)
        got = getattr(response, how)()
        said = got if how == "read" else list(got)
    return early, said, told(response), isinstance(response, httpx.Response)


@operation(path=paths, error=errors)
def streamed_partly(side: Side, path: str, error: Any) -> Any:
    with side.client.stream("GET", path) as response:
        first = next(iter(response.iter_bytes(2)), None)
        if error is not None:
            raise error.with_traceback(None)
    return first, response.is_closed, list(response.iter_bytes())


@operation(path=paths)
def not_read(side: Side, path: str) -> Any:
    with side.client.stream("GET", path) as response:
        pass
    return response.is_closed, response.text


@operation(path=paths)
def built(side: Side, path: str) -> Any:
    request = side.client.build_request("GET", path, headers={"X-Built": "1"})
    response = side.client.send(request, stream=True)
    early = response.is_closed, response.request is request, sorted(request.extensions)
    response.read()
    response.close()
    return early, told(response)


@operation(path=st.sampled_from(["/hang", "/hang-body", "/drip?seconds=5&bytes=3"]))
def times_out(side: Side, path: str) -> Any:
    return side.client.get(path, timeout=httpx.Timeout(20, read=0.05))


@operation()
def no_timeout(side: Side) -> Any:
    return told(side.client.get("/json", timeout=None))


@operation()
def settings_of(side: Side) -> Any:
    client = side.client
    client.headers["X-Kept"] = "yes"
    client.cookies.set("kept", "1")
    client.params = {"all": "1"}
    client.timeout = 3
    client.auth = ("user", "secret")
    seen = client.timeout, str(client.base_url), client.trust_env, client.follow_redirects
    said = client.get("/echo").json()
    client.auth = None
    return seen, said, sorted(client.headers), client.max_redirects


@operation()
def hooks(side: Side) -> Any:
    seen: list[Any] = []
    usual = side.client.event_hooks
    side.client.event_hooks = {
        "request": [lambda request: seen.append((request.method, sorted(request.extensions)))],
        "response": [lambda response: seen.append((response.status_code, response.is_closed))],
    }
    side.client.get("/json")
    side.client.event_hooks = usual
    return seen


@operation()
def hooks_there(side: Side) -> Any:
    return {key: len(found) for key, found in side.client.event_hooks.items()}


@operation()
def identity(side: Side) -> Any:
    client = side.client
    return (
        client == client, client in [client], {client: 1}[client], isinstance(client, httpx.Client),
        client.get == client.get, client.headers is client.headers, client.is_closed,
    )  # fmt: skip


@operation(error=errors)
def entered(side: Side, error: Any) -> Any:
    with side.client as inside:
        if error is not None:
            raise error.with_traceback(None)
        return inside is side.client, inside.get("/json").json()


@operation()
def closed(side: Side) -> Any:
    return side.client.close(), side.client.is_closed, side.client.close()


@operation()
def copied(side: Side) -> Any:
    twin = copy.copy(side.client)
    return isinstance(twin, httpx.Client), twin.get("/json").json()


@operation()
def pickled(side: Side) -> Any:
    return type(pickle.loads(pickle.dumps(side.client)))


@operation(url=st.sampled_from(["http://127.0.0.1:1/", "http://no-such-host.invalid/"]))
def nowhere(side: Side, url: str) -> Any:
    return side.client.get(url)


@operation(size=st.sampled_from([1 << 20, (1 << 20) + 1]))
def large(side: Side, size: int) -> Any:
    return len(side.client.post("/echo", content=b"x" * size).content)


# -- the same of the async client ---------------------------------------------


@async_operation(method=methods, path=paths)
async def asimple(side: Side, method: str, path: str) -> Any:
    response = await getattr(side.client, method)(path)
    return told(response), response.content


@async_operation(path=paths, body=bodies)
async def asends(side: Side, path: str, body: Any) -> Any:
    response = await side.client.post(path, **body)
    said = response.content
    return response.status_code, said if b"boundary" not in said else len(said)


@async_operation(path=paths)
async def agenerates(side: Side, path: str) -> Any:
    async def body() -> Any:
        yield b"a"
        yield b"b"

    return told(await side.client.request("POST", path, content=body()))


@async_operation()
async def abroken_body(side: Side) -> Any:
    async def body() -> Any:
        yield b"a"
        raise LookupError("in the generator")

    return await side.client.post("/echo", content=body())


@async_operation(url=bad_urls)
async def abad_url(side: Side, url: Any) -> Any:
    return await side.client.get(url)


@async_operation(n=st.integers(1, 4))
async def aredirected(side: Side, n: int) -> Any:
    side.client.max_redirects = 2
    return told(await side.client.get(f"/redirect?n={n}", follow_redirects=True))


@async_operation(
    path=paths, how=st.sampled_from(["aiter_bytes", "aiter_raw", "aiter_lines", "aread"])
)
async def astreamed(side: Side, path: str, how: str) -> Any:
    async with side.client.stream("GET", path) as response:
        early = told(response)
        got = getattr(response, how)()
        said = await got if how == "aread" else [each async for each in got]
    return early, said, told(response), isinstance(response, httpx.Response)


@async_operation(path=paths, error=errors)
async def astreamed_partly(side: Side, path: str, error: Any) -> Any:
    async with side.client.stream("GET", path) as response:
        chunks = response.aiter_bytes(2)
        first = await anext(chunks, None)
        await chunks.aclose()
        if error is not None:
            raise error.with_traceback(None)
    return first, response.is_closed


@async_operation(path=paths)
async def abuilt(side: Side, path: str) -> Any:
    request = side.client.build_request("GET", path, headers={"X-Built": "1"})
    response = await side.client.send(request, stream=True)
    early = response.is_closed, response.request is request, sorted(request.extensions)
    await response.aread()
    await response.aclose()
    return early, told(response)


@async_operation(path=st.sampled_from(["/hang", "/hang-body", "/drip?seconds=5&bytes=3"]))
async def atimes_out(side: Side, path: str) -> Any:
    return await side.client.get(path, timeout=httpx.Timeout(20, read=0.05))


@async_operation()
async def ahooks(side: Side) -> Any:
    return {key: len(found) for key, found in side.client.event_hooks.items()}


@async_operation()
async def aidentity(side: Side) -> Any:
    client = side.client
    return (
        client == client, client in [client], {client: 1}[client],
        isinstance(client, httpx.AsyncClient), client.get == client.get, client.is_closed,
    )  # fmt: skip


@async_operation(error=errors)
async def aentered(side: Side, error: Any) -> Any:
    async with side.client as inside:
        if error is not None:
            raise error.with_traceback(None)
        return inside is side.client, (await inside.get("/json")).json()


@async_operation()
async def aclosed(side: Side) -> Any:
    return await side.client.aclose(), side.client.is_closed, await side.client.aclose()


@async_operation()
async def apickled(side: Side) -> Any:
    return type(pickle.loads(pickle.dumps(side.client)))


@async_operation()
async def anowhere(side: Side) -> Any:
    return await side.client.get("http://127.0.0.1:1/")


@async_operation(path=paths)
async def at_once(side: Side, path: str) -> Any:
    import asyncio

    said = await asyncio.gather(*(side.client.get(path) for _ in range(4)), return_exceptions=True)
    return [getattr(each, "status_code", type(each)) for each in said]


# -- the tests ---------------------------------------------


def state_of(client: Any, transport: Any) -> Any:
    inner = getattr(transport, "_inner", transport)
    states = sorted(re.sub(r", Request Count: \d+", "", repr(c)) for c in inner._pool.connections)
    return (
        states,
        client.is_closed,
        sorted(vars(client)),
        dict(client.cookies),
        sorted(client.headers),
    )


def scrub(text: str) -> str:
    return re.sub(r"transparency-\d+", "<policy>", text)


def played(server: HttpServer, steps: Any, way: str, mode: str) -> Any:
    server.clear()
    options: dict[str, Any] = {"base_url": server.url, "timeout": 20}
    if way == "transport":
        options["transport"] = Transport(policy_of("httpx-transport", mode))
    client = httpx.Client(**options)
    used = policy_of("httpx", mode).wrap(client) if way == "wrapped" else client
    log = play(Side(used, way != "bare"), steps, scrub)
    log.append(("at the end", {}, state_of(client, client._transport), server.counts()))
    client.close()
    return log


def aplayed(server: HttpServer, steps: Any, way: str) -> Any:
    server.clear()

    async def main() -> Any:
        options: dict[str, Any] = {"base_url": server.url, "timeout": 20}
        if way == "transport":
            options["transport"] = AsyncTransport(policy_of("httpx-transport"))
        client = httpx.AsyncClient(**options)
        used = policy_of("httpx").wrap(client) if way == "wrapped" else client
        log = await aplay(Side(used, way != "bare"), steps, scrub)
        states, *others = state_of(client, client._transport)
        # Of calls at the same time it is chance how many find an idle connection.
        log.append(("at the end", {}, (sorted({*states}), *others), server.counts()))
        await client.aclose()
        return log

    return run(main)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", ["wrapped", "transport"])
@few(max_examples=15)
@given(steps=operation.sequences())
def test_a_sequence_comes_to_the_same(
    http_server: HttpServer, way: str, mode: str, steps: Any
) -> None:
    bare = played(http_server, steps, "bare", mode)
    same(f"httpx {way}", bare, played(http_server, steps, way, mode))


@pytest.mark.parametrize("way", ["wrapped", "transport"])
@few(max_examples=15)
@given(steps=async_operation.sequences())
def test_an_async_sequence_comes_to_the_same(http_server: HttpServer, way: str, steps: Any) -> None:
    bare = aplayed(http_server, steps, "bare")
    same(f"httpx {way}", bare, aplayed(http_server, steps, way))


@pytest.mark.parametrize("mode", [*MODES, None])
def test_it_looks_the_same(mode: str | None) -> None:
    kind: Callable[[], Any] = httpx.AsyncClient if mode is None else httpx.Client
    bare, inner = kind(), kind()
    wrapped = policy_of("httpx", mode).wrap(inner)
    found = []
    for name, get in {
        "Client": lambda client: client,
        "method get": lambda client: client.get,
        "method stream": lambda client: client.stream,
        "stream context": lambda client: client.stream("GET", "http://127.0.0.1:1"),
        "Headers": lambda client: client.headers,
        "Timeout": lambda client: client.timeout,
    }.items():
        found += inspect_pair("httpx", get(bare), get(wrapped), name)
    assert not found, "\n".join(found)
