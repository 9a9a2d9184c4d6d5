"""A heavy tail: what a hedge makes of it, and at what price."""

from __future__ import annotations

from typing import Any

import pytest

from resilient.simulate import Run, from_data, run

TIMEOUT: dict[str, Any] = {"guard": "timeout", "seconds": 4.0}
TAIL: dict[str, Any] = {
    "seconds": 120,
    "clients": {"rate": 25, "deadline": 5.0},
    "service": {"workers": 200, "time": {"kind": "pareto", "mean": 0.1, "alpha": 1.5}},
    "policy": [
        {"name": "plain", "guards": [TIMEOUT]},
        {
            "name": "hedged",
            "guards": [{"guard": "hedge", "quantile": 0.95, "idempotent": True}, TIMEOUT],
        },
    ],
}


def at(of: Run, share: float) -> float:
    found = of.latency(share)
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_hedge_cuts_the_slowest_hundredth_for_its_share(seed: int) -> None:
    """By a third at least, for at most a twentieth more attempts and those that were saved up."""
    runs = run(from_data(TAIL), seed=seed).runs
    plain, hedged = runs["plain"], runs["hedged"]
    assert at(hedged, 0.99) < at(plain, 0.99) * 0.67
    assert at(hedged, 0.5) == pytest.approx(at(plain, 0.5), rel=0.1)
    assert 0.02 * hedged.calls < hedged.attempts - hedged.calls <= 10 + 0.05 * hedged.calls + 12
    assert hedged.ends["good"] >= plain.ends["good"]


def test_the_share_is_what_bounds_it() -> None:
    """With a delay below the median nearly each call would have a second copy."""
    policies = [
        {
            "name": name,
            "guards": [
                {"guard": "hedge", "delay": 0.01, "idempotent": True, "share": share},
                TIMEOUT,
            ],
        }
        for name, share in (("twentieth", 0.05), ("all", 1.0))
    ]
    runs = run(from_data({**TAIL, "policy": policies}), seed=1).runs
    extra = {name: (each.attempts - each.calls) / each.calls for name, each in runs.items()}
    assert extra["twentieth"] < 0.06
    assert extra["all"] > 0.9


def test_when_all_is_slow_the_load_grows_by_the_share_alone() -> None:
    """An overload: every call is a slow one, and few have a second copy."""
    slow = {
        **TAIL, "fault": [{"kind": "slow", "at": 40, "seconds": 40, "times": 20}],
        "policy": [{
            "name": "hedged",
            "guards": [{"guard": "hedge", "delay": 0.2, "idempotent": True}, TIMEOUT],
        }],
    }  # fmt: skip
    found = run(from_data(slow), seed=1).runs["hedged"]
    assert found.attempts - found.calls <= 10 + 0.05 * found.calls + 12
