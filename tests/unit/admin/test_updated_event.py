"""What is told of a change of options: the event, the snapshot and the printed plan."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import resilient
from resilient import Policy, bulkhead, calls, circuit_breaker, fallback, timeout
from tests.kit.policies import part, policy
from tests.unit.admin.kit import changed_by, updated


def whole() -> Policy:
    """A policy with a guard of each kind."""
    return policy(
        fallback(value="lesser"), circuit_breaker(), bulkhead(20), timeout(1, sync="cooperative")
    )


def test_the_event_has_before_after_cause_and_reason(events: list[resilient.Event]) -> None:
    """One event, of the policy, with what was changed and only that."""
    shop = whole()
    shop.update(
        reason="INC-2",
        bulkhead={"max_concurrent": 40, "order": "fifo"},
        timeout={"seconds": 0.2},
    )
    (event,) = updated(events, shop)
    assert (event.guard, event.cause, event.reason) == ("policy", "operator", "INC-2")
    assert event.before == "bulkhead.max_concurrent=20, timeout.seconds=1.0"
    assert event.after == "bulkhead.max_concurrent=40, timeout.seconds=0.2"


@pytest.mark.parametrize(
    ("given", "afresh"),
    [({"window": 60}, True), ({"window": 10}, False), ({"failure_rate": 0.1}, False)],
)
def test_the_event_says_that_the_window_starts_afresh(
    given: dict[str, Any], afresh: bool, events: list[resilient.Event]
) -> None:
    """Only where it does."""
    shop = whole()
    shop.update(circuit_breaker={"minimum_calls": 3, **given})
    (event,) = updated(events, shop)
    assert ("afresh" in event.after) is afresh


@pytest.mark.parametrize(
    "same",
    [
        {"bulkhead": {"max_concurrent": 20}},
        {"circuit_breaker": {"window": timedelta(seconds=10), "failure_rate": 0.5}},
        {"timeout": {"seconds": 1}},
        {"timeout": {"seconds": timedelta(seconds=1)}},
    ],
)
def test_no_event_where_nothing_effectively_changed(
    same: dict[str, Any], events: list[resilient.Event]
) -> None:
    """The value that is in force already, however it is written, is no change."""
    shop = whole()
    shop.update(**same)
    assert not updated(events, shop)
    assert all(not guard["changed"] for guard in shop.snapshot()["guards"])


def test_snapshot_and_plan_show_what_is_not_as_declared() -> None:
    """Both say what was declared and by whom it was changed, and forget it when it is undone."""
    shop = whole()
    assert "was declared" not in str(shop)
    shop.update(bulkhead={"max_concurrent": 40}, circuit_breaker={"window": calls(50)})
    assert part(shop, "bulkhead")["changed"] == {"max_concurrent": {"declared": 20, "by": "update"}}
    assert part(shop, "circuit_breaker")["changed"] == {
        "window": {"declared": 10.0, "by": "update"}
    }
    assert part(shop, "timeout")["changed"] == {}
    shown = [line.strip() for line in str(shop).splitlines() if "was declared" in line]
    assert shown == [
        "window was declared as 10.0, and is set by update",
        "max_concurrent was declared as 20, and is set by update",
    ]
    shop.update(bulkhead={"max_concurrent": 20}, circuit_breaker={"window": 10})
    assert not changed_by(shop, "bulkhead")
    assert "was declared" not in str(shop)
