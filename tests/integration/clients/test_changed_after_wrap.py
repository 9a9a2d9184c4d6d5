"""What is put on a client after it was wrapped, and what is of a class of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest
import requests
from requests.adapters import BaseAdapter, HTTPAdapter

from resilient import CallTimeoutError, Policy, bulkhead
from resilient.integrations import httpx as for_httpx
from resilient.integrations import httpx2 as for_httpx2
from tests.integration.clients.kit import make_policy
from tests.kit.servers.http_server import HttpServer
from tests.kit.servers.process import HOST

OWN = 20.0  # seconds, of the clients: whoever waits so long is not bounded


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of what takes connections, and answers none."""
    with socket.create_server((HOST, 0)) as server:
        yield f"http://{HOST}:{server.getsockname()[1]}/"


class Mine(HTTPAdapter):
    """An adapter of another class."""


class Defaults(HTTPAdapter):
    """One with a `send` of its own, as people write it to have a default time limit."""

    seen: Any = None

    def send(self, request: Any, **kwargs: Any) -> Any:
        type(self).seen = kwargs["timeout"]
        kwargs["timeout"] = kwargs["timeout"] or OWN
        return super().send(request, **kwargs)


def plain(session: Any) -> None:
    """Leave a session as it is."""


def mounts(session: Any) -> None:
    session.mount("http://", HTTPAdapter(max_retries=3))


def puts_in_the_dict(session: Any) -> None:
    session.adapters["http://"] = Mine()


def of_a_subclass(session: Any) -> None:
    session.mount("http://", Mine())


def with_its_own_send(session: Any) -> None:
    session.mount("http://", Defaults())


LATER = [plain, mounts, puts_in_the_dict, of_a_subclass, with_its_own_send]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("change", LATER)
def test_an_adapter_of_any_time_and_class_is_bounded(
    silent: str, change: Callable[[Any], None], when: str
) -> None:
    policy, bare = make_policy("cooperative", limit=0.2, failures=100), requests.Session()
    bare.trust_env = False
    if when == "before":
        change(bare)
    session = policy.wrap(bare)
    if when == "after":
        change(session)
    with pytest.raises(CallTimeoutError):
        session.get(silent, timeout=OWN)


def test_what_an_adapter_is_given_is_what_the_caller_gave(http_server: HttpServer) -> None:
    session = make_policy("cooperative", limit=5.0).wrap(requests.Session())
    session.mount("http://", Defaults())
    assert session.get(f"{http_server.url}/json").json() == {"ok": True}
    assert Defaults.seen is None  # and not what is left of five seconds
    session.get(f"{http_server.url}/json", timeout=(3, 4))
    assert Defaults.seen == (3, 4)


def test_its_own_shorter_limit_stays_its_own(silent: str) -> None:
    class Short(HTTPAdapter):
        def send(self, request: Any, **kwargs: Any) -> Any:
            return super().send(request, **{**kwargs, "timeout": 0.1})

    session = make_policy("cooperative", limit=OWN).wrap(requests.Session())
    session.mount("http://", Short())
    with pytest.raises(requests.ReadTimeout):
        session.get(silent)


