"""The priority of the work at hand, carried by real clients to real servers, and taken there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import grpc
import grpc.aio
import httpx
import pytest
import requests
import urllib3

from resilient import Policy, circuit_breaker, priority, timeout
from resilient.integrations import asgi, wsgi
from resilient.integrations.grpc import Interceptor, aio_interceptors
from resilient.integrations.grpc_server import AsyncServerInterceptor, ServerInterceptor
from resilient.integrations.httpx import AsyncTransport, Transport
from resilient.integrations.requests import Adapter
from tests.integration.servers.test_wsgi import Answer
from tests.kit.servers.grpc_server import GrpcServer
from tests.kit.servers.http_server import HttpServer

NAME = "x-request-priority"


def new(name: str, *guards: Any) -> Policy:
    return Policy(name, *(guards or (circuit_breaker(),)))


def said(echo: Any) -> list[str]:
    """Return what the request said of its priority."""
    headers = json.loads(echo)["headers"]
    return [value for key, value in headers.items() if key.lower() == NAME]


def with_httpx(policy: Policy, url: str) -> bytes:
    with httpx.Client(transport=Transport(policy)) as client:
        return client.get(url).content


def with_a_wrapped_httpx(policy: Policy, url: str) -> bytes:
    with policy.wrap(httpx.Client()) as client:
        return client.get(url).content


def with_requests(policy: Policy, url: str) -> bytes:
    with requests.Session() as session:
        session.mount("http://", Adapter(policy))
        return session.get(url, timeout=60).content


def with_a_wrapped_requests(policy: Policy, url: str) -> bytes:
    with policy.wrap(requests.Session()) as session:
        return session.get(url, timeout=60).content


def with_a_wrapped_urllib3(policy: Policy, url: str) -> bytes:
    with urllib3.PoolManager(headers={"own": "1"}) as pool:
        data: bytes = policy.wrap(pool).request("GET", url).data
        assert json.loads(data)["headers"]["own"] == "1"
        return data


def with_an_async_httpx(policy: Policy, url: str) -> bytes:
    async def main() -> bytes:
        async with httpx.AsyncClient(transport=AsyncTransport(policy)) as client:
            return (await client.get(url)).content

    return asyncio.run(main())


def with_a_wrapped_aiohttp(policy: Policy, url: str) -> bytes:
    async def main() -> bytes:
        async with aiohttp.ClientSession() as session:
            async with await policy.wrap(session).get(url) as answer:
                return await answer.read()

    return asyncio.run(main())


CLIENTS = [
    with_httpx, with_a_wrapped_httpx, with_requests, with_a_wrapped_requests, with_a_wrapped_urllib3,
    with_an_async_httpx, with_a_wrapped_aiohttp,
]  # fmt: skip


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_carries_it(
    name: str, http_server: HttpServer, client: Callable[[Policy, str], bytes], limited: bool
) -> None:
    """Where the work says something, and not else; on worker threads too."""
    limits = [timeout(60, sync="thread")] if limited else []
    policy, url = new(name, circuit_breaker(), *limits), f"{http_server.url}/echo"
    assert said(client(policy, url)) == []
    with priority("low"):
        assert said(client(policy, url)) == ["low"]
    with priority("critical"):
        assert said(client(policy, url)) == ["critical"]


def test_what_a_request_says_itself_stands(name: str, http_server: HttpServer) -> None:
    with httpx.Client(transport=Transport(new(name))) as client, priority("low"):
        own = client.get(f"{http_server.url}/echo", headers={"X-Request-Priority": "high"})
    assert said(own.content) == ["high"]


@pytest.mark.parametrize(
    ("given", "seen"),
    [("low", "low"), ("critical", "critical"), ("URGENT", "normal"), ("", "normal"),
     (None, "normal"), ("low, high", "normal")],
)  # fmt: skip
def test_a_middleware_takes_it(given: str | None, seen: str) -> None:
    """Another word says nothing; what the body's parts are made in has it, too."""
    found: list[str] = []

    def application(environ: Any, start: Any) -> Iterator[bytes]:
        found.append(priority.now())
        start("200 OK", [("Content-Type", "text/plain")])
        yield b"a"
        found.append(priority.now())

    headers = {} if given is None else {NAME: given}
    assert Answer(wsgi.Middleware(application), headers).body == b"a"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(priority.now())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def main() -> None:
        transport = httpx.ASGITransport(app=asgi.Middleware(app))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            await client.get("/", headers=headers)

    asyncio.run(main())
    assert found == [seen, seen, seen]
    assert priority.now() == "normal"


