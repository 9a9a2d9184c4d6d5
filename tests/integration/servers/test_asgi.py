"""The ASGI middleware under raw applications, Starlette and FastAPI."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import fastapi
import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from resilient import (
    CallTimeoutError,
    RefusedError,
    bulkhead,
    check,
    circuit_breaker,
    fallback,
    remaining,
    timeout,
)
from resilient.integrations.asgi import Middleware
from tests.integration.servers.kit import (
    ERRORS,
    REFUSALS,
    VALUES,
    drive,
    get,
    near,
    new_policy,
    refusal,
    scope_of,
    status_of,
)


class App:
    """An application that notes what is left, and then does as it was told."""

    def __init__(self, error: Exception | None = None, begin: bool = False) -> None:
        self.seen: list[float | None] = []
        self.error = error
        self.begin = begin
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        self.seen.append(remaining())
        if self.begin:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        if self.error is not None:
            raise self.error.with_traceback(None)
        if not self.begin:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


def served(routes: list[Route], **options: Any) -> Starlette:
    """Return a Starlette application with the middleware."""
    app = Starlette(routes=routes)
    app.add_middleware(Middleware, **options)
    return app


async def ask(
    app: Any, method: str = "GET", path: str = "/", raises: bool = True, **headers: str
) -> Any:
    """Send a request to an application."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=raises)
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
        fields = {key.replace("_", "-"): value for key, value in headers.items()}
        return await client.request(method, path, headers=fields)


# -- the header ---------------------------------------------


@pytest.mark.parametrize(("value", "left"), VALUES)
def test_the_header_is_the_time_that_is_left(value: str, left: float | None) -> None:
    app = App()
    get(Middleware(app), {"X-Request-Timeout": value})
    assert near(app.seen[0], left)


@pytest.mark.parametrize(("value", "left"), VALUES)
def test_it_is_believed_at_most_so_far(value: str, left: float | None) -> None:
    app = App()
    get(Middleware(app, at_most=1.0), {"x-request-timeout": value})
    assert near(app.seen[0], 1.0 if left is None else min(left, 1.0))


def test_a_huge_header_breaks_nothing_that_waits() -> None:
    policy = new_policy(timeout(1.0, sync="thread"))
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(await run_in_threadpool(policy.call, lambda: remaining()))
        left = remaining()
        # What everybody does with what is left: bound a wait with it.
        lock = threading.Lock()
        assert lock.acquire(timeout=-1 if left is None else left)

    get(Middleware(app), {"x-request-timeout": "1e300"})
    assert near(seen[0], 1.0)


def test_without_a_header_there_is_no_limit() -> None:
    app = App()
    get(Middleware(app))
    get(Middleware(app, at_most=2))
    assert app.seen[0] is None
    assert near(app.seen[1], 2.0)


def test_another_header_or_none() -> None:
    app = App()
    both = {"x-request-timeout": "1", "X-Mine": "2"}
    get(Middleware(app, header="X-MINE"), both)
    get(Middleware(app, header=None), both)
    get(Middleware(app, header=None, at_most=3), both)
    assert near(app.seen[0], 2.0)
    assert app.seen[1] is None
    assert near(app.seen[2], 3.0)


def test_of_two_headers_the_first_counts_and_bytes_are_no_error() -> None:
    app = App()
    name = b"x-request-timeout"
    get(Middleware(app), [(name, b"1"), (name, b"9")])
    get(Middleware(app), [(b"X-Request-Timeout", b"\xff\xfe")])
    get(Middleware(app), [])
    assert near(app.seen[0], 1.0)
    assert app.seen[1:] == [None, None]


@pytest.mark.parametrize("option", [
    {"header": ""}, {"header": 5}, {"header": "x-\u00e9"}, {"header": "x" * 1000}, {"header": b"x"},
    {"at_most": 0}, {"at_most": -1}, {"at_most": "1"}, {"at_most": float("nan")}, {"at_most": True},
    {"at_most": float("inf")}, {"header": "a b"}, {"header": "a\r\nb"}, {"header": "a:b"},
])  # fmt: skip
def test_bad_options(option: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(option))):
        Middleware(App(), **option)


# -- where it reaches ---------------------------------------------


