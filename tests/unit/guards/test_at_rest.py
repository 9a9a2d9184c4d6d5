"""A guard is at rest where a new one would do as well: a key of a policy may then be forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilient import (
    Policy,
    bulkhead,
    calls,
    circuit_breaker,
    concurrency_limit,
    hedge,
    rate_limit,
    retry,
    throttle,
)  # fmt: skip
from resilient.guards.per_key import PerKey
from resilient.outcomes import FAILURE, SUCCESS

GUARDS: dict[str, Callable[[], Any]] = {
    "circuit_breaker": lambda: circuit_breaker(failure_threshold=2, recovery_timeout=1.0),
    "breaker with a ramp": lambda: circuit_breaker(
        failure_threshold=1, recovery_timeout=1.0, ramp=5.0
    ),
    "slow calls": lambda: circuit_breaker(slow_call_duration=0.5),
    "bulkhead": lambda: bulkhead(2, max_waiting=2, max_wait=1.0),
    "rate_limit": lambda: rate_limit(2, 10.0, burst=2),
    "quota": lambda: rate_limit(2, 10.0, quota=True),
    "concurrency_limit": lambda: concurrency_limit(7, max_limit=9, on=(OSError,)),
    "throttle": lambda: throttle(minimum_calls=1),
    "retry": lambda: retry(on=OSError, ignore=KeyError, attempts=2),
    "hedge": lambda: hedge(0.1, idempotent=True),
}
NOW = 1000.0


def settled(guard: Any, outcome: int, at: float, duration: float = 0.0) -> None:
    """Let one attempt in, and end it."""
    ticket = guard.admit(at)
    assert ticket >= 0
    guard.settle(ticket, at + duration, outcome, duration, "OSError", False)


@pytest.mark.parametrize("name", GUARDS)
def test_a_new_one_is_at_rest_and_one_with_a_call_in_it_is_not(name: str) -> None:
    guard: Any = GUARDS[name]()
    assert issubclass(type(guard), PerKey)
    assert guard.at_rest(NOW)
    held = name in ("bulkhead", "rate_limit", "quota", "concurrency_limit", "slow calls")
    guard.admit(NOW)
    assert guard.at_rest(NOW) is not held


@pytest.mark.parametrize("name", GUARDS)
def test_another_one_has_the_same_options_and_no_state(name: str) -> None:
    guard = GUARDS[name]()
    settled(guard, FAILURE, NOW)
    other = guard.anew()
    assert type(other) is type(guard)
    assert other.options() == guard.options()
    assert other.judge is guard.judge
    assert other.at_rest(NOW)
    assert other.snapshot(NOW)["options"] == guard.snapshot(NOW)["options"]


def test_the_limit_that_was_declared_is_where_another_one_begins() -> None:
    assert concurrency_limit(7).anew().snapshot(NOW)["limit"] == 7


@pytest.mark.parametrize(
    ("name", "after"),
    [("circuit_breaker", 11.0), ("rate_limit", 5.0), ("quota", 10.0), ("throttle", 132.0)],
)
def test_the_mark_of_a_failure_fades(name: str, after: float) -> None:
    guard = GUARDS[name]()
    settled(guard, FAILURE, NOW)
    assert not guard.at_rest(NOW + after / 10)
    assert guard.at_rest(NOW + after)


def test_a_success_leaves_a_breaker_at_rest_and_an_open_circuit_never_is() -> None:
    guard = GUARDS["circuit_breaker"]()
    settled(guard, SUCCESS, NOW)
    assert guard.at_rest(NOW)
    settled(guard, FAILURE, NOW)
    settled(guard, FAILURE, NOW)
    assert guard.state == "open"
    assert not guard.at_rest(NOW + 1e6)
    ticket = guard.admit(NOW + 2.0)
    assert (guard.state, guard.at_rest(NOW + 2.0)) == ("half_open", False)
    guard.settle(ticket, NOW + 2.0, SUCCESS, 0.0, "", False)
    assert (guard.state, guard.at_rest(NOW + 2.0)) == ("closed", True)


def test_a_circuit_on_its_ramp_is_not_at_rest() -> None:
    guard = GUARDS["breaker with a ramp"]()
    settled(guard, FAILURE, NOW)
    ticket = guard.admit(NOW + 2.0)
    guard.settle(ticket, NOW + 2.0, SUCCESS, 0.0, "", False)
    assert (guard.state, guard.at_rest(NOW + 3.0)) == ("closed", False)
    assert guard.at_rest(NOW + 8.0)


def test_a_forced_circuit_is_not_at_rest() -> None:
    guard = GUARDS["circuit_breaker"]()
    guard.force("forced_closed", NOW)
    assert not guard.at_rest(NOW)


def test_a_window_of_calls_never_gets_old_so_a_closed_circuit_is_at_rest() -> None:
    guard = circuit_breaker(window=calls(100))
    settled(guard, FAILURE, NOW)
    assert guard.at_rest(NOW)


def test_a_spent_budget_is_a_mark() -> None:
    guard = GUARDS["retry"]()
    assert guard.budget.take(NOW)
    assert not guard.at_rest(NOW)
    assert guard.at_rest(NOW + 10.0)


def test_a_limit_of_the_fleet_is_at_rest_once_nothing_is_owed() -> None:
    policy = Policy("at-rest", rate_limit(2, 10.0, scope="fleet"))
    guard: Any = policy.guards[0]
    assert guard.at_rest(NOW)
    guard.pace.asked_at = NOW
    assert not guard.at_rest(NOW)
    guard.failed("gone", NOW)
    assert guard.pace.take(NOW) >= 0
    assert not guard.at_rest(NOW)
    assert guard.at_rest(NOW + 100.0)
    policy.drop()
