"""Context that reaches the client, and what is told to a client that was abandoned."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import socket
import threading
from typing import Any

import pytest

from resilient import (
    CallTimeoutError,
    bulkhead,
    circuit_breaker,
    fallback,
    on_abandon,
    remaining,
    timeout,
)
from resilient.testing import ManualClock
from tests.kit.policies import idle, policy, raised
from tests.kit.waiting import WAIT, until
from tests.kit.worlds import BACKENDS, run
from tests.unit.clients.kit import Down, guards

trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace", default="none")


class Reads:
    """A client that tells what context it sees."""

    def find(self) -> tuple[str, bool]:
        return trace.get(), remaining() is not None

    def items(self) -> Any:
        for _ in range(2):
            yield trace.get(), remaining() is not None

    def fails(self) -> None:
        raise Down("x")

    async def afind(self) -> tuple[str, bool]:
        return trace.get(), remaining() is not None

    def sets(self) -> None:
        trace.set("set inside")

    def close(self) -> tuple[str, bool]:
        return trace.get(), remaining() is not None


@pytest.fixture
def traced() -> Any:
    """A trace id."""
    token = trace.set("t-1")
    yield
    trace.reset(token)


@pytest.mark.parametrize("sync", ["thread", "cooperative"])
def test_context_variables_reach_methods_streams_and_releases(sync: Any, traced: None) -> None:
    client = guards(timeout(5, sync=sync)).wrap(Reads())
    assert client.find() == ("t-1", True)
    assert list(client.items()) == [("t-1", True)] * 2
    assert client.close() == ("t-1", True)
    assert remaining() is None


@pytest.mark.parametrize("sync", ["thread", "cooperative", None])
def test_context_variables_reach_fallbacks(sync: Any, traced: None) -> None:
    seen: list[Any] = []

    def answer(*args: Any, **kwargs: Any) -> str:
        seen.append((trace.get(), threading.current_thread().name))
        return "answer"

    more = [timeout(5, sync=sync)] if sync else []
    of = policy(fallback(answer), circuit_breaker(failure_threshold=1), *more)
    client = of.wrap(Reads())
    assert client.fails() == "answer"  # after a failure
    assert client.fails() == "answer"  # after a refusal
    assert [each[0] for each in seen] == ["t-1", "t-1"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_context_variables_reach_async_methods(backend: str) -> None:
    async def body() -> None:
        token = trace.set("t-2")
        client = guards(timeout(5)).wrap(Reads(), only=["afind"])
        assert await client.afind() == ("t-2", True)
        trace.reset(token)

    run(backend, body)


def test_what_a_client_sets_in_the_context_stays_as_with_the_bare_one() -> None:
    def sets(client: Any) -> str:
        client.sets()
        return trace.get()

    context = contextvars.copy_context
    assert context().run(sets, Reads()) == "set inside"
    assert context().run(sets, guards().wrap(Reads())) == "set inside"
    assert context().run(sets, guards(timeout(5, sync="cooperative")).wrap(Reads())) == "set inside"


def test_structlogs_context_reaches_worker_threads_and_fallbacks() -> None:
    structlog = pytest.importorskip("structlog")
    seen: list[Any] = []

    class Logs:
        def find(self) -> None:
            seen.append(structlog.contextvars.get_contextvars())
            raise Down("x")

    def answer() -> None:
        seen.append(structlog.contextvars.get_contextvars())

    client = policy(fallback(answer), circuit_breaker(), timeout(5, sync="thread")).wrap(Logs())
    with structlog.contextvars.bound_contextvars(request="r-1"):
        client.find()
    assert seen == [{"request": "r-1"}] * 2


# -- on_abandon ---------------------------------------------


class Stuck:
    """A client that waits until it is cut, or told to go on."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.inside = threading.Event()
        self.told: list[str] = []
        self.ended = threading.Event()

    def tell(self) -> None:
        self.told.append(threading.current_thread().name)
        self.go.set()

    def find(self, hook: Any = None) -> str:
        try:
            with on_abandon(hook or self.tell):
                self.inside.set()
                assert self.go.wait(WAIT)
                return "ended"
        finally:
            self.ended.set()

    def late(self) -> None:
        """Register only once the caller has given up."""
        try:
            self.inside.set()
            assert self.go.wait(WAIT)
            with on_abandon(self.tell):
                self.told.append("in the block")
        finally:
            self.ended.set()

    def quick(self) -> str:
        with on_abandon(self.tell):
            pass
        return "quick"

    def after(self) -> None:
        """Go on after the block has ended."""
        with on_abandon(self.tell):
            pass
        self.inside.set()
        assert self.go.wait(WAIT)
        self.ended.set()

    def twice(self, other: Any) -> None:
        with on_abandon(self.tell), on_abandon(other):
            assert self.go.wait(WAIT)

    def reads(self, ours: socket.socket) -> bytes:
        with on_abandon(lambda: ours.shutdown(socket.SHUT_RDWR)):
            return ours.recv(1)


def short() -> Any:
    return policy(timeout(0.2, sync="thread"), bulkhead(2))


