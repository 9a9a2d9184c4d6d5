"""The hedge on threads (H4), its input, and what it refuses."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

import pytest
import requests

from resilient import (
    CallTimeoutError,
    Policy,
    bulkhead,
    check,
    circuit_breaker,
    hedge,
    on_abandon,
    remaining,
    retry,
    timeout,
)
from resilient.engine.sync.workers import pool
from resilient.guards.hedge.hedge import Hedge
from resilient.guards.hedge.latencies import Latencies
from resilient.testing import ManualClock
from tests.kit.policies import comes_to_idle, idle, part, policy
from tests.kit.waiting import WAIT, until


class Copies:
    """A body whose copies end when the test says; by the real clock, with no delay between them."""

    def __init__(self) -> None:
        self.begun = 0
        self.ends = [threading.Event() for _ in range(3)]
        self.both = threading.Event()
        self.outcome: dict[int, Any] = {}
        self.lock = threading.Lock()
        self.seen: list[Any] = []

    def fetch(self) -> Any:
        with self.lock:
            number = self.begun = self.begun + 1
        if number == 2:
            self.both.set()
        assert self.ends[number].wait(WAIT)
        self.seen.append((number, remaining()))
        outcome = self.outcome.get(number, number)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def end(self, *numbers: int) -> None:
        for number in numbers:
            self.ends[number].set()


def called(of: Policy, fn: Any) -> tuple[threading.Thread, list[Any]]:
    """Make a call in a thread of its own."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(of.try_call(fn)), daemon=True)
    thread.start()
    return thread, found


@pytest.mark.parametrize("way", [None, "cooperative", "thread"])
def test_the_loser_keeps_its_slot_until_it_ends(way: Any) -> None:
    limits = [] if way is None else [timeout(WAIT, sync=way)]
    of = policy(hedge(0, idempotent=True), circuit_breaker(), bulkhead(2), *limits)
    copies = Copies()
    thread, found = called(of, copies.fetch)
    assert copies.both.wait(WAIT)
    assert part(of, "bulkhead")["used"] == 2
    copies.end(2)
    thread.join(WAIT)
    assert (found[0].value, found[0].attempts, found[0].served) == (2, 2, "full")
    told = part(of, "hedge")
    assert (sum(told["hedged"].values()), told["hedged"]["neither"], told["left"]) == (1, 0, 1)
    assert part(of, "bulkhead")["used"] == 1
    assert of.snapshot()["abandoned"] == 1
    copies.end(1)
    until(lambda: not part(of, "hedge")["left"])
    comes_to_idle(of)
    assert of.snapshot()["calls"]["success"] == 1
    assert part(of, "circuit_breaker")["window"]["calls"] == 1  # the loser says nothing


@pytest.mark.parametrize("way", [None, "cooperative", "thread"])
def test_both_fail(way: Any) -> None:
    limits = [] if way is None else [timeout(WAIT, sync=way)]
    of = policy(hedge(0, idempotent=True), bulkhead(2), *limits)
    copies = Copies()
    copies.outcome = {1: ConnectionError("one"), 2: ConnectionError("two")}
    thread, found = called(of, copies.fetch)
    assert copies.both.wait(WAIT)
    copies.end(2, 1)
    thread.join(WAIT)
    assert str(found[0].error) in ("one", "two")  # which thread was the first is not known
    comes_to_idle(of)
    assert part(of, "hedge")["hedged"]["neither"] == 1


def test_a_copy_in_line_for_the_slot_of_the_winner_never_begins() -> None:
    """H2: the slot that is free now is handed to it, and there is an answer already."""
    of = policy(hedge(0, idempotent=True), bulkhead(1, max_waiting=2, max_wait=WAIT))
    copies = Copies()
    thread, found = called(of, copies.fetch)
    until(lambda: part(of, "bulkhead")["waiting"] == 1)
    copies.end(1, 2)
    thread.join(WAIT)
    assert found[0].value == 1
    comes_to_idle(of)
    until(lambda: not part(of, "hedge")["left"])
    assert copies.begun == 1
    told = part(of, "hedge")
    # The second one's thread may have been the first in line: then that is paid, and has won.
    assert (told["budget_left"] >= 10) == (told["hedged"]["second"] == 0)


