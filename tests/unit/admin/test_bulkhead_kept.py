"""What a bulkhead keeps while its options change: slots, places in line and their deadlines."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from resilient import (
    BulkheadFullError,
    Policy,
    WorkersBusyError,
    bulkhead,
    circuit_breaker,
    timeout,
)
from tests.kit.policies import fails, idle, part, policy
from tests.kit.waiting import WAIT, until
from tests.kit.worlds import World, world_of
from tests.unit.admin.kit import line_up, manual


@pytest.fixture(params=["threads", "asyncio", "trio"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Calls of each colour, held open by hand."""
    with world_of(request.param) as made:
        yield made


def lined(slots: int = 1, places: int = 5, wait: float = 60, **more: Any) -> Policy:
    return policy(bulkhead(slots, max_waiting=places, max_wait=wait, **more))


def resize(of: Policy, slots: int) -> None:
    of.update(bulkhead={"max_concurrent": slots})


def use(of: Policy) -> tuple[int, int]:
    """Return the slots used and the places taken."""
    seen = part(of, "bulkhead")
    return seen["used"], seen["waiting"]


# -- slots -----------------------------------------------------------------------------------------


def test_more_slots_wake_those_in_line_at_once(world: World) -> None:
    """As many as there are new slots, in the order of the line; the rest wait on."""
    shop = lined()
    running = world.begin(shop)
    first, second, third = (line_up(world, shop) for _ in range(3))
    resize(shop, 3)
    assert first.entered.wait(WAIT)
    assert second.entered.wait(WAIT)
    assert use(shop) == (3, 1)
    assert not third.entered.is_set()
    for held in (running, first, second):
        assert held.succeed("value") == "value"
    assert third.entered.wait(WAIT)
    third.succeed()
    idle(shop)


def test_more_slots_wake_the_last_where_the_order_says_so(world: World) -> None:
    """A new order holds for those that are in line already."""
    shop = lined()
    running = world.begin(shop)
    first, second = line_up(world, shop), line_up(world, shop)
    shop.update(bulkhead={"order": "lifo", "max_concurrent": 2})
    assert second.entered.wait(WAIT)
    assert not first.entered.is_set()
    for held in (running, second, first):
        held.succeed()
    idle(shop)


def test_fewer_slots_stop_nobody(world: World) -> None:
    """Three run with a limit of one; the next is let in when the last of them has ended."""
    shop = lined(3)
    running = [world.begin(shop) for _ in range(3)]
    waiting = line_up(world, shop)
    resize(shop, 1)
    assert use(shop) == (3, 1)
    for held in running[:2]:
        held.succeed()
        assert not waiting.entered.is_set()
    assert use(shop) == (1, 1)
    running[2].succeed()
    assert waiting.entered.wait(WAIT)
    assert use(shop) == (1, 0)
    waiting.succeed()
    idle(shop)


def test_an_unrelated_change_gives_nothing_away(world: World) -> None:
    """Slots and places are as before, and so is what comes next."""
    shop = policy(circuit_breaker(), bulkhead(1, max_waiting=1, max_wait=60))
    running = world.begin(shop)
    waiting = line_up(world, shop)
    shop.update(
        circuit_breaker={"window": 60, "metrics_only": True, "failure_rate": 0.1},
        bulkhead={"order": "lifo"},
    )
    assert use(shop) == (1, 1)
    with pytest.raises(BulkheadFullError):
        world.ok(shop)
    running.succeed()
    assert waiting.entered.wait(WAIT)
    waiting.succeed()
    idle(shop)


def test_a_failed_update_wakes_nobody(world: World) -> None:
    """All or nothing holds for what a change does, too."""
    shop = policy(circuit_breaker(), bulkhead(1, max_waiting=1, max_wait=60))
    running = world.begin(shop)
    waiting = line_up(world, shop)
    with pytest.raises(ValueError):
        shop.update(bulkhead={"max_concurrent": 5}, circuit_breaker={"failure_rate": 7})
    assert use(shop) == (1, 1)
    running.succeed()
    assert waiting.entered.wait(WAIT)
    waiting.succeed()


# -- the line --------------------------------------------------------------------------------------


def test_waiters_keep_their_deadline(world: World) -> None:
    """Who got in line with 10 s waits 10 s; who comes after waits as long as it is said now."""
    shop, clock = manual(bulkhead(1, max_waiting=5, max_wait=10))
    running = world.begin(shop)
    early = line_up(world, shop)
    shop.update(bulkhead={"max_wait": 2})
    late = line_up(world, shop)
    clock.advance(2)
    assert isinstance(late.future.exception(WAIT), BulkheadFullError)
    assert use(shop) == (1, 1)
    clock.advance(7.9)
    assert use(shop) == (1, 1)
    clock.advance(0.1)
    assert isinstance(early.future.exception(WAIT), BulkheadFullError)
    running.succeed()
    idle(shop)