def test_a_worker_thread_sees_it() -> None:
    async def view(request: Any) -> Any:
        policy = new_policy(timeout(50.0, sync="thread"))
        inner = await run_in_threadpool(remaining), await run_in_threadpool(policy.call, remaining)
        assert near(inner[0], 2.0)
        assert near(inner[1], 2.0)
        return PlainTextResponse("seen")

    assert asyncio.run(ask(served([Route("/", view)]), x_request_timeout="2")).text == "seen"


def test_a_sync_view_sees_it() -> None:
    def view(request: Any) -> Any:
        return PlainTextResponse(str(remaining()))

    said = asyncio.run(ask(served([Route("/", view)]), x_request_timeout="2")).text
    assert near(float(said), 2.0)


@pytest.mark.parametrize(("own", "header", "wanted"), [(0.5, "9", 0.5), (9.0, "0.5", 0.5)])
@pytest.mark.parametrize("sync", ["thread", "cooperative"])
def test_the_tighter_wins(own: float, header: str, wanted: float, sync: Any) -> None:
    policy = new_policy(timeout(own, sync=sync))

    async def asked() -> float | None:
        return remaining()

    async def view(request: Any) -> Any:
        assert near(policy.call(remaining), wanted)
        assert near(await policy.acall(asked), wanted)
        return PlainTextResponse("seen")

    assert asyncio.run(ask(served([Route("/", view)]), x_request_timeout=header)).text == "seen"


@pytest.mark.parametrize("sync", ["thread", "cooperative"])
def test_its_end_ends_a_call_and_is_504(sync: Any) -> None:
    policy = new_policy(timeout(900.0, sync=sync))

    def slow() -> None:
        while True:
            check()
            time.sleep(0.01)

    async def view(request: Any) -> Any:
        await run_in_threadpool(policy.call, slow)

    began = time.monotonic()
    answer = asyncio.run(ask(served([Route("/", view)]), x_request_timeout="0.2"))
    assert answer.status_code == 504
    assert time.monotonic() - began > 0.15


def test_its_end_cancels_an_async_call() -> None:
    policy = new_policy(timeout(900.0))

    async def view(request: Any) -> Any:
        await policy.acall(asyncio.sleep, 900)

    answer = asyncio.run(ask(served([Route("/", view)]), x_request_timeout="0.1"))
    assert answer.status_code == 504


def test_no_time_at_all_lets_nothing_run() -> None:
    ran: list[int] = []

    async def view(request: Any) -> Any:
        return await run_in_threadpool(new_policy(timeout(9.0, sync="thread")).call, ran.append, 1)

    assert asyncio.run(ask(served([Route("/", view)]), x_request_timeout="0")).status_code == 504
    assert ran == []


def test_two_requests_at_once_have_their_own() -> None:
    async def main() -> None:
        meeting, seen = asyncio.Barrier(2), {}

        async def view(request: Any) -> Any:
            await meeting.wait()
            name = request.headers["x-name"]
            seen[name] = remaining(), await run_in_threadpool(remaining)
            await meeting.wait()
            seen[name] += (remaining(),)
            return PlainTextResponse("")

        app = served([Route("/", view)])
        await asyncio.gather(
            ask(app, x_name="one", x_request_timeout="3"), ask(app, x_name="other", x_request_timeout="30"),
        )  # fmt: skip
        assert all(near(left, 3.0) for left in seen["one"])
        assert all(near(left, 30.0) for left in seen["other"])

    asyncio.run(main())


# -- where it does not reach ---------------------------------------------


@pytest.mark.parametrize("error", [None, *ERRORS.values()])
def test_nothing_is_left_behind(error: Exception | None) -> None:
    async def main() -> None:
        app = App(error)
        guarded = Middleware(app)
        for value, wanted in (("2", 2.0), (None, None), ("3", 3.0)):
            headers = {} if value is None else {"x-request-timeout": value}
            try:
                await drive(guarded, scope_of(headers))
            except (LookupError, TimeoutError):
                pass
            assert remaining() is None
            assert near(app.seen[-1], wanted)

    asyncio.run(main())