def test_a_caller_that_is_interrupted_leaves_both(monkeypatch: pytest.MonkeyPatch) -> None:
    of = policy(hedge(0, idempotent=True), bulkhead(2))
    copies = Copies()
    from resilient.engine.sync import driver

    def interrupted(call: Any, when: float, signal: Any) -> None:
        if copies.both.is_set():
            raise KeyboardInterrupt
        sleep(call, when, signal)

    sleep = driver._sleep
    monkeypatch.setattr(driver, "_sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        of.call(copies.fetch)
    monkeypatch.undo()
    assert (part(of, "hedge")["left"], part(of, "bulkhead")["used"]) == (2, 2)
    assert of.snapshot()["calls"]["cancelled"] == 1
    copies.end(1, 2)
    until(lambda: not part(of, "hedge")["left"])
    comes_to_idle(of)


def test_a_loser_is_told_by_its_deadline() -> None:
    """`check` raises in it, and `on_abandon` is called, as after a thread timeout."""
    of = policy(hedge(0, idempotent=True), bulkhead(2), timeout(WAIT, sync="cooperative"))
    cut, told = threading.Event(), list[str]()
    numbers = iter([1, 2])
    lock = threading.Lock()

    def fetch() -> int:
        with lock:
            number = next(numbers)
        if number == 2:
            return 2
        with on_abandon(cut.set):
            assert cut.wait(WAIT)
        try:
            check()
        except CallTimeoutError:
            told.append("its time is up")
        return 1

    assert of.call(fetch) == 2
    until(lambda: not part(of, "hedge")["left"])
    assert told == ["its time is up"]
    comes_to_idle(of)


def test_without_threads_there_is_one_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    of = policy(hedge(0, idempotent=True), bulkhead(2))

    def no_thread(job: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(pool, "submit", no_thread)
    assert of.call(int, "7") == 7
    idle(of)


def test_so_many_run_on_and_no_more() -> None:
    of = policy(hedge(0, idempotent=True), circuit_breaker())
    guard: Any = of._core.guards[0]
    of._core.locked(guard.ran_on, 0.0, 64)
    assert not of._core.locked(guard.copies, 0.0)
    assert part(of, "hedge")["not_hedged"]["busy"] == 1


def test_context_variables_are_seen_and_not_set() -> None:
    from contextvars import ContextVar

    variable: ContextVar[int] = ContextVar("variable", default=0)
    of = policy(hedge(60, idempotent=True))

    def fetch() -> int:
        seen = variable.get()
        variable.set(2)
        return seen

    variable.set(1)
    assert of.call(fetch) == 1
    assert variable.get() == 1


def test_a_quantile_needs_no_thread_before_it_is_known() -> None:
    of = policy(hedge(quantile=0.95, idempotent=True))
    threads = {of.call(threading.get_ident) for _ in range(19)}
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "a delay in seconds, or quantile"),
        ({"delay": 1, "quantile": 0.9}, "and not both"),
        ({"delay": -1}, "delay must be a duration >= 0"),
        ({"delay": "1"}, "delay must be a duration >= 0"),
        ({"quantile": 0.4}, "quantile must be a number from 0.5 to 0.999"),
        ({"quantile": 1}, "quantile must be a number from 0.5 to 0.999"),
        ({"delay": 1, "share": 0}, "share must be a number > 0 and <= 1"),
        ({"delay": 1, "share": 5}, "share must be a number > 0 and <= 1"),
        ({"delay": 1, "join_within": -1}, "join_within must be a duration >= 0"),
        ({"delay": 1, "idempotent": False}, "idempotent must be True"),
        ({"delay": 1, "idempotent": "yes"}, "idempotent must be True or False"),
        ({"delay": 1, "shares": 0.1}, "did you mean 'share'"),
    ],
)
def test_bad_input_is_named(options: dict[str, Any], said: str) -> None:
    make: Any = hedge
    with pytest.raises((ValueError, TypeError), match=said):
        make(**{"idempotent": True, **options})


def test_idempotent_must_be_said() -> None:
    with pytest.raises(ValueError, match="say so where it does no harm"):
        hedge(0.1)


def test_bare_it_says_what_it_needs() -> None:
    make: Any = hedge
    with pytest.raises(TypeError, match="@hedge needs its options"):

        @make
        def find() -> int:
            return 1


def test_a_timedelta_will_do() -> None:
    guard = hedge(timedelta(milliseconds=20), idempotent=True)
    assert isinstance(guard, Hedge)
    assert guard.copies_after(0.0) == 0.02


