"""What a scrape says is what happened, and every series is there from the start."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import prometheus_client
import pytest

import resilient
from resilient import (
    Policy,
    bulkhead,
    circuit_breaker,
    collapse,
    concurrency_limit,
    fallback,
    flag,
    flags,
    hedge,
    last_good,
    rate_limit,
    retry,
    throttle,
    timeout,
)
from resilient.errors import CallTimeoutError, CircuitOpenError
from resilient.flags.flip import FORCED, Flip, lever_of
from resilient.flags.runtime import here
from resilient.guards.base import Guard
from resilient.metric_types import Metric
from resilient.prometheus.catalogue import known as _known
from tests.kit.paths import ROOT

PAGE = ROOT / "docs" / "reference" / "metrics.md"


def fail() -> None:
    raise ConnectionError("down")


def whole(name: str, **more: Any) -> Policy:
    """Return a policy with all four guards."""
    return Policy(
        name, fallback(value="plan b"), circuit_breaker(), bulkhead(3, max_waiting=2, max_wait=1),
        timeout(5, sync="thread"), **more,
    )  # fmt: skip


def test_everything_is_there_at_zero_before_the_first_call(scrape) -> None:
    policy = whole("new", owner="us", tier=2)
    seen = scrape().of(policy.name)
    edges = 13
    assert len(seen) == 5 + 4 + 4 + 2 + 2 * (edges + 2) + 6 + 3 + 1 + (3 + 3 + 2) + 4 + 2
    ones = {(name, dict(labels).get("state")) for (name, labels), n in seen.items() if n == 1}
    assert ones == {("resilient_breaker_workers", "closed"), ("resilient_policy_info", None)}
    rest = {name for (name, _), n in seen.items() if n not in (0, 1)}
    assert rest == {"resilient_limit", "resilient_timeout_seconds", "resilient_worker_limit"}
    for guard in ("policy", "circuit_breaker", "bulkhead", "timeout"):
        assert scrape()("refusals_total", "new", guard=guard) == 0
    assert scrape()("refusals_total", "new", guard="fallback") is None


def test_a_series_that_is_there_stays_there(scrape, clock) -> None:
    policy = whole("stays", clock=clock)
    before = set(scrape().of("stays"))
    policy.call(fail)
    policy.force_open("drill")
    policy.call(fail)
    assert set(scrape().of("stays")) == before


def test_absent_where_the_guard_is_absent(scrape) -> None:
    Policy("bare")
    seen = {name for name, _ in scrape().of("bare")}
    for part in ("fallbacks", "wait_seconds", "abandoned", "workers", "breaker", "limit", "slow"):
        assert not [name for name in seen if f"_{part}" in name], part
    assert scrape()("refusals_total", "bare", guard="policy") == 0


def test_each_outcome_is_counted(scrape, clock) -> None:
    policy = Policy("ends", circuit_breaker(ignore=KeyError), clock=clock)
    policy.call(int, "1")
    policy.try_call(fail)
    policy.try_call({}.__getitem__, "x")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        policy.call(interrupt)
    policy.force_open("drill")
    with pytest.raises(CircuitOpenError):
        policy.call(int, "1")
    seen = scrape()
    for outcome in ("success", "failure", "ignored", "cancelled", "refused"):
        assert seen("calls_total", "ends", outcome=outcome) == 1, outcome
    assert seen("served_total", "ends", served="full") == 1
    assert seen("served_total", "ends", served="error") == 2
    assert seen("served_total", "ends", served="caller_error") == 1
    assert seen("served_total", "ends", served="degraded") == 0
    assert seen("refusals_total", "ends", guard="policy") == 1
    assert seen("override_active", "ends", kind="forced_open") == 1
    assert seen("override_active", "ends", kind="forced_closed") == 0
    policy.release()
    assert scrape()("override_active", "ends", kind="forced_open") == 0
    assert scrape()("breaker_transitions_total", "ends", to="half_open", cause="operator") == 1
    policy.force_closed()
    assert scrape()("override_active", "ends", kind="forced_closed") == 1


def test_refusals_by_guard(scrape, clock) -> None:
    policy = Policy("turned", circuit_breaker(failure_threshold=1), bulkhead(1), clock=clock)
    inside: list[object] = []
    policy.call(lambda: inside.append(policy.try_call(int, "1").error))
    policy.try_call(fail)
    policy.try_call(int, "1")
    seen = scrape()
    assert seen("refusals_total", "turned", guard="bulkhead") == 1
    assert seen("refusals_total", "turned", guard="circuit_breaker") == 1
    assert seen("breaker_workers", "turned", state="open") == 1
    assert seen("breaker_workers", "turned", state="closed") == 0
    assert seen("breaker_transitions_total", "turned", to="open", cause="auto") == 1


def test_fallbacks_that_answer_and_that_raise(scrape) -> None:
    answers: list[str] = ["here"]
    policy = Policy("spare", fallback(answers.pop))
    policy.call(fail)
    policy.try_call(fail)
    seen = scrape()
    assert seen("fallbacks_total", "spare", outcome="success") == 1
    assert seen("fallbacks_total", "spare", outcome="failure") == 1
    assert seen("served_total", "spare", served="degraded") == 1
    assert seen("served_total", "spare", served="error") == 1


def test_timeouts_late_values_and_abandoned_workers(scrape) -> None:
    slow = Policy("late", timeout(0.001, sync="cooperative"))
    slow.call(threading.Event().wait, 0.01)
    assert scrape()("late_values_total", "late") == 1
    assert scrape()("timeouts_total", "late") == 0
    assert scrape()("abandoned_workers", "late") is None
    go_on = threading.Event()
    hung = Policy("hung", bulkhead(5), timeout(0.2, sync="thread"))
    with pytest.raises(CallTimeoutError):
        hung.call(go_on.wait, 30)
    seen = scrape()
    assert seen("timeouts_total", "hung") == 1
    assert seen("abandoned_workers", "hung") == 1
    assert seen("abandoned_total", "hung") == 1
    assert seen("workers", "hung") == 1
    assert seen("slots_used", "hung") == 1
    go_on.set()
    for _ in range(200):
        if scrape()("abandoned_workers", "hung") == 0:
            break
        threading.Event().wait(0.01)
    seen = scrape()
    assert seen("abandoned_workers", "hung") == seen("workers", "hung") == 0
    assert seen("abandoned_total", "hung") == 1


def test_two_timeouts_hold_one_worker(scrape) -> None:
    policy = Policy("nested", timeout(9, sync="thread"), timeout(8, sync="thread"))
    assert policy.call(lambda: scrape()("workers", "nested")) == 1


def test_in_flight_and_its_peak(scrape, clock) -> None:
    policy = Policy("busy", bulkhead(9), clock=clock)
    inside = policy.call(lambda: policy.call(scrape))
    assert inside("in_flight", "busy") == 2
    after = scrape()
    assert after("in_flight", "busy") == 0
    assert after("in_flight_peak", "busy") == scrape()("in_flight_peak", "busy") == 2
    clock.advance(120)
    assert scrape()("in_flight_peak", "busy") == 0


def test_predicates_that_raise(scrape) -> None:
    policy = Policy("faulty", circuit_breaker(ignore=lambda error: 1 / 0 > 0))
    policy.try_call(fail)
    assert scrape()("predicate_errors_total", "faulty") == 1


def test_ratios_are_absent_below_the_minimum_volume(scrape, clock) -> None:
    breaker = circuit_breaker(minimum_calls=4, failure_threshold=None, slow_call_duration=3)
    policy = Policy("rare", breaker, clock=clock)
    for calls in range(1, 4):
        policy.try_call(fail if calls == 2 else int)
        assert scrape()("failure_ratio", "rare") is None
    policy.call(clock.advance, 3)
    assert scrape()("failure_ratio", "rare") == 0.25
    assert scrape()("slow_ratio", "rare") == 0.25
    assert scrape()("slow_calls_total", "rare") == 1
    clock.advance(60)
    assert scrape()("failure_ratio", "rare") is None


def test_the_histogram_is_cumulative(scrape, clock) -> None:
    policy = Policy("timed", clock=clock)
    took = [0.001, 0.005, 0.02, 0.3, 45.0]
    for seconds in took:
        policy.call(clock.advance, seconds)
    seen = scrape()
    lines = [
        (line.labels["le"], line.value)
        for line in seen.families["resilient_call_duration_seconds"].samples
        if line.name.endswith("_bucket")
    ]
    counts = [n for _, n in lines]
    assert counts == sorted(counts)
    for edge, n in lines:
        assert n == sum(seconds <= float(edge) + 1e-9 for seconds in took), edge
    assert seen("call_duration_seconds_count", "timed") == 5
    assert seen("call_duration_seconds_sum", "timed") == pytest.approx(sum(took))
    target = prometheus_client.CollectorRegistry()
    edges = [float(edge) for edge, _ in lines]
    prometheus_client.Histogram("theirs", "...", buckets=edges, registry=target)
    theirs = [
        line.labels["le"] for family in target.collect() for line in family.samples
        if line.name.endswith("_bucket")
    ]  # fmt: skip
    assert [edge for edge, _ in lines] == theirs


def test_waits_are_a_histogram_of_their_own(scrape) -> None:
    policy = Policy("queue", bulkhead(1, max_waiting=1, max_wait=600))
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go_on.wait(60)

    first = threading.Thread(target=policy.call, args=(hold,))
    first.start()
    begun.wait(60)
    second = threading.Thread(target=policy.call, args=(int,))
    second.start()
    while scrape()("queue_depth", "queue") != 1:
        threading.Event().wait(0.001)
    go_on.set()
    first.join(60)
    second.join(60)
    seen = scrape()
    assert seen("wait_seconds_count", "queue") == seen("wait_seconds_bucket", "queue", le="+Inf")
    assert seen("wait_seconds_count", "queue") == 1
    assert seen("wait_seconds_sum", "queue") > 0
    assert seen("call_duration_seconds_count", "queue") == 2


def test_a_scrape_says_what_the_snapshot_says(scrape, clock) -> None:
    policy = whole("same", clock=clock)
    for step in range(7):
        policy.call(fail if step % 3 else int)
    shown, seen = policy.snapshot(), scrape()
    for outcome, number in shown["calls"].items():
        assert seen("calls_total", "same", outcome=outcome) == number
    for served, number in shown["served"].items():
        assert seen("served_total", "same", served=served) == number
    for guard, number in shown["refusals"].items():
        assert seen("refusals_total", "same", guard=guard) == number
    for name in ("timeouts", "late_values"):
        assert seen(f"{name}_total", "same") == shown[name]
    assert seen("in_flight_peak", "same") == shown["in_flight_peak"] == 1
    assert seen("call_duration_seconds_count", "same") == shown["duration"]["count"] == 7


def test_owner_and_tier_are_escaped_and_may_be_missing(scrape) -> None:
    owner = 'say "hi" \\ n'
    Policy("owned", owner=owner, tier=1)
    Policy("orphan")
    seen = scrape()
    assert seen("policy_info", "owned", owner=owner, tier="1") == 1
    assert seen("policy_info", "orphan", owner="", tier="") == 1


def test_a_view_counts_into_its_policy_and_keeps_its_refusals(scrape) -> None:
    policy = Policy("viewed")
    view = policy.with_(bulkhead(1), fallback(value=0))
    assert scrape()("refusals_total", "viewed", guard="bulkhead") == 0
    view.call(view.call, int)
    seen = scrape()
    assert seen("refusals_total", "viewed", guard="bulkhead") == 1
    assert seen("fallbacks_total", "viewed", outcome="success") == 1
    del view
    assert scrape()("refusals_total", "viewed", guard="bulkhead") == 1


def test_views_are_made_while_it_is_scraped(scrape) -> None:
    policy, stop = Policy("raced", bulkhead(1)), threading.Event()

    def make() -> None:
        kept = []
        while not stop.is_set():
            kept = [*kept[-20:], policy.with_(bulkhead(2))]

    maker = threading.Thread(target=make)
    maker.start()
    try:
        for _ in range(20):
            assert scrape()("calls_total", "raced", outcome="success") == 0
    finally:
        stop.set()
        maker.join(60)


def test_stacked_decorators_are_one_policy_and_vanish_with_it(scrape) -> None:
    @fallback(value=0)
    @bulkhead(2)
    def shop() -> int:
        return 1

    name = resilient.registry.names()[0]
    shop()
    seen = scrape()
    assert seen("policies") == 1
    assert seen("calls_total", name, outcome="success") == 1
    assert seen("fallbacks_total", name, outcome="success") == 0
    del shop
    assert not scrape().of(name)


def test_the_process_has_its_own_numbers(scrape) -> None:
    before = scrape()("listener_errors_total")

    def broken(event: resilient.Event) -> None:
        raise RuntimeError("listener")

    resilient.registry.subscribe(broken)
    Policy("loud").force_open()
    seen = scrape()
    assert seen("listener_errors_total") == before + 1
    assert seen("events_dropped_total") is not None
    assert seen("policies") == 1
    assert seen("policies_in_other") == seen("policies_folded_total") == 0
    assert seen("build_info", version=resilient.__version__) == 1


def test_a_guard_of_another_kind_needs_nothing_here(scrape, monkeypatch) -> None:
    pulse = Metric("pulse_total", "counter", "Beats.", "side")

    class Heart(Guard):
        kind = "heart"

        def measure(self, now: float) -> list[Any]:
            return [(pulse, ("left",), 3), (pulse, ("right",), 4)]

    Policy("patient", Heart())
    seen = scrape()
    assert seen("pulse_total", "patient", side="left") == 3
    assert seen.families["resilient_pulse"].documentation == "Beats."


def test_the_catalogue_is_what_is_exported(scrape, clock, monkeypatch) -> None:
    """The table of the page names each family with its type and labels, and no other."""
    breaker = circuit_breaker(
        minimum_calls=1, slow_call_duration=1, metrics_only=True, ramp=1, ignore=lambda error: False
    )
    policy = Policy(
        "all", fallback(value=1), retry(on=KeyError), breaker, bulkhead(1, max_waiting=1, max_wait=1),
        timeout(1, sync="thread"), clock=clock,
    )  # fmt: skip
    policy.call(int)
    assert policy.call(clock.advance, 2) == 1  # slow: it would have opened
    policy.call(int)
    rest = Policy(
        "rest", last_good(), hedge(60, idempotent=True), throttle(),
        rate_limit(1, max_wait=1, scope="fleet"), concurrency_limit(), clock=clock,
    )  # fmt: skip
    rest.call(int)
    Policy("rated", rate_limit(1)).call(int)
    moved = Policy("moved", circuit_breaker())
    moved.force_open("drill")
    moved.release()
    keyed = Policy("keyed", circuit_breaker())
    keyed.shadow(circuit_breaker())
    keyed.keyed(lambda key: key).call(str, "a")
    collapse(within=0.001)(Policy("batched", circuit_breaker())(lambda keys: keys))(1)
    flags.off(flag("catalogue", review="2030-01-01"), reason="to have an end", duration=60)
    order = Flip(lever_of(FORCED, "all"), "forced_open", until=1e10, due=time.monotonic() + 60)
    monkeypatch.setitem(here.state.flips, order.lever, order)
    monkeypatch.setattr(type(here), "in_memory", False)  # as if it followed a store
    exported = {}
    for family in scrape().families.values():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for line in family.samples for label in line.labels} - {"le"}
        exported[name] = (family.type, labels)
    rows = re.findall(r"^\| `(resilient_\w+)` \| (\w+) \|([^|]*)\|", PAGE.read_text(), re.MULTILINE)
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert documented == exported
    assert len(rows) == len(documented)
    monkeypatch.undo()
    flags.on("catalogue", reason="done")
    here.stop()
    names = [metric.name for metric in _known()]
    assert len(set(names)) == len(names), "two guards declare metrics of one name"
