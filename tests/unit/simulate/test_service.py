"""The service and its clients, against what queueing theory and plain arithmetic say of them."""

from __future__ import annotations

from statistics import mean
from typing import Any

import pytest

from resilient.simulate import Run, from_data, run
from resilient.simulate.chance import Times, source
from resilient.simulate.faults import Fault, Schedule
from tests.unit.simulate.kit import calm, guards

NOTHING: list[dict[str, Any]] = [{"name": "ours", "guards": []}]


def ran(seed: int = 1, **changes: Any) -> Run:
    """Run the calm scenario with changes."""
    return run(from_data(calm(**changes)), seed=seed).runs["ours"]


def test_the_mean_time_in_an_m_m_1_queue() -> None:
    """With one worker, rate r and mean time 1/m a call is there for 1/(m - r): here 1/(10 - 7)."""
    times = [
        mean(ran(
            seed, seconds=1500, policy=NOTHING,
            clients={"rate": 7, "deadline": 100.0},
            service={"workers": 1, "time": {"kind": "exponential", "mean": 0.1}},
        )._tape.took)
        for seed in range(4)
    ]  # fmt: skip
    assert mean(times) == pytest.approx(1 / (10 - 7), rel=0.12)


def test_the_mean_wait_in_an_m_d_1_queue_is_half_of_that() -> None:
    """Constant times halve the wait: r / (2 m (m - r)), and each call works for 1/m besides."""
    took = ran(
        seconds=4000, policy=NOTHING, clients={"rate": 7, "deadline": 100.0},
        service={"workers": 1, "time": 0.1},
    )._tape.took  # fmt: skip
    assert mean(took) == pytest.approx(7 / (2 * 10 * 3) + 0.1, rel=0.12)


def test_against_a_naive_queue_call_by_call() -> None:
    """Even arrivals, a constant time, two workers: each call's end follows from the one two before."""
    found = ran(
        seconds=20, policy=NOTHING, clients={"rate": 30, "arrivals": "even", "deadline": 100.0},
        service={"workers": 2, "time": 0.07},
    )  # fmt: skip
    ends: list[float] = []
    for number in range(600):
        free = ends[number - 2] if number >= 2 else 0.0
        ends.append(max(number / 30, free) + 0.07)
    assert found._tape.took == pytest.approx([end - n / 30 for n, end in enumerate(ends)])


@pytest.mark.parametrize(
    "times", [Times("constant", 0.2), Times("exponential", 0.2), Times("lognormal", 0.2, 0.5),
              Times("pareto", 0.2, 3.0)],
    ids=lambda times: times.kind,
)  # fmt: skip
def test_each_distribution_has_its_mean(times: Times) -> None:
    draw = times.drawn(source(1, "service"))
    assert mean(draw() for _ in range(40_000)) == pytest.approx(0.2, rel=0.05)


def test_work_stands_still_in_a_stall_and_goes_on_after_it() -> None:
    """What had 0.06 s to go when the stall began has them to go when it ends."""
    schedule = Schedule([Fault("stall", 10.0, 5.0), Fault("slow", 20.0, 2.0, 4.0)], 1, 0.0)
    assert schedule.finish(9.96, 0.1) == pytest.approx(15.06)
    assert schedule.finish(12.0, 0.1) == pytest.approx(15.1)
    assert schedule.finish(3.0, 0.1) == pytest.approx(3.1)
    assert schedule.finish(20.0, 0.1) == pytest.approx(20.4)  # four times as long
    assert schedule.finish(21.8, 0.1) == pytest.approx(22.05)  # half of it slow


def test_a_full_queue_refuses() -> None:
    found = ran(
        policy=NOTHING, seconds=20, clients={"rate": 50, "deadline": 100.0},
        service={"workers": 1, "time": 0.1, "queue": 3},
    )  # fmt: skip
    assert found.errors["QueueFullError"] == pytest.approx(50 * 20 - 10 * 20, rel=0.1)
    assert max(point["queue"] for point in found.points) <= 3


def test_the_service_works_for_those_who_have_gone() -> None:
    """80 wait at the end of the stall; it needs 8 s for them unless it knows that they have gone."""
    changes: dict[str, Any] = {
        "seconds": 60,
        "clients": {"rate": 8, "deadline": 1.0},
        "service": {"workers": 1, "time": 0.1},
        "policy": guards({"guard": "timeout", "seconds": 0.5}),
        "fault": [{"kind": "stall", "at": 10, "seconds": 10}],
    }
    kept = ran(**changes)
    changes["service"]["drops_abandoned"] = True
    dropped = ran(**changes)
    assert kept.goodput(20, 27) == 0
    assert dropped.goodput(21, 27) > 0.5
    assert kept.wasted > dropped.wasted + 60


def test_faults_begin_and_end() -> None:
    """Errors and fewer workers: seen while they last, and not before or after."""
    found = ran(
        seconds=60, policy=NOTHING,
        fault=[
            {"kind": "errors", "at": 10, "seconds": 10, "share": 0.5},
            {"kind": "workers", "at": 30, "seconds": 10, "workers": 1},
        ],
    )  # fmt: skip
    assert found.goodput(0, 9) == 1.0
    assert 0.3 < found.goodput(11, 19) < 0.7
    assert found.goodput(21, 29) == 1.0
    assert found.goodput(33, 39) < 0.2  # 10 of 20 calls a second, and the queue grows
    assert found.goodput(55, 60) == 1.0
    assert found.errors == {"ServiceFaultError": pytest.approx(100, abs=40)}


def test_a_late_answer_is_no_goodput() -> None:
    found = ran(policy=NOTHING, clients={"deadline": 0.09})
    assert (found.ends["good"], found.ends["late"]) == (0, found.calls)


def test_who_gives_up_cancels_the_call() -> None:
    found = ran(policy=NOTHING, clients={"deadline": 0.09, "gives_up": True})
    assert found.errors == {"gave up": found.calls}


def test_a_closed_loop_asks_less_of_a_slow_service() -> None:
    """10 users, 1 s of thought, 1 s of work: 5 calls a second, whatever the service could do."""
    changes: dict[str, Any] = calm(policy=NOTHING, service={"workers": 100, "time": 1.0})
    changes["clients"] = {"kind": "closed", "users": 10, "think": 1.0, "deadline": 5.0}
    found = run(from_data(changes), seed=1).runs["ours"]
    assert found.calls == pytest.approx(5 * 40, abs=10)
    changes["clients"]["gives_up"] = True
    changes["clients"]["deadline"] = 0.5
    hasty = run(from_data(changes), seed=1).runs["ours"]
    assert hasty.calls == pytest.approx(10 / 1.5 * 40, abs=15)


def test_an_answer_of_a_guard_is_degraded() -> None:
    found = ran(
        policy=guards(
            {"guard": "fallback", "value": "top 100"}, {"guard": "timeout", "seconds": 0.05}
        )
    )
    assert found.ends["degraded"] == found.calls
