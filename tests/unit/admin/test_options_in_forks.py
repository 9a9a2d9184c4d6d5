"""Updated options and layers in a forked child."""

from __future__ import annotations

import os
from typing import Any

import pytest

from resilient import bulkhead, calls, circuit_breaker, load_settings, timeout
from tests.kit.forks import Fork, in_both
from tests.kit.policies import fails, part, policy
from tests.unit.admin.kit import changed_by, manual, operator, options

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def test_a_child_keeps_options_and_layers() -> None:
    """All three layers, and the child can change them for itself alone."""
    shop = policy(circuit_breaker(), bulkhead(2), timeout(1, sync="cooperative"))
    variable = f"RESILIENT__{shop.name.upper().replace('-', '_')}__CIRCUIT_BREAKER__MINIMUM_CALLS"
    load_settings(environ={variable: "7"})
    shop.update(circuit_breaker={"window": calls(50)}, bulkhead={"max_concurrent": 1})
    operator(shop, timeout={"seconds": 9})

    def seen() -> list[Any]:
        breaker = options(shop, "circuit_breaker")
        return [
            breaker["minimum_calls"], str(breaker["window"]),
            options(shop, "bulkhead")["max_concurrent"], options(shop, "timeout")["seconds"],
            {kind: changed_by(shop, kind) for kind in ("circuit_breaker", "bulkhead", "timeout")},
            part(shop, "circuit_breaker")["options"]["probe_lease"],
        ]  # fmt: skip

    def scene(fork: Fork) -> list[Any]:
        before = seen()
        if fork():
            assert seen() == before
            shop.update(bulkhead={"max_concurrent": 5})
            load_settings(environ={})
            assert options(shop, "circuit_breaker")["minimum_calls"] == 20
            assert shop.call(int) == 0
        return seen()

    parent, child = in_both(scene)
    assert parent[:4] == [7, "calls(50)", 1, 9.0]
    assert parent[5] == child[5] == 9.0
    assert child[:4] == [20, "calls(50)", 5, 9.0]


def test_a_fork_amid_updates_leaves_no_lock_and_no_half_change() -> None:
    """Another thread updates without a pause: each child sees both options of one update."""
    from tests.kit.threads import Busy

    shop = policy(circuit_breaker(), bulkhead(2))
    numbers = iter(range(10**9))

    def change() -> None:
        small = next(numbers) % 50 + 1
        shop.update(bulkhead={"max_concurrent": small}, circuit_breaker={"minimum_calls": small})

    change()

    def scene(fork: Fork) -> bool:
        fork()
        both = part(shop, "circuit_breaker")["options"], part(shop, "bulkhead")["options"]
        same: bool = both[0]["minimum_calls"] == both[1]["max_concurrent"]
        if fork.in_child:
            shop.update(bulkhead={"max_concurrent": 3})
            assert shop.call(int) == 0
        return same

    for _ in range(10):
        with Busy(1, change):
            _, child = in_both(scene)
        assert child


def test_an_open_circuit_stays_open_in_a_child_that_updates() -> None:
    """Until when it was to."""
    shop, clock = manual(circuit_breaker(recovery_timeout=7))
    for _ in range(5):
        shop.try_call(fails)
    clock.advance(2)

    def scene(fork: Fork) -> Any:
        fork()
        shop.update(circuit_breaker={"recovery_timeout": 50})
        seen = part(shop, "circuit_breaker")
        return [seen["state"], seen["retry_after"]]

    assert in_both(scene) == (["open", 5], ["open", 5])