class Sleepy(BaseAdapter):
    """An adapter that sends nothing by urllib3, and goes by no time limit."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.seen: Any = None

    def send(self, request: Any, stream: bool = False, timeout: Any = None, **_: Any) -> Any:
        self.seen = timeout
        threading.Event().wait(self.seconds)
        response = requests.Response()
        response.status_code, response.raw = 200, None
        response._content = b"late"
        return response

    def close(self) -> None: ...


def test_an_adapter_that_goes_on_is_warned_of_once() -> None:
    policy = make_policy("cooperative", limit=0.1, failures=100)
    session = policy.wrap(requests.Session())
    sleepy = Sleepy(0.8)
    session.mount("odd://", sleepy)
    with pytest.warns(RuntimeWarning, match=r"Sleepy went on for 0\.\d s after the limit"):
        assert session.get("odd://x").text == "late"
    assert 0 < sleepy.seen <= 0.1  # it was told what is left
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.get("odd://x")
        other = make_policy("thread", limit=0.1, failures=10).wrap(requests.Session())
        other.mount("odd://", Sleepy(0.8))
        with pytest.raises(CallTimeoutError):  # here the limit holds all the same
            other.get("odd://x")


def test_who_has_no_deadline_notices_nothing() -> None:
    session = Policy("later-unbounded", bulkhead(5)).wrap(requests.Session())
    sleepy = Sleepy(0)
    session.mount("odd://", sleepy)
    assert session.get("odd://x", timeout=3).text == "late"
    assert sleepy.seen == 3


# httpx ---------------------------------

LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2])


@LIBRARIES
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_transport_of_any_time_and_class_is_bounded(silent: str, library: Any, when: str) -> None:
    class Mine(library.HTTPTransport):  # type: ignore[misc]
        """A transport of another class."""

    class Outside(library.BaseTransport):  # type: ignore[misc]
        """One that sends by another."""

        def __init__(self) -> None:
            self.inner = library.HTTPTransport()

        def handle_request(self, request: Any) -> Any:
            return self.inner.handle_request(request)

    for kind in (library.HTTPTransport, Mine, Outside):
        for put in (by_attribute, by_mount):
            policy = make_policy("cooperative", limit=0.2, failures=100)
            bare = library.Client(timeout=OWN, trust_env=False)
            client = bare if when == "before" else policy.wrap(bare)
            put(library, client, kind())
            client = policy.wrap(bare) if when == "before" else client
            with pytest.raises(CallTimeoutError):
                client.get(silent)


def by_attribute(library: Any, client: Any, transport: Any) -> None:
    client._transport = transport


def by_mount(library: Any, client: Any, transport: Any) -> None:
    from importlib import import_module

    pattern = import_module(f"{library.__name__}._utils").URLPattern
    client._mounts = {pattern("http://"): transport}


@LIBRARIES
def test_an_async_body_ends_with_the_deadline_by_a_transport_put_later(
    http_server: HttpServer, library: Any
) -> None:
    async def main() -> None:
        policy = make_policy(None, limit=0.3, failures=100)
        async with library.AsyncClient(timeout=OWN, trust_env=False) as bare:
            client = policy.wrap(bare)
            client._transport = library.AsyncHTTPTransport()
            with pytest.raises(library.TransportError) as raised:
                async with client.stream(
                    "GET", f"{http_server.url}/chunked?n=3&pause=60"
                ) as response:
                    async for _ in response.aiter_raw():
                        pass
            assert isinstance(raised.value, CallTimeoutError)

    asyncio.run(main())


@LIBRARIES
def test_a_transport_that_goes_on_is_warned_of_once(library: Any) -> None:
    class Sleepy(library.BaseTransport):  # type: ignore[misc]
        def handle_request(self, request: Any) -> Any:
            threading.Event().wait(0.8)
            return library.Response(200, text="late")

    client = make_policy("cooperative", limit=0.1, failures=100).wrap(library.Client())
    client._transport = Sleepy()
    with pytest.warns(RuntimeWarning, match="Sleepy went on"):
        assert client.get("http://shop.example/").text == "late"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert client.get("http://shop.example/").text == "late"


# Entering, leaving and closing a transport's inner one ---------------------------------


def told(library: Any, seen: list[str]) -> Any:
    """Return a transport that says what is done with it."""

    class Told(library.BaseTransport):  # type: ignore[misc]
        def handle_request(self, request: Any) -> Any:
            seen.append("sent")
            return library.Response(200)

        def __enter__(self) -> Any:
            seen.append("entered")
            return self

        def __exit__(self, *exc: object) -> None:
            seen.append(f"left {exc[0] and exc[0].__name__}")

        def close(self) -> None:
            seen.append("closed")

    return Told()


def async_told(library: Any, seen: list[str]) -> Any:
    class Told(library.AsyncBaseTransport):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:
            seen.append("sent")
            return library.Response(200)

        async def __aenter__(self) -> Any:
            seen.append("entered")
            return self

        async def __aexit__(self, *exc: object) -> None:
            seen.append(f"left {exc[0] and exc[0].__name__}")

        async def aclose(self) -> None:
            seen.append("closed")

    return Told()


@LIBRARIES
def test_the_inner_transport_is_entered_left_and_closed_as_the_bare_one_is(library: Any) -> None:
    ours = for_httpx if library is httpx else for_httpx2
    policy = Policy(f"later-{library.__name__}", bulkhead(5))
    seen: list[str] = []
    guarded = ours.Transport(policy, told(library, seen))
    with library.Client(transport=guarded) as client:
        client.get("http://x/")
    assert seen == ["entered", "sent", "left None"]
    guarded.close()
    assert seen == ["entered", "sent", "left None"]  # it has left already

    seen.clear()
    guarded = ours.Transport(policy, told(library, seen))
    with pytest.raises(LookupError), library.Client(transport=guarded):
        raise LookupError
    assert seen == ["entered", "left LookupError"]

    seen.clear()
    guarded = ours.Transport(policy, told(library, seen))
    client = library.Client(mounts={"http://": guarded})
    client.get("http://x/")
    client.close()
    guarded.close()
    assert seen == ["sent", "closed"]
    guarded.handle_request(library.Request("GET", "http://x/"))  # opens it anew
    guarded.close()
    assert seen == ["sent", "closed", "sent", "closed"]


@LIBRARIES
def test_the_inner_async_transport_too(library: Any) -> None:
    ours = for_httpx if library is httpx else for_httpx2
    policy = Policy(f"later-async-{library.__name__}", bulkhead(5))
    seen: list[str] = []

    async def main() -> None:
        guarded = ours.AsyncTransport(policy, async_told(library, seen))
        async with library.AsyncClient(transport=guarded) as client:
            await client.get("http://x/")
        await guarded.aclose()
        client = library.AsyncClient(
            transport=ours.AsyncTransport(policy, async_told(library, seen))
        )
        await client.aclose()

    asyncio.run(main())
    assert seen == ["entered", "sent", "left None", "closed"]
