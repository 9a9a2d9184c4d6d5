"""A request with too little time is not begun: 504 at once, in every framework."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from flask import Flask

from resilient import remaining
from resilient.integrations import asgi, flask, wsgi
from resilient.integrations.django import Middleware
from tests.integration.servers.kit import drive, scope_of
from tests.integration.servers.test_django import configure
from tests.integration.servers.test_wsgi import PLAIN, Answer

# Time that the header gives, at_most, and whether the request is begun with at_least=0.05.
CASES: list[tuple[str | None, float | None, bool]] = [
    ("0.005", None, False), ("0", None, False), ("0.049", 10.0, False), ("0.05", None, True),
    ("2", 10.0, True), ("2", 0.05, True), (None, None, True), (None, 10.0, True),
    ("nonsense", None, True), ("-1", None, True),
]  # fmt: skip

cases = pytest.mark.parametrize(("asked", "at_most", "begun"), CASES)


def headers(asked: str | None) -> dict[str, str]:
    return {} if asked is None else {"x-request-timeout": asked}


@cases
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_wsgi(asked: str | None, at_most: float | None, begun: bool, method: str) -> None:
    seen: list[Any] = []

    def app(environ: Any, start: Any) -> list[bytes]:
        seen.append(remaining())
        start("200 OK", PLAIN)
        return [b""]

    guarded = wsgi.Middleware(app, at_most=at_most, at_least=0.05)
    answer = Answer(guarded, headers(asked), method)
    assert (len(seen), answer.status[:3]) == ((1, "200") if begun else (0, "504"))
    if not begun:
        assert answer.body == (b"" if method == "HEAD" else b"the time limit is too short\n")


@cases
def test_asgi(asked: str | None, at_most: float | None, begun: bool) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(remaining())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    guarded = asgi.Middleware(app, at_most=at_most, at_least=0.05)
    sent = asyncio.run(drive(guarded, scope_of(headers(asked))))
    assert (len(seen), sent[0]["status"]) == ((1, 200) if begun else (0, 504))
    asyncio.run(drive(guarded, scope_of(headers("0"), method="HEAD")))
    assert len(seen) == begun


@cases
def test_flask(asked: str | None, at_most: float | None, begun: bool) -> None:
    seen: list[Any] = []
    app = Flask(__name__)
    app.add_url_rule("/", view_func=lambda: seen.append(remaining()) or "done")
    flask.install(app, at_most=at_most, at_least=0.05)
    answer = app.test_client().get("/", headers=headers(asked))
    assert (len(seen), answer.status_code) == ((1, 200) if begun else (0, 504))


@cases
@pytest.mark.parametrize("is_async", [False, True])
def test_django(asked: str | None, at_most: float | None, begun: bool, is_async: bool) -> None:
    seen: list[Any] = []

    def view(request: Any) -> HttpResponse:
        seen.append(remaining())
        return HttpResponse("done")

    async def a_view(request: Any) -> HttpResponse:
        return view(request)

    configure()
    request = RequestFactory(headers=headers(asked)).get("/")
    with override_settings(RESILIENT_AT_MOST=at_most, RESILIENT_AT_LEAST=0.05):
        answer = Middleware(a_view if is_async else view)(request)
    answer = asyncio.run(wait_for(answer)) if is_async else answer
    assert (len(seen), answer.status_code) == ((1, 200) if begun else (0, 504))


async def wait_for(answer: Any) -> Any:
    return await answer


@pytest.mark.parametrize("kind", [wsgi.Middleware, asgi.Middleware])
@pytest.mark.parametrize("wrong", [-1, "soon", None, float("nan"), True])
def test_a_wrong_value_is_named(kind: Any, wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="at_least must be"):
        kind(lambda *_: [], at_least=wrong)
    with pytest.raises(ValueError, match="at_least must be at most at_most, which is 1; got 2"):
        kind(lambda *_: [], at_least=2, at_most=1)