def test_a_longer_wait_does_not_lengthen_that_of_who_waits(world: World) -> None:
    """The deadline was given at the beginning."""
    shop, clock = manual(bulkhead(1, max_waiting=5, max_wait=2))
    running = world.begin(shop)
    early = line_up(world, shop)
    shop.update(bulkhead={"max_wait": 60})
    clock.advance(2)
    error = early.future.exception(WAIT)
    assert isinstance(error, BulkheadFullError)
    running.succeed()


def test_the_refusal_names_the_time_that_was_waited(world: World) -> None:
    """Two seconds, and not the 60 that hold for others now."""
    shop, clock = manual(bulkhead(1, max_waiting=5, max_wait=2))
    running = world.begin(shop)
    early = line_up(world, shop)
    shop.update(bulkhead={"max_wait": 60})
    clock.advance(2)
    error = str(early.future.exception(WAIT))
    running.succeed()
    assert "within 2 s" in error, error  # the name of the policy may hold a 60


def test_who_is_in_line_stays_there_when_the_line_is_taken_away(world: World) -> None:
    """No new one may wait; those that are there get their slot."""
    shop = lined(1, 5)
    running = world.begin(shop)
    waiting = [line_up(world, shop) for _ in range(2)]
    shop.update(bulkhead={"max_waiting": 0, "max_wait": None})
    assert use(shop) == (1, 2)
    with pytest.raises(BulkheadFullError):
        world.ok(shop)
    running.succeed()
    for held in waiting:
        assert held.entered.wait(WAIT)
        held.succeed()
    idle(shop)


def test_a_line_that_grew_shorter_keeps_who_is_in_it(world: World) -> None:
    """Three stand where there is room for one now: all get their slot, no fourth one waits."""
    shop = lined(1, 3)
    running = world.begin(shop)
    waiting = [line_up(world, shop) for _ in range(3)]
    shop.update(bulkhead={"max_waiting": 1})
    with pytest.raises(BulkheadFullError):
        world.ok(shop)
    running.succeed()
    for held in waiting:
        assert held.entered.wait(WAIT)
        held.succeed()
    idle(shop)


def test_a_line_is_given_to_a_bulkhead_that_had_none(world: World) -> None:
    """Functions decorated before the change wait as well."""
    shop = policy(bulkhead(1))
    running = world.begin(shop)
    with pytest.raises(BulkheadFullError):
        world.ok(shop)
    shop.update(bulkhead={"max_waiting": 1, "max_wait": 60})
    waiting = line_up(world, shop)
    assert use(shop) == (1, 1)
    running.succeed()
    assert waiting.entered.wait(WAIT)
    waiting.succeed()
    idle(shop)


def test_decorated_functions_obey_a_change() -> None:
    """The fast path was compiled before it."""
    shop = policy(bulkhead(1))

    @shop
    def nested(depth: int) -> int:
        return depth if depth == 0 else nested(depth - 1)

    with pytest.raises(BulkheadFullError):
        nested(1)
    resize(shop, 3)
    assert nested(2) == 0
    with pytest.raises(BulkheadFullError):
        nested(3)
    resize(shop, 2)
    with pytest.raises(BulkheadFullError):
        nested(2)
    assert nested(1) == 0
    idle(shop)


# -- who stands on a worker thread -----------------------------------------------------------------


def test_an_abandoned_worker_keeps_its_slot_and_frees_it_after_a_change() -> None:
    """It is counted on through a change of slots."""
    shop, clock = manual(bulkhead(1), timeout(1, sync="thread"))
    go_on = threading.Event()

    def hangs() -> None:
        clock.advance(1)
        go_on.wait(WAIT)

    assert shop.try_call(hangs).served == "error"
    assert use(shop) == (1, 0)
    resize(shop, 2)
    assert shop.try_call(int).served == "full"
    resize(shop, 1)
    assert isinstance(shop.try_call(int).error, (BulkheadFullError, WorkersBusyError))
    go_on.set()
    until(lambda: use(shop) == (0, 0))
    assert shop.try_call(int).served == "full"
    idle(shop)


def test_workers_follow_the_slots() -> None:
    """As many workers as the bulkhead has slots, now."""
    shop = policy(circuit_breaker(), bulkhead(1), timeout(5, sync="thread"))
    assert shop.guards[2].max_workers == 1  # type: ignore[attr-defined]
    resize(shop, 7)
    assert shop.guards[2].max_workers == 7  # type: ignore[attr-defined]
    assert isinstance(shop.try_call(fails).error, OSError)
