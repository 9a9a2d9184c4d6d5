"""What a circuit breaker keeps while its options change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import resilient
from resilient import CircuitOpenError, calls, circuit_breaker, timeout
from tests.kit.policies import fails, part
from tests.kit.worlds import World, world_of
from tests.unit.admin.kit import breaker_state, manual, operator, probes, updated

NO_WINDOW: list[dict[str, Any]] = [
    {"failure_rate": 0.9},
    {"failure_threshold": 9},
    {"minimum_calls": 19},
    {"slow_call_duration": 50.0},
    {"slow_call_rate": 0.9},
    {"recovery_timeout": 59},
    {"recovery_backoff": 1},
    {"max_recovery_timeout": 33},
    {"ramp": 33},
    {"half_open_max_calls": 3},
    {"success_threshold": 3},
    {"probe_lease": 33},
    {"window": 10.0},
]
unrelated = pytest.mark.parametrize("given", NO_WINDOW, ids=lambda given: next(iter(given)))


@pytest.fixture
def world() -> Any:
    """Calls in threads, held open by hand."""
    with world_of("threads") as threads:
        yield threads


def closed_with_evidence() -> Any:
    shop, clock = manual(circuit_breaker(failure_threshold=None))
    for _ in range(4):
        shop.try_call(int, "1")
        shop.try_call(fails)
    shop.try_call(fails)
    return shop, clock


@unrelated
def test_evidence_is_kept(given: dict[str, Any]) -> None:
    """Calls and failures in the window, and failures in a row, are those from before."""
    shop, clock = closed_with_evidence()
    clock.advance(3)
    before = breaker_state(shop)
    assert before["window"] == {"calls": 9, "failures": 5, "slow": 0}
    assert before["consecutive_failures"] == 2
    shop.update(circuit_breaker=given)
    assert breaker_state(shop) == before
    clock.advance(6)
    shop.try_call(fails)
    assert part(shop, "circuit_breaker")["window"]["calls"] == 10
    clock.advance(2)
    shop.try_call(fails)
    assert part(shop, "circuit_breaker")["window"]["calls"] == 2, "they left the window in time"


@pytest.mark.parametrize("window", [30, calls(40)])
def test_a_changed_window_starts_afresh(window: Any, events: list[resilient.Event]) -> None:
    """Only the window: failures in a row stay; the event says so."""
    shop, _ = closed_with_evidence()
    shop.update(circuit_breaker={"window": window})
    seen = part(shop, "circuit_breaker")
    assert seen["window"] == {"calls": 0, "failures": 0, "slow": 0}
    assert seen["consecutive_failures"] == 2
    assert "afresh" in updated(events, shop)[-1].after


@pytest.mark.parametrize("window", [30, calls(40)])
def test_a_window_masked_by_a_layer_above_keeps_the_evidence(window: Any) -> None:
    """An update under an operator's order changes nothing in force, so nothing is lost."""
    shop, _ = manual(circuit_breaker(failure_threshold=None))
    operator(shop, circuit_breaker={"window": 20})
    shop.try_call(fails)
    shop.update(circuit_breaker={"window": window})
    assert part(shop, "circuit_breaker")["window"]["calls"] == 1


@unrelated
def test_an_open_circuit_stays_open_as_long_as_it_was_to(given: dict[str, Any]) -> None:
    """Its `until` is that of the moment it opened, whatever recovery_timeout says now."""
    shop, clock = manual(circuit_breaker(recovery_timeout=7))
    for _ in range(5):
        shop.try_call(fails)
    clock.advance(2)
    before = breaker_state(shop)
    assert (before["state"], before["retry_after"]) == ("open", 5)
    shop.update(circuit_breaker=given)
    assert breaker_state(shop) == before
    clock.advance(4.99)
    with pytest.raises(CircuitOpenError) as caught:
        shop.call(int)
    assert caught.value.retry_after == pytest.approx(0.01)
    clock.advance(0.01)
    with shop.block():
        assert shop.state == "half_open"


