"""Exact counts under load, and half-open storms: an arbiter judges each at its end."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from resilient import (
    BulkheadFullError,
    CircuitOpenError,
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    timeout,
)
from resilient.testing import ManualClock
from tests.kit.policies import idle, part, policy, trip
from tests.kit.threads import in_threads
from tests.kit.waiting import WAIT

THREADS = 8
CALLS = 20_000


@pytest.fixture(autouse=True)
def fast_switches() -> Iterator[None]:
    """Let the interpreter switch threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def hammer(shop: Policy, calls: int, outcome_of: Any) -> Counter[str]:
    """Make calls in eight threads; return what their callers saw."""

    def body(number: int) -> int:
        return outcome_of(number)  # type: ignore[no-any-return]

    guarded = shop(body)

    def actor(_: int) -> Counter[str]:
        seen: Counter[str] = Counter()
        for number in range(calls):
            try:
                guarded(number)
                seen["success"] += 1
            except KeyError:
                seen["ignored"] += 1
            except OSError:
                seen["failure"] += 1
            except (CircuitOpenError, BulkheadFullError) as error:
                seen["refused"] += 1
                seen[error.guard] += 1
        return seen

    ends = in_threads(THREADS, actor)
    assert all(isinstance(end, Counter) for end in ends), ends
    return sum(ends, Counter())


def arbiter(shop: Policy, seen: Counter[str], calls: int) -> None:
    """Judge: every call is booked once, where its caller saw it end."""
    booked = shop.snapshot()
    outcomes = {key: seen[key] for key in ("success", "failure", "ignored", "refused")}
    assert {**booked["calls"]} == {**outcomes, "cancelled": 0}
    assert sum(booked["calls"].values()) == THREADS * calls
    ran = seen["success"] + seen["failure"] + seen["ignored"]
    assert booked["duration"]["count"] == ran
    assert sum(booked["duration"]["buckets"].values()) == ran
    for guard in ("circuit_breaker", "bulkhead"):
        assert booked["refusals"].get(guard, 0) == seen[guard]
    assert sum(booked["served"].values()) == THREADS * calls
    assert booked["served"]["full"] == seen["success"]
    assert booked["in_flight_peak"] <= THREADS
    idle(shop)


def mixed(number: int) -> int:
    """Succeed mostly, fail at times, and raise what is ignored at times."""
    if number % 50 == 7:
        raise OSError
    if number % 50 == 11:
        raise KeyError
    return number


def good(number: int) -> int:
    """Succeed."""
    return number


@pytest.mark.parametrize("whole", [False, True], ids=["breaker", "whole"])
def test_trap_15_counts_are_exact(whole: bool) -> None:
    """Eight threads with 20,000 calls each: no count is lost, of the sum or the histogram."""
    inner = (bulkhead(THREADS), timeout(60, sync="cooperative")) if whole else ()
    breaker = circuit_breaker(failure_threshold=None, ignore=KeyError)
    shop = policy(breaker, *inner)
    seen = hammer(shop, CALLS, mixed if whole else good)
    assert seen["refused"] == 0
    arbiter(shop, seen, CALLS)


def test_trap_15_counts_are_exact_where_calls_are_refused() -> None:
    """With two slots for eight threads, refusals and successes add up, and two is the most."""
    shop = policy(circuit_breaker(failure_threshold=None, ignore=KeyError), bulkhead(2))
    lock, inside, most = threading.Lock(), [0], [0]

    def body(number: int) -> int:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        try:
            return mixed(number)
        finally:
            with lock:
                inside[0] -= 1

    seen = hammer(shop, 2_000, body)
    arbiter(shop, seen, 2_000)
    assert most[0] <= 2
    assert shop.snapshot()["in_flight_peak"] <= 2


def test_trap_15_counts_are_exact_while_the_circuit_flaps() -> None:
    """With a circuit that opens and closes all the time, every call is booked once."""
    breaker = circuit_breaker(
        failure_rate=None, failure_threshold=1, recovery_timeout=0.0001, ignore=KeyError
    )
    shop = policy(breaker, bulkhead(THREADS))
    seen = hammer(shop, 1_500, mixed)
    arbiter(shop, seen, 1_500)
    assert part(shop, "circuit_breaker")["transitions"]["open/auto"] > 0


def test_trap_15_the_fallback_answers_each_refusal_once() -> None:
    """Degraded and full answers add up to the calls, under load on two slots."""
    shop = policy(fallback(value=-1), circuit_breaker(failure_threshold=None), bulkhead(2))
    guarded = shop(good)
    answers = in_threads(THREADS, lambda _: Counter(guarded(n) < 0 for n in range(2_000)))
    seen = sum(answers, Counter())
    booked = shop.snapshot()
    assert booked["served"] == {
        "full": seen[False],
        "degraded": seen[True],
        "error": 0,
        "caller_error": 0,
    }
    assert booked["calls"]["refused"] == seen[True]
    idle(shop)


@pytest.mark.parametrize("permits", [1, 2])
def test_trap_01_half_open_storm(permits: int) -> None:
    """Two hundred times eight threads meet at the end of the recovery time: no herd, ever."""
    clock = ManualClock()
    breaker = circuit_breaker(
        recovery_timeout=5, half_open_max_calls=permits, success_threshold=permits
    )
    shop = policy(breaker, bulkhead(THREADS), clock=clock)
    entered: list[int] = []
    state = {"refused": 0}
    gate = threading.Event()
    lock = threading.Lock()

    def body() -> None:
        entered.append(1)
        assert gate.wait(WAIT)

    guarded = shop(body)
    start, finish = threading.Barrier(THREADS + 1), threading.Barrier(THREADS + 1)
    faults: list[BaseException] = []

    def once() -> None:
        start.wait(WAIT)
        try:
            guarded()
        except CircuitOpenError:
            with lock:
                state["refused"] += 1
                if state["refused"] == THREADS - permits:
                    gate.set()
        finish.wait(WAIT)

    def actor() -> None:
        try:
            for _ in range(200):
                once()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=actor, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(200):
            trip(shop)
            clock.advance(5)
            entered.clear()
            state["refused"] = 0
            gate.clear()
            start.wait(WAIT)
            if not gate.wait(2):
                gate.set()  # a herd: fewer were refused than should have been
            finish.wait(WAIT)
            assert len(entered) == permits
            assert shop.state == "closed"
    finally:
        gate.set()
        if sys.exc_info()[0] is not None:
            start.abort()
            finish.abort()
        for thread in threads:
            thread.join(WAIT)
    assert not faults
    idle(shop)
