"""The limit follows a real service down and up, where no fixed one does. ``make capacity`` is longer."""

from __future__ import annotations

import pytest

from tests.integration.capacity.capacity import LATE, SLOTS, Side, run

TRIES = 3


def sides() -> list[Side]:
    """Return the limit and what was right for 20 and for 5 workers, after a run on a machine that is theirs."""
    for _ in range(TRIES):
        made = [Side(guard, mean=0.04) for guard in ("limit", str(SLOTS[20]), str(SLOTS[5]))]
        run(made, [20, 5, 20], settles=3.0, looked_at=1.1)
        if max(phase.late for side in made for phase in side.phases) <= LATE:
            return made
    pytest.skip("the machine has no time for the clients")


def test_the_limit_follows_a_service_down_and_up() -> None:
    """Side by side, so that the load of the machine is the same for all; only ratios decide."""
    limit, right_for_20, right_for_5 = (side.phases for side in sides())
    best = (right_for_20[0], right_for_5[1], right_for_20[2])
    for ours, fixed in zip(limit, best, strict=True):
        assert ours.busy >= 0.85 * fixed.busy, (ours, fixed)
    assert limit[1].line <= 0.6 * right_for_20[1].line, (limit, right_for_20)
    assert limit[1].wait <= 0.7 * right_for_20[1].wait, (limit, right_for_20)
    assert limit[1].p50 <= 0.7 * right_for_20[1].p50, (limit, right_for_20)
    assert limit[2].busy >= 2 * right_for_5[2].busy, (limit, right_for_5)