def test_an_open_circuit_stays_open_when_its_window_changes() -> None:
    """The window starts afresh; the state does not."""
    shop, _clock = manual(circuit_breaker(recovery_timeout=7))
    for _ in range(5):
        shop.try_call(fails)
    shop.update(circuit_breaker={"window": calls(99)})
    assert (shop.state, part(shop, "circuit_breaker")["retry_after"]) == ("open", 7)


def test_a_new_recovery_time_holds_from_the_next_opening() -> None:
    """And its doubling is counted on: how often it relapsed is state."""
    shop, clock = manual(circuit_breaker(recovery_timeout=2))
    for _ in range(5):
        shop.try_call(fails)
    clock.advance(2)
    shop.try_call(fails)
    assert part(shop, "circuit_breaker")["retry_after"] == 4
    shop.update(circuit_breaker={"recovery_timeout": 5})
    clock.advance(4)
    shop.try_call(fails)
    assert part(shop, "circuit_breaker")["retry_after"] == 20, "the second relapse: 5 x 2 x 2"


@unrelated
def test_probes_in_flight_keep_their_places(given: dict[str, Any], world: World) -> None:
    """A half-open circuit stays so; its probe still counts and still decides."""
    if given == {"success_threshold": 3}:
        pytest.skip("then one probe decides nothing")
    shop, clock = manual(circuit_breaker(recovery_timeout=7))
    for _ in range(5):
        shop.try_call(fails)
    clock.advance(7)
    probe = world.begin(shop)
    clock.advance(1)
    before = breaker_state(shop)
    assert (before["state"], before["probes"]) == ("half_open", 1)
    shop.update(circuit_breaker=given)
    assert breaker_state(shop) == before
    probe.succeed()
    assert shop.state == "closed"


def test_a_lease_is_not_begun_anew_by_a_change(world: World) -> None:
    """A probe let in at 0 with a lease of 10 s has failed at 10 s, whatever changed at 9 s."""
    shop, clock = manual(circuit_breaker(recovery_timeout=7, probe_lease=10))
    for _ in range(5):
        shop.try_call(fails)
    clock.advance(7)
    probe = world.begin(shop)
    clock.advance(9)
    shop.update(circuit_breaker={"half_open_max_calls": 2, "failure_rate": 0.9})
    clock.advance(0.99)
    assert shop.try_call(int).served == "full", "the second place"
    assert shop.state == "closed"
    probe.succeed()


def test_a_lease_ends_in_time_after_a_change(world: World) -> None:
    """The same, one instant later: the lease is over."""
    shop, clock = manual(circuit_breaker(recovery_timeout=7, probe_lease=10))
    for _ in range(5):
        shop.try_call(fails)
    clock.advance(7)
    probe = world.begin(shop)
    clock.advance(9)
    shop.update(circuit_breaker={"half_open_max_calls": 2, "failure_rate": 0.9})
    clock.advance(1)
    assert shop.try_call(int).served == "error"
    assert shop.state == "open"
    probe.succeed()
    assert part(shop, "circuit_breaker")["late_results"] == 1


def test_more_probes_are_let_in_and_fewer_stop_none(world: World) -> None:
    """half_open_max_calls counts those that are in flight already."""
    shop, clock = manual(circuit_breaker(recovery_timeout=7, success_threshold=9))
    for _ in range(5):
        shop.try_call(fails)
    clock.advance(7)
    first = world.begin(shop)
    assert shop.try_call(int).served == "error"
    shop.update(circuit_breaker={"half_open_max_calls": 2})
    second = world.begin(shop)
    shop.update(circuit_breaker={"half_open_max_calls": 1})
    assert probes(shop) == 2
    first.succeed()
    assert shop.try_call(int).served == "error", "one is still in flight"
    second.succeed()
    assert shop.try_call(int).served == "full"


