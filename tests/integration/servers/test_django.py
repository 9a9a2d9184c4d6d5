"""Django with our middleware, in sync and async views."""

from __future__ import annotations

import asyncio
import functools
from typing import Any, ClassVar

import django
import pytest
from django.conf import settings
from django.http import Http404, HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from resilient import RefusedError, remaining, timeout
from tests.integration.servers.kit import ERRORS, REFUSALS, VALUES, near, new_policy, refusal

OURS = "resilient.integrations.django.Middleware"
state: dict[str, Any] = {}


def view(request: Any) -> Any:
    return answered()


async def async_view(request: Any) -> Any:
    await asyncio.sleep(0)
    return answered()


def answered() -> Any:
    state.setdefault("seen", []).append(remaining())
    if state.get("error") is not None:
        raise state["error"].with_traceback(None)
    return HttpResponse("done")


def threads(request: Any) -> Any:
    policies = [new_policy(timeout(own, sync="thread")) for own in (0.5, 9.0)]
    return JsonResponse([policy.call(remaining) for policy in policies], safe=False)


async def meets(request: Any) -> Any:
    await state["barrier"].wait()
    left = remaining()
    await state["barrier"].wait()
    return JsonResponse([left, remaining()], safe=False)


def streams(request: Any) -> Any:
    return StreamingHttpResponse(iter([b"a", b"b"]))


def handling(get_response: Any) -> Any:
    """Return a middleware of the user's own, which handles refusals itself."""

    class Handles:
        def __call__(self, request: Any) -> Any:
            return get_response(request)

        def process_exception(self, request: Any, error: Exception) -> Any:
            return HttpResponse("mine", status=418) if isinstance(error, RefusedError) else None

    return Handles()


@functools.cache
def configure() -> None:
    """Set Django up, once in a process."""

    class Urls:
        urlpatterns: ClassVar[list[Any]] = [
            path("", view), path("async", async_view), path("threads", threads), path("meets", meets),
            path("streams", streams),
        ]  # fmt: skip

    settings.configure(
        ROOT_URLCONF=Urls, MIDDLEWARE=[OURS], ALLOWED_HOSTS=["*"], SECRET_KEY="of the tests", DATABASES={},
        LOGGING_CONFIG=None,
    )  # fmt: skip
    django.setup()


@pytest.fixture(autouse=True)
def _django() -> Any:
    configure()
    state.clear()
    yield
    state.clear()


def get(where: str = "/", method: str = "get", raises: bool = True, **headers: str) -> Any:
    fields = {key.replace("_", "-"): value for key, value in headers.items()}
    return getattr(Client(raise_request_exception=raises), method)(where, headers=fields)


def aget(where: str = "/async", raises: bool = True, **headers: str) -> Any:
    fields = {key.replace("_", "-"): value for key, value in headers.items()}
    return asyncio.run(AsyncClient(raise_request_exception=raises).get(where, headers=fields))


@pytest.mark.parametrize(("value", "left"), VALUES)
@pytest.mark.parametrize("ask", [get, aget])
def test_the_header_is_the_time_that_is_left(ask: Any, value: str, left: float | None) -> None:
    assert ask(x_request_timeout=value).content == b"done"
    ask()
    assert near(state["seen"][0], left)
    assert state["seen"][1] is None
    assert remaining() is None


@pytest.mark.parametrize("where", ["/", "/async"])
@pytest.mark.parametrize("ask", [get, aget])
def test_each_kind_of_view_under_each_kind_of_server(ask: Any, where: str) -> None:
    assert ask(where, x_request_timeout="2").content == b"done"
    assert near(state["seen"][0], 2.0)
    state["error"] = refusal(3)
    answer = ask(where)
    assert (answer.status_code, answer["Retry-After"]) == (503, "3")


def test_options() -> None:
    with override_settings(RESILIENT_HEADER="X-Mine", RESILIENT_AT_MOST=2):
        get(x_mine="1")
        get(x_request_timeout="1")
    with override_settings(RESILIENT_HEADER=None):
        get(x_request_timeout="1")
    assert near(state["seen"][0], 1.0)
    assert near(state["seen"][1], 2.0)
    assert state["seen"][2] is None
    for bad in ({"RESILIENT_HEADER": 5}, {"RESILIENT_HEADER": ""}, {"RESILIENT_AT_MOST": -1}):
        with override_settings(**bad), pytest.raises((TypeError, ValueError)):
            get()


@pytest.mark.parametrize(("wait", "told"), REFUSALS)
@pytest.mark.parametrize("ask", [get, aget])
def test_a_refusal_is_503(ask: Any, wait: float | None, told: str) -> None:
    state["error"] = refusal(wait)
    answer = ask()
    assert (answer.status_code, answer["Retry-After"]) == (503, told)
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.content.startswith(b"stock is not")


@pytest.mark.parametrize("ask", [get, aget])
def test_errors(ask: Any) -> None:
    state["error"] = ERRORS["late"]
    assert ask().status_code == 504
    state["error"] = Http404("mine")
    assert ask().status_code == 404
    state["error"] = ERRORS["other"]
    assert ask(raises=False).status_code == 500
    with pytest.raises(LookupError) as raised:
        ask()
    assert raised.value is ERRORS["other"]
    assert remaining() is None


def test_head_and_post() -> None:
    state["error"] = refusal(3)
    for method in ("head", "post"):
        answer = get(method=method)
        assert (answer.status_code, answer["Retry-After"]) == (503, "3")
    assert get(method="head").content == b""


def test_the_users_own_handler_goes_first() -> None:
    state["error"] = refusal(3)
    with override_settings(MIDDLEWARE=[OURS, f"{__name__}.handling"]):
        assert get().status_code == 418
    state["error"] = ERRORS["late"]
    with override_settings(MIDDLEWARE=[OURS, f"{__name__}.handling"]):
        assert get().status_code == 504


def test_the_tighter_wins_in_a_worker_thread() -> None:
    said = get("/threads", x_request_timeout="2").json()
    assert near(said[0], 0.5)
    assert near(said[1], 2.0)


def test_two_requests_at_once_have_their_own() -> None:
    async def main() -> None:
        state["barrier"] = asyncio.Barrier(2)
        answers = await asyncio.gather(*(
            AsyncClient().get("/meets", headers={"x-request-timeout": value}) for value in ("3", "30")
        ))  # fmt: skip
        one, other = (each.json() for each in answers)
        assert all(near(left, 3.0) for left in one)
        assert all(near(left, 30.0) for left in other)
        assert remaining() is None

    asyncio.run(main())


def test_streams_pass() -> None:
    assert b"".join(get("/streams", x_request_timeout="2").streaming_content) == b"ab"
