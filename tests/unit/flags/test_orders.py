"""Orders for policies: put on, ended, taken back, and reported where they can't be obeyed."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from resilient import (
    CircuitOpenError,
    FlagOffError,
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    flag,
    kill_switch,
    registry,
)
from resilient.flags.declarations import Flags
from resilient.flags.flip import Flip
from resilient.flags.policy_overrides import Orders
from resilient.flags.state import State
from resilient.flags.stores.memory import MemoryStore
from resilient.testing import flag_off
from tests.kit.followers import Make

_numbers = itertools.count(1)


@pytest.fixture
def shop() -> Policy:
    """A policy with a breaker and a bulkhead."""
    return Policy(f"shop-{next(_numbers)}", circuit_breaker(minimum_calls=9), bulkhead(3))


@pytest.fixture
def store() -> MemoryStore:
    """The store of a test."""
    return MemoryStore()


def put(store: MemoryStore, lever: str, value: Any, lasts: float | None = None) -> Flip:
    """Order something."""
    return store.flip(Flip(lever, value, by="ann", reason="why"), lasts, None)


def option(shop: Policy, kind: str, name: str) -> Any:
    """Return an option in force."""
    (guard,) = (guard for guard in shop.guards if guard.kind == kind)
    return guard.options()[name]


def test_forced_states_are_put_on_and_taken_back(
    hand: Make, store: MemoryStore, shop: Policy
) -> None:
    """Open, closed, released: at the next turn each; a policy made later obeys at once."""
    one = hand(lambda: store)
    lever = f"forced/{shop.name}"
    put(store, lever, "forced_open")
    one.turn()
    with pytest.raises(CircuitOpenError, match="why, by ann"):
        shop.call(int)
    put(store, lever, "forced_closed")
    one.turn()
    assert shop._core.forced == "forced_closed"
    assert shop.call(int) == 0
    put(store, lever, "released")
    one.turn()
    assert shop._core.forced is None
    assert one.follower.about()["policies"][shop.name]["forced"] is None


def test_an_order_ends_by_itself(hand: Make, store: MemoryStore, shop: Policy) -> None:
    """A forced state and an option, at their ends, on the monotonic clock."""
    times = [time.monotonic()]
    one = hand(lambda: store, now=lambda: times[0])
    put(store, f"forced/{shop.name}", "forced_open", 60)
    put(store, f"option/{shop.name}/bulkhead.max_concurrent", 1, 30)
    one.turn()
    assert (shop._core.forced, option(shop, "bulkhead", "max_concurrent")) == ("forced_open", 1)
    times[0] += 30.5
    one.turn()
    assert (shop._core.forced, option(shop, "bulkhead", "max_concurrent")) == ("forced_open", 3)
    times[0] += 30
    one.turn()
    assert shop._core.forced is None


def test_options_are_put_on_and_let_go(hand: Make, store: MemoryStore, shop: Policy) -> None:
    """Also metrics_only, and several of one guard; a released one is as declared."""
    one = hand(lambda: store)
    head = f"option/{shop.name}/circuit_breaker"
    put(store, f"{head}.metrics_only", True)
    put(store, f"{head}.minimum_calls", 7)
    one.turn()
    assert option(shop, "circuit_breaker", "metrics_only") is True
    assert option(shop, "circuit_breaker", "minimum_calls") == 7
    put(store, f"{head}.minimum_calls", "released")
    one.turn()
    assert option(shop, "circuit_breaker", "metrics_only") is True
    assert option(shop, "circuit_breaker", "minimum_calls") == 9
    assert one.follower.about()["faults"] == {}


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("bulkhead.max_concurrent", "many"), ("bulkhead.max_concurrent", -1),
        ("bulkhead.max_concurrent", None), ("bulkhead.max_concurent", 2), ("timeout.seconds", 2),
        ("circuit_breaker.failure_rate", 7.0),
    ],
)  # fmt: skip
def test_an_order_that_cant_be_obeyed_is_reported(
    hand: Make, store: MemoryStore, shop: Policy, what: str, value: Any
) -> None:
    """The policy stays as it was, other orders hold, and the store is told why."""
    one = hand(lambda: store)
    lever = f"option/{shop.name}/{what}"
    put(store, lever, value)
    put(store, f"option/{shop.name}/circuit_breaker.minimum_calls", 7)
    one.turn()
    assert option(shop, "bulkhead", "max_concurrent") == 3
    assert option(shop, "circuit_breaker", "minimum_calls") == 7
    (told,) = store.processes()[0]
    assert list(told.about["faults"]) == [lever]
    put(store, lever, "released")
    one.turn()
    assert store.processes()[0][0].about["faults"] == {}


def test_orders_for_policies_of_others_are_nobodys_fault(hand: Make, store: MemoryStore) -> None:
    """Another service of the fleet has them."""
    one = hand(lambda: store)
    put(store, "forced/elsewhere", "forced_open")
    put(store, "option/elsewhere/bulkhead.max_concurrent", 1)
    one.turn()
    assert one.follower.about()["faults"] == {}


def test_a_policy_made_again_obeys(hand: Make, store: MemoryStore) -> None:
    """Its orders are put on when it is first called, as for one made late."""
    one = hand(lambda: store)
    name = f"late-{next(_numbers)}"
    put(store, f"forced/{name}", "forced_open")
    one.turn()
    for _ in range(2):
        late = Policy(name, fallback(value="other"), circuit_breaker())
        one.orders.follow_policy(late._core)
        assert late._core.forced == "forced_open"
        registry.remove(name)


SWITCH = flag("fault-switch")


def test_an_order_that_ends_while_it_is_put_on_is_released() -> None:
    """The follower ends it between the look at it and the forcing."""
    now = [0.0]
    state = State(Flags(environ={}), lambda: now[0])
    orders, policy = Orders(state), Policy(f"ending-{next(_numbers)}", circuit_breaker())
    state.adopt([Flip(f"forced/{policy.name}", "forced_open", version=1, until=10.0)], 0.0)
    real, once = state.holding, [True]

    def holding(lever: str) -> Flip | None:
        found = real(lever)
        if lever.startswith("forced/") and once:
            once.clear()
            now[0] = 11.0
            orders.follow(state.expire())
        return found

    state.holding = holding  # type: ignore[method-assign]
    orders.follow_policy(policy._core)
    assert not once
    assert policy._core.forced is None


def test_a_switch_that_is_off_goes_before_a_forced_state() -> None:
    """It answers, or raises its own error; with the flag on, forced open is as before."""
    name = f"forced-{next(_numbers)}"
    plain = Policy(f"{name}-plain", kill_switch(SWITCH), circuit_breaker())
    answering = Policy(name, kill_switch(SWITCH, answer=lambda: "top"), circuit_breaker())
    for each in (plain, answering):
        assert each.call(lambda: "body") == "body"
        each._core.force("forced_open", "by ann")
        with pytest.raises(CircuitOpenError, match="forced open: by ann"):
            each.call(lambda: "body")
    with flag_off(SWITCH):
        assert answering.call(lambda: "body") == "top"
        with pytest.raises(FlagOffError):
            plain.call(lambda: "body")
    for each in (plain, answering):
        with pytest.raises(CircuitOpenError):
            each.call(lambda: "body")
        each._core.force(None, "enough")
        assert each.call(lambda: "body") == "body"
