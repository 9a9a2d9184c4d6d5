"""Beyond the limit, policies are added up in one, and no counter ever goes back."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from resilient import Policy, bulkhead, circuit_breaker, fallback, metrics, registry, timeout
from resilient.pages.format import Entry
from resilient.prometheus.scrape import SeriesLimiter
from resilient.telemetry.policy_samples import exported, row_of


@pytest.fixture
def two() -> Iterator[CollectorRegistry]:
    """Give a registry on which two policies have a place."""
    target = CollectorRegistry()
    unregister = metrics.register(target, max_policies=2)
    yield target
    unregister()


def call(policy: Policy, times: int) -> None:
    for _ in range(times):
        policy.call(int)


def test_the_first_made_have_places_and_the_rest_are_summed(two, scrape_of, clock) -> None:
    made = [
        Policy(f"p{n}", circuit_breaker(minimum_calls=1), bulkhead(n + 1), clock=clock, owner="us")
        for n in range(5)
    ]
    for n, policy in enumerate(made):
        call(policy, n)
        policy.call(clock.advance, 0.02)
    made[3].force_open()
    seen = scrape_of(two)
    assert seen("calls_total", "p1", outcome="success") == 2
    assert seen("limit", "p1") == 2
    assert not seen.of("p2")
    assert seen("calls_total", "_other", outcome="success") == 3 + 4 + 5
    assert seen("calls_total", "_other", outcome="failure") == 0
    assert seen("limit", "_other") == 3 + 4 + 5
    assert seen("in_flight_peak", "_other") == 3
    assert seen("override_active", "_other", kind="forced_open") == 1
    assert seen("breaker_workers", "_other", state="closed") == 3
    assert seen("call_duration_seconds_bucket", "_other", le="0.005") == 9
    assert seen("call_duration_seconds_count", "_other") == 12
    assert seen("call_duration_seconds_sum", "_other") == pytest.approx(0.06)
    assert seen("failure_ratio", "p1") == 0
    assert seen("failure_ratio", "_other") is None
    assert seen("policy_info", "_other", owner="", tier="") == 1
    assert seen("policy_info", "_other", owner="us", tier="") is None
    assert seen("policies") == 5
    assert seen("policies_in_other") == seen("policies_folded_total") == 3


def test_guards_of_different_kinds_are_summed_each(two, scrape_of) -> None:
    Policy("a"), Policy("b")
    for policy in (Policy("c", fallback(value=1)), Policy("d", bulkhead(7)), Policy("e")):
        call(policy, 1)
    seen = scrape_of(two)
    assert seen("calls_total", "_other", outcome="success") == 3
    assert seen("limit", "_other") == 7
    assert seen("fallbacks_total", "_other", outcome="success") == 0


def test_nobody_changes_sides(two, scrape_of) -> None:
    first, second, third = Policy("first"), Policy("second"), Policy("third")
    call(third, 4)
    assert scrape_of(two)("calls_total", "_other", outcome="success") == 4
    registry.remove("first")
    newcomer = Policy("newcomer")  # gets the free place; the third was folded for good
    call(newcomer, 1)
    call(third, 1)
    seen = scrape_of(two)
    assert seen("calls_total", "newcomer", outcome="success") == 1
    assert not seen.of("third")
    assert seen("calls_total", "_other", outcome="success") == 5
    assert seen("calls_total", "second", outcome="success") == 0
    assert seen("policies_in_other") == 1
    assert first.name
    assert second.name


def test_the_sum_outlives_its_policies(two, scrape_of) -> None:
    Policy("a"), Policy("b")
    gone = Policy("gone", timeout(1, sync="cooperative"))
    call(gone, 3)
    before = scrape_of(two)
    assert before("calls_total", "_other", outcome="success") == 3
    registry.remove("gone")
    del gone
    gc.collect()
    after = scrape_of(two)
    for (name, labels), value in before.of("_other").items():
        if name.endswith(("_total", "_bucket", "_count", "_sum")):
            assert after.values[name, labels] == value, name
    assert after("policies_in_other") == 0
    assert after("policies_folded_total") == 1
    call(Policy("next"), 2)
    assert scrape_of(two)("calls_total", "_other", outcome="success") == 5
    assert scrape_of(two)("policies_folded_total") == 2


def test_scraping_twice_counts_once(two, scrape_of) -> None:
    for name in "abcd":
        call(Policy(name), 2)
    assert [scrape_of(two)("calls_total", "_other", outcome="success") for _ in range(3)] == [4] * 3


def test_one_that_began_anew_takes_nothing_back() -> None:
    """A folded policy whose counters went back, in a process that began anew, is another one."""
    places = SeriesLimiter(1)
    first, other = Policy("first"), Policy("other")
    call(other, 5)

    def calls() -> float:
        entries = [
            Entry("policy", policy.name, {}, *row_of(registry.find(policy.name)))
            for policy in (first, other)
        ]
        last = places.shown(entries)[-1]
        keys, values = exported(last.layout)
        numbers = zip(keys, values(last.row), strict=True)
        return sum(number for (metric, _), number in numbers if metric.name == "calls_total")

    assert calls() == 5
    registry.find("other").clear()
    call(other, 2)
    assert calls() == 7
    assert calls() == 7


def test_a_policy_of_that_very_name_is_folded(two, scrape_of) -> None:
    call(Policy("_other"), 2)
    seen = scrape_of(two)
    assert seen("calls_total", "_other", outcome="success") == 2
    assert seen("policies_in_other") == 1


def test_two_registries_have_places_of_their_own(two, mine, scrape_of) -> None:
    for name in "abc":
        Policy(name)
    assert not scrape_of(two).of("c")
    assert scrape_of(mine).of("c")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_begins_at_zero(two, scrape_of) -> None:
    for name in "abc":
        call(Policy(name), 2)
    assert scrape_of(two)("calls_total", "_other", outcome="success") == 2
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        shown: Any = "raised"
        try:
            seen = scrape_of(two)
            shown = [seen("calls_total", name, outcome="success") for name in ("a", "_other")]
        finally:
            os.write(write, repr(shown).encode())
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"[0.0, 0.0]"
    os.close(read)
