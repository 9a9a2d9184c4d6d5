"""Work that has not begun at the return is judged where it ends: never a success at the return."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import trio

import resilient
from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    timeout,
)
from resilient.testing import ManualClock

COLOURS = [asyncio.run, trio.run]
colours = pytest.mark.parametrize("run", COLOURS, ids=["asyncio", "trio"])


def calls(policy: Policy) -> dict[str, int]:
    return {word: n for word, n in policy.snapshot()["calls"].items() if n}


def served(policy: Policy) -> dict[str, int]:
    return {word: n for word, n in policy.snapshot()["served"].items() if n}


def used(policy: Policy) -> int:
    return next(g["used"] for g in policy.snapshot()["guards"] if g["guard"] == "bulkhead")


class Mine(Exception):
    """An error of a `with` body."""


def guarded(name: str, *more: Any, **options: Any) -> Policy:
    return Policy(name, circuit_breaker(failure_threshold=3), bulkhead(2), *more, **options)


# -- context managers, known at decoration ---------------------------------------------


def connections(policy: Policy, events: list[str], *, down: Callable[[], bool] = lambda: False):
    @policy
    @contextlib.contextmanager
    def connection(name: str = "db") -> Iterator[str]:
        """Connect."""
        if down():
            raise ConnectionError("down")
        events.append("in")
        try:
            yield name
        finally:
            events.append("out")

    return connection


def test_the_entry_is_judged_and_the_slot_held_until_the_exit() -> None:
    policy, events = guarded("manager"), []
    connection = connections(policy, events)
    made = connection("replica")
    assert (calls(policy), used(policy), events) == ({}, 0, [])
    with made as name:
        assert (name, used(policy), policy.snapshot()["in_flight"]) == ("replica", 1, 1)
    assert (calls(policy), used(policy), events) == ({"success": 1}, 0, ["in", "out"])
    assert (served(policy), policy.snapshot()["in_flight"]) == ({"full": 1}, 0)
    assert connection.__doc__ == "Connect."


def test_a_dead_dependency_opens_the_circuit() -> None:
    policy = guarded("manager-down")
    connection = connections(policy, [], down=lambda: True)
    for _ in range(3):
        with pytest.raises(ConnectionError), connection():
            pytest.fail("entered")
    with pytest.raises(CircuitOpenError), connection():
        pytest.fail("entered")
    assert (calls(policy), used(policy)) == ({"failure": 3, "refused": 1}, 0)


def test_an_error_of_the_body_is_the_callers_own() -> None:
    policy, events = guarded("manager-body"), []
    for _ in range(5):
        with pytest.raises(Mine), connections(policy, events)():
            raise Mine
    assert (calls(policy), policy.state) == ({"success": 5}, "closed")
    assert events == ["in", "out"] * 5


def test_what_the_manager_swallows_stays_swallowed() -> None:
    policy = guarded("manager-swallows")

    @policy
    @contextlib.contextmanager
    def forgiving() -> Iterator[None]:
        with contextlib.suppress(Mine):
            yield

    with forgiving():
        raise Mine
    assert calls(policy) == {"success": 1}


def test_a_probe_is_over_at_the_entry() -> None:
    """However long the body takes, a half-open circuit waits for the entry alone."""
    clock, down = ManualClock(), [True]
    policy = guarded("manager-probe", clock=clock)
    connection = connections(policy, [], down=lambda: down[0])
    for _ in range(3):
        with pytest.raises(ConnectionError), connection():
            pass
    down[0] = False
    clock.advance(10)
    with connection():
        assert policy.state == "closed"
        clock.advance(1000)
    assert policy.state == "closed"
    assert policy.snapshot()["duration"]["sum"] < 1


def test_more_than_the_slots_are_refused_at_the_entry() -> None:
    policy, events = guarded("manager-full"), []
    connection = connections(policy, events)
    with connection(), connection(), pytest.raises(BulkheadFullError), connection():
        pytest.fail("entered")
    with connection():
        pass
    assert calls(policy) == {"success": 3, "refused": 1}


def test_it_is_for_one_use_and_decorates_as_contextlibs_do() -> None:
    policy, events = guarded("manager-decorates"), []
    connection = connections(policy, events)
    once = connection()
    with once:
        pass
    with pytest.raises(RuntimeError, match="entered before"), once:
        pass

    @connection("db")
    def work() -> str:
        return "done"

    assert [work(), work()] == ["done", "done"]
    assert (calls(policy), events) == ({"success": 3}, ["in", "out"] * 3)


def test_a_manager_that_is_never_entered_is_no_call() -> None:
    policy = guarded("manager-unused")
    connections(policy, [])()
    gc.collect()
    assert (calls(policy), policy.snapshot()["in_flight"]) == ({}, 0)


def test_one_that_is_dropped_inside_gives_its_slot_back() -> None:
    policy = guarded("manager-dropped")
    made = connections(policy, [])()
    made.__enter__()
    assert used(policy) == 1
    del made
    gc.collect()
    assert (used(policy), policy.snapshot()["in_flight"]) == (0, 0)


def test_methods_call_and_stacked_decorators() -> None:
    policy = guarded("manager-methods")

    class Store:
        @policy
        @contextlib.contextmanager
        def session(self) -> Iterator[str]:
            yield "session"

        @classmethod
        @policy
        @contextlib.contextmanager
        def shared(cls) -> Iterator[str]:
            yield cls.__name__

    with Store().session() as session, Store.shared() as shared:
        assert (session, shared) == ("session", "Store")

    @contextlib.contextmanager
    def plain(word: str) -> Iterator[str]:
        yield word

    with policy.call(plain, "called") as word:
        assert word == "called"
    assert calls(policy) == {"success": 3}
    with pytest.raises(TypeError, match="context manager"):
        policy.try_call(plain, "x")

    @circuit_breaker(failure_threshold=2)
    @bulkhead(1)
    @contextlib.contextmanager
    def stacked() -> Iterator[None]:
        raise ConnectionError
        yield

    for _ in range(2):
        with pytest.raises(ConnectionError), stacked():
            pass
    with pytest.raises(CircuitOpenError), stacked():
        pass


def test_the_entry_is_told_and_bounded() -> None:
    clock = ManualClock()
    policy = guarded("manager-late", timeout(1, sync="cooperative"), clock=clock)
    left: list[float | None] = []

    @policy
    @contextlib.contextmanager
    def slow() -> Iterator[None]:
        left.append(resilient.remaining())
        clock.advance(5)
        resilient.check()
        yield

    with pytest.raises(CallTimeoutError), slow():
        pass
    assert (left, calls(policy), used(policy)) == ([1.0], {"failure": 1}, 0)

    @policy
    @contextlib.contextmanager
    def quick() -> Iterator[None]:
        yield

    with quick():
        assert resilient.remaining() is None  # the body is the caller's own
        clock.advance(100)
    assert calls(policy) == {"failure": 1, "success": 1}


def test_an_entry_on_a_worker_is_given_up_and_cleaned_up() -> None:
    policy = guarded("manager-thread", timeout(0.05, sync="thread"))
    go_on, left = threading.Event(), threading.Event()

    @policy
    @contextlib.contextmanager
    def hangs() -> Iterator[None]:
        go_on.wait(60)
        try:
            yield
        finally:
            left.set()

    with pytest.raises(CallTimeoutError), hangs():
        pytest.fail("entered")
    assert (calls(policy), policy.snapshot()["abandoned"], used(policy)) == ({"failure": 1}, 1, 1)
    go_on.set()
    assert left.wait(60)  # nobody else would


def test_a_fallback_does_not_act_and_the_plan_says_so() -> None:
    policy = Policy("manager-plan", fallback(value=None), circuit_breaker())
    connection = connections(policy, [], down=lambda: True)
    with pytest.raises(ConnectionError), connection():
        pass
    assert (served(policy), calls(policy)) == ({"error": 1}, {"failure": 1})
    assert "context manager" in str(policy)


# -- async ---------------------------------------------


@colours
def test_async_managers(run: Any) -> None:
    policy = guarded(f"amanager-{run.__module__}", timeout(30))
    down, events = [False], []

    @policy
    @contextlib.asynccontextmanager
    async def connection(name: str) -> AsyncIterator[str]:
        if down[0]:
            raise ConnectionError("down")
        events.append("in")
        try:
            yield name
        finally:
            events.append("out")

    @connection("again")
    async def work() -> str:
        return "done"

    async def main() -> None:
        async with connection("db") as name:
            assert (name, used(policy)) == ("db", 1)
        with pytest.raises(Mine):
            async with connection("db"):
                raise Mine
        assert [await work(), await work()] == ["done", "done"]
        down[0] = True
        for _ in range(3):
            with pytest.raises(ConnectionError):
                async with connection("db"):
                    pass
        with pytest.raises(CircuitOpenError):
            async with connection("db"):
                pass

    run(main) if run is trio.run else run(main())
    assert calls(policy) == {"success": 4, "failure": 3, "refused": 1}
    assert (events, used(policy)) == (["in", "out"] * 4, 0)


def test_a_hanging_async_entry_is_cut_on_asyncio() -> None:
    policy = guarded("amanager-hangs", timeout(0.02))

    @policy
    @contextlib.asynccontextmanager
    async def hangs() -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield

    async def main() -> None:
        with pytest.raises(CallTimeoutError):
            async with hangs():
                pass

    asyncio.run(main())
    assert (calls(policy), used(policy)) == ({"failure": 1}, 0)


def test_a_nursery_that_stays_open_works_under_trio() -> None:
    """What is entered may open scopes of its own, which no scope of ours may enclose."""
    policy = guarded("amanager-nursery", timeout(30))

    @policy
    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[Any]:
        assert (resilient.remaining() or 0) > 0
        async with trio.open_nursery() as nursery:
            yield nursery

    async def main() -> None:
        async with serving() as nursery:
            nursery.start_soon(trio.sleep, 0)

    trio.run(main)
    assert calls(policy) == {"success": 1}


# -- handed out by a plain function ---------------------------------------------


def test_a_manager_that_a_function_returns() -> None:
    policy = guarded("returned-manager")
    down = [False]

    @contextlib.contextmanager
    def connect() -> Iterator[str]:
        if down[0]:
            raise ConnectionError("down")
        yield "db"

    @policy
    def session() -> Any:
        return connect()

    with session() as name:
        assert (name, used(policy)) == ("db", 1)
    down[0] = True
    for _ in range(3):
        with pytest.raises(ConnectionError), session():
            pass
    with pytest.raises(CircuitOpenError):
        session()
    assert (calls(policy), used(policy)) == ({"success": 1, "failure": 3, "refused": 1}, 0)


def test_a_manager_that_nobody_enters_is_neutral() -> None:
    policy = guarded("returned-unused")

    @policy
    def session() -> Any:
        return contextlib.contextmanager(lambda: iter(()))()

    kept = session()
    assert used(policy) == 1
    del kept
    gc.collect()
    assert (calls(policy), used(policy)) == ({"cancelled": 1}, 0)


@pytest.mark.parametrize("sync", [None, "cooperative", "thread"])
def test_a_generator_that_a_function_returns(sync: Any) -> None:
    policy = guarded(f"returned-rows-{sync}", *([timeout(30, sync=sync)] if sync else []))
    down = [False]

    def rows() -> Iterator[int]:
        yield 1
        if down[0]:
            raise ConnectionError("down")
        yield 2

    @policy
    def query() -> Any:
        return rows()

    assert list(query()) == [1, 2]
    assert calls(policy) == {"success": 1}
    early = query()
    assert (next(early), used(policy)) == (1, 1)
    early.close()
    assert (calls(policy), used(policy)) == ({"success": 1, "cancelled": 1}, 0)
    down[0] = True
    for _ in range(3):
        with pytest.raises(ConnectionError):
            list(query())
    with pytest.raises(CircuitOpenError):
        query()
    assert calls(policy) == {"success": 1, "cancelled": 1, "failure": 3, "refused": 1}
    never = guarded(f"never-{sync}")(query.__wrapped__)()
    del never


def test_an_async_generator_that_a_function_returns() -> None:
    policy = guarded("returned-arows", timeout(30, sync="cooperative"))

    async def rows() -> AsyncIterator[int]:
        yield 1
        raise ConnectionError("down")

    @policy
    def query() -> Any:
        return rows()

    async def main() -> None:
        for _ in range(3):
            with pytest.raises(ConnectionError):
                async for _ in query():
                    pass

    asyncio.run(main())
    assert (calls(policy), policy.state, used(policy)) == ({"failure": 3}, "open", 0)


@colours
def test_what_an_async_function_returns(run: Any) -> None:
    policy = guarded(f"async-returned-{run.__module__}", timeout(30))

    def rows() -> Iterator[int]:
        raise ConnectionError("down")
        yield

    @policy
    async def query() -> Any:
        return rows()

    async def main() -> None:
        for _ in range(3):
            with pytest.raises(ConnectionError):
                list(await query())

    run(main) if run is trio.run else run(main())
    assert (calls(policy), policy.state, used(policy)) == ({"failure": 3}, "open", 0)


# -- futures ---------------------------------------------


def test_a_future_is_judged_when_it_is_done() -> None:
    policy = guarded("future")
    made: list[Future[int]] = []

    @policy
    def submit() -> Future[int]:
        made.append(Future())
        return made[-1]

    given = submit()
    assert (type(given), given is made[0]) == (Future, True)
    assert (calls(policy), used(policy)) == ({}, 1)
    given.set_result(1)
    assert (calls(policy), used(policy), served(policy)) == ({"success": 1}, 0, {"full": 1})
    for _ in range(3):
        submit().set_exception(ConnectionError())
    assert (policy.state, calls(policy)) == ("open", {"success": 1, "failure": 3})
    with pytest.raises(CircuitOpenError):
        submit()


def test_a_future_that_is_cancelled_or_collected_is_neutral() -> None:
    policy = guarded("future-gone")
    submit = policy(lambda: Future())
    assert submit().cancel()
    assert (calls(policy), used(policy)) == ({"cancelled": 1}, 0)
    submit()
    gc.collect()
    assert (calls(policy), used(policy), policy.state) == ({"cancelled": 2}, 0, "closed")


def test_a_future_that_is_done_already() -> None:
    policy = guarded("future-done")

    def failed() -> Future[int]:
        future: Future[int] = Future()
        future.set_exception(ConnectionError())
        return future

    for _ in range(3):
        policy(failed)()
    assert (policy.state, used(policy)) == ("open", 0)


def test_a_pool_is_bounded_by_what_runs_and_not_by_what_was_submitted() -> None:
    policy = Policy("future-pool", bulkhead(2))
    go_on = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        submit = policy(lambda: pool.submit(go_on.wait, 60))
        first = [submit(), submit()]
        with pytest.raises(BulkheadFullError):
            submit()
        go_on.set()
        assert all(future.result(60) for future in first)
    assert (used(policy), calls(policy)) == (0, {"success": 2, "refused": 1})


def test_a_failed_result_of_a_future() -> None:
    policy = Policy("future-judged", circuit_breaker(failed_result=lambda value: value == "bad"))
    submit = policy(lambda: Future())
    submit().set_result("bad")
    submit().set_result("good")
    assert calls(policy) == {"failure": 1, "success": 1}


@pytest.mark.parametrize(
    "make",
    [lambda: iter([1]), lambda: contextlib.nullcontext(), dict, open],
    ids=["iterator", "nullcontext", "dict", "file"],
)
def test_other_objects_are_values(make: Any, tmp_path: Any) -> None:
    policy = guarded(f"values-{make.__name__}")
    path = tmp_path / "file"
    path.write_text("x")
    value = policy(lambda: make(path) if make is open else make())()
    assert (calls(policy), used(policy)) == ({"success": 1}, 0)
    if make is open:
        value.close()


def test_tried_calls_hand_out_the_same() -> None:
    policy = guarded("tried")

    def rows() -> Iterator[int]:
        raise ConnectionError("down")
        yield

    result = policy.try_call(lambda: rows())
    with pytest.raises(ConnectionError):
        list(result.value)
    assert calls(policy) == {"failure": 1}
