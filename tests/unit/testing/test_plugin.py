"""The pytest plugin, used as its users use it."""

from __future__ import annotations

import threading

import pytest

import resilient
from resilient import CallTimeoutError, CircuitOpenError, Policy, circuit_breaker, fallback, timeout
from resilient.admin.registry import registry
from resilient.testing import ManualClock

pytest_plugins = ["pytester"]

shop = Policy("plugin-shop", fallback(value="cached"), circuit_breaker(recovery_timeout=30))


@shop
def fetch(answer: object = "fresh") -> object:
    if isinstance(answer, Exception):
        raise answer
    return answer


def break_it() -> None:
    for _ in range(5):
        fetch(ConnectionError())


def test_one_leaves_the_circuit_open() -> None:
    """The first of two tests trips a breaker of a policy that outlives it."""
    break_it()
    assert shop.state == "open"


def test_two_finds_it_as_it_was() -> None:
    """The next test finds the policy closed, with the counts it had before."""
    assert shop.state == "closed"
    assert shop.snapshot()["calls"]["failure"] == 0
    assert shop.snapshot()["guards"][1]["window"]["calls"] == 0


def test_clock_moves_policies_that_were_made_before_it(clock: ManualClock) -> None:
    """A recovery time passes without sleeping, exactly."""
    break_it()
    clock.advance(29.999)
    assert fetch() == "cached"
    clock.advance(0.001)
    assert fetch() == "fresh"
    assert shop.state == "closed"


def test_clock_moves_policies_that_the_test_makes(clock: ManualClock) -> None:
    """A policy made in the test follows the clock too."""

    @timeout(5, sync="cooperative")
    def slow() -> None:
        clock.advance(6)
        resilient.check()

    with pytest.raises(CallTimeoutError):
        slow()


def test_clock_ends_the_wait_for_a_worker(clock: ManualClock) -> None:
    """A thread timeout is up when the clock says so, while the body still runs."""
    go_on = threading.Event()

    @timeout(5, sync="thread")
    def slow() -> None:
        clock.advance(6)
        go_on.wait(10)

    with pytest.raises(CallTimeoutError):
        slow()
    go_on.set()


def test_forced_open_serves_the_fallback(policies: resilient.testing.plugin.Policies) -> None:
    """Inside the block every call is refused, and its fallback answers; after it, none is."""
    with policies.forced_open("plugin-shop"):
        assert fetch() == "cached"
        assert shop.state == "forced_open"
    assert shop.state == "closed"
    assert fetch() == "fresh"
    outcomes = policies.outcomes("plugin-shop")
    assert outcomes == {"success": 1, "failure": 0, "ignored": 0, "cancelled": 0, "refused": 1}
    assert policies.served(shop) == {"full": 1, "degraded": 1, "error": 0, "caller_error": 0}


def test_forced_open_puts_back_the_state_before(
    policies: resilient.testing.plugin.Policies,
) -> None:
    """The block leaves an open circuit open, not half-open."""
    break_it()
    with policies.forced_open(shop):
        pass
    assert shop.state == "open"
    with policies.forced_closed(shop):
        assert fetch() == "fresh"
    assert shop.state == "open"
    assert isinstance(shop.try_call(fetch.__wrapped__).error, CircuitOpenError)


def test_unknown_names_are_errors(policies: resilient.testing.plugin.Policies) -> None:
    """A misspelt name is an error that has the nearest name."""
    with pytest.raises(LookupError, match="plugin-shop"):
        policies.outcomes("plugin-shoop")
    with pytest.raises(LookupError), policies.forced_open("plugin-shoop"):
        pass


@pytest.mark.parametrize("_again", [1, 2])
def test_a_policy_made_in_a_test_is_forgotten_after_it(_again: int) -> None:
    """The same name can be made in the next test."""
    made = Policy("plugin-made-in-test")
    assert registry.find("plugin-made-in-test").name == made.name


@pytest.fixture(scope="module")
def outliving() -> Policy:
    return Policy("plugin-outliving")


def test_a_policy_of_a_wider_fixture_is_there(outliving: Policy) -> None:
    """A module's fixture makes a policy in the first test that asks for it."""
    assert outliving.name in registry.names()


def test_a_policy_of_a_wider_fixture_is_still_there(outliving: Policy) -> None:
    """It is not forgotten with that first test."""
    assert outliving.name in registry.names()


def test_nothing_needs_to_be_switched_on(pytester: pytest.Pytester) -> None:
    """A project that installs resilient has the fixtures."""
    pytester.makepyfile(
        """
        from resilient import Policy, circuit_breaker
        mail = Policy("mail", circuit_breaker())

        def test_it(clock, policies):
            with policies.forced_open("mail"):
                clock.advance(1)
        """
    )
    pytester.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=1)
