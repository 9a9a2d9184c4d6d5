"""What a policy does to the calls of a wrapped client: refusals, answers, slots, limits, levers."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
import warnings
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    FlagOffError,
    bulkhead,
    check,
    circuit_breaker,
    fallback,
    flag,
    kill_switch,
    remaining,
    timeout,
)
from resilient.testing import ManualClock, flag_off
from tests.kit.policies import counts, error_of, idle, part, policy, raised
from tests.kit.threads import in_threads
from tests.kit.waiting import WAIT, until
from tests.kit.worlds import BACKENDS, run
from tests.unit.clients.kit import Client, Down, guards, own_slot

backends = pytest.mark.parametrize("backend", BACKENDS)


# -- refusals and recovery ---------------------------------------------


def test_failures_of_parts_open_the_clients_circuit_and_probes_close_it() -> None:
    clock = ManualClock()
    of = policy(circuit_breaker(failure_threshold=3, recovery_timeout=10), clock=clock)
    client = of.wrap(Client(Down("x")))
    for call in (client.find, client.sub.find, client.clone().sub.find):
        assert type(raised(call, "x")) is Down
    assert of.state == "open"
    error = raised(client.find, "x")
    assert type(error) is CircuitOpenError
    assert error.policy == of.name  # type: ignore[attr-defined]
    assert type(raised(client.sub.find)) is CircuitOpenError
    clock.advance(10)
    client.__wrapped__.down = None
    assert client.sub.find("x") == "x"
    assert of.state == "closed"


def test_a_refusal_is_a_new_error_each_time() -> None:
    of = policy(circuit_breaker(failure_threshold=1))
    client = of.wrap(Client(Down("x")))
    raised(client.find, "x")
    first, second = raised(client.find, "x"), raised(client.find, "x")
    assert first is not second
    assert first.__context__ is None


@pytest.mark.parametrize(
    "release", ["close", "release", "rollback", "disconnect", "shutdown", "abort"]
)
def test_releases_are_never_refused_and_not_counted(release: str, policies: Any) -> None:
    class Held:
        def find(self) -> None: ...

        def __enter__(self) -> Held:
            return self

        def __exit__(self, *exc: object) -> str:
            return "left"

    setattr(Held, release, lambda self, *args: (release, *args))
    of = own_slot()
    client = of.wrap(Held())
    with policies.forced_open(of):
        assert getattr(client, release)(1) == (release, 1)
        assert client.__exit__(None, None, None) == "left"
        assert type(raised(client.__enter__)) is CircuitOpenError
        assert type(raised(client.find)) is CircuitOpenError
    assert counts(of) == {"refused": 2}


@backends
@pytest.mark.parametrize("release", ["aclose", "close", "rollback", "__aexit__"])
def test_async_releases_are_never_refused_but_limited(
    release: str, backend: str, policies: Any
) -> None:
    class Held:
        hangs = False

        async def find(self) -> None: ...

        async def __aenter__(self) -> Held:
            return self

        async def __aexit__(self, *exc: object) -> None:
            await self.aclose()

        async def aclose(self) -> None:
            await anyio.sleep(WAIT if self.hangs else 0)
            self.hangs = False

        close = rollback = aclose

    of = policy(timeout(0.05), bulkhead(1))
    args = (None, None, None) if release == "__aexit__" else ()

    async def body() -> None:
        client = of.wrap(Held())
        with policies.forced_open(of):
            await getattr(client, release)(*args)
        assert counts(of) == {}
        if release == "__aexit__" and backend == "trio":
            return  # it may close a nursery, round which no scope of ours may be
        client.hangs = True
        assert type(await error_of(getattr(client, release)(*args))) is CallTimeoutError
        assert client.hangs, "it was waited for"
        idle(of)

    run(backend, body)


def test_a_release_knows_the_time_it_has() -> None:
    class Held:
        def find(self) -> None: ...

        def close(self) -> float | None:
            return remaining()

    assert 0 < policy(timeout(3, sync="cooperative")).wrap(Held()).close() <= 3
    assert 0 < policy(timeout(3, sync="thread")).wrap(Held()).close() <= 3
    assert policy(bulkhead(1)).wrap(Held()).close() is None


# -- fallbacks ---------------------------------------------


def test_a_fallback_gets_the_arguments_of_the_method() -> None:
    seen: list[Any] = []

    def cached(*args: Any, **kwargs: Any) -> str:
        seen.append((args, kwargs))
        return "cached"

    of = policy(fallback(cached), circuit_breaker(metrics_only=True))
    client = of.wrap(Client(Down("x")))
    assert client.find("a", year=1) == "cached"
    assert client.sub.find("b") == "cached"
    assert client("c") == "cached"
    assert client.do_it(1, 2) == "cached"
    assert client.function("d") == "cached"
    assert client.called("e") == "cached"
    assert client.partial() == "cached"
    assert seen == [
        (("a",), {"year": 1}),
        (("b",), {}),
        (("c",), {}),
        ((1, 2), {}),
        (("d",), {}),
        (("e",), {}),
        ((), {}),
    ]
    assert of.snapshot()["served"]["degraded"] == 7


def test_a_fallback_with_the_error_and_a_refusal(policies: Any) -> None:
    of = policy(
        fallback(lambda error, title, **_: (type(error).__name__, title), with_error=True),
        circuit_breaker(),
    )
    client = of.wrap(Client(Down("x")))
    assert client.find("a") == ("Down", "a")
    with policies.forced_open(of):
        assert client.find("b") == ("CircuitOpenError", "b")
        assert client.named("n") == ("CircuitOpenError", "n")


@backends
def test_a_fallback_of_an_async_method(backend: str) -> None:
    async def cached(title: str, **_: Any) -> str:
        await anyio.lowlevel.checkpoint()
        return f"cached {title}"

    of = policy(fallback(cached), circuit_breaker(failure_threshold=1))

    async def body() -> None:
        client = of.wrap(Client(Down("x")), only=["afind"])
        assert await client.afind("a") == "cached a"
        assert await client.afind("b") == "cached b"
        assert await client.sub.afind("c") == "cached c"
        assert counts(of) == {"failure": 1, "refused": 2}

    run(backend, body)


def test_no_fallback_answers_a_step_of_what_was_handed_out() -> None:
    of = policy(fallback(value=[]), circuit_breaker(metrics_only=True))
    client = of.wrap(Client())
    pages, manager, tx = client.pages(1), client.lent(), client.transaction()
    client.down = Down("x")
    assert raised(next, pages) is client.down
    assert raised(manager.__enter__) is client.down
    assert raised(tx.__enter__) is client.down


@backends
def test_no_fallback_answers_a_generator_that_was_handed_out(backend: str) -> None:
    """Only the call of the method itself: what it gave is a stream already."""

    class Makes:
        down = True

        def items(self) -> Any:
            return self._items()

        def aitems(self) -> Any:
            return self._aitems()

        def _items(self) -> Any:
            if self.down:
                raise Down("x")
            yield 1

        async def _aitems(self) -> Any:
            if self.down:
                raise Down("x")
            yield 1

    of = policy(fallback(value=[9]), circuit_breaker(metrics_only=True), bulkhead(1))

    async def body() -> None:
        client = of.wrap(Makes())
        assert type(raised(next, client.items())) is Down
        assert type(await error_of(anext(client.aitems()))) is Down
        assert counts(of).get("failure") == 2
        client.down = False
        assert list(client.items()) == [1]
        assert [item async for item in client.aitems()] == [1]
        idle(of)

    run(backend, body)


def test_a_fallback_streams_for_a_generator() -> None:
    of = policy(fallback(lambda number: range(number)), circuit_breaker(failure_threshold=1))
    client = of.wrap(Client(Down("x")), only="items")
    assert list(client.items(2)) == [0, 1]
    assert list(client.items(3)) == [0, 1, 2]
    assert counts(of) == {"failure": 1, "refused": 1}


def test_the_end_of_an_iterator_is_never_answered() -> None:
    of = policy(fallback(value="answer"), circuit_breaker(failure_threshold=1))
    client = of.wrap(Client())
    assert list(client.pages(2)) == [1, 0]
    assert list(client.items(2)) == [0, 1]
    assert of.state == "closed"


@pytest.mark.parametrize("threaded", [False, True], ids=["here", "thread"])
def test_a_missing_key_is_neither_a_failure_nor_answered(threaded: bool) -> None:
    class Store:
        def __getitem__(self, key: str) -> int:
            return {"a": 1}[key]

        def find(self) -> None: ...

    more = [timeout(5, sync="thread")] if threaded else []
    of = policy(fallback(value="answer"), circuit_breaker(failure_threshold=1), *more)
    client = of.wrap(Store())
    assert client["a"] == 1
    assert raised(lambda: client["b"]).args == ("b",)
    assert counts(of) == {"success": 1, "ignored": 1}


# -- slots ---------------------------------------------


def test_a_stream_that_is_dropped_gives_its_slot_back() -> None:
    of = own_slot()
    client = of.wrap(Client())
    stream = client.items(3)
    next(stream)
    assert part(of, "bulkhead")["used"] == 1
    del stream
    gc.collect()
    idle(of)


@backends
@pytest.mark.parametrize("how", ["afind", "later", "aitems", "apages", "alent", "transaction"])
def test_what_is_never_awaited_holds_nothing(how: str, backend: str) -> None:
    of = own_slot()

    async def body() -> None:
        client = of.wrap(Client())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = getattr(client, how)(*([] if how in ("alent", "transaction") else [3]))
            del made
            gc.collect()
        assert await client.afind("x") == "x"
        idle(of)

    run(backend, body)


@backends
def test_an_async_clients_plain_method_that_is_never_awaited(backend: str) -> None:
    class Redis:
        async def __aenter__(self) -> Redis:
            return self

        async def __aexit__(self, *exc: object) -> None: ...

        def get(self, key: str) -> Any:
            return self._get(key)

        async def _get(self, key: str) -> str:
            await anyio.lowlevel.checkpoint()
            return key

        def key(self, name: str) -> str:
            return f"key:{name}"

    of = policy(timeout(5), bulkhead(1))

    async def body() -> None:
        client = of.wrap(Redis())
        assert client.key("x") == "key:x"
        assert counts(of) == {}, "it did no I/O"
        first = client.get("a")
        idle(of)
        assert await client.get("b") == "b"
        assert await first == "a"
        assert counts(of) == {"success": 2}
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            left = client.get("c")
            del left
            gc.collect()
            texts = [str(each.message) for each in told]
            told.clear()  # they hold the coroutine
        assert any("never awaited" in text for text in texts)
        idle(of)

    run(backend, body)


@backends
@pytest.mark.parametrize("how", ["afind", "later", "aitems", "apages", "alent", "transaction"])
def test_cancelled_at_each_await(how: str, backend: str) -> None:
    """Everything is given back, and a cancellation is no failure."""
    of = policy(
        circuit_breaker(failure_threshold=1), bulkhead(1), timeout(WAIT, sync="cooperative")
    )

    async def use(client: Any, scope: Any, place: int) -> None:
        if how in ("afind", "later"):
            await getattr(client, how)("x")
        elif how in ("aitems", "apages"):
            async with contextlib.AsyncExitStack() as stack:
                stream = getattr(client, how)(2)
                if how == "aitems":
                    await stack.enter_async_context(contextlib.aclosing(stream))
                async for _ in stream:
                    pass
        else:
            async with getattr(client, how)():
                await anyio.lowlevel.checkpoint()

    async def body() -> None:
        cut = 0
        for place in range(-1, 12):
            client = of.wrap(Client())
            with anyio.CancelScope() as scope:
                if place < 0:
                    scope.cancel()
                async with anyio.create_task_group() as group:

                    async def cancels(after: int, inner: anyio.CancelScope) -> None:
                        for _ in range(after):
                            await anyio.lowlevel.checkpoint()
                        inner.cancel()

                    group.start_soon(cancels, place, scope)
                    await use(client, scope, place)
                    group.cancel_scope.cancel()
            cut += scope.cancelled_caught
            assert of.state == "closed"
            assert "failure" not in counts(of)
            await anyio.lowlevel.checkpoint()
            idle(of)
        assert cut > 0

    run(backend, body)


def test_one_bulkhead_for_threads_and_parts() -> None:
    of = policy(bulkhead(2))
    go, inside = threading.Event(), threading.Semaphore(0)

    class Slow:
        def __init__(self) -> None:
            self.part = SlowPart(self)

        def find(self) -> str:
            inside.release()
            assert go.wait(WAIT)
            return "x"

    class SlowPart:
        def __init__(self, owner: Any) -> None:
            self.owner = owner

        def find(self) -> str:
            return self.owner.find()  # type: ignore[no-any-return]

    client = of.wrap(Slow())
    ends: list[Any] = []

    def body(place: int) -> None:
        try:
            ends.append((client if place % 2 else client.part).find())
        except BulkheadFullError:
            ends.append("full")
        if ends.count("full") == 4:
            go.set()

    in_threads(6, body)
    assert sorted(ends) == ["full"] * 4 + ["x"] * 2
    idle(of)


# -- time ---------------------------------------------


def test_thread_mode_bounds_plain_methods_and_leaves_the_worker_its_slot() -> None:
    go = threading.Event()

    class Slow:
        def find(self) -> str:
            assert go.wait(WAIT)
            return "late"

    of = policy(circuit_breaker(), bulkhead(1), timeout(0.2, sync="thread"))
    client = of.wrap(Slow())
    error = raised(client.find)
    assert type(error) is CallTimeoutError
    assert part(of, "bulkhead")["used"] == 1
    assert type(raised(client.find)) is BulkheadFullError
    go.set()
    until(lambda: part(of, "bulkhead")["used"] == 0)
    assert client.find() == "late"


@pytest.mark.parametrize("how", ["items", "pages", "attribute"])
def test_thread_mode_bounds_each_step_of_what_is_handed_out(how: str) -> None:
    go = threading.Event()

    class Steps:
        def __init__(self, slow: Any) -> None:
            self.slow = slow

        def __iter__(self) -> Steps:
            return self

        def __next__(self) -> str:
            return self.slow.wait()  # type: ignore[no-any-return]

        def find(self) -> str:
            return self.slow.wait()  # type: ignore[no-any-return]

    class Slow:
        def __init__(self) -> None:
            self.attribute = Steps(self)

        def wait(self) -> str:
            assert go.wait(WAIT)
            return threading.current_thread().name

        def items(self) -> Any:
            yield self.wait()

        def pages(self) -> Steps:
            return Steps(self)

    of = policy(circuit_breaker(), bulkhead(5), timeout(0.2, sync="thread"))
    client = of.wrap(Slow())
    use = {
        "items": lambda: next(client.items()), "pages": lambda: next(client.pages()),
        "attribute": lambda: client.attribute.find(),
    }[how]  # fmt: skip
    assert type(raised(use)) is CallTimeoutError
    assert counts(of)["failure"] == 1
    go.set()
    until(lambda: of.snapshot()["abandoned"] == 0)
    idle(of)


def test_a_context_manager_is_entered_and_left_in_one_thread() -> None:
    """Even with worker threads: what it holds may belong to its thread, or to its context."""
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="outside")

    class Holds:
        def __init__(self) -> None:
            self.lock = threading.RLock()
            self.left: list[float | None] = []

        @contextlib.contextmanager
        def hold(self) -> Any:
            self.left.append(remaining())
            token = var.set("inside")
            with self.lock:
                yield 1
            var.reset(token)

        def __enter__(self) -> Holds:
            self.lock.acquire()
            return self

        def __exit__(self, *exc: object) -> None:
            self.lock.release()

        def find(self) -> str:
            return threading.current_thread().name + var.get()

    of = own_slot(timeout(5, sync="thread"))
    client = of.wrap(Holds())
    with client.hold() as lent, client:
        assert lent == 1
        assert var.get() == "inside"
        assert client.find() != threading.current_thread().name + "inside"
        assert client.find().endswith("inside")
    assert var.get() == "outside"
    assert 0 < client.left[0] <= 5
    idle(of)


def test_a_threaded_generator_runs_on_workers_and_its_consumer_here() -> None:
    class Names:
        def items(self) -> Any:
            for _ in range(3):
                yield threading.current_thread().name

        def find(self) -> str:
            return threading.current_thread().name

    of = policy(bulkhead(2), timeout(5, sync="thread"))
    here = threading.current_thread().name
    client = of.wrap(Names())
    for name in client.items():
        assert name != here
        assert client.find() != here
        assert part(of, "bulkhead")["used"] == 1, "the stream's, as with any other limit"
    idle(of)
    assert counts(of) == {"success": 4}


def test_a_cooperative_limit_is_read_in_the_client() -> None:
    clock = ManualClock()

    class Slow:
        def find(self, seconds: float) -> float | None:
            clock.advance(seconds)
            check()
            return remaining()

        def items(self) -> Any:
            yield remaining()
            clock.advance(2)
            yield remaining()

    of = policy(circuit_breaker(), timeout(3, sync="cooperative"), clock=clock)
    client = of.wrap(Slow())
    assert client.find(1) == 2
    assert type(raised(client.find, 4)) is CallTimeoutError
    assert list(client.items()) == [3, 1]
    assert remaining() is None
    assert counts(of) == {"success": 2, "failure": 1}


@backends
@pytest.mark.parametrize("how", ["method", "stream", "page", "enter", "plain"])
def test_an_async_limit_cuts_every_shape(how: str, backend: str) -> None:
    if how == "enter" and backend == "trio":
        pytest.skip("under trio a block may open a nursery, so that its entry is not cut")

    class Slow:
        async def __aenter__(self) -> Slow:
            await anyio.sleep(WAIT)
            return self

        async def __aexit__(self, *exc: object) -> None: ...

        async def __anext__(self) -> int:
            await anyio.sleep(WAIT)
            return 1

        def __aiter__(self) -> Slow:
            return self

        async def method(self) -> None:
            await anyio.sleep(WAIT)

        async def stream(self) -> Any:
            await anyio.sleep(WAIT)
            yield 1

        def plain(self) -> Any:
            return self.method()

    of = policy(circuit_breaker(), bulkhead(1), timeout(0.02))

    async def body() -> None:
        client = of.wrap(Slow())
        use = {
            "method": lambda: client.method(), "stream": lambda: anext(client.stream()),
            "page": lambda: anext(client), "enter": lambda: client.__aenter__(), "plain": lambda: client.plain(),
        }[how]  # fmt: skip
        assert type(await error_of(use())) is CallTimeoutError
        assert counts(of) == {"failure": 1}
        idle(of)

    run(backend, body)


def test_a_timeout_error_of_the_clients_own_is_its_own() -> None:
    of = policy(circuit_breaker(), timeout(5, sync="thread"))
    client = of.wrap(Client(TimeoutError("mine")))
    assert raised(client.find, "x") is client.down
    assert counts(of) == {"failure": 1}


def test_nested_policies_take_the_tightest_limit() -> None:
    class Reads:
        def find(self) -> float | None:
            return remaining()

    inner = policy(timeout(1, sync="cooperative"))
    outer = policy(timeout(3, sync="cooperative"))
    assert outer.wrap(inner.wrap(Reads())).find() <= 1
    assert inner.wrap(outer.wrap(Reads())).find() <= 1


# -- levers ---------------------------------------------


def test_a_kill_switch_cuts_the_client_off_and_its_fallback_answers() -> None:
    movies = flag("wrap-movies", owner="t", impact="none")
    of = policy(
        fallback(value="cached", on=FlagOffError),
        kill_switch(movies),
        circuit_breaker(),
        bulkhead(1),
    )
    client = of.wrap(Client())
    assert client.find("x") == "x"
    with flag_off("wrap-movies"):
        assert client.find("x") == "cached"
        assert client.sub.find("x") == "cached"
        assert client.pages(1) == "cached", "the call itself is answered"
        assert client.close() == "closed"
    assert client.find("x") == "x"
    assert client.noted == ["find", "close", "find"]


def test_forced_states_are_the_policys(policies: Any) -> None:
    of = policy(circuit_breaker(failure_threshold=1))
    client = of.wrap(Client(Down("x")))
    sub, pages = client.sub, client.pages(2)
    with policies.forced_open(of):
        for call in (
            lambda: client.find("x"),
            lambda: sub.find("x"),
            lambda: next(pages),
            lambda: client("x"),
        ):
            assert type(raised(call)) is CircuitOpenError
    with policies.forced_closed(of):
        for _ in range(3):
            assert type(raised(client.find, "x")) is Down
    assert client.noted == ["find"] * 3


def test_a_client_that_calls_itself_takes_one_slot() -> None:
    """Inside, the bare client works: only calls from outside go through the policy."""

    class Nested:
        def outer(self) -> int:
            return self.inner() + 1

        def inner(self) -> int:
            return 1

        def fluent(self) -> Nested:
            self.inner()
            return self

        def visit(self, fn: Any) -> Any:
            return fn(self)

    of = own_slot()
    client = of.wrap(Nested())
    assert client.outer() == 2
    assert client.fluent() is client
    assert client.fluent().fluent().outer() == 2
    assert client.visit(lambda bare: type(bare)) is Nested
    assert "refused" not in counts(of)


def test_concurrent_first_uses_make_one_proxy() -> None:
    of = guards()
    for _ in range(30):
        client = of.wrap(Client())
        seen = in_threads(
            6, lambda _: (client.sub, client.users, client.find("x"), client.clone().find("y"))
        )
        parts = [each[0] for each in seen] + [each[1] for each in seen]
        assert len({id(each) for each in parts}) == 1
        assert {each[2:] for each in seen} == {("x", "y")}
    idle(of)


@backends
def test_wrapped_in_many_tasks(backend: str) -> None:
    of = guards()

    async def body() -> None:
        client = of.wrap(Client())
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(client.afind, "x")
                group.start_soon(client.sub.afind, "x")
        assert counts(of) == {"success": 100}

    run(backend, body)


def test_a_gathered_client_cancels_as_the_bare_one() -> None:
    of = own_slot()

    async def body() -> None:
        client = of.wrap(Client())
        task = asyncio.ensure_future(client.afind("x"))
        await asyncio.sleep(0)
        task.cancel()
        assert type(await error_of(task)) is asyncio.CancelledError
        idle(of)
        assert counts(of) == {"cancelled": 1}

    asyncio.run(body())


@backends
def test_retries_and_awaits_twice_say_what_the_bare_says(backend: str) -> None:
    async def body() -> None:
        ends = []
        for client in (Client(), own_slot().wrap(Client())):
            made = client.afind("x")
            await made
            ends.append((await error_of(made)).args)
        assert ends[0] == ends[1]

    run(backend, body)
