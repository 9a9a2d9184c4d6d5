"""Slowness, leases and time limits, while the options that they come from change."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import Policy, bulkhead, check, circuit_breaker, remaining, timeout
from tests.kit.policies import fails, part, policy
from tests.kit.worlds import World, world_of
from tests.unit.admin.kit import manual, operator


@pytest.fixture
def world() -> Any:
    """Calls in threads, held open by hand."""
    with world_of("threads") as threads:
        yield threads


def slow_breaker(**more: Any) -> Any:
    return circuit_breaker(slow_call_duration=5, minimum_calls=2, failure_threshold=None, **more)


# -- slowness --------------------------------------------------------------------------------------


def test_a_shorter_limit_makes_calls_in_flight_slow_at_once(world: World) -> None:
    """Two hang for 2 s; with 5 s they were not slow, with 1 s they are: the next call is refused."""
    shop, clock = manual(slow_breaker())
    shop.call(int)
    shop.call(int)
    held = [world.begin(shop), world.begin(shop)]
    clock.advance(2)
    assert part(shop, "circuit_breaker")["slow_ratio"] == 0
    shop.update(circuit_breaker={"slow_call_duration": 1})
    assert part(shop, "circuit_breaker")["slow_ratio"] == 0.5
    assert shop.try_call(int).served == "error"
    assert shop.state == "open"
    for each in held:
        each.succeed()


def test_a_longer_limit_makes_calls_in_flight_fast_again(world: World) -> None:
    """They were counted as slow at 6 s; with 60 s they are not, and open nothing."""
    shop, clock = manual(slow_breaker())
    shop.call(int)
    shop.call(int)
    held = [world.begin(shop), world.begin(shop)]
    clock.advance(6)
    assert part(shop, "circuit_breaker")["slow_ratio"] == 0.5
    shop.update(circuit_breaker={"slow_call_duration": 60})
    assert part(shop, "circuit_breaker")["slow_ratio"] == 0
    assert shop.try_call(int).served == "full"
    for each in held:
        each.succeed()
    assert part(shop, "circuit_breaker")["slow_calls"] == 0
    assert shop.state == "closed"


def test_calls_are_judged_by_their_age_and_in_the_order_of_it(world: World) -> None:
    """Each by when it began, also one that a first limit had called slow already."""
    shop, clock = manual(slow_breaker(slow_call_rate=1))
    shop.call(int)
    shop.call(int)
    held = []
    for _ in range(4):
        held.append(world.begin(shop))
        clock.advance(2)
    for seconds in (5, 1, 7, 3, 100, 8):
        shop.update(circuit_breaker={"slow_call_duration": seconds})
        late = sum(age >= seconds for age in (8, 6, 4, 2))
        assert part(shop, "circuit_breaker")["slow_ratio"] == late / (2 + late), seconds
    for each in held:
        each.succeed()


def test_a_call_that_ended_while_slowness_did_not_matter_is_forgotten(world: World) -> None:
    """Nobody is in flight: turned on again, nothing is slow, and the circuit stays closed."""
    shop, clock = manual(circuit_breaker(slow_call_duration=1, minimum_calls=1))
    held = world.begin(shop)
    shop.update(circuit_breaker={"slow_call_duration": None})
    held.succeed()
    shop.update(circuit_breaker={"slow_call_duration": 1})
    clock.advance(100)
    assert shop.try_call(int).served == "full"
    assert shop.state == "closed"


@pytest.mark.parametrize("end", ["succeed", "fail", "exit"])
def test_ages_are_exact_after_slowness_was_off(world: World, end: str) -> None:
    """The same, with more than one call and every way to end."""
    shop, clock = manual(circuit_breaker(slow_call_duration=1, minimum_calls=9), bulkhead(9))
    held = [world.begin(shop) for _ in range(3)]
    shop.update(circuit_breaker={"slow_call_duration": None})
    for each in held:
        if end == "succeed":
            each.succeed()
        else:
            each.fail(OSError("down") if end == "fail" else SystemExit())
    shop.update(circuit_breaker={"slow_call_duration": 1})
    clock.advance(100)
    assert part(shop, "circuit_breaker")["slow_ratio"] is None, "nobody is in flight"
    shop.update(circuit_breaker={"minimum_calls": 1})
    assert shop.try_call(int).served == "full"


@pytest.mark.parametrize("way", ["block", "decorated"])
def test_slowness_can_be_turned_on_for_a_breaker_declared_without(way: str) -> None:
    """Calls that come are watched from then on: those that hang open the circuit."""
    shop, clock = manual(circuit_breaker(minimum_calls=1, slow_call_rate=0.1))
    fetch = shop(lambda inner=None: inner and inner())
    fetch()
    shop.update(circuit_breaker={"slow_call_duration": 1})

    def inner() -> None:
        clock.advance(5)
        assert shop.try_call(int).served == "error"

    if way == "decorated":
        fetch(inner)
    else:
        with shop.block():
            inner()
    assert shop.state == "open"


def test_who_began_while_slowness_was_off_takes_nothing_from_who_began_after(world: World) -> None:
    """The age of the first two may be unknown; that of the third counts, when they have ended."""
    shop, clock = manual(circuit_breaker(slow_call_duration=1, minimum_calls=3, slow_call_rate=0.3))
    older = world.begin(shop)
    shop.update(circuit_breaker={"slow_call_duration": None})
    old = world.begin(shop)
    shop.update(circuit_breaker={"slow_call_duration": 1})
    hanging = world.begin(shop)
    older.succeed()
    old.succeed()
    clock.advance(2)
    assert shop.try_call(int).served == "error", "one of three is slow"
    hanging.succeed()


def test_a_result_is_slow_by_the_limit_at_its_end(world: World) -> None:
    """Two seconds are slow with a limit of one."""
    shop, clock = manual(circuit_breaker(slow_call_duration=5))
    held = world.begin(shop)
    clock.advance(2)
    shop.update(circuit_breaker={"slow_call_duration": 1})
    held.succeed()
    assert part(shop, "circuit_breaker")["window"]["slow"] == 1


# -- the lease of a probe --------------------------------------------------------------------------


def lease(of: Policy) -> float:
    """Return the lease in force of a policy's probes."""
    seconds: float = part(of, "circuit_breaker")["options"]["probe_lease"]
    return seconds