def test_a_request_that_is_sent_again_says_what_holds_now(
    name: str, http_server: HttpServer
) -> None:
    for client in (httpx.Client(transport=Transport(new(name))), httpx.Client()):
        with client:
            guarded = (
                client
                if isinstance(client._transport, Transport)
                else new(f"{name}-w").wrap(client)
            )
            request = client.build_request("GET", f"{http_server.url}/echo")
            for level, seen in (("low", ["low"]), ("critical", ["critical"]), ("normal", [])):
                with priority(level):  # type: ignore[arg-type]
                    assert said(guarded.send(request).content) == seen


def test_the_list_of_traces_of_a_session_stays_its_users(name: str) -> None:
    async def main() -> None:
        for mine in ([], (), [aiohttp.TraceConfig()]):
            count = len(mine)
            async with aiohttp.ClientSession(trace_configs=mine) as session:  # type: ignore[arg-type]
                policy.wrap(session)
                assert len(session.trace_configs) == count + 1
            assert len(mine) == count

    policy = new(name)
    asyncio.run(main())


def test_positional_headers_of_urllib3_carry_it(name: str, http_server: HttpServer) -> None:
    with urllib3.PoolManager() as pool, priority("low"):
        wrapped = new(name).wrap(pool)
        url = f"{http_server.url}/echo"
        assert said(wrapped.request("GET", url, headers={"own": "1"}).data) == ["low"]
        host = pool.connection_from_url(url)
        assert said(host.urlopen("GET", "/echo", None, {"own": "1"}).data) == ["low"]


@pytest.mark.parametrize(
    "kind", [iter, lambda parts: map(bytes, parts), lambda parts: (each for each in parts)]
)
def test_a_body_is_made_with_it_whatever_it_is(kind: Any) -> None:
    """And what it leaves open at a step is open at the next one, and for nobody else."""
    found: list[str] = []

    class Parts:
        def __init__(self) -> None:
            self.left = 2
            self.block = priority("critical")

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> bytes:
            found.append(priority.now())
            if not self.left:
                self.block.__exit__(None, None, None)
                raise StopIteration
            if self.left == 2:
                self.block.__enter__()
            self.left -= 1
            return b"a"

    def application(environ: Any, start: Any) -> Any:
        start("200 OK", [("Content-Type", "text/plain")])
        return kind(Parts())

    assert Answer(wsgi.Middleware(application), {NAME: "low"}).body == b"aa"
    assert found == ["low", "critical", "critical"]
    assert priority.now() == "normal"


def test_a_prepared_request_that_is_sent_again_says_what_holds_now(
    name: str, http_server: HttpServer
) -> None:
    with requests.Session() as session:
        session.mount("http://", Adapter(new(name)))
        request = session.prepare_request(requests.Request("GET", f"{http_server.url}/echo"))
        for level, seen in (("low", ["low"]), ("critical", ["critical"]), ("normal", [])):
            with priority(level):  # type: ignore[arg-type]
                assert said(session.send(request, timeout=60).content) == seen


def test_flask_and_django_take_it() -> None:
    import flask
    from django.http import HttpResponse
    from django.test import RequestFactory

    from resilient.integrations import flask as ours
    from tests.integration.servers.test_django import configure

    configure()
    from resilient.integrations.django import Middleware

    app = flask.Flask("levels")
    ours.install(app)
    app.add_url_rule("/", view_func=lambda: flask.Response(iter([level()])))
    assert app.test_client().get("/", headers={NAME: "low"}).data == b"low"
    view = Middleware(lambda request: HttpResponse(level()))
    assert view(RequestFactory().get("/", headers={NAME: "low"})).content == b"low"


def test_a_middleware_that_is_told_to_takes_none() -> None:
    found: list[str] = []

    def application(environ: Any, start: Any) -> list[bytes]:
        found.append(priority.now())
        start("200 OK", [("Content-Type", "text/plain")])
        return [b"a"]

    Answer(wsgi.Middleware(application, priority_header=None), {NAME: "critical"})
    Answer(wsgi.Middleware(application, priority_header="X-Level"), {"X-Level": "critical"})
    assert found == ["normal", "critical"]
    with pytest.raises(ValueError, match="priority_header must be the name of a header, or None"):
        wsgi.Middleware(application, priority_header="a b")


# -- gRPC ---------------------------------------------


