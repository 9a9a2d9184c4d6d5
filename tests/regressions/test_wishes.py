"""What users of other libraries asked for and did not get: by the numbers of the research notes.

5: options change at run time, and the state stays. 9: more than one probe, and a ramp after closing.
13: a breaker for each key, without a leak. 16: a limit that measures does not drift. Priority is what
failsafe-go and concurrency-limits have.
"""

from __future__ import annotations

import contextlib
import gc
import tracemalloc
from typing import Any

from resilient import (
    BulkheadFullError,
    Policy,
    bulkhead,
    circuit_breaker,
    concurrency_limit,
    priority,
    rate_limit,
    throttle,
)  # fmt: skip
from resilient.guards.base import REFUSE
from resilient.outcomes import SUCCESS
from resilient.telemetry.policy_samples import row_of
from resilient.testing import ManualClock
from tests.kit.policies import fails, part, policy


def test_wish_05_options_change_and_the_state_stays(clock: ManualClock) -> None:
    """An open circuit stays open, calls keep their slots, what was let in counts on."""
    shop = policy(circuit_breaker(failure_threshold=1), throttle(), rate_limit(2, 60.0, quota=True), bulkhead(2), clock=clock)  # fmt: skip
    block = shop.block()
    with block:
        shop.update(bulkhead={"max_concurrent": 1}, rate_limit={"max_calls": 3})
        assert part(shop, "bulkhead")["running"] == 1
        assert part(shop, "rate_limit")["ready"] == 2
        assert isinstance(shop.try_call(int).error, BulkheadFullError)
    shop.try_call(fails)
    opened = part(shop, "circuit_breaker")["retry_after"]
    shop.update(circuit_breaker={"failure_threshold": 9, "recovery_timeout": 60.0})
    assert (shop.state, part(shop, "circuit_breaker")["retry_after"]) == ("open", opened)


def test_wish_05_options_of_keys_change_and_their_states_stay() -> None:
    hosts = policy(circuit_breaker(failure_threshold=1), bulkhead(2)).keyed(lambda host: host)
    hosts.try_call(fails, "sick")
    with hosts.block("busy"):
        hosts.policy.update(bulkhead={"max_concurrent": 1})
        assert isinstance(hosts.try_call(len, "busy").error, BulkheadFullError)
    assert hosts.snapshot("sick")["state"] == "open"  # type: ignore[index]


def test_wish_09_recovery_is_not_one_probe_and_not_all_at_once(clock: ManualClock) -> None:
    """Three probes must succeed, and then a tenth of the calls is let in at first."""
    shop = policy(
        circuit_breaker(failure_threshold=1, recovery_timeout=1.0, half_open_max_calls=3,
                        success_threshold=3, ramp=10.0), clock=clock,
    )  # fmt: skip
    shop.try_call(fails)
    clock.advance(1.0)
    for _ in range(3):
        shop.call(int)
    assert shop.state == "closed"
    served = [shop.try_call(int).served for _ in range(100)].count("full")
    assert 9 <= served <= 12
    clock.advance(10.0)
    assert [shop.try_call(int).served for _ in range(10)] == ["full"] * 10


def test_wish_13_keys_that_come_and_go_leak_neither_memory_nor_series(clock: ManualClock) -> None:
    """Fifteen thousand keys, some of which fail, in a table of fifty."""
    made = policy(circuit_breaker(), bulkhead(5), clock=clock)
    hosts = made.keyed(lambda host, *_: host, max_keys=50)

    def many(first: int) -> int:
        for number in range(first, first + 5_000):
            hosts.try_call(fails if number % 7 == 0 else len, f"{number}")
            clock.advance(1.0)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    many(0)
    tracemalloc.start()
    try:
        before, series = many(5_000), len(row_of(hosts.policy._core)[1])
        after = many(10_000)
    finally:
        tracemalloc.stop()
    assert after - before < 50_000
    assert len(row_of(hosts.policy._core)[1]) == series
    seen = hosts.policy.snapshot()["keys"]
    assert (seen["known"], seen["forgotten"], seen["overflowed"]) == (50, 14_950, 0)


def test_wish_16_a_measured_limit_does_not_drift_with_its_own_line() -> None:
    """Calls that take ever longer, by a line of our own making, never raise what is usual."""
    guard: Any = concurrency_limit(20)
    now = 0.0
    for step in range(4000):
        tickets = [t for t in (guard.admit(now) for _ in range(60)) if t != REFUSE]
        took = 0.01 * max(1.0, len(tickets) / 10)
        now += took
        for ticket in tickets:
            guard.settle(ticket, now, SUCCESS, took, "", False)
        if step > 3000:
            assert guard.snapshot(now)["baseline"] <= 0.02
    assert guard.snapshot(now)["limit"] <= 40  # of the 60 that are offered


def test_wish_priority_the_least_important_is_shed_first() -> None:
    """A flood of low ones leaves the critical ones their slots."""
    guard: Any = concurrency_limit(10, max_limit=10)
    held: list[int] = []
    with priority("low"):
        held += [guard.admit(0.0) for _ in range(10)]
    with priority("critical"):
        refused = guard.admit(0.0)
    assert refused == REFUSE  # all were taken: it takes a slot from the low ones
    guard.settle(held.pop(), 0.01, SUCCESS, 0.01, "", False)
    with priority("low"):
        assert guard.admit(0.02) == REFUSE
    with priority("critical"):
        assert guard.admit(0.02) != REFUSE


def test_wish_13_a_key_is_seen_by_name_and_never_by_a_label() -> None:
    shop = Policy("wish-labels", circuit_breaker(failure_threshold=1))
    hosts = shop.keyed(lambda host: host)
    with contextlib.suppress(OSError):
        hosts.call(fails, "a.example")
    found, _ = row_of(shop._core)
    assert all("a.example" not in labels for _, labels in found.tail)
    assert shop.snapshot()["keys"]["worst"][0]["key"] == "a.example"
    shop.drop()
