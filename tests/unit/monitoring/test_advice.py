"""Advice on a policy: each with the numbers that it goes by, and none where all is as it seems."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import DeclarationWarning, Policy, bulkhead, circuit_breaker, timeout
from resilient.engine.counters import EDGES
from resilient.monitoring.advice import Seen, advise

BREAKER = {
    "window": 10.0, "minimum_calls": 20, "failure_threshold": 5, "slow_call_duration": None,
}  # fmt: skip


def numbers(calls: int, *, within: float = 0.1, **more: Any) -> dict[Any, float]:
    """Return what one process has counted: so many good calls, each within so many seconds."""
    found: dict[Any, float] = {("calls_total", ("success",)): calls}
    for edge in (*map(str, EDGES), "+Inf"):
        upto = calls if edge == "+Inf" or float(edge) >= within else 0
        found["call_duration_seconds_bucket", (edge,)] = upto
    for name, value in more.items():
        metric, _, label = name.partition("__")
        found[metric, (label,) if label else ()] = value
    return found


def told(
    stack: dict[str, Any], *each: dict[Any, float], seconds: float = 100.0, answer: str = ""
) -> list[str]:
    """Return the advice, as guard and text."""
    return [f"{a.guard}: {a.text}" for a in advise(Seen(each, seconds, answer, stack))[0]]


@pytest.mark.parametrize(
    ("stack", "counted", "said"),
    [
        (
            {"circuit_breaker": BREAKER}, numbers(100),
            "its failure_rate counts from minimum_calls=20 on: it goes by failure_threshold=5 in a row",
        ),
        (
            {"circuit_breaker": BREAKER | {"failure_threshold": None}}, numbers(100), "it can't open"
        ),
        (
            {
                "circuit_breaker": BREAKER, "bulkhead": {"max_concurrent": 3},
                "timeout": {"seconds": 0.2, "sync": "thread"},
            },
            numbers(9000, in_flight_peak=3.0),
            "all 3 slots give 3 failures and no more, fewer than failure_threshold=5",
        ),
        (
            {"bulkhead": {"max_concurrent": 20}}, numbers(9000, in_flight_peak=2.0),
            "a process ran at most 2 at once, and none was ever refused: max_concurrent=20 is far",
        ),
        (
            {"bulkhead": {"max_concurrent": 20}}, numbers(9000, refusals_total__bulkhead=900.0),
            "it refused 900 of 9000 calls with max_concurrent=20",
        ),
        (
            {"timeout": {"seconds": 10.0}}, numbers(9000),
            "99 % of the calls ended within 0.1 s, and a caller of a hung one waits for 10 s",
        ),
        (
            {"timeout": {"seconds": 0.1}}, numbers(9000, timeouts_total=900.0),
            "900 of 9000 calls did not end within its 0.1 s",
        ),
        (
            {"rate_limit": {"max_calls": 1000, "period": 1.0}}, numbers(9000),
            "90.00 calls of a process begin in a second, of 1000 that it lets begin",
        ),
        (
            {"retry": {}}, numbers(9000, not_retried_total__budget=500.0, retries_total__2=50.0),
            "its budget was empty for 500 failures, and paid for 50 attempts",
        ),
    ],
)  # fmt: skip
def test_each_has_the_numbers_that_it_goes_by(
    stack: dict[str, Any], counted: dict[Any, float], said: str
) -> None:
    found = told(stack, counted)
    assert len(found) == 1
    assert said in found[0]


def test_there_is_none_where_all_is_as_it_seems() -> None:
    stack = {
        "circuit_breaker": BREAKER,
        "bulkhead": {"max_concurrent": 20},
        "timeout": {"seconds": 0.3, "sync": "thread"},
        "rate_limit": {"max_calls": 100, "period": 1.0},
        "retry": {},
        "somebody_elses": {"level": 3},
    }
    good = numbers(9000, in_flight_peak=12.0, fallbacks_total__success=3.0)
    assert told(stack, good, answer="top_100") == []


@pytest.mark.parametrize(
    ("stack", "more"),
    [
        ({"bulkhead": {"max_concurrent": 20}}, {"in_flight_peak": 0.0}),
        ({"rate_limit": {"max_calls": 1000, "period": 1.0, "scope": "fleet"}}, {}),
        ({"bulkhead": {"max_concurrent": 20}}, {"keys": 3.0, "in_flight_peak": 2.0}),
    ],
)
def test_what_the_counts_can_not_show_is_named(stack: dict[str, Any], more: Any) -> None:
    """A quiet minute, other processes, other keys: that is no all-clear, and no advice."""
    assert advise(Seen([numbers(9000, **more)], 100.0, "", stack)) == ([], list(stack))


def test_a_volume_is_that_of_one_process() -> None:
    """Two processes of 100 s each are 200 s."""
    found = told({"circuit_breaker": BREAKER}, numbers(150), numbers(150), seconds=200.0)
    assert found[0].startswith("circuit_breaker: 15.0 calls of a process")


def test_a_fallback_that_never_ran() -> None:
    assert "nobody has seen it work" in told({}, numbers(9000), answer="top_100")[0]
    hurt = numbers(9000, served_total__error=40.0)
    assert "40 callers got an error, none of which it answers" in told({}, hurt, answer="x")[0]


def test_calls_that_hang_with_fewer_slots_than_failures_are_warned_of_at_once() -> None:
    guards = circuit_breaker(), bulkhead(3), timeout(1.0, sync="thread")
    with pytest.warns(DeclarationWarning, match="all 3 slots give 3 failures and no more"):
        Policy("few-slots", *guards).drop()


@pytest.mark.parametrize(
    "guards",
    [
        (circuit_breaker(), bulkhead(5), timeout(1.0, sync="thread")),
        (circuit_breaker(), bulkhead(3), timeout(1.0, sync="cooperative")),
        (circuit_breaker(slow_call_duration=0.5), bulkhead(3), timeout(1.0, sync="thread")),
        (circuit_breaker(failure_threshold=3), bulkhead(3), timeout(1.0, sync="thread")),
    ],
)
@pytest.mark.filterwarnings("error")
def test_else_nothing_is_warned_of(guards: tuple[Any, ...]) -> None:
    Policy("slots-enough", *guards).drop()


def test_an_outage_shows_nothing_of_limits() -> None:
    """An open circuit refuses nearly all: what few calls ran at once, and how fast they failed, is no measure."""
    counted = numbers(5, in_flight_peak=1.0)
    counted["calls_total", ("success",)] = 0
    counted |= {("calls_total", ("failure",)): 5, ("calls_total", ("refused",)): 2000}
    stack = {"bulkhead": {"max_concurrent": 30}, "timeout": {"seconds": 2.0}}
    assert advise(Seen([counted], 100.0, "", stack)) == ([], ["bulkhead", "timeout"])