def test_it_is_called_once_by_who_gives_up() -> None:
    of = short()
    client = of.wrap(Stuck())
    assert type(raised(client.find)) is CallTimeoutError
    assert client.told == [threading.current_thread().name], "before the caller went on"
    until(lambda: of.snapshot()["abandoned"] == 0)
    idle(of)
    assert len(client.told) == 1


def test_it_is_not_called_where_nobody_gives_up_or_after_the_block() -> None:
    of = policy(timeout(0.2, sync="thread"), bulkhead(2))
    client = of.wrap(Stuck())
    assert client.quick() == "quick"
    assert type(raised(client.after)) is CallTimeoutError
    assert client.told == []
    client.go.set()
    until(lambda: of.snapshot()["abandoned"] == 0)
    assert client.told == []


def test_registered_late_it_is_called_at_once() -> None:
    of = short()
    client = of.wrap(Stuck())
    assert type(raised(client.late)) is CallTimeoutError
    assert client.told == []
    client.go.set()
    until(client.ended.is_set)
    assert len(client.told) == 2
    assert client.told[1] == "in the block"
    until(lambda: of.snapshot()["abandoned"] == 0)


def test_what_it_raises_is_logged_and_the_next_is_called(caplog: pytest.LogCaptureFixture) -> None:
    of = short()
    client = of.wrap(Stuck())

    def fails() -> None:
        raise RuntimeError("hook")

    with caplog.at_level(logging.ERROR, logger="resilient"):
        error = raised(client.twice, fails)
    assert type(error) is CallTimeoutError
    assert len(client.told) == 1
    assert [str(each.exc_info[1]) for each in caplog.records if each.exc_info] == ["hook"]
    until(lambda: of.snapshot()["abandoned"] == 0)


def test_a_socket_that_is_shut_down_ends_the_body() -> None:
    ours, theirs = socket.socketpair()
    of = short()
    client = of.wrap(Stuck())
    with ours, theirs:
        assert type(raised(client.reads, ours)) is CallTimeoutError
        assert theirs.recv(1) == b""
        until(lambda: of.snapshot()["abandoned"] == 0)
    idle(of)


def test_outside_any_limit_it_does_nothing() -> None:
    told: list[int] = []
    with on_abandon(lambda: told.append(1)):
        pass
    assert told == []
    assert type(raised(on_abandon, 5)) is TypeError


def test_it_may_be_used_from_a_stream_and_a_page_of_a_client() -> None:
    class Slow:
        def __init__(self) -> None:
            self.go = threading.Event()

        def items(self) -> Any:
            with on_abandon(self.go.set):
                yield 1
                assert self.go.wait(WAIT)
                yield 2

        def pages(self) -> Any:
            return map(self._page, range(3))

        def _page(self, place: int) -> int:
            with on_abandon(self.go.set):
                assert place == 0 or self.go.wait(WAIT)
            return place

    of = short()
    client = of.wrap(Slow())
    pages = client.pages()
    assert next(pages) == 0
    assert type(raised(next, pages)) is CallTimeoutError
    until(lambda: of.snapshot()["abandoned"] == 0)
    idle(of)


@pytest.mark.parametrize("nested", [False, True])
def test_an_enclosing_limit_gives_up_too(nested: bool) -> None:
    outer, inner = short(), policy(timeout(5, sync="thread"), bulkhead(2))
    bare = Stuck()
    client = outer.wrap(inner.wrap(bare)) if nested else outer.wrap(bare)
    assert raised(client.find).policy == outer.name  # type: ignore[attr-defined]
    until(lambda: outer.snapshot()["abandoned"] == 0 and inner.snapshot()["abandoned"] == 0)
    assert len(bare.told) == 1
    idle(outer)
    idle(inner)


def test_two_limits_that_give_up_call_it_once() -> None:
    told: list[int] = []
    go = threading.Event()

    class Inner:
        def find(self) -> None:
            with on_abandon(lambda: told.append(1)):
                assert go.wait(WAIT)

    inner = policy(timeout(0.2, sync="thread"), bulkhead(2))
    client = inner.wrap(Inner())

    class Outer:
        def find(self) -> None:
            assert type(raised(client.find)) is CallTimeoutError
            assert told == [1]
            assert go.wait(WAIT)

    outer = policy(timeout(1, sync="thread"), bulkhead(2))
    assert raised(outer.wrap(Outer()).find).policy == outer.name  # type: ignore[attr-defined]
    assert told == [1]
    go.set()
    until(lambda: outer.snapshot()["abandoned"] == 0 and inner.snapshot()["abandoned"] == 0)
    assert told == [1]


def test_by_a_manual_clock() -> None:
    clock = ManualClock()
    of = policy(timeout(5, sync="thread"), bulkhead(2), clock=clock)
    bare = Stuck()
    client = of.wrap(bare)
    errors: list[BaseException] = []
    thread = threading.Thread(target=lambda: errors.append(raised(client.find)))
    thread.start()
    until(lambda: bare.inside.is_set() and clock.waiting > 0)
    clock.advance(5)
    thread.join(WAIT)
    assert type(errors[0]) is CallTimeoutError
    assert bare.told == [thread.name]
    with contextlib.suppress(CallTimeoutError):
        client.quick()
    until(lambda: of.snapshot()["abandoned"] == 0)
