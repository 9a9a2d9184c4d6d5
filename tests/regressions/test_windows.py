"""The slices of a window."""

from __future__ import annotations

import pytest

from resilient import Policy, circuit_breaker
from resilient.testing import ManualClock
from tests.kit.policies import fails


@pytest.mark.parametrize("seconds", [1.0, 3.0, 0.5, 7.0, 10.0, 60.0])
def test_no_slice_outlives_the_window(seconds: float) -> None:
    """A slice whose end is rounded to lie inside it leaves the window all the same."""
    clock = ManualClock()
    breaker = circuit_breaker(
        window=seconds, failure_rate=0.5, failure_threshold=None, minimum_calls=20
    )
    policy = Policy(f"fault-slices-{seconds}", breaker, clock=clock)
    for number in range(200):
        policy.call(int)
        clock.advance(seconds / 10 if number % 3 else seconds / 7)
    clock.advance(seconds * 2)
    for _ in range(20):
        policy.try_call(fails)
    assert policy.state == "open", policy.snapshot()["guards"][0]["window"]
