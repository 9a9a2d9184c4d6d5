"""A stall of 10 s: naive retries stay down after it, ours are back. ``make simulate`` has more seeds."""

from __future__ import annotations

import pytest

from tests.unit.simulate.proof import OURS, TAKEN_OUT, is_back, ran, stays_down

SEEDS = range(1, 21)
DOWN = range(1, 6)  # what is down costs four times as much to run


@pytest.mark.parametrize("seed", SEEDS)
def test_ours_are_back(seed: int) -> None:
    """By the budget alone, by the breaker alone, and by both, all with their defaults."""
    report = ran(seed, *OURS)
    assert [name for name in OURS if not is_back(report, name)] == []
    assert all(report.runs[name].before == 1.0 for name in OURS)


@pytest.mark.parametrize("seed", DOWN)
@pytest.mark.parametrize("name", TAKEN_OUT)
def test_with_each_taken_out_it_stays_down(seed: int, name: str) -> None:
    """The fault has gone, the load is that of before, and nobody is served until the end."""
    assert stays_down(ran(seed, name), name)
