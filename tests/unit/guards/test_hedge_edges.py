"""Races and what comes between: bodies that are read once, unended work, switches, lines, probes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import anyio
import pytest
import requests

from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    OrderWarning,
    Policy,
    bulkhead,
    circuit_breaker,
    flag,
    hedge,
    kill_switch,
    set_active,
    timeout,
)
from resilient.testing import ManualClock
from resilient.testing.flag_plugin import Flags
from tests.kit.policies import comes_to_idle, idle, part, policy
from tests.kit.waiting import WAIT, until
from tests.kit.worlds import BACKENDS, run

RECS = flag("hedge-recs", impact="none")


def raced(*inner: Any, **options: Any) -> Policy:
    return policy(hedge(0, idempotent=True, **options), *inner)


@pytest.mark.parametrize("method", ["post", "patch", "put"])
def test_a_body_that_is_read_once_is_sent_once(method: str) -> None:
    sent: list[bytes] = []

    class Answering(requests.adapters.BaseAdapter):
        def send(self, request: Any, *given: Any, **options: Any) -> Any:
            body = b""
            for part_ in request.body:
                body += part_
                time.sleep(0.002)
            sent.append(body)
            answer = requests.Response()
            answer.status_code, answer.url, answer.request = 200, request.url, request
            return answer

        def close(self) -> None:
            pass

    with requests.Session() as session:
        session.mount("mock://", Answering())
        client = raced().wrap(session, only=[method])
        getattr(client, method)("mock://here/", data=iter([b"0", b"1", b"2"]))
    assert sent == [b"012"]


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_file_or_an_iterator_is_read_by_one_copy(wrapped: bool) -> None:
    stored: list[bytes] = []

    class Store:
        def put(self, body: Any) -> int:
            found = b"".join(body)
            time.sleep(0.01)
            stored.append(found)
            return len(found)

    store, of = Store(), raced()
    put = of.wrap(store, only=["put"]).put if wrapped else of(store.put)
    assert put(io.BytesIO(b"a\nb\n")) == 4
    assert put(iter([b"a", b"b"])) == 2
    assert stored == [b"a\nb\n", b"ab"]


def test_unended_work_of_the_loser_is_ended() -> None:
    of = raced(bulkhead(5))
    made: list[Future[int]] = []
    both = threading.Barrier(2)

    def submit() -> Future[int]:
        both.wait(WAIT)
        made.append(Future())
        return made[-1]

    future = of.call(submit)
    until(lambda: part(of, "bulkhead")["used"] == 1)
    until(lambda: len(made) == 2 and sum(each.cancelled() for each in made) == 1)
    next(each for each in made if not each.cancelled()).set_result(7)
    assert future.result(WAIT) == 7
    comes_to_idle(of)


def test_a_copy_whose_caller_has_gone_is_not_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    of = policy(hedge(WAIT, idempotent=True), bulkhead(1, max_waiting=3, max_wait=WAIT))
    go = threading.Event()
    holder = threading.Thread(target=of.call, args=(go.wait, WAIT), daemon=True)
    holder.start()
    until(lambda: part(of, "bulkhead")["used"] == 1)
    begun: list[int] = []
    from resilient.engine.sync import driver

    def interrupted(call: Any, when: float, signal: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            until(lambda: part(of, "bulkhead")["waiting"] == 1)
            raise KeyboardInterrupt
        sleep(call, when, signal)

    sleep = driver._sleep
    monkeypatch.setattr(driver, "_sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        of.call(begun.append, 1)
    monkeypatch.undo()
    go.set()
    holder.join(WAIT)
    comes_to_idle(of)
    until(lambda: not part(of, "hedge")["left"])
    assert (begun, of.snapshot()["in_flight"]) == ([], 0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_copies_are_joined_also_where_the_caller_is_cancelled_again(backend: str) -> None:
    """The scopes of anyio cancel at each turn of the loop."""
    of, cleaned = raced(bulkhead(2)), list[int]()

    async def body() -> None:
        try:
            await anyio.sleep(WAIT)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.02)
            cleaned.append(1)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(of.acall, body)
            while part(of, "bulkhead")["used"] < 2:
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        assert (cleaned, part(of, "bulkhead")["used"]) == ([1, 1], 0)

    run(backend, main)
    idle(of)


def test_two_cancellations_of_asyncio_leave_no_copy_behind() -> None:
    of, cleaned = raced(bulkhead(2)), list[int]()

    async def body() -> None:
        try:
            await asyncio.sleep(WAIT)
        finally:
            await asyncio.sleep(0.05)
            cleaned.append(1)

    async def main() -> None:
        task = asyncio.ensure_future(of.acall(body))
        while part(of, "bulkhead")["used"] < 2:
            await anyio.lowlevel.checkpoint()
        task.cancel()
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cleaned == [1, 1]

    asyncio.run(main())
    idle(of)


def test_a_thread_timeout_outside_keeps_what_its_bodies_hold() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OrderWarning)
        of = policy(bulkhead(3), timeout(0.2, sync="thread"), hedge(WAIT, idempotent=True))
    go = threading.Event()
    ends = [of.try_call(go.wait, WAIT).error for _ in range(5)]
    assert [type(each) for each in ends] == [CallTimeoutError] * 3 + [BulkheadFullError] * 2
    assert part(of, "timeout")["workers"] == 3
    go.set()
    comes_to_idle(of)


def test_where_a_loop_runs_a_sync_call_has_one_copy() -> None:
    of = policy(hedge(0, idempotent=True), bulkhead(1, max_waiting=1, max_wait=WAIT))

    async def main() -> None:
        assert of.call(threading.get_ident) == threading.get_ident()
        async with of.block():
            found = of.try_call(int)
        assert isinstance(found.error, BulkheadFullError)  # and did not wait for itself

    asyncio.run(main())


@pytest.mark.parametrize("backend", [None, *BACKENDS])
def test_a_call_inside_a_probe_passes(backend: str | None) -> None:
    clock = ManualClock()
    of = policy(
        hedge(60, idempotent=True), circuit_breaker(failure_threshold=1, recovery_timeout=5),
        clock=clock,
    )  # fmt: skip
    of.force_open()
    of.release()
    assert of.state == "half_open"

    async def inner() -> int:
        return 7

    async def outer() -> int:
        return await of.acall(inner)

    async def main() -> None:
        assert await of.acall(outer) == 7

    if backend is None:
        assert of.call(lambda: of.call(int, "7")) == 7
    else:
        run(backend, main)
    assert of.state == "closed"


def test_refused_calls_pay_nothing() -> None:
    of = policy(hedge(60, idempotent=True), bulkhead(1))
    guard: Any = of._core.guards[0]
    while guard.budget.take(0.0):
        pass
    with of.block():
        for _ in range(100):
            assert of.try_call(int).error is not None
    assert guard.budget.left(0.0) < 0.1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_wait_in_line_is_not_the_dependencys_time(backend: str) -> None:
    clock = ManualClock()
    of = policy(
        hedge(1, idempotent=True), bulkhead(1, max_waiting=3, max_wait=60), clock=clock
    )  # fmt: skip
    begun: list[int] = []
    go = anyio.Event()

    async def body() -> None:
        begun.append(1)
        await go.wait()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            async with of.block():
                group.start_soon(of.acall, body)
                for _ in range(6):
                    await anyio.wait_all_tasks_blocked()
                    clock.advance(0.5)
                assert part(of, "bulkhead")["waiting"] == 1  # and no second copy beside it
            while not begun:
                await anyio.lowlevel.checkpoint()
            go.set()

    run(backend, main)
    idle(of)
    assert len(begun) == 1


@pytest.mark.parametrize("how", ["flag", "guards"])
def test_no_second_copy_once_it_is_off(flags: Flags, how: str) -> None:
    clock = ManualClock()
    of = policy(kill_switch(RECS), hedge(1, idempotent=True), bulkhead(2), clock=clock)
    begun: list[int] = []

    async def body() -> None:
        begun.append(1)
        await anyio.sleep(0.05)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(of.acall, body)
            while not begun:
                await anyio.lowlevel.checkpoint()
            if how == "flag":
                flags.off(RECS)
                assert not RECS
            else:
                set_active(False)
            clock.advance(5)

    try:
        asyncio.run(main())
    finally:
        set_active(True)
    assert len(begun) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_closing_what_nobody_gets_is_not_waited_for(backend: str) -> None:
    """A known client's answer: its close may hang."""
    import httpx

    of = raced(bulkhead(2))
    closing: list[str] = []

    class Answer(httpx.Response):
        async def aclose(self) -> None:
            closing.append("begun")
            await over.wait()
            closing.append("over")

    async def fetch() -> Any:
        begun.append(1)
        if len(begun) == 1:
            cancelled = anyio.get_cancelled_exc_class()
            with anyio.CancelScope(shield=True), contextlib.suppress(cancelled):
                await answered.wait()  # it has an answer all the same
        else:
            answered.set()
        return Answer(200)

    async def main() -> None:
        nonlocal answered, over
        answered, over = anyio.Event(), anyio.Event()
        assert (await of.acall(fetch)).status_code == 200
        assert closing in ([], ["begun"])
        while not closing:
            await anyio.lowlevel.checkpoint()
        over.set()
        while "over" not in closing:
            await anyio.lowlevel.checkpoint()

    begun: list[int] = []
    answered: Any = None
    over: Any = None
    run(backend, main)