def test_streams_are_refused() -> None:
    def stream() -> Iterator[int]:
        yield 1

    async def astream() -> AsyncIterator[int]:
        yield 1

    for fn in (stream, astream):
        with pytest.raises(TypeError, match="its hedge runs it twice, and two streams"):
            hedge(1, idempotent=True)(fn)


def test_blocks_and_futures_have_no_second_copy() -> None:
    of = policy(hedge(0, idempotent=True), bulkhead(2))
    with of.block():
        time.sleep(0)
    made: list[Future[int]] = []

    def submit() -> Future[int]:
        made.append(Future())
        return made[-1]

    future = of.call(submit)
    assert part(of, "bulkhead")["used"] == 1
    for each in made:
        each.set_result(7)
    assert future.result() == 7
    comes_to_idle(of)
    assert "gets no second copy" in str(of)


def test_a_clients_body_that_is_read_once_has_one_copy() -> None:
    of = policy(hedge(0, idempotent=True))
    seen: list[Any] = []

    class Answering(requests.adapters.BaseAdapter):
        def send(self, request: Any, *given: Any, **options: Any) -> Any:
            seen.append(threading.get_ident())
            answer = requests.Response()
            answer.status_code, answer.url, answer.request = 200, request.url, request
            return answer

        def close(self) -> None:
            pass

    with requests.Session() as session:
        session.mount("mock://", Answering())
        client = of.wrap(session, only=["put"])
        client.put("mock://here/", data=iter([b"once"]))
        assert seen == [threading.get_ident()]
        client.put("mock://here/", data=b"again")
        assert seen[1] != threading.get_ident()


def test_hedge_outside_retry_is_warned_of() -> None:
    from resilient import OrderWarning

    with pytest.warns(OrderWarning, match="retry stands inside hedge"):
        policy(hedge(1, idempotent=True), retry(on=OSError))


def test_options_change_live() -> None:
    of = policy(hedge(1, idempotent=True), clock=ManualClock())
    of.update(hedge={"delay": 2, "share": 0.5, "join_within": 3})
    guard: Any = of._core.guards[0]
    assert (guard.copies_after(0), guard.budget.share, guard.join_within) == (2, 0.5, 3)
    with pytest.raises(TypeError, match="not both"):
        of.update(hedge={"quantile": 0.9})
    of.update(hedge={"quantile": 0.9, "delay": None})
    assert guard.copies_after(0) is None


def test_a_view_shares_what_was_measured() -> None:
    of = policy(hedge(quantile=0.9, idempotent=True))
    for _ in range(20):
        of.call(int)
    other = of.with_(hedge(quantile=0.5, idempotent=True))
    assert other.guards[0].snapshot(0.0)["delay"] is not None


def test_a_quantile_is_right_to_a_tenth_and_forgets() -> None:
    found = Latencies()
    for number in range(900):
        found.add((number % 100 + 1) / 100)
    assert found.quantile(0.5) == pytest.approx(0.5, rel=0.11)
    assert found.quantile(0.95) == pytest.approx(0.95, rel=0.11)
    for _ in range(4000):
        found.add(0.001)
    assert found.quantile(0.95) == pytest.approx(0.001, rel=0.11)
    for odd in (0.0, 1e9, float("inf")):
        found.add(odd)
    for _ in range(5000):
        found.add(float("inf"))
    assert found.quantile(0.95) is None  # nobody knows: they were all left


def test_a_delay_as_long_as_the_timeout_is_warned_of() -> None:
    """A second copy that never begins looks on, and is off."""
    from resilient import OrderWarning

    with pytest.warns(OrderWarning, match=r"after 1 s, and its timeout of 0\.5 s ends the first"):
        policy(hedge(1, idempotent=True), timeout(0.5))
    policy(hedge(0.4, idempotent=True), timeout(0.5))
    policy(hedge(1, idempotent=True), timeout(0.5, sync="cooperative"))  # which ends nothing


def test_two_that_race_are_refused() -> None:
    class Other(Hedge):
        kind = "other_hedge"

    two = Other(
        1, quantile=None, idempotent=True, share=0.1, join_within=1, on=None, ignore=None,
        failed_result=None,
    )  # fmt: skip
    with pytest.raises(ValueError, match="at most one guard that races; got hedge, other_hedge"):
        policy(hedge(1, idempotent=True), two)