def test_a_task_that_outlives_its_request_is_not_bound() -> None:
    async def main() -> None:
        seen: list[Any] = []
        go = asyncio.Event()

        async def later() -> None:
            seen.append(remaining())
            await go.wait()
            seen.append(remaining())
            seen.append(await new_policy(timeout(5.0)).acall(asyncio.sleep, 0, "ran"))

        tasks = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            tasks.append(asyncio.create_task(later()))
            await asyncio.sleep(0)

        await drive(Middleware(app), scope_of({"x-request-timeout": "0.05"}))
        await asyncio.sleep(0.06)
        go.set()
        await tasks[0]
        assert near(seen[0], 0.05)
        assert seen[1:] == [None, "ran"]

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_background_task_is_not_bound_by_the_request_that_was_answered(kind: str) -> None:
    seen: list[Any] = []

    async def later() -> None:
        seen.append(remaining())

    def later_in_a_thread() -> None:
        seen.append(remaining())

    def view(request: Any) -> Any:
        return PlainTextResponse(
            "", background=BackgroundTask(later if kind == "async" else later_in_a_thread)
        )

    asyncio.run(ask(served([Route("/", view)]), x_request_timeout="2"))
    assert seen == [None]


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_other_scopes_pass_as_they_are(kind: str) -> None:
    app, error = App(), App(refusal(None))
    scope = scope_of({"x-request-timeout": "1"}, kind=kind)
    asyncio.run(drive(Middleware(app, at_most=1), scope))
    assert app.scopes[0] is scope
    assert app.seen == [None]
    with pytest.raises(RefusedError):
        asyncio.run(drive(Middleware(error), scope))


def test_the_scope_and_messages_are_not_touched() -> None:
    app = App()
    scope = scope_of({"x-request-timeout": "1"})
    before = dict(scope)
    sent = asyncio.run(drive(Middleware(app), scope))
    assert app.scopes[0] is scope
    assert scope == before
    assert sent == [
        {"type": "http.response.start", "status": 200, "headers": []},
        {"type": "http.response.body", "body": b"done"},
    ]


# -- errors ---------------------------------------------


@pytest.mark.parametrize(("wait", "told"), REFUSALS)
def test_a_refusal_is_503(wait: float | None, told: str) -> None:
    status, headers, body = status_of(get(Middleware(App(refusal(wait)))))
    assert status == 503
    assert headers["retry-after"] == told
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert int(headers["content-length"]) == len(body)
    assert b"stock" in body


def test_a_timeout_is_504_without_retry_after() -> None:
    status, headers, body = status_of(get(Middleware(App(ERRORS["late"]))))
    assert status == 504
    assert "retry-after" not in headers
    assert b"stock" in body
    assert b"late" not in body


@pytest.mark.parametrize("name", ["other", "timeout"])
def test_other_errors_are_raised_as_they_are(name: str) -> None:
    app = App(ERRORS[name])
    with pytest.raises(type(app.error)) as raised:
        get(Middleware(app), {"x-request-timeout": "1"})
    assert raised.value is app.error
    assert raised.value.__context__ is None


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_after_the_response_has_begun_is_raised(name: str) -> None:
    app = App(ERRORS[name], begin=True)
    sent: list[Any] = []

    async def main() -> None:
        async def send(message: Any) -> None:
            sent.append(message)

        await Middleware(app)(scope_of(), None, send)  # type: ignore[arg-type]

    with pytest.raises(type(app.error)) as raised:
        asyncio.run(main())
    assert raised.value is app.error
    assert len(sent) == 1


def test_a_response_whose_start_could_not_be_sent_counts_as_begun() -> None:
    async def main() -> None:
        async def send(message: Any) -> None:
            raise OSError("the client has left")

        with pytest.raises(OSError, match="has left"):
            await Middleware(App())(scope_of(), None, send)  # type: ignore[arg-type]
        with pytest.raises(OSError, match="has left"):
            await Middleware(App(refusal(1)))(scope_of(), None, send)  # type: ignore[arg-type]
        assert remaining() is None

    asyncio.run(main())


def test_cancellation_goes_through() -> None:
    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(9)

        task = asyncio.create_task(drive(Middleware(app), scope_of({"x-request-timeout": "5"})))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_methods(method: str) -> None:
    def view(request: Any) -> Any:
        raise refusal(3)

    answer = asyncio.run(ask(served([Route("/", view, methods=[method])]), method))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "3"


def test_a_head_request_is_answered_without_a_body() -> None:
    sent = get(Middleware(App(refusal(3))), method="HEAD")
    status, headers, body = status_of(sent)
    assert (status, headers["retry-after"], body) == (503, "3", b"")


# -- Starlette and FastAPI ---------------------------------------------


