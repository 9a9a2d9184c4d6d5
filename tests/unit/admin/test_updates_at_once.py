"""Updates that meet each other, and updates from places where they are refused."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

import resilient
from resilient import Policy, bulkhead, circuit_breaker
from tests.kit.policies import part, policy
from tests.kit.waiting import WAIT
from tests.unit.admin.kit import (
    Interfering,
    changed_by,
    inside_its_section,
    loaded,
    operator,
    options,
    updated,
)


def slots(of: Policy) -> int:
    number: int = options(of, "bulkhead")["max_concurrent"]
    return number


def limited() -> Policy:
    return policy(circuit_breaker(), bulkhead(1))


# -- another change in between ---------------------------------------------------------------------


def test_a_change_that_comes_between_is_not_lost() -> None:
    """Two updates of different options of one guard: both are there at the end."""
    shop = policy(bulkhead(1))
    shop.update(
        bulkhead=Interfering({"max_concurrent": 5}, lambda: shop.update(bulkhead={"order": "lifo"}))
    )
    assert (slots(shop), options(shop, "bulkhead")["order"]) == (5, "lifo")


def test_a_change_of_another_layer_that_comes_between_is_not_lost(tmp_path: Path) -> None:
    """The same with settings that are loaded while an update is prepared."""
    shop = policy(bulkhead(1))
    text = f'[policies."{shop.name}".bulkhead]\norder = "lifo"'
    given = Interfering({"max_concurrent": 5}, lambda: loaded(tmp_path, text))
    shop.update(bulkhead=given)
    assert (slots(shop), options(shop, "bulkhead")["order"]) == (5, "lifo")


def test_a_listener_may_update(events: list[resilient.Event]) -> None:
    """An update in an event of an update: no deadlock, both are told."""
    shop = policy(circuit_breaker(), bulkhead(1))

    def doubled(event: resilient.Event) -> None:
        if event.policy == shop.name and "bulkhead" in event.after:
            shop.update(circuit_breaker={"minimum_calls": 2})

    unsubscribe = resilient.registry.subscribe(doubled)
    shop.update(bulkhead={"max_concurrent": 5})
    unsubscribe()
    assert [event.after for event in updated(events, shop)] == [
        "bulkhead.max_concurrent=5", "circuit_breaker.minimum_calls=2",
    ]  # fmt: skip


def test_a_body_may_update_its_own_policy() -> None:
    """No lock is held while it runs."""
    shop = limited()

    @shop
    def fetch() -> int:
        shop.update(bulkhead={"max_concurrent": 6}, circuit_breaker={"window": 60})
        return slots(shop)

    assert fetch() == 6
    assert shop.snapshot()["calls"]["success"] == 1


# -- from inside its own section -------------------------------------------------------------------


def test_not_from_inside_its_own_section(events: list[resilient.Event]) -> None:
    """A RuntimeError; nothing changed, nothing told, and the next update works."""
    shop = limited()
    with inside_its_section(shop):
        with pytest.raises(RuntimeError, match=shop.name):
            shop.update(bulkhead={"max_concurrent": 6})
        with pytest.raises(RuntimeError, match=shop.name):
            operator(shop, bulkhead={"max_concurrent": 6})
    assert (slots(shop), changed_by(shop, "bulkhead")) == (1, {})
    assert shop.call(int) == 0
    shop.update(bulkhead={"max_concurrent": 6})
    assert shop.call(int) == 0
    assert len(updated(events, shop)) == 1
    assert part(shop, "bulkhead")["used"] == 0


def test_settings_from_inside_one_section_change_no_other_policy(tmp_path: Path) -> None:
    """Everything or nothing, also where the second policy can't be changed now."""
    first, second = policy(bulkhead(1)), policy(bulkhead(1))
    text = "".join(
        f'[policies."{each.name}".bulkhead]\nmax_concurrent=9\n' for each in (first, second)
    )
    with inside_its_section(second), pytest.raises(RuntimeError, match=second.name):
        loaded(tmp_path, text)
    assert (slots(first), slots(second)) == (1, 1)
    loaded(tmp_path, text)
    assert (slots(first), slots(second)) == (9, 9)


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals come to one thread"
)
def test_a_signal_handler_that_updates_breaks_nothing() -> None:
    """It is refused or it changes, wherever it lands; the counts stay exact."""
    shop = policy(circuit_breaker(failure_threshold=None, failure_rate=1.0), bulkhead(2))
    fetch = shop(lambda: 0)
    told: list[str] = []

    def handler(*_: object) -> None:
        try:
            shop.update(bulkhead={"max_concurrent": 2 + len(told) % 5})
        except RuntimeError:
            told.append("refused")
        else:
            told.append("changed")

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    number = 0
    try:
        while len(told) < 300 and number < 500_000:
            fetch()
            number += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert "changed" in told
    assert shop.snapshot()["calls"]["success"] == number
    assert shop.snapshot()["in_flight"] == part(shop, "bulkhead")["used"] == 0
    done = threading.Event()
    threading.Thread(
        target=lambda: (shop.update(bulkhead={"max_concurrent": 9}), done.set())
    ).start()
    assert done.wait(WAIT), "the lock is held"
    assert slots(shop) == 9
