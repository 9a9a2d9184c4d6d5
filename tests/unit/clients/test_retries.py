"""A policy that asks again round a client that nobody here wrote: only what may be repeated is."""

from __future__ import annotations

import asyncio
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import boto3
import httpx
import pytest
import redis
import requests
import urllib3
from anthropic import AsyncAnthropic
from botocore.config import Config
from openai import OpenAI

from resilient import DeclarationWarning, Policy, bulkhead, retry
from resilient.knowledge.repeats import once_over_http
from tests.kit.policies import part

URL = "http://127.0.0.1:9/"  # nobody listens there
QUICK: Any = {"wait_initial": 0, "wait_max": 0}


def policy(name: str, **options: Any) -> Policy:
    return Policy(name, retry(**{"on": Exception, **QUICK, **options}), bulkhead(9))


def attempts(of: Policy, call: Callable[[], object]) -> int:
    """Return how many attempts a failing call had."""
    before = part(of, "retry")["retries"]
    with pytest.raises(Exception, match=r"."):  # whatever its library calls it
        call()
    return 1 + int(part(of, "retry")["retries"] - before)


def with_httpx(of: Policy) -> Callable[..., object]:
    return of.wrap(httpx.Client(trust_env=False)).request


def with_async_httpx(of: Policy) -> Callable[..., object]:
    def request(*args: Any, **kwargs: Any) -> None:
        async def main() -> None:
            async with httpx.AsyncClient(trust_env=False) as client:
                await of.wrap(client).request(*args, **kwargs)

        asyncio.run(main())

    return request


def with_requests(of: Policy) -> Callable[..., object]:
    session = requests.Session()
    session.trust_env = False
    return of.wrap(session).request


def with_urllib3(of: Policy) -> Callable[..., object]:
    return of.wrap(urllib3.PoolManager(retries=False)).request


def with_aiohttp(of: Policy) -> Callable[..., object]:
    def request(*args: Any, **kwargs: Any) -> None:
        async def main() -> None:
            async with aiohttp.ClientSession() as client:
                await of.wrap(client).request(*args, **kwargs)

        asyncio.run(main())

    return request


CLIENTS = [with_httpx, with_async_httpx, with_requests, with_urllib3]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("method", "times"), [("GET", 3), ("PUT", 3), ("delete", 3), ("POST", 1), ("PATCH", 1)]
)
def test_only_idempotent_methods_are_tried_again(
    name: str, client: Callable[[Policy], Callable[..., object]], method: str, times: int
) -> None:
    """Unless the retry says that all of them may be."""
    of = policy(name)
    request = client(of)
    assert attempts(of, lambda: request(method, URL)) == times
    assert part(of, "retry")["not_retried"]["unsafe"] == (times == 1)
    every = policy(f"{name}-all", idempotent=True)
    assert attempts(every, lambda: client(every)(method, URL)) == 3


def test_what_aiohttp_hands_out_is_not_made_again(name: str) -> None:
    """Its `request` gives an object to await or to enter, which is good for once."""
    of = policy(name, idempotent=True)
    assert attempts(of, lambda: with_aiohttp(of)("GET", URL)) == 1


def chunks() -> Iterator[bytes]:
    yield b"once"


def test_a_body_that_is_read_once_is_not_sent_again(name: str) -> None:
    """A generator, an open file; bytes and forms can be."""
    of = policy(name, budget=None)
    session = of.wrap(requests.Session())
    client = of.wrap(httpx.Client(trust_env=False))
    for call, times in (
        (lambda: session.put(URL, data=b"bytes"), 3),
        (lambda: session.put(URL, data={"a": "b"}), 3),
        (lambda: session.put(URL, data=io.BytesIO(b"file")), 1),
        (lambda: session.put(URL, data=chunks()), 1),
        (lambda: session.put(URL, files={"f": io.BytesIO(b"file")}), 1),
        (lambda: client.put(URL, content=b"bytes"), 3),
        (lambda: client.put(URL, json={"a": 1}), 3),
        (lambda: client.put(URL, content=chunks()), 1),
        (lambda: session.put(URL, chunks()), 1),
        (lambda: session.put(URL, io.BytesIO(b"file")), 1),
        (lambda: session.put(URL, b"bytes"), 3),
        (lambda: client.put(URL, content=Parts()), 1),
        (lambda: session.put(URL, data=Parts()), 1),
        (lambda: client.send(client.build_request("PUT", URL, content=chunks())), 1),
        (lambda: client.send(client.build_request("PUT", URL, content=b"bytes")), 3),
        (lambda: client.send(client.build_request("PUT", URL, json={"a": 1})), 3),
        (lambda: client.send(client.build_request("POST", URL)), 1),
    ):
        assert attempts(of, call) == times


class Parts:
    """A body that can be gone over, and only once."""

    def __init__(self) -> None:
        self.file = io.BytesIO(b"once")

    def __iter__(self) -> Iterator[bytes]:
        yield from self.file


def test_a_url_is_no_method(name: str) -> None:
    """The method's own name says what it is."""
    of = policy(name, budget=None)
    client = of.wrap(httpx.Client(trust_env=False, base_url=URL))
    for url in "get", "delete", "put":
        assert attempts(of, lambda: client.post(url)) == 1
        assert attempts(of, lambda: client.get(url)) == 3


