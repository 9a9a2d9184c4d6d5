"""KeyboardInterrupt in the body, in the line, and in the wait for a worker."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilient import Policy, bulkhead, circuit_breaker, fallback, hedge, timeout
from resilient.engine.sync import threads, workers
from resilient.engine.sync.workers import pool
from tests.kit.policies import idle, part, policy
from tests.kit.waiting import WAIT, until

Interrupt = Callable[[Callable[[], bool]], None]


@pytest.fixture
def interrupt() -> Iterator[Interrupt]:
    """Send the main thread a real SIGINT once it blocks in a wait and a condition holds.

    A signal that comes just before the thread blocks is not looked at until the wait is over, which
    is CPython's way: other signals, which do nothing, follow until the thread has woken.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    also = signal.signal(signal.SIGUSR1, lambda *_: None)
    threads: list[threading.Thread] = []
    main = threading.main_thread().ident
    assert main is not None

    def waits() -> bool:
        frame = sys._current_frames()[main]
        return frame.f_code is workers.Signal.wait.__code__

    def when(condition: Callable[[], bool]) -> None:
        def send() -> None:
            until(lambda: condition() and waits())
            signal.pthread_kill(main, signal.SIGINT)
            while waits():
                time.sleep(0.02)
                signal.pthread_kill(main, signal.SIGUSR1)

        threads.append(threading.Thread(target=send, daemon=True))
        threads[-1].start()

    yield when
    for thread in threads:
        thread.join(WAIT)
    signal.signal(signal.SIGINT, before)
    signal.signal(signal.SIGUSR1, also)


def whole(*inner: Any) -> Policy:
    """Return a policy with one slot and a line."""
    return policy(
        fallback(value="less"),
        circuit_breaker(failure_threshold=1),
        bulkhead(1, max_waiting=2, max_wait=30),
        *inner,
    )


@pytest.mark.parametrize("way", [None, "cooperative", "thread"])
def test_in_the_body(way: Any) -> None:
    """A real SIGINT in the body, or in the wait for the worker that runs it, costs nothing."""
    inner = () if way is None else (timeout(60, sync=way),)
    shop = whole(*inner)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def body() -> None:
        signal.raise_signal(signal.SIGINT)
        threading.Event().wait(0.05 if way == "thread" else 0)

    try:
        for call in (shop(body), lambda: shop.call(body)):
            with pytest.raises(KeyboardInterrupt):
                call()
    finally:
        signal.signal(signal.SIGINT, before)
    until(lambda: shop.snapshot()["abandoned"] == 0)
    idle(shop)
    assert shop.state == "closed"
    assert shop.snapshot()["calls"]["cancelled"] == 2
    assert shop.call(lambda: "full") == "full"


@pytest.mark.parametrize("way", [None, "cooperative", "thread"])
def test_in_a_race(way: Any) -> None:
    """A real SIGINT while the main thread waits for two copies leaves both, and costs nothing."""
    inner = () if way is None else (timeout(60, sync=way),)
    shop = policy(fallback(value="less"), hedge(0, idempotent=True), bulkhead(2), *inner)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    both = threading.Barrier(2)

    def body() -> None:
        if both.wait(WAIT) == 0:
            signal.raise_signal(signal.SIGINT)
        threading.Event().wait(0.05)

    try:
        for call in (shop(body), lambda: shop.call(body)):
            with pytest.raises(KeyboardInterrupt):
                call()
            until(lambda: shop.snapshot()["abandoned"] == 0)
    finally:
        signal.signal(signal.SIGINT, before)
    idle(shop)
    assert part(shop, "hedge")["left"] == 0
    assert shop.snapshot()["calls"]["cancelled"] == 2
    assert shop.call(lambda: "full") == "full"


@pytest.mark.parametrize("way", [None, "cooperative", "thread"])
def test_in_the_line(interrupt: Interrupt, way: Any) -> None:
    """A real SIGINT while the main thread stands in line leaves the line."""
    inner = () if way is None else (timeout(60, sync=way),)
    shop = whole(*inner)
    entered, go = threading.Event(), threading.Event()

    def body() -> None:
        entered.set()
        go.wait(WAIT)

    holder = threading.Thread(target=shop.call, args=(body,), daemon=True)
    holder.start()
    assert entered.wait(WAIT)
    interrupt(lambda: part(shop, "bulkhead")["waiting"] == 1)
    with pytest.raises(KeyboardInterrupt):
        shop.call(lambda: "full")
    assert part(shop, "bulkhead")["waiting"] == 0
    go.set()
    holder.join(WAIT)
    idle(shop)
    assert shop.state == "closed"
    assert shop.snapshot()["calls"]["cancelled"] == 1
    assert shop.call(lambda: "full") == "full"


