"""A stall with real processes: ours are back where naive retries stay down. ``make storm`` is longer."""

from __future__ import annotations

from tests.integration.storm.storm import Storm, run


def test_ours_are_back_where_naive_ones_are_down() -> None:
    """Side by side, so that the load of the machine is the same for both; only shares decide."""
    naive, ours = (Storm(kind, 4, 3, 15, looked_at=5) for kind in ("naive", "ours"))
    run(naive, ours)
    assert ours.back > 2 * naive.back, (ours, naive)
    assert ours.attempts < naive.attempts, (ours, naive)