def test_an_argument_that_raises_hides_no_error(name: str) -> None:
    """The caller gets what the function raised."""

    class Lazy:
        @property
        def method(self) -> str:
            raise RuntimeError("outside of a request")

    class Shop:
        def buy(self, basket: object) -> None:
            raise ConnectionError

    session = requests.Session()
    session.get = Shop().buy  # type: ignore[method-assign, assignment]
    with pytest.raises(ConnectionError):
        policy(name).wrap(session).get(Lazy())


class Fat:
    """A client of one's own house, of which nothing is known."""

    def __init__(self) -> None:
        self.calls = 0

    def charge(self) -> None:
        self.calls += 1
        raise ConnectionError

    async def acharge(self) -> None:
        self.calls += 1
        raise ConnectionError

    def later(self) -> Any:
        return self.acharge()


@pytest.mark.parametrize("idempotent", [True, False])
def test_of_a_client_that_is_not_known_nothing_is(name: str, idempotent: bool) -> None:
    """The plan and the error say so."""
    of = policy(name, idempotent=idempotent)
    fat = Fat()
    client = of.wrap(fat)
    with pytest.raises(ConnectionError) as caught:
        client.charge()
    assert fat.calls == (3 if idempotent else 1)
    if not idempotent:
        assert "nothing says that it may be repeated" in caught.value.__notes__[0]
    with pytest.raises(ConnectionError):
        asyncio.run(client.acharge())
    assert fat.calls == (6 if idempotent else 2)


@pytest.mark.parametrize("idempotent", [True, False])
def test_what_was_made_already_is_made_again(name: str, idempotent: bool) -> None:
    """Each attempt awaits a coroutine of its own."""
    fat = Fat()
    client = policy(name, idempotent=idempotent).wrap(fat)

    async def main() -> None:
        await client.later()

    with pytest.raises(ConnectionError):
        asyncio.run(main())
    assert fat.calls == (3 if idempotent else 1)


@pytest.mark.parametrize(
    ("client", "times"),
    [
        (lambda: urllib3.PoolManager(), "3 times"),
        (lambda: urllib3.PoolManager(retries=False), ""),
        (lambda: requests.Session(), ""),
        (lambda: _mounted(), "5 times"),
        (lambda: redis.Redis(port=9), " times (retry=)"),
        (lambda: boto3_client({"max_attempts": 2}), "2 times"),
        (lambda: boto3_client({"total_max_attempts": 1}), ""),
        (lambda: httpx.Client(), ""),
        (lambda: OpenAI(api_key="x"), "2 times (max_retries)"),
        (lambda: OpenAI(api_key="x", max_retries=0), ""),
        (lambda: AsyncAnthropic(api_key="x", max_retries=4), "4 times (max_retries)"),
        (lambda: Own(max_retries=3), "3 times (max_retries)"),
        (lambda: Own(max_retries=True), ""),
        (lambda: Own(max_retries="3"), ""),
        (lambda: Asked(), ""),
    ],
)
def test_a_clients_own_retries_are_warned_of(
    name: str, client: Callable[[], Any], times: str
) -> None:
    """Attempts multiply, and the policy sees only some."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        policy(name).wrap(client())
        Policy(f"{name}-alone", bulkhead(1)).wrap(client())
    told = [str(each.message) for each in caught if each.category is DeclarationWarning]
    assert len(told) == bool(times)
    assert not told or (times in told[0] and "attempts multiply" in told[0])


class Own:
    """A client that nobody knows."""

    def __init__(self, max_retries: Any) -> None:
        self.max_retries = max_retries

    def get(self) -> None:
        """Ask."""


class Asked:
    """A client that must not be asked anything before it is called."""

    __slots__ = ()

    @property
    def max_retries(self) -> int:
        raise AssertionError("asked")

    def get(self) -> None:
        """Ask."""


def _mounted() -> requests.Session:
    session = requests.Session()
    session.mount("https://", requests.adapters.HTTPAdapter(max_retries=5))
    return session


def boto3_client(retries: dict[str, int]) -> Any:
    return boto3.client(
        "s3", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b",
        config=Config(retries=retries),  # type: ignore[arg-type]
    )  # fmt: skip


class Request:
    def __init__(self, method: str, body: Any = None) -> None:
        self.method, self.body = method, body


@pytest.mark.parametrize(
    ("args", "kwargs", "why"),
    [
        ((Request("get"),), {}, ""),
        ((Request("POST"),), {}, "POST is not idempotent"),
        ((Request("PUT", chunks()),), {}, "its body can't be sent again"),
        (("GET", URL), {}, ""),
        ((URL,), {"method": "put"}, ""),
        (
            (URL,),
            {"method": "put", "fields": [("a", io.BytesIO())]},
            "its body can't be sent again",
        ),
        ((URL,), {}, "nothing says that it may be repeated (retry(idempotent=True) would)"),
        (
            ("PROPFIND", URL),
            {},
            "nothing says that it may be repeated (retry(idempotent=True) would)",
        ),
    ],
)
def test_what_http_says(args: Any, kwargs: Any, why: str) -> None:
    """By the request, the first words, or the method's own name."""

    def send() -> None: ...

    assert once_over_http(send, args, kwargs) == why
    send.__name__ = "get"
    assert once_over_http(send, (URL,), {}) == ""