@pytest.mark.parametrize("way", ["decorated", "call"])
@pytest.mark.parametrize("begins", [True, False])
def test_while_a_worker_starts(monkeypatch: pytest.MonkeyPatch, way: str, begins: bool) -> None:
    """A body that has begun keeps its slot until it ends; one that has not never begins."""
    shop = whole(timeout(60, sync="thread"))
    entered, go = threading.Event(), threading.Event()
    hire = pool.hire

    def body() -> None:
        entered.set()
        go.wait(WAIT)

    def interrupted(job: Any, *_: Any) -> Any:
        mail = hire(job)
        if begins:
            mail.set()
            assert entered.wait(WAIT)
        hired.append(mail)
        raise KeyboardInterrupt

    def exchanged(mail: Any, *_: Any) -> bool:
        if begins:
            mail.set()
            assert entered.wait(WAIT)
        hired.append(mail)
        raise KeyboardInterrupt

    hired: list[Any] = []
    monkeypatch.setattr(pool, "submit", interrupted)
    monkeypatch.setattr(threads, "exchange", exchanged)
    guarded = shop(body)
    with pytest.raises(KeyboardInterrupt):
        if way == "decorated":
            guarded()
        else:
            shop.call(body)
    monkeypatch.undo()
    for mail in hired:
        mail.set()
    held = int(begins)
    assert shop.snapshot()["in_flight"] == 0
    assert shop.snapshot()["abandoned"] == part(shop, "bulkhead")["used"] == held
    go.set()
    until(lambda: shop.snapshot()["abandoned"] == 0)
    idle(shop)
    assert shop.call(lambda: "full") == "full"
    assert entered.is_set() is begins


def test_in_the_wait_for_a_worker(interrupt: Interrupt) -> None:
    """A real SIGINT in the wait abandons the worker, which keeps the slot until it ends."""
    shop = whole(timeout(60, sync="thread"))
    entered, go = threading.Event(), threading.Event()

    def body() -> None:
        entered.set()
        go.wait(WAIT)

    interrupt(entered.is_set)
    with pytest.raises(KeyboardInterrupt):
        shop.call(body)
    assert shop.snapshot()["in_flight"] == 0
    assert shop.snapshot()["abandoned"] == part(shop, "bulkhead")["used"] == 1
    go.set()
    until(lambda: shop.snapshot()["abandoned"] == 0)
    idle(shop)
    assert shop.snapshot()["calls"]["cancelled"] == 1
    assert shop.state == "closed"


@pytest.mark.parametrize("ended", [False, True], ids=["still runs", "has ended"])
def test_at_any_moment_of_the_wait(monkeypatch: pytest.MonkeyPatch, ended: bool) -> None:
    """An interrupt in the wait is the caller's end, also if the worker ends at that moment."""
    shop = whole(timeout(60, sync="thread"))
    go, wait = threading.Event(), workers.Signal.wait

    def interrupted(self: workers.Signal, seconds: float) -> bool:
        if threading.current_thread() is not threading.main_thread():
            return wait(self, seconds)
        if ended:
            go.set()
            wait(self, seconds)
        raise KeyboardInterrupt

    monkeypatch.setattr(workers.Signal, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shop.call(go.wait, WAIT)
    monkeypatch.undo()
    go.set()
    until(lambda: shop.snapshot()["abandoned"] == 0)
    idle(shop)
    assert shop.state == "closed"


@pytest.mark.parametrize("granted", [False, True], ids=["in line", "granted"])
def test_at_any_moment_in_the_line(monkeypatch: pytest.MonkeyPatch, granted: bool) -> None:
    """An interrupt in the line, or after the slot was handed over, passes the slot on."""
    shop = whole()
    wait, depth = workers.Signal.wait, []

    def interrupted(self: workers.Signal, seconds: float) -> bool:
        depth.append(part(shop, "bulkhead")["waiting"])
        if granted:
            go.set()
            wait(self, seconds)
            assert part(shop, "bulkhead")["used"] == 1
        raise KeyboardInterrupt

    entered, go = threading.Event(), threading.Event()

    def body() -> None:
        entered.set()
        go.wait(WAIT)

    holder = threading.Thread(target=shop.call, args=(body,), daemon=True)
    holder.start()
    assert entered.wait(WAIT)
    monkeypatch.setattr(workers.Signal, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shop.call(lambda: "full")
    monkeypatch.undo()
    go.set()
    holder.join(WAIT)
    assert depth == [1]
    idle(shop)
    assert shop.call(lambda: "full") == "full"


def test_while_a_worker_is_being_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt in the start of the thread, which is a wait too, holds nothing for ever."""
    shop = whole(timeout(60, sync="thread"))
    shop.call(int)
    workers.pool.reset()  # so that the next call has to start a worker
    wait = threading.Event.wait

    def interrupted(self: threading.Event, seconds: float | None = None) -> bool:
        wait(self, seconds)
        if threading.current_thread() is threading.main_thread():
            monkeypatch.undo()
            raise KeyboardInterrupt
        return True

    monkeypatch.setattr(threading.Event, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shop.call(int)
    monkeypatch.undo()
    until(lambda: shop.snapshot()["abandoned"] == 0)
    idle(shop)