def metadata_of(answer: bytes) -> list[str]:
    return [value for key, value in json.loads(answer)["metadata"] if key == NAME]


def test_grpc_carries_it(name: str, grpc_server: GrpcServer) -> None:
    with grpc.insecure_channel(grpc_server.target) as plain:
        ask = grpc_server.method(grpc.intercept_channel(plain, Interceptor(new(name))), "Metadata")
        assert metadata_of(ask(b"")) == []
        with priority("low"):
            assert metadata_of(ask(b"", metadata=(("own", "1"),))) == ["low"]
            assert metadata_of(ask(b"", metadata=((NAME, "high"),))) == ["high"]
            once = ask(b"", metadata=iter([("own", "1")]))
            assert metadata_of(once) == ["low"]
            assert ["own", "1"] in json.loads(once)["metadata"]


def test_grpc_aio_carries_it(name: str, grpc_server: GrpcServer) -> None:
    async def main() -> None:
        interceptors = aio_interceptors(new(name))
        async with grpc.aio.insecure_channel(
            grpc_server.target, interceptors=interceptors
        ) as channel:
            ask = grpc_server.method(channel, "Metadata")
            assert metadata_of(await ask(b"")) == []
            with priority("low"):
                assert metadata_of(await ask(b"")) == ["low"]
                assert metadata_of(await ask(b"", metadata=(("own", "1"),))) == ["low"]

    asyncio.run(main())


def level(*_: Any) -> bytes:
    return priority.now().encode()


def levels(*_: Any) -> Iterator[bytes]:
    yield level()
    yield level()


async def async_level(*_: Any) -> bytes:
    return level()


async def async_levels(*_: Any) -> AsyncIterator[bytes]:
    yield level()
    await asyncio.sleep(0)
    yield level()


async def written(_: Any, context: Any) -> None:
    await context.write(level())


def handlers(unary: Any, stream: Any, writes: Any = None) -> Any:
    found = {
        "One": grpc.unary_unary_rpc_method_handler(unary),
        "Many": grpc.unary_stream_rpc_method_handler(stream),
        "Sum": grpc.stream_unary_rpc_method_handler(unary),
        "Chat": grpc.stream_stream_rpc_method_handler(stream),
    }
    if writes is not None:
        found["Writes"] = grpc.unary_stream_rpc_method_handler(writes)
    return grpc.method_handlers_generic_handler("kit.Level", found)


SAYS = ((NAME, "low"),)


def test_a_grpc_server_takes_it() -> None:
    """In all four kinds of call, at each step of a stream."""
    server = grpc.server(ThreadPoolExecutor(2), interceptors=[ServerInterceptor()])
    server.add_generic_rpc_handlers((handlers(level, levels),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            one, many = (
                channel.unary_unary("/kit.Level/One"),
                channel.unary_stream("/kit.Level/Many"),
            )
            total, chat = (
                channel.stream_unary("/kit.Level/Sum"),
                channel.stream_stream("/kit.Level/Chat"),
            )
            for says, seen in ((SAYS, b"low"), (((NAME, "odd"),), b"normal"), ((), b"normal")):
                assert one(b"", metadata=says) == seen
                assert list(many(b"", metadata=says)) == [seen, seen]
                assert total(iter([b""]), metadata=says) == seen
                assert list(chat(iter([b""]), metadata=says)) == [seen, seen]
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/kit.Level/None")(b"", metadata=SAYS)
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    finally:
        server.stop(None).wait()


def test_a_server_of_grpc_aio_takes_it() -> None:
    async def main(*served: Any) -> None:
        server = grpc.aio.server(ThreadPoolExecutor(2), interceptors=[AsyncServerInterceptor()])
        server.add_generic_rpc_handlers((handlers(*served),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                for says, seen in ((SAYS, b"low"), ((), b"normal")):
                    assert await channel.unary_unary("/kit.Level/One")(b"", metadata=says) == seen
                    many = channel.unary_stream("/kit.Level/Many")(b"", metadata=says)
                    assert [each async for each in many] == [seen, seen]
                    if len(served) > 2:
                        writes = channel.unary_stream("/kit.Level/Writes")(b"", metadata=says)
                        assert [each async for each in writes] == [seen]
                    total = channel.stream_unary("/kit.Level/Sum")(iter([b""]), metadata=says)
                    assert await total == seen
        finally:
            await server.stop(None)

    asyncio.run(main(async_level, async_levels, written))
    asyncio.run(main(level, levels))  # plain functions, which it runs on threads
