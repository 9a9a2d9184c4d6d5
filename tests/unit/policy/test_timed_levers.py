"""Forced states that end by themselves, and the reset of a circuit breaker."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import time
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import resilient
from resilient import CircuitOpenError, Event, Policy, bulkhead, circuit_breaker, fallback, timeout
from resilient.clock import Alarm
from resilient.flags.runtime import here
from resilient.flags.state import State
from resilient.telemetry.policy_samples import exported, row_of
from resilient.testing import ManualClock
from tests.kit.forks import Fork, in_both
from tests.kit.policies import fails, idle, part, policy
from tests.kit.waiting import until
from tests.kit.worlds import BACKENDS, run
from tests.unit.admin.kit import breaker_state, manual

STATES = ("forced_open", "forced_closed")


def force(of: Policy, state: str, reason: str = "why", **given: Any) -> None:
    """Force a state."""
    (of.force_open if state == "forced_open" else of.force_closed)(reason, **given)


def forcings(events: list[Event], of: Policy) -> list[tuple[str, str, str, str, str]]:
    """Return what was told of forced states."""
    return [
        (e.kind, e.before, e.after, e.cause, e.reason)
        for e in events
        if e.policy == of.name and e.guard == "policy" and e.kind != "refused"
    ]


# -- the end ---------------------------------------------------------------------------


@pytest.mark.parametrize("for_", [60, 60.0, timedelta(minutes=1)])
def test_it_holds_for_so_long_and_is_released_with_an_event(events: list[Event], for_: Any) -> None:
    """Till the last moment, and no longer; what is told says by whom, and why."""
    shop, clock = manual(fallback(value="lesser"), circuit_breaker())
    shop.force_open("INC-1", for_=for_)
    clock.advance(59.5)
    assert shop.snapshot()["forced_left"] == 0.5
    assert f"{shop.name}: forced_open (INC-1; for 0 s more)" in str(shop)
    clock.advance(0.5)
    assert forcings(events, shop) == [
        ("forced", "", "forced_open", "operator", "INC-1 (for 60 s)"),
        ("released", "forced_open", "", "auto", "its time was up: INC-1"),
    ]
    assert shop.state == "half_open"
    assert shop.snapshot()["forced_left"] is None
    assert shop.call(int, "7") == 7
    assert shop.state == "closed"


def test_forced_closed_ends_closed_with_a_fresh_window() -> None:
    """As `release` does it."""
    shop, clock = manual(circuit_breaker(failure_threshold=2))
    shop.force_closed(for_=5)
    for _ in range(9):
        shop.try_call(fails)
    clock.advance(5)
    assert (shop.state, breaker_state(shop)["window"]["calls"]) == ("closed", 0)
    shop.try_call(fails)
    assert shop.state == "closed"


def test_a_refusal_tells_when_it_ends() -> None:
    """retry_after is what is left; without an end it is not known."""
    shop, clock = manual()
    shop.force_open("INC-1", for_=60)
    clock.advance(20)
    with pytest.raises(CircuitOpenError, match="forced open: INC-1") as caught:
        shop.call(int)
    assert caught.value.retry_after == 40
    shop.force_open("INC-1")
    with pytest.raises(CircuitOpenError) as caught:
        shop.call(int)
    assert caught.value.retry_after is None


@pytest.mark.parametrize("state", STATES)
def test_by_the_system_clock_it_ends_with_nobody_calling(events: list[Event], state: str) -> None:
    """A thread of its own ends it."""
    shop = policy(circuit_breaker())
    force(shop, state, for_=0.05)
    until(lambda: len(forcings(events, shop)) == 2)
    assert forcings(events, shop)[1][:4] == ("released", state, "", "auto")
    assert shop._core.forced is None


# -- whoever looks, where nothing rings --------------------------------------------------


class Deaf:
    """A clock that never rings, as in a forked child, or where there are no more threads."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def call_at(self, when: float, callback: Callable[[], object]) -> Alarm:
        return self

    def cancel(self) -> None:
        """Nothing is to be cancelled."""


def metric(of: Policy) -> float:
    """Return what the metric of forced states says."""
    layout, row = row_of(of._core)
    keys, values = exported(layout)
    said = {(m.name, labels): v for (m, labels), v in zip(keys, values(row), strict=True)}
    return said["override_active", ("forced_open",)]


def blocked(of: Policy) -> None:
    with of.block():
        pass


def streamed(of: Policy) -> list[int]:
    def one() -> Any:
        yield 1

    return list(of.call(one))


def decorated(of: Policy) -> int:
    return int(of(len)("x"))


def in_tasks(of: Policy) -> list[Any]:
    async def one() -> int:
        return 1

    return [run(backend, of.acall, one) for backend in BACKENDS]