def limited() -> Policy:
    return policy(circuit_breaker(), bulkhead(2), timeout(1, sync="cooperative"))


def test_the_default_lease_follows_recovery_time_and_time_limit() -> None:
    """The longer of the two, as they are now; a lease of its own goes over both."""
    shop = limited()
    assert lease(shop) == 5
    shop.update(timeout={"seconds": 30})
    assert lease(shop) == 30
    shop.update(circuit_breaker={"recovery_timeout": 40})
    assert lease(shop) == 40
    shop.update(circuit_breaker={"probe_lease": 3})
    assert lease(shop) == 3
    shop.update(circuit_breaker={"probe_lease": None}, timeout={"seconds": 50})
    assert lease(shop) == 50
    operator(shop, timeout={"seconds": 2}, circuit_breaker={"recovery_timeout": 1})
    assert lease(shop) == 2


def test_the_lease_follows_a_change_through_a_view() -> None:
    """The guards are shared, and so is what follows from them."""
    shop = limited()
    view = shop.with_(bulkhead(9))
    view.update(timeout={"seconds": 30})
    assert lease(shop) == lease(view) == 30
    view.update(circuit_breaker={"probe_lease": 3})
    assert lease(shop) == lease(view) == 3


def test_the_lease_of_stacked_decorators_follows() -> None:
    """A policy grown from decorators is a policy like any other."""

    @circuit_breaker()
    @timeout(1, sync="cooperative")
    def fetch() -> None:
        """Do nothing."""

    grown: Policy = fetch.__resilient__.policy  # type: ignore[attr-defined]
    grown.update(timeout={"seconds": 30})
    assert lease(grown) == 30


def test_the_lease_of_a_views_own_breaker_follows_the_shared_time_limit() -> None:
    """The timeout is the policy's, the breaker the view's."""
    shop = limited()
    view = shop.with_(circuit_breaker())
    shop.update(timeout={"seconds": 30})
    assert lease(view) == 30


def test_a_views_own_time_limit_does_not_move_the_shared_lease() -> None:
    """It bounds the view's calls alone."""
    shop = limited()
    view = shop.with_(timeout(2, sync="cooperative"))
    view.update(timeout={"seconds": 30})
    assert part(view, "timeout")["options"]["seconds"] == 30
    assert part(shop, "timeout")["options"]["seconds"] == 1
    assert lease(shop) == 5
    shop.update(timeout={"seconds": 4})
    assert part(view, "timeout")["options"]["seconds"] == 30


# -- time limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["decorated", "call"])
def test_a_call_in_flight_keeps_its_time_limit(way: str) -> None:
    """Longer or shorter: what it was let in with holds for it, the new one for the next call."""
    shop, clock = manual(circuit_breaker(), timeout(10, sync="cooperative"))

    def body(seconds: float) -> float | None:
        shop.update(timeout={"seconds": seconds})
        clock.advance(2)
        left = remaining()
        check()
        return left

    guarded = shop(body)

    def run(seconds: float) -> Any:
        return guarded(seconds) if way == "decorated" else shop.call(body, seconds)

    assert run(1) == 8
    assert shop.snapshot()["late_values"] == 0
    with pytest.raises(TimeoutError, match="within 1 s"):
        run(10)
    assert shop.snapshot()["timeouts"] == 1
    assert run(10) == 8


def test_a_new_time_limit_bounds_functions_that_were_decorated_before() -> None:
    """The wrapper is not built anew."""
    shop, _clock = manual(timeout(10, sync="cooperative"))
    fetch = shop(remaining)
    assert fetch() == 10
    shop.update(timeout={"seconds": 0.5})
    assert fetch() == 0.5
    assert shop.try_call(fails).served == "error"
