"""What is bound in a middleware is seen in worker threads and fallbacks: contextvars, structlog."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import Any

import pytest
import structlog
from starlette.concurrency import run_in_threadpool

from resilient import bulkhead, circuit_breaker, fallback, remaining, timeout
from resilient.integrations.asgi import Middleware as AsgiMiddleware
from resilient.integrations.wsgi import Middleware as WsgiMiddleware
from tests.integration.servers.kit import drive, new_policy, scope_of
from tests.integration.servers.test_wsgi import PLAIN, Answer

trace: ContextVar[str] = ContextVar("trace", default="none")


def told(*_: Any) -> tuple[Any, ...]:
    """Return what the code that runs now sees."""
    logged = structlog.contextvars.merge_contextvars(None, "info", {"event": "told"})
    return (
        trace.get(),
        logged.get("request"),
        remaining() is not None,
        threading.current_thread().name,
    )


def fails(*_: Any) -> None:
    raise ConnectionError("down")


def bind(name: str) -> None:
    trace.set(name)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request=name)


class Work:
    """The policies that a view calls, and what each part of them saw."""

    def __init__(self) -> None:
        self.threaded = new_policy(circuit_breaker(), bulkhead(4), timeout(5.0, sync="thread"))
        self.answers = new_policy(fallback(told), timeout(5.0, sync="thread"))
        self.inner = new_policy(timeout(5.0, sync="thread"))
        breaker = circuit_breaker(failure_threshold=1, failure_rate=None, recovery_timeout=60.0)
        self.refuses = new_policy(fallback(told), breaker)
        self.refuses.call(fails)

    def seen(self) -> dict[str, Any]:
        return {
            "worker": self.threaded.call(told),
            "fallback": self.answers.call(fails),
            "fallback of a refusal": self.refuses.call(fails),
            "nested worker": self.threaded.call(lambda: self.inner.call(told)),
            "worker of a wrapped client": self.threaded.wrap(Client()).told(),
            "iterator's worker": next(self.threaded.wrap(Client()).items()),
        }


class Client:
    def told(self) -> Any:
        return told()

    def items(self) -> Any:
        yield told()


def check(seen: dict[str, Any], name: str) -> None:
    here = threading.current_thread().name
    for what, (traced, logged, bound, thread) in seen.items():
        assert (traced, logged) == (name, name), what
        assert bound, what
        if "worker" in what:
            assert thread != here, what


@pytest.mark.parametrize("pooled", [False, True])
def test_under_asgi(pooled: bool) -> None:
    work, found = Work(), {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        name = scope["path"]
        bind(name)
        await asyncio.sleep(0)
        found[name] = await run_in_threadpool(work.seen) if pooled else work.seen()

    async def main() -> None:
        guarded = AsgiMiddleware(app)
        headers = {"x-request-timeout": "4"}
        await asyncio.gather(
            *(drive(guarded, scope_of(headers, path=name)) for name in ("a", "b", "c"))
        )

    asyncio.run(main())
    assert sorted(found) == ["a", "b", "c"]
    for name, seen in found.items():
        check(seen, name)


def test_under_wsgi() -> None:
    work, found = Work(), {}

    def app(environ: Any, start_response: Any) -> Any:
        name = environ["HTTP_X_NAME"]
        bind(name)
        found[name] = work.seen()
        start_response("200 OK", PLAIN)
        return []

    guarded = WsgiMiddleware(app)
    threads = [
        threading.Thread(target=Answer, args=(guarded, {"x-name": name, "x-request-timeout": "4"}))
        for name in ("a", "b", "c")
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(found) == ["a", "b", "c"]
    for name, seen in found.items():
        check(seen, name)


def test_in_async_calls_and_their_fallbacks() -> None:
    async def work() -> Any:
        await asyncio.sleep(0)
        return told()

    async def breaks() -> Any:
        raise ConnectionError("down")

    async def instead() -> Any:
        await asyncio.sleep(0)
        return told()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        name = scope["path"]
        bind(name)
        policy = new_policy(fallback(instead), timeout(5.0))
        for seen in (await policy.acall(work), await policy.acall(breaks)):
            assert seen[:3] == (name, name, True)

    async def main() -> None:
        guarded = AsgiMiddleware(app)
        await asyncio.gather(
            *(drive(guarded, scope_of({"x-request-timeout": "4"}, path=n)) for n in "abc")
        )

    asyncio.run(main())


def test_what_a_worker_binds_stays_with_it() -> None:
    bind("outside")
    new_policy(timeout(5.0, sync="thread")).call(bind, "inside")
    assert told()[:2] == ("outside", "outside")
    structlog.contextvars.clear_contextvars()


def test_a_fallback_after_a_timeout_sees_it_and_an_abandoned_worker_too() -> None:
    bind("late")
    go, seen = threading.Event(), []

    def slow() -> None:
        go.wait(5)
        seen.append(told()[:2])

    policy = new_policy(fallback(lambda: told()[:2]), timeout(0.05, sync="thread"))
    assert policy.call(slow) == ("late", "late")
    bind("next")
    go.set()
    while not seen:
        threading.Event().wait(0.005)
    assert seen == [("late", "late")]
    structlog.contextvars.clear_contextvars()