LOOKS: dict[str, Callable[[Policy], Any]] = {
    "state": lambda p: p.state,
    "snapshot": lambda p: p.snapshot()["forced"] is None or pytest.fail("forced"),
    "registry": lambda p: resilient.registry.snapshot()["policies"][p.name]["forced"],
    "text": str,
    "metrics": lambda p: metric(p) == 0 or pytest.fail("forced"),
    "call": lambda p: p.call(int),
    "function": decorated,
    "stream": streamed,
    "block": blocked,
    "tasks": in_tasks,
    "view": lambda p: p.with_(bulkhead(1)).call(int),
}


@pytest.mark.parametrize("look", [*LOOKS])
def test_whoever_calls_or_looks_ends_it(look: str, events: list[Event]) -> None:
    """The first one after its time finds it ended, and has it told."""
    clock = Deaf()
    shop = policy(bulkhead(3), timeout(9, sync="cooperative"), clock=clock)  # type: ignore[arg-type]
    shop.force_open(for_=10)
    clock.time += 9.75
    assert shop.state == "forced_open"
    assert metric(shop) == 1
    clock.time += 0.25
    LOOKS[look](shop)
    assert [kind for kind, *_ in forcings(events, shop)] == ["forced", "released"]
    idle(shop)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_it_ends_in_a_forked_child_too() -> None:
    """Where the thread that would have ended it is not."""
    shop = policy(circuit_breaker())

    def scene(fork: Fork) -> list[Any]:
        shop.force_open(for_=0.2)
        fork()
        before = shop._core.until
        while time.monotonic() < before:
            time.sleep(0.01)
        return [shop.state, shop.call(int), shop.state]

    parent, child = in_both(scene)
    assert parent == child == ["half_open", 0, "closed"]


def test_a_clock_that_a_test_sets_by_hand_ends_it(events: list[Event]) -> None:
    """Also where the state was forced before the policy followed that clock."""
    shop = policy(circuit_breaker())
    shop.force_open(for_=600)
    clock = ManualClock(start=time.monotonic())
    shop._core.follow(clock)
    clock.advance(601)
    assert [kind for kind, *_ in forcings(events, shop)] == ["forced", "released"]
    shop._core.follow(None)
    assert shop.state == "half_open"


# -- one after another --------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_the_newest_word_counts(state: str, events: list[Event]) -> None:
    """It is made longer, shorter, endless, and released by hand; the old end is forgotten."""
    shop, clock = manual(circuit_breaker())
    force(shop, state, for_=10)
    clock.advance(5)
    force(shop, state, for_=10)
    clock.advance(9)
    assert shop.state == state
    force(shop, state, for_=2)
    clock.advance(1)
    assert shop.state == state
    force(shop, state)
    clock.advance(1000)
    assert shop.state == state
    assert shop.snapshot()["forced_left"] is None
    force(shop, state, for_=3)
    clock.advance(3)
    assert shop.state in ("half_open", "closed")
    force(shop, state, for_=3)
    shop.release("enough")
    told = len(forcings(events, shop))
    clock.advance(1000)
    assert len(forcings(events, shop)) == told
    assert clock.waiting == 0


def test_one_state_over_the_other() -> None:
    """Each has its own end."""
    shop, clock = manual(circuit_breaker())
    shop.force_open(for_=10)
    shop.force_closed(for_=20)
    clock.advance(15)
    assert shop.state == "forced_closed"
    clock.advance(5)
    assert shop.state == "closed"


def test_a_policy_that_nobody_has_is_freed_before_the_end() -> None:
    """What waits for the end keeps no policy alive."""

    @bulkhead(1)
    def forgotten() -> None:
        pass

    found: Any = forgotten
    shop = found.__resilient__.policy
    shop.force_open(for_=3600)
    alarm = shop._core.alarm
    core = weakref.ref(shop._core)
    del forgotten, found, shop
    gc.collect()
    assert core() is None
    alarm.cancel()


def test_an_order_of_a_store_holds_again_afterwards() -> None:
    """While a state forced here goes over it; and it takes the end of one that it goes over."""
    shop, clock = manual(circuit_breaker())
    with ordered(shop) as order:
        order("forced_open")
        shop.force_closed("a trial", for_=30)
        assert shop.state == "forced_closed"
        clock.advance(30)
        assert shop.state == "forced_open"
        clock.advance(1000)
        assert shop.state == "forced_open"
        shop.force_closed("a trial", for_=30)
        order("forced_open", "again")
        clock.advance(30)
        assert shop.state == "forced_open"
        order("released")
        assert shop.state == "half_open"


