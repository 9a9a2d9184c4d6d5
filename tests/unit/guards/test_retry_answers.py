"""Answers that are failures without anybody having said so: which of them a retry asks for again."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx
import pytest
import requests
import urllib3

from resilient import Policy, retry
from resilient.knowledge.repeats import once_answered

FAST: dict[str, Any] = {"on": ConnectionRefusedError, "wait_initial": 0.001, "wait_max": 0.001}
SAID: dict[str, Any] = {"failed_result": lambda answer: answer.status_code == 503}


def of_httpx(method: str) -> httpx.Response:
    return httpx.Response(503, request=httpx.Request(method, "http://x"))


def of_requests(method: str) -> requests.Response:
    answer = requests.Response()
    answer.status_code = 503
    answer.request = requests.Request(method, "http://x").prepare()
    return answer


@pytest.mark.parametrize("answer", [of_httpx, of_requests])
@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize(
    ("method", "more", "attempts"),
    [
        ("GET", {}, 3), ("PUT", {}, 3), ("DELETE", {}, 3), ("POST", {}, 1), ("PATCH", {}, 1),
        ("POST", {"idempotent": True}, 3), ("POST", SAID, 3),
    ],
    ids=["GET", "PUT", "DELETE", "POST", "PATCH", "POST, idempotent", "POST, named"],
)  # fmt: skip
def test_a_write_is_repeated_only_if_somebody_said_so(
    answer: Any, colour: str, method: str, more: dict[str, Any], attempts: int
) -> None:
    policy = Policy("answers", retry(**FAST, **more))

    async def call() -> Any:
        return answer(method)

    if colour == "sync":
        result = policy.try_call(answer, method)
    else:
        result = asyncio.run(policy.atry_call(call))
    assert result.attempts == attempts
    assert result.value.status_code == 503
    if attempts == 1:
        assert f"{method} is not idempotent" in str(result.why_no_retry)


@pytest.mark.parametrize(("more", "attempts"), [({}, 1), ({"idempotent": True}, 3), (SAID, 3)])
def test_an_answer_that_names_no_request_may_be_one_of_a_write(
    more: dict[str, Any], attempts: int
) -> None:
    """Such as a test's double: somebody has to say that it may be repeated."""
    policy = Policy("doubles", retry(**FAST, **more))
    result = policy.try_call(lambda: httpx.Response(503))
    assert result.attempts == attempts
    assert ("names no method" in str(result.why_no_retry)) is (attempts == 1)


@pytest.fixture(scope="module")
def failing() -> Iterator[str]:
    """The URL of a real server that answers everything with 503."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(303 if self.path == "/moved" else 503)
            self.send_header("Location", "/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(("method", "attempts"), [("GET", 3), ("POST", 1)])
def test_answers_that_say_their_method_in_their_own_way(
    failing: str, method: str, attempts: int
) -> None:
    """Those of urllib3 and aiohttp, which have no request of that name."""
    policy = Policy("own-ways", retry(**FAST))
    with urllib3.PoolManager(retries=False) as pool:
        assert policy.try_call(pool.request, method, failing).attempts == attempts

    async def ask() -> Any:
        async with aiohttp.ClientSession() as session:
            return await policy.atry_call(session.request, method, failing)

    assert asyncio.run(ask()).attempts == attempts


@pytest.mark.parametrize(("method", "attempts"), [("GET", 3), ("POST", 1)])
def test_after_a_redirect_the_first_request_counts(
    failing: str, method: str, attempts: int
) -> None:
    """POST, 303, GET, 503: another attempt would send the POST again."""
    policy, url = Policy("moved", retry(**FAST)), f"{failing}/moved"
    with (
        urllib3.PoolManager() as pool,
        requests.Session() as session,
        httpx.Client(follow_redirects=True, trust_env=False) as client,
    ):
        for ask in (session.request, client.request):
            assert policy.try_call(ask, method, url).attempts == attempts
        result = policy.try_call(pool.request, method, url)  # urllib3 forgets what it asked first
        assert (result.attempts, "names no method" in str(result.why_no_retry)) == (1, True)

    async def ask_async() -> Any:
        async with aiohttp.ClientSession() as session:
            return await policy.atry_call(session.request, method, url)

    assert asyncio.run(ask_async()).attempts == attempts


@pytest.mark.parametrize("history", [None, 3, "GET", [], (3,), ({"status": 303},)])
def test_a_history_of_another_kind_says_nothing(history: Any) -> None:
    answer = of_httpx("GET")
    answer.history = history
    answer.retries = SimpleNamespace(history=history)  # type: ignore[attr-defined]
    expected = "names no method" if isinstance(history, tuple) else ""
    assert expected in once_answered(answer)
    assert bool(expected) is bool(once_answered(answer))
