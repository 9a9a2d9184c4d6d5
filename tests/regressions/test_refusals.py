"""Refusals that a fallback answers: forks in it, and events."""

from __future__ import annotations

import os
from typing import Any

import pytest

from resilient import Policy, bulkhead, circuit_breaker, fallback, registry
from resilient.testing import ManualClock
from tests.kit.policies import fails


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_in_the_fallback_of_a_refusal_holds_no_slot_in_the_child() -> None:
    """A call that was refused is not in flight, also when its fallback forks."""
    pids: list[int] = []

    def forks(hold: Any) -> str:
        pids.append(os.fork())
        return "lesser"

    policy = Policy("fault-fork", fallback(forks), bulkhead(1))

    @policy
    def call(hold: Any) -> Any:
        return hold()

    def inside() -> str:
        for _ in range(2):  # the first refusal after a quiet time takes the long way
            value = call(None)
            if pids[-1] == 0:
                shown = policy.snapshot()
                os._exit(int(shown["in_flight"] > 1 or shown["guards"][1]["used"] > 1))
        return str(value)

    assert call(inside) == "lesser"
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0


def test_what_a_turned_call_changes_is_told_at_once() -> None:
    """A circuit that opens at an admission tells so, though the call is answered by the short cut."""
    clock, seen = ManualClock(), []
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=1, probe_lease=1)
    policy = Policy("fault-told", fallback(value=0), breaker, clock=clock)
    unsubscribe = registry.subscribe(lambda event: seen.append(event.kind))
    guarded = policy(fails)
    guarded(), guarded()
    clock.advance(1)
    probe = policy.block()
    with probe:  # the probe hangs
        clock.advance(1.5)
        seen.clear()
        assert guarded() == 0
        assert seen == ["opened"]
    unsubscribe()