@contextlib.contextmanager
def ordered(shop: Policy) -> Any:
    """Give orders for a policy as a store does."""
    from resilient.flags.flip import FORCED, Flip, lever_of
    from resilient.flags.policy_overrides import Orders

    state: State = State(here.flags)
    orders, before = Orders(state), here.orders
    versions = itertools.count(1)

    def order(value: str, reason: str = "an order") -> None:
        lever = lever_of(FORCED, shop.name)
        flip = Flip(lever, value, by="ann", reason=reason, version=next(versions))
        state.adopt([flip], time.time())
        orders.follow([lever])

    here.orders = orders
    try:
        yield order
    finally:
        here.orders = before


@pytest.mark.parametrize("for_", [0, -1, "10", True, float("nan"), 10**10, timedelta(0), [5]])
@pytest.mark.parametrize("state", STATES)
def test_a_bad_time_forces_nothing(state: str, for_: Any) -> None:
    """The message names the parameter."""
    shop = policy()
    with pytest.raises((ValueError, TypeError), match="for_ must be a duration"):
        force(shop, state, for_=for_)
    assert shop.state == "closed"
    assert shop._core.alarm is None


# -- reset --------------------------------------------------------------------------------


def opened(**options: Any) -> tuple[Policy, ManualClock]:
    """Return a policy whose circuit has just opened, and its clock."""
    shop, clock = manual(circuit_breaker(failure_threshold=2, **options), bulkhead(5))
    for _ in range(2):
        shop.try_call(fails)
    assert shop.state == "open"
    return shop, clock


def test_reset_closes_an_open_circuit(events: list[Event]) -> None:
    """Closed, with a fresh window, by an operator; the next failure is the first."""
    shop, _ = opened()
    shop.reset("INC-1 is over")
    event = events[-1]
    assert (event.kind, event.before, event.after) == ("closed", "open", "closed")
    assert (event.cause, event.reason) == ("operator", "reset: INC-1 is over")
    assert shop.call(int, "3") == 3
    shop.try_call(fails)
    seen = breaker_state(shop)
    assert (seen["state"], seen["window"]["calls"], seen["consecutive_failures"]) == (
        "closed",
        2,
        1,
    )
    assert seen["transitions"]["closed/operator"] == 1


def test_reset_forgets_the_failures_of_a_closed_one() -> None:
    """So that one more does not open it."""
    shop, _ = manual(circuit_breaker(failure_threshold=2))
    shop.try_call(fails)
    shop.reset()
    shop.try_call(fails)
    assert shop.state == "closed"


def test_reset_starts_the_recovery_time_over() -> None:
    """As a close does."""
    shop, clock = opened(recovery_timeout=10)
    clock.advance(10)
    shop.try_call(fails)
    assert breaker_state(shop)["retry_after"] == 20
    shop.reset()
    for _ in range(2):
        shop.try_call(fails)
    assert breaker_state(shop)["retry_after"] == 10


def test_what_is_in_flight_keeps_its_slot_and_is_late() -> None:
    """A probe that was under way moves nothing any more, and gives its slot back."""
    shop, clock = opened()
    clock.advance(5)
    block = shop.block()
    block.__enter__()
    assert shop.state == "half_open"
    shop.reset()
    seen = shop.snapshot()
    assert (shop.state, seen["in_flight"], part(shop, "bulkhead")["running"]) == ("closed", 1, 1)
    error = OSError("down")
    block.__exit__(OSError, error, None)
    assert (shop.state, breaker_state(shop)["late_results"]) == ("closed", 1)
    assert breaker_state(shop)["window"]["calls"] == 0
    idle(shop)


@pytest.mark.parametrize("state", STATES)
def test_a_forced_state_stays(state: str) -> None:
    """It is the breaker that is reset."""
    shop, _ = opened()
    force(shop, state)
    shop.reset()
    assert (shop.state, breaker_state(shop)["state"]) == (state, "closed")


def test_one_that_only_measures_has_its_window_emptied() -> None:
    """It has no other state."""
    shop, _ = manual(circuit_breaker(metrics_only=True, failure_threshold=3))
    shop.try_call(fails)
    shop.reset()
    assert breaker_state(shop)["window"]["calls"] == 0
    assert shop.state == "metrics_only"


def test_a_view_resets_its_own_breaker() -> None:
    """The policy's is another one."""
    shop, clock = opened()
    view = shop.with_(circuit_breaker(failure_threshold=1))
    view.reset()
    assert shop.state == "open"
    shop.with_(bulkhead(2)).reset()
    assert shop.state == "closed"
    assert clock.now() == 1000


def test_without_a_breaker_it_says_so() -> None:
    """Nothing is reset in silence."""
    with pytest.raises(ValueError, match="has no circuit breaker to reset"):
        policy(bulkhead(1)).reset()
    with pytest.raises(TypeError, match="reason must be a str"):
        policy(circuit_breaker()).reset(5)  # type: ignore[arg-type]