def test_the_users_own_handler_goes_first() -> None:
    def view(request: Any) -> Any:
        raise refusal(3)

    def handled(request: Any, error: Exception) -> Any:
        return PlainTextResponse("handled", 418)

    app = Starlette(routes=[Route("/", view)], exception_handlers={RefusedError: handled})
    app.add_middleware(Middleware)
    answer = asyncio.run(ask(app))
    assert (answer.status_code, answer.text) == (418, "handled")


def test_a_real_refusal_of_starlette() -> None:
    policy = new_policy(
        circuit_breaker(failure_threshold=1, failure_rate=None, recovery_timeout=30.0)
    )

    @policy
    def fails() -> None:
        raise ConnectionError("down")

    def view(request: Any) -> Any:
        fails()

    async def main() -> None:
        app = served([Route("/", view)])
        assert (await ask(app, raises=False)).status_code == 500
        answer = await ask(app)
        assert answer.status_code == 503
        assert 20 <= int(answer.headers["retry-after"]) <= 30
        assert policy.name in answer.text

    asyncio.run(main())


def test_a_stream_keeps_the_deadline_and_its_error_is_raised() -> None:
    async def parts(error: Exception | None) -> Any:
        for _ in range(2):
            yield f"{remaining()} "
        if error is not None:
            raise error

    def view(request: Any) -> Any:
        return StreamingResponse(parts(None))

    def broken(request: Any) -> Any:
        return StreamingResponse(parts(refusal(1)))

    async def main() -> None:
        app = served([Route("/", view), Route("/broken", broken)])
        said = (await ask(app, x_request_timeout="2")).text.split()
        assert all(near(float(each), 2.0) for each in said)
        with pytest.raises(RefusedError):
            await ask(app, path="/broken")

    asyncio.run(main())


def test_fastapi_has_it_in_dependencies_and_views() -> None:
    app = fastapi.FastAPI()
    app.add_middleware(Middleware, at_most=5)
    after: list[Any] = []

    def plain() -> Any:
        return remaining()

    async def waits() -> Any:
        return remaining()

    def yields() -> Any:
        yield remaining()

    @app.get("/")
    def view(
        background: fastapi.BackgroundTasks,
        one: Any = fastapi.Depends(plain), two: Any = fastapi.Depends(waits), three: Any = fastapi.Depends(yields),
    ) -> Any:  # fmt: skip
        background.add_task(lambda: after.append(remaining()))
        return [one, two, three, remaining()]

    @app.get("/refused")
    def refused(one: Any = fastapi.Depends(plain)) -> Any:
        raise refusal(7)

    def refuses() -> Any:
        raise refusal(8)

    @app.get("/dependency")
    def dependent(one: Any = fastapi.Depends(refuses)) -> Any:
        return 1

    @app.get("/own")
    def own() -> Any:
        raise fastapi.HTTPException(409, "mine")

    async def main() -> None:
        said = (await ask(app, x_request_timeout="2")).json()
        assert all(near(left, 2.0) for left in said)
        assert len(said) == 4
        refused = await ask(app, path="/refused")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "7")
        refused = await ask(app, path="/dependency")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "8")
        assert (await ask(app, path="/own")).json() == {"detail": "mine"}
        assert (await ask(app, path="/nowhere")).status_code == 404

    asyncio.run(main())
    assert after == [None]


def test_two_of_them() -> None:
    app = App()
    get(Middleware(Middleware(app, at_most=9), at_most=1), {"x-request-timeout": "5"})
    assert near(app.seen[0], 1.0)


def test_an_async_policy_under_it_under_load() -> None:
    policy = new_policy(fallback(value="instead"), bulkhead(2), timeout(0.05))

    async def view(request: Any) -> Any:
        return PlainTextResponse(await policy.acall(asyncio.sleep, 0.001, "done"))

    async def main() -> None:
        app = served([Route("/", view)])
        said = await asyncio.gather(*(ask(app, x_request_timeout="5") for _ in range(20)))
        assert {each.text for each in said} <= {"done", "instead"}
        assert policy.snapshot()["in_flight"] == 0
        assert remaining() is None

    asyncio.run(main())


def test_a_timeout_is_named_by_who_ran_out() -> None:
    async def view(request: Any) -> Any:
        try:
            await new_policy(timeout(9.0)).acall(asyncio.sleep, 9)
        except CallTimeoutError as error:
            return PlainTextResponse(error.policy)

    assert asyncio.run(ask(served([Route("/", view)]), x_request_timeout="0.05")).text == "request"