def test_an_exit_in_the_loser_is_not_lost() -> None:
    of = raced(bulkhead(2), join_within=WAIT)

    async def body() -> int:
        number = part(of, "bulkhead")["used"]
        if number == 1:
            try:
                await asyncio.sleep(WAIT)
            finally:
                raise SystemExit(3)
        return 2

    with pytest.raises(SystemExit):
        asyncio.run(of.acall(body))
    idle(of)


def test_an_iterator_is_no_argument_to_be_raced() -> None:
    def numbers() -> Iterator[int]:
        yield from range(3)

    of = raced()
    assert of.call(sum, numbers()) == 3
    assert of.call(list, numbers()) == [0, 1, 2]


@pytest.mark.parametrize("backend", [None, *BACKENDS])
@pytest.mark.parametrize("down", [False, True])
def test_races_leave_no_garbage_behind(backend: str | None, down: bool) -> None:
    """Nothing of them has to be found by the collector of cycles."""
    of = raced(bulkhead(4), share=1.0)

    def end() -> int:
        if down:
            raise ConnectionError
        return 1

    async def body() -> int:
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        return end()

    def sync_body() -> int:
        time.sleep(0.002)
        return end()

    async def main() -> None:
        for _ in range(3):
            await of.atry_call(body)
        gc.collect()
        for _ in range(20):
            await of.atry_call(body)
        left.append(gc.collect())

    left: list[int] = []
    gc.disable()
    try:
        if backend is not None:
            run(backend, main)
        else:
            of.try_call(sync_body)
            gc.collect()
            for _ in range(20):
                of.try_call(sync_body)
            comes_to_idle(of)
            until(lambda: not part(of, "hedge")["left"])
            left.append(gc.collect())
    finally:
        gc.enable()
    assert sum(part(of, "hedge")["hedged"].values()) > 5
    assert left[0] < 20, left


def test_a_caller_that_goes_before_its_copy_is_let_in_is_counted_once() -> None:
    """On trio a system task may begin after its race is over."""
    import trio
    import trio.testing

    of = policy(hedge(60, idempotent=True, join_within=0), bulkhead(50))

    async def body() -> None:
        await trio.lowlevel.checkpoint()

    async def main() -> None:
        for _ in range(40):
            with trio.CancelScope() as scope:
                scope.cancel()
                await of.acall(body)
        await trio.testing.wait_all_tasks_blocked()

    trio.run(main)
    idle(of)
    assert (of.snapshot()["in_flight"], of.snapshot()["calls"]["cancelled"]) == (0, 40)