def test_probes_that_succeeded_still_count(world: World) -> None:
    """Two successes before the change and one after make three."""
    shop, clock = manual(circuit_breaker(recovery_timeout=7, success_threshold=4))
    for _ in range(5):
        shop.try_call(fails)
    clock.advance(7)
    shop.call(int)
    shop.call(int)
    shop.update(circuit_breaker={"success_threshold": 3})
    assert shop.state == "half_open"
    shop.call(int)
    assert shop.state == "closed"


# -- the rules, from the next result on ------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "end"),
    [
        ({"failure_threshold": 3}, fails),
        ({"failure_rate": 0.5, "minimum_calls": 4}, fails),
        ({"failure_rate": 0.5, "minimum_calls": 4}, int),
    ],
)
def test_a_stricter_rule_judges_the_evidence_at_the_next_result(
    given: dict[str, Any], end: Callable[[], Any]
) -> None:
    """Not at the change itself: a change of options moves no circuit."""
    shop, _ = manual(circuit_breaker(failure_threshold=9))
    for _ in range(4):
        shop.try_call(fails)
    shop.update(circuit_breaker=given)
    assert shop.state == "closed"
    shop.try_call(end)
    assert shop.state == "open"


def test_a_change_makes_no_call_in_flight_a_late_one(world: World) -> None:
    """The failure of a call that began before the change counts."""
    shop, _ = manual(circuit_breaker(failure_threshold=1))
    held = world.begin(shop)
    shop.update(circuit_breaker={"minimum_calls": 3, "window": calls(9)})
    held.fail(OSError("down"))
    assert shop.state == "open"
    assert part(shop, "circuit_breaker")["late_results"] == 0


# -- a breaker that only measures ------------------------------------------------------------------


def test_metrics_only_is_turned_on_and_off() -> None:
    """On, nothing is refused any more; off, the rules act."""
    shop, _ = manual(circuit_breaker(failure_threshold=2))
    shop.update(circuit_breaker={"metrics_only": True})
    assert shop.state == "metrics_only"
    for _ in range(6):
        assert isinstance(shop.try_call(fails).error, OSError)
    seen = part(shop, "circuit_breaker")  # as one that acts: open after two, and four refused
    assert (seen["would_open"], seen["would_refuse"], seen["would_be"]) == (1, 4, "open")
    shop.update(circuit_breaker={"metrics_only": False})
    assert shop.state == "closed"
    shop.try_call(fails)
    shop.try_call(fails)
    assert shop.state == "open"
    shop.update(circuit_breaker={"metrics_only": True})
    assert shop.state == "metrics_only"
    assert shop.call(int) == 0


@pytest.mark.parametrize("first", [True, False])
def test_turning_metrics_only_keeps_the_evidence(first: bool) -> None:
    """Only a changed window costs the evidence, and then the event says so."""
    shop, _ = manual(circuit_breaker(failure_threshold=9, metrics_only=not first))
    for _ in range(3):
        shop.try_call(fails)
    shop.update(circuit_breaker={"metrics_only": first})
    seen = part(shop, "circuit_breaker")
    assert seen["window"]["failures"] == 3
    assert seen["consecutive_failures"] == 3


@pytest.mark.parametrize("forced", ["force_open", "force_closed"])
@pytest.mark.parametrize("metrics_only", [True, False])
def test_a_forced_state_outlives_a_change(forced: str, metrics_only: bool) -> None:
    """Options change under a forced state; released, it goes on as the design says."""
    shop, _ = manual(circuit_breaker(), timeout(1, sync="cooperative"))
    getattr(shop, forced)("INC-3")
    shop.update(circuit_breaker={"metrics_only": metrics_only, "failure_threshold": 2})
    assert shop.snapshot()["forced"] == (
        "forced_open" if forced == "force_open" else "forced_closed"
    )
    assert (shop.try_call(int).served == "full") is (forced == "force_closed")
    shop.release()
    after = "half_open" if forced == "force_open" else "closed"
    assert shop.state == ("metrics_only" if metrics_only else after)
