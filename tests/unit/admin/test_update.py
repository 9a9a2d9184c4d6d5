"""Policy.update: what it takes, what it refuses, and what it tells of a change."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import resilient
from resilient import Policy, bulkhead, calls, circuit_breaker, fallback, timeout
from resilient.guards.sorting import changeable_options
from tests.kit.policies import fails, policy
from tests.unit.admin.kit import options, said, updated


def whole() -> Policy:
    """A policy with a guard of each kind."""
    return policy(
        fallback(value="lesser"), circuit_breaker(), bulkhead(20), timeout(1, sync="cooperative")
    )


# -- what is taken ---------------------------------------------------------------------------------


def test_options_of_several_guards_change_at_once(events: list[resilient.Event]) -> None:
    """The example of the docstring: three guards in one update, in one event."""
    shop = whole()
    shop.update(
        reason="INC-1",
        bulkhead={"max_concurrent": 40},
        circuit_breaker={"failure_rate": 0.3},
        timeout={"seconds": 0.2},
    )
    assert options(shop, "bulkhead")["max_concurrent"] == 40
    assert options(shop, "circuit_breaker")["failure_rate"] == 0.3
    assert options(shop, "timeout")["seconds"] == 0.2
    assert len(updated(events, shop)) == 1


EACH: list[tuple[str, str, Any, Any]] = [
    ("bulkhead", "max_concurrent", 3, 3),
    ("bulkhead", "order", "lifo", "lifo"),
    ("circuit_breaker", "failure_rate", 1, 1.0),
    ("circuit_breaker", "failure_rate", None, None),
    ("circuit_breaker", "failure_threshold", None, None),
    ("circuit_breaker", "failure_threshold", 7, 7),
    ("circuit_breaker", "window", calls(50), calls(50)),
    ("circuit_breaker", "window", timedelta(minutes=1), 60.0),
    ("circuit_breaker", "window", 30, 30.0),
    ("circuit_breaker", "minimum_calls", 5, 5),
    ("circuit_breaker", "slow_call_duration", timedelta(seconds=2), 2.0),
    ("circuit_breaker", "slow_call_rate", 0.9, 0.9),
    ("circuit_breaker", "recovery_timeout", 30, 30.0),
    ("circuit_breaker", "recovery_backoff", 1, 1.0),
    ("circuit_breaker", "max_recovery_timeout", timedelta(minutes=3), 180.0),
    ("circuit_breaker", "ramp", timedelta(seconds=20), 20.0),
    ("circuit_breaker", "half_open_max_calls", 3, 3),
    ("circuit_breaker", "success_threshold", 2, 2),
    ("circuit_breaker", "probe_lease", 9, 9.0),
    ("circuit_breaker", "metrics_only", True, True),
    ("timeout", "seconds", timedelta(milliseconds=200), 0.2),
]


@pytest.mark.parametrize(("kind", "name", "value", "shown"), EACH)
def test_each_option_changes_alone(
    kind: str, name: str, value: Any, shown: Any, events: list[resilient.Event]
) -> None:
    """Every changeable option changes to what its decorator would make of the value; no other."""
    shop = whole()
    before = {guard.kind: guard.options() for guard in shop.guards}
    shop.update(**{kind: {name: value}})
    before[kind][name] = shown
    assert {guard.kind: guard.options() for guard in shop.guards} == before
    differs = shown != {"failure_threshold": 5}.get(name, object())
    assert len(updated(events, shop)) == differs


def test_every_changeable_option_is_covered_here() -> None:
    """The table above, and max_waiting with max_wait, is all there is."""
    shop = whole()
    named = {(kind, name) for kind, name, *_ in EACH} | {
        ("bulkhead", "max_waiting"),
        ("bulkhead", "max_wait"),
    }
    assert named == {
        (guard.kind, name) for guard in shop.guards for name in changeable_options(guard)
    }


def test_a_second_update_adds_to_the_first() -> None:
    """What an earlier update said stays, unless it is said anew."""
    shop = whole()
    shop.update(bulkhead={"max_concurrent": 40})
    shop.update(bulkhead={"order": "lifo"})
    shop.update(circuit_breaker={"minimum_calls": 7})
    assert options(shop, "bulkhead") == {
        "max_concurrent": 40, "max_waiting": 0, "max_wait": None, "order": "lifo",
    }  # fmt: skip
    assert options(shop, "circuit_breaker")["minimum_calls"] == 7


def test_a_line_is_given_and_taken_away() -> None:
    """max_waiting and max_wait come and go together."""
    shop = policy(bulkhead(2))
    shop.update(bulkhead={"max_waiting": 5, "max_wait": 1})
    assert options(shop, "bulkhead")["max_wait"] == 1.0
    shop.update(bulkhead={"max_waiting": 0, "max_wait": None})
    assert options(shop, "bulkhead")["max_wait"] is None


@pytest.mark.parametrize("nothing", [{}, {"bulkhead": {}}, {"circuit_breaker": {}, "timeout": {}}])
def test_an_empty_update_changes_nothing(
    nothing: dict[str, Any], events: list[resilient.Event]
) -> None:
    """No option named: nothing happens, and nothing is told."""
    shop = whole()
    shop.update(**nothing)
    assert not updated(events, shop)
    assert all(not guard["changed"] for guard in shop.snapshot()["guards"])


def test_an_empty_update_of_a_guard_without_options_changes_nothing() -> None:
    """A fallback has nothing that can change, and an empty mapping asks for nothing."""
    whole().update(fallback={})


# -- what is refused -------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], type[Exception], list[str]]] = [
    ({"bulkhed": {"max_concurrent": 1}}, ValueError, ["bulkhed", "'bulkhead'"]),
    ({"circuitbreaker": {}}, ValueError, ["circuitbreaker", "'circuit_breaker'"]),
    ({"kill_switch": {}}, ValueError, ["kill_switch"]),
    ({"bulkhead": {"max_concurent": 1}}, ValueError, ["max_concurent", "'max_concurrent'"]),
    ({"bulkhead": {5: 1}}, ValueError, ["5"]),
    ({"circuit_breaker": {"failure_rat": 1}}, ValueError, ["failure_rat", "'failure_rate'"]),
    ({"circuit_breaker": {"on": OSError}}, ValueError, ["on can't change"]),
    ({"circuit_breaker": {"ignore": OSError}}, ValueError, ["ignore can't change"]),
    ({"circuit_breaker": {"failed_result": bool}}, ValueError, ["failed_result can't change"]),
    ({"timeout": {"sync": "thread"}}, ValueError, ["sync can't change"]),
    ({"fallback": {"value": 1}}, ValueError, ["value"]),
    ({"fallback": {"fn": fails}}, ValueError, ["fn"]),
    ({"bulkhead": {"max_concurrent": 0}}, ValueError, ["max_concurrent", "0"]),
    ({"bulkhead": {"max_concurrent": True}}, TypeError, ["max_concurrent", "bool"]),
    ({"bulkhead": {"max_concurrent": "5"}}, TypeError, ["max_concurrent", "str"]),
    ({"bulkhead": {"max_concurrent": 5.0}}, TypeError, ["max_concurrent", "float"]),
    ({"bulkhead": {"max_concurrent": None}}, TypeError, ["max_concurrent", "None"]),
    ({"bulkhead": {"max_waiting": 3}}, ValueError, ["max_wait"]),
    ({"bulkhead": {"max_wait": 3}}, ValueError, ["max_waiting"]),
    ({"bulkhead": {"order": "random"}}, ValueError, ["order", "fifo"]),
    ({"bulkhead": {"order": ["fifo"]}}, ValueError, ["order"]),
    ({"timeout": {"seconds": 0}}, ValueError, ["seconds"]),
    ({"timeout": {"seconds": None}}, TypeError, ["seconds"]),
    ({"timeout": {"seconds": float("nan")}}, ValueError, ["seconds"]),
    ({"timeout": {"seconds": True}}, TypeError, ["seconds"]),
    ({"circuit_breaker": {"window": calls(10)}}, ValueError, ["minimum_calls", "calls(10)"]),
    ({"circuit_breaker": {"window": "10"}}, TypeError, ["window"]),
    ({"circuit_breaker": {"window": calls}}, TypeError, ["window"]),
    ({"circuit_breaker": {"failure_rate": 1.5}}, ValueError, ["failure_rate", "1.5"]),
    (
        {"circuit_breaker": {"failure_rate": None, "failure_threshold": None}},
        ValueError,
        ["failure_rate", "nothing opens it"],
    ),
    ({"circuit_breaker": {"metrics_only": 1}}, TypeError, ["metrics_only"]),
    ({"circuit_breaker": None}, TypeError, ["circuit_breaker", "mapping"]),
    ({"circuit_breaker": [("failure_rate", 0.1)]}, TypeError, ["circuit_breaker", "mapping"]),
    ({"bulkhead": "max_concurrent"}, TypeError, ["bulkhead", "mapping"]),
]


@pytest.mark.parametrize(("given", "kind", "words"), REFUSED, ids=range(len(REFUSED)))
@pytest.mark.parametrize("place", ["first", "last"])
def test_what_is_invalid_is_refused_and_nothing_changes(
    given: dict[str, Any],
    kind: type[Exception],
    words: list[str],
    place: str,
    events: list[resilient.Event],
) -> None:
    """The error names policy, guard, option and value; a valid change beside it is not made."""
    shop = whole()
    before = [guard.options() for guard in shop.guards]
    beside = (
        {"timeout": {"seconds": 9}} if "timeout" not in given else {"bulkhead": {"order": "lifo"}}
    )
    asked = {**given, **beside} if place == "first" else {**beside, **given}
    with pytest.raises(kind) as caught:
        shop.update(**asked)
    assert type(caught.value) is kind
    said(caught.value, shop.name, *words)
    assert [guard.options() for guard in shop.guards] == before
    assert all(not guard["changed"] for guard in shop.snapshot()["guards"])
    assert not updated(events, shop)
    shop.update(reason="still works", **beside)
    assert len(updated(events, shop)) == 1


def test_two_valid_options_beside_an_invalid_one_of_the_same_guard() -> None:
    """All or nothing holds within a guard too."""
    shop = whole()
    before = options(shop, "circuit_breaker")
    with pytest.raises(ValueError):
        shop.update(
            circuit_breaker={"recovery_timeout": 9, "failure_rate": 0.1, "minimum_calls": 0}
        )
    assert options(shop, "circuit_breaker") == before


def test_a_combination_across_updates_is_checked() -> None:
    """A second update must fit what the first has made, not what was declared."""
    shop = whole()
    shop.update(circuit_breaker={"window": calls(30)})
    with pytest.raises(ValueError, match="minimum_calls"):
        shop.update(circuit_breaker={"minimum_calls": 31})
    shop.update(circuit_breaker={"minimum_calls": 30})
    with pytest.raises(ValueError, match="minimum_calls"):
        shop.update(circuit_breaker={"window": calls(29)})
    assert options(shop, "circuit_breaker")["window"] == calls(30)


def test_two_guards_of_one_kind_are_ambiguous() -> None:
    """Which timeout is meant can't be known; the other guards can be changed."""
    shop = policy(timeout(5, sync="cooperative"), bulkhead(2), timeout(1, sync="cooperative"))
    with pytest.raises(ValueError) as caught:
        shop.update(bulkhead={"max_concurrent": 9}, timeout={"seconds": 3})
    said(caught.value, shop.name, "2 guards", "timeout")
    assert options(shop, "bulkhead")["max_concurrent"] == 2
    shop.update(bulkhead={"max_concurrent": 9})
    assert options(shop, "bulkhead")["max_concurrent"] == 9


@pytest.mark.parametrize("reason", [5, None, "two\nlines", "x" * 501])
def test_a_reason_is_a_short_text(reason: Any) -> None:
    """A reason that can't be shown is refused before anything changes."""
    shop = whole()
    with pytest.raises((TypeError, ValueError), match="reason"):
        shop.update(reason=reason, bulkhead={"max_concurrent": 3})
    assert options(shop, "bulkhead")["max_concurrent"] == 20
