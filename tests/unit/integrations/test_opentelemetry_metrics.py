"""The metrics through OpenTelemetry's API, with its real SDK."""

from __future__ import annotations

import logging
import math
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeter, NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric, Sum
from opentelemetry.sdk.resources import Resource

import resilient
from resilient import Policy, bulkhead, circuit_breaker, fallback, flag, kill_switch, timeout
from resilient.engine.counters import EDGES
from resilient.integrations import opentelemetry as ours
from resilient.integrations import opentelemetry_metrics as exporting
from resilient.integrations.opentelemetry import instrument
from resilient.metric_types import Metric as Ours
from resilient.prometheus.catalogue import known
from resilient.prometheus.scrape import OF_SCRAPES
from resilient.testing import ManualClock, flag_off
from tests.unit.integrations.otel_kit import clock, fails, numbers, policy_of, undo

__all__ = ["clock", "undo"]  # fixtures


class Meters:
    """A provider of meters, and what it collects."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], Resource({}), shutdown_on_exit=False)

    def collect(self) -> dict[str, Metric]:
        """Collect, and return the metrics by name."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        scopes = [scope for each in data.resource_metrics for scope in each.scope_metrics]
        assert {scope.scope.name for scope in scopes} == {"resilient"}
        assert {scope.scope.version for scope in scopes} == {resilient.__version__}
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def points(self, name: str, **attributes: str) -> dict[tuple[str, ...], float]:
        """Collect, and return the values of a metric by the rest of their attributes."""
        return points_of(self.collect()[name], **attributes)

    def value(self, name: str, **attributes: str) -> float:
        (value,) = self.points(name, **attributes).values()
        return value


def points_of(metric: Metric, **attributes: str) -> dict[tuple[str, ...], float]:
    given = {f"resilient.{name}": value for name, value in attributes.items()}
    return {
        tuple(str(v) for k, v in point.attributes.items() if k not in given): point.value
        for point in metric.data.data_points
        if given.items() <= dict(point.attributes).items()
    }


@pytest.fixture
def meters(undo: Callable[[], None]) -> Iterator[Meters]:
    """Export the metrics to memory."""
    made = Meters()
    end = instrument(metrics=True, meter_provider=made.provider)
    yield made
    end()
    made.provider.shutdown()


def whole(clock: ManualClock) -> Policy:
    """Return a policy with every guard there is."""
    switch = flag(f"switch-{next(numbers)}")
    return policy_of(
        kill_switch(switch), fallback(value=0), circuit_breaker(slow_call_duration=2),
        bulkhead(3, max_waiting=2, max_wait=1), timeout(1, sync="cooperative"),
        clock=clock, owner="team", tier=1,
    )  # fmt: skip


def test_counts(meters: Meters, clock: ManualClock) -> None:
    """The counts of calls are those of the policy's snapshot."""
    policy = whole(clock)
    for body in (int, int, fails):
        policy.call(body)
    policy.force_open(reason="cut off")
    policy.call(int)
    found = meters.collect()
    assert points_of(found["resilient.calls"], policy=policy.name) == {
        (outcome,): float(number) for outcome, number in policy.snapshot()["calls"].items()
    }
    assert points_of(found["resilient.served"], policy=policy.name) == {
        ("full",): 2.0, ("degraded",): 2.0, ("error",): 0.0, ("caller_error",): 0.0,
    }  # fmt: skip
    assert points_of(found["resilient.refusals"], policy=policy.name, guard="policy") == {(): 1.0}
    assert points_of(found["resilient.policy_info"], policy=policy.name) == {("team", "1"): 1.0}
    assert points_of(found["resilient.override_active"], policy=policy.name,
                     kind="forced_open") == {(): 1.0}  # fmt: skip


def test_counts_go_on(meters: Meters) -> None:
    """Each collection shows what there is at its time."""
    policy = policy_of(circuit_breaker())
    for number in range(1, 4):
        policy.call(int)
        assert meters.value("resilient.calls", policy=policy.name, outcome="success") == number


def test_in_flight(meters: Meters) -> None:
    """What can fall is not monotonic, and adds up over processes."""
    policy = policy_of(bulkhead(2))
    with policy.block():
        found = meters.collect()["resilient.in_flight"]
        assert points_of(found, policy=policy.name) == {(): 1.0}
        assert isinstance(found.data, Sum)
        assert not found.data.is_monotonic
    assert meters.value("resilient.in_flight", policy=policy.name) == 0.0


def test_durations(meters: Meters, clock: ManualClock) -> None:
    """There is no observable histogram: buckets are counters with `le`, beside count and sum."""
    policy = policy_of(clock=clock)
    for seconds in (0.002, 0.03, 0.04, 7.0, 100.0):
        policy.call(clock.advance, seconds)
    found = meters.collect()
    buckets = points_of(found["resilient.call_duration.bucket"], policy=policy.name)
    assert {le: number for (le,), number in buckets.items()} == {
        "0.005": 1, "0.01": 1, "0.025": 1, "0.05": 3, "0.1": 3, "0.25": 3, "0.5": 3, "1.0": 3,
        "2.5": 3, "5.0": 3, "10.0": 4, "30.0": 4, "+Inf": 5,
    }  # fmt: skip
    keys = {key for p in found["resilient.call_duration.bucket"].data.data_points
            for key in p.attributes}  # fmt: skip
    assert keys == {"resilient.policy", "le"}
    assert points_of(found["resilient.call_duration.count"], policy=policy.name) == {(): 5.0}
    total = points_of(found["resilient.call_duration.sum"], policy=policy.name)
    assert total == {(): pytest.approx(107.072)}
    assert found["resilient.call_duration.sum"].unit == "s"


def test_flags(meters: Meters) -> None:
    """Flags are there under their own name."""
    switch = flag(f"switch-{next(numbers)}")
    assert meters.value("resilient.flag_enabled", flag=switch.name) == 1.0
    with flag_off(switch):
        bool(switch)
        assert meters.value("resilient.flag_enabled", flag=switch.name) == 0.0
        assert meters.value("resilient.flag_off_calls", flag=switch.name) == 1.0


def test_what_is_not_known_is_not_there(meters: Meters, clock: ManualClock) -> None:
    """A ratio without enough calls is left out, and costs no warning of the SDK."""
    policy = policy_of(circuit_breaker(minimum_calls=2, failure_rate=0.9), clock=clock)
    policy.call(int)
    assert "resilient.failure_ratio" not in meters.collect()
    policy.try_call(fails)
    assert meters.value("resilient.failure_ratio", policy=policy.name) == 0.5
    assert meters.collect()["resilient.failure_ratio"].unit == "1"


def test_values_are_floats(meters: Meters, clock: ManualClock) -> None:
    """No series changes its type between two collections."""
    whole(clock).call(fails)
    for metric in meters.collect().values():
        for point in metric.data.data_points:
            assert type(point.value) is float, metric.name
            assert math.isfinite(point.value)


def test_one_reading_a_collection(meters: Meters, monkeypatch: pytest.MonkeyPatch) -> None:
    """All instruments of one collection share what was read for the first of them."""
    readings: list[int] = []
    real = exporting.Reading._read

    def counted(self: Any) -> Any:
        readings.append(1)
        return real(self)

    monkeypatch.setattr(exporting.Reading, "_read", counted)
    policy_of(circuit_breaker(), bulkhead(3))
    for number in range(1, 4):
        assert len(meters.collect()) > 20
        assert len(readings) == number


def test_one_collection_is_one_instant(meters: Meters) -> None:
    """Metrics that belong together agree, while calls go on."""
    policy, done = policy_of(circuit_breaker()), threading.Event()
    guarded = policy(lambda: None)

    def load() -> None:
        while not done.is_set():
            guarded()

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for _ in range(5):
            found = meters.collect()
            counts = [
                points_of(found[name], policy=policy.name, **more)
                for name, more in (
                    ("resilient.calls", {"outcome": "success"}),
                    ("resilient.served", {"served": "full"}),
                    ("resilient.call_duration.count", {}),
                )
            ]
            assert counts[0] == counts[1] == counts[2]
    finally:
        done.set()
        thread.join()


NAMES = {
    "calls_total": ("resilient.calls", ""),
    "in_flight": ("resilient.in_flight", ""),
    "call_duration_seconds_bucket": ("resilient.call_duration.bucket", ""),
    "call_duration_seconds_count": ("resilient.call_duration.count", ""),
    "call_duration_seconds_sum": ("resilient.call_duration.sum", "s"),
    "wait_seconds_sum": ("resilient.wait.sum", "s"),
    "abandoned_oldest_seconds": ("resilient.abandoned_oldest", "s"),
    "breaker_since_timestamp_seconds": ("resilient.breaker_since_timestamp", "s"),
    "failure_ratio": ("resilient.failure_ratio", "1"),
    "flag_enabled": ("resilient.flag_enabled", ""),
    "policy_info": ("resilient.policy_info", ""),
}


def test_names() -> None:
    """A name is that of Prometheus, without unit and `_total`, and stays what it is."""
    by_name = {metric.name: metric for metric in known()}
    assert {name: exporting.named(by_name[name]) for name in NAMES} == NAMES
    found = [exporting.named(metric) for metric in by_name.values()]
    assert len({name for name, _ in found}) == len(by_name)
    for name, unit in found:
        assert re.fullmatch(r"resilient\.[a-z_]+(\.(bucket|count|sum))?", name), name
        assert not re.search(r"_(total|seconds|bucket)\b", name), name
        assert unit in ("", "s", "1"), name


def test_every_metric_but_those_of_other_processes_is_there(
    meters: Meters, clock: ManualClock
) -> None:
    """What a policy shows to Prometheus it shows here, with the same kind and labels."""
    policy = whole(clock)
    policy.call(fails)
    policy.force_open(reason="cut off")
    found = meters.collect()
    shown = {metric.name: metric for metric in known()}
    there = {exporting.named(metric)[0]: metric for metric in shown.values()}
    assert set(found) <= set(there)
    elsewhere = {exporting.named(metric)[0] for metric in OF_SCRAPES[2:]}
    assert elsewhere == {"resilient.processes", "resilient.pages_unread"}
    assert not elsewhere & set(found)
    for name, metric in found.items():
        one = there[name]
        monotonic = getattr(metric.data, "is_monotonic", None)
        assert (
            monotonic == {"counter": True, "gauge": False if one.over == "sum" else None}[one.kind]
        ), name
        assert metric.description == one.help
        keys = {key for point in metric.data.data_points for key in point.attributes}
        labels = {"le" if label == "le" else f"resilient.{label}" for label in one.labels}
        assert keys - {"resilient.policy", "resilient.flag"} == labels, name
    assert {"resilient.wait.bucket", "resilient.breaker_workers", "resilient.limit",
            "resilient.flags", "resilient.build_info", "resilient.policies"} <= set(found)  # fmt: skip


def test_policies_beyond_the_limit(undo: Callable[[], None]) -> None:
    """They are added up in one, so that the SDK's own limit is not met."""
    meters = Meters()
    before = len(resilient.registry.names())
    end = instrument(metrics=True, meter_provider=meters.provider, max_policies=before + 2)
    policies = [policy_of(circuit_breaker()) for _ in range(5)]
    for policy in policies:
        policy.call(int)
    found = meters.collect()
    names = {point.attributes["resilient.policy"]
             for point in found["resilient.calls"].data.data_points}  # fmt: skip
    assert {policy.name for policy in policies} & names == {p.name for p in policies[:2]}
    assert points_of(found["resilient.calls"], policy="_other", outcome="success") == {(): 3.0}
    assert points_of(found["resilient.policies_in_other"]) == {(): 3.0}
    assert points_of(found["resilient.policies_folded"]) == {(): 3.0}
    end()


def test_the_default_limit_is_within_that_of_the_sdk() -> None:
    """A histogram of every policy, that of the others included, fits in one instrument."""
    assert (ours.MAX_POLICIES + 1) * (len(EDGES) + 1) <= 2000  # by the specification


def test_undone(meters: Meters, undo: Callable[[], None]) -> None:
    """Nothing is shown any more, and a second time does no harm."""
    policy = policy_of(circuit_breaker())
    end = instrument(metrics=True, meter_provider=meters.provider)
    assert meters.value("resilient.calls", policy=policy.name, outcome="success") == 0.0
    end()
    end()
    assert meters.collect() == {}


def test_again(meters: Meters, caplog: pytest.LogCaptureFixture) -> None:
    """A second one on the same provider makes no second instruments; without metrics, none."""
    policy = policy_of(circuit_breaker())
    with caplog.at_level(logging.WARNING, "opentelemetry"):
        for _ in range(3):
            end = instrument(metrics=True, meter_provider=meters.provider)
            found = meters.collect()["resilient.calls"]
            assert len(points_of(found, policy=policy.name)) == 5
            assert len(found.data.data_points) == 5 * len(resilient.registry.names())
    assert not caplog.records
    instrument()
    assert meters.collect() == {}
    end()
    instrument()()


class Counting(NoOpMeter):
    """A meter that takes note of what is made by it."""

    def __init__(self) -> None:
        super().__init__("resilient")
        self.made: list[str] = []

    def create_observable_counter(self, name: str, *_: Any, **__: Any) -> Any:
        self.made.append(name)


class CountingProvider(NoOpMeterProvider):
    def __init__(self) -> None:
        self.meter = Counting()

    def get_meter(self, *_: Any, **__: Any) -> Any:
        return self.meter


def test_instruments_are_made_once() -> None:
    """Also by a provider that would make a second one of the same name."""
    provider = CountingProvider()
    for _ in range(2):
        instrument(metrics=True, meter_provider=provider)()
    made = provider.meter.made
    assert "resilient.calls" in made
    assert len(made) == len(set(made))


def test_another_provider_takes_over(meters: Meters) -> None:
    """The provider of before shows nothing, the new one all, and the way back is open."""
    policy, other = policy_of(circuit_breaker()), Meters()
    end = instrument(metrics=True, meter_provider=other.provider)
    assert meters.collect() == {}
    assert other.value("resilient.calls", policy=policy.name, outcome="success") == 0.0
    end = instrument(metrics=True, meter_provider=meters.provider)
    assert other.collect() == {}
    assert meters.value("resilient.calls", policy=policy.name, outcome="success") == 0.0
    end()


def test_guards_that_come_later(meters: Meters, monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric that was not known is exported from the next `instrument` on."""
    late = Ours("surprises_total", "counter", "Surprises.")
    monkeypatch.setattr(exporting, "known", lambda: [*known(), late])
    end = instrument(metrics=True, meter_provider=meters.provider)
    assert "surprises_total" in exporting._exports[meters.provider]._made
    assert "resilient.policies" in meters.collect()
    end()


GLOBAL = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
import resilient
from resilient.integrations.opentelemetry import instrument

policy = resilient.Policy("early", resilient.circuit_breaker())
undo = instrument(metrics=True)                 # before there is an SDK
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))

def seen():
    data = reader.get_metrics_data()
    found = data.resource_metrics[0].scope_metrics[0].metrics if data else []
    return [len(m.data.data_points) for m in found if m.name == "resilient.calls"]

print(seen())
undo()
print(seen())
instrument(metrics=True)                        # on the real one
print(seen())
instrument(metrics=True, meter_provider=metrics.get_meter_provider())
print(seen())
"""


def test_the_global_provider_may_come_later() -> None:
    """It takes over what was made for its stand-in, and nothing twice."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", GLOBAL], text=True,
                          capture_output=True, timeout=30, check=True)  # fmt: skip
    assert done.stdout.split() == ["[5]", "[]", "[5]", "[5]"]
    assert not done.stderr


FORKED = """
import os, threading
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
import resilient
from resilient.integrations import opentelemetry as ours

reader = InMemoryMetricReader()
ours.instrument(metrics=True, meter_provider=MeterProvider([reader]))
policy = resilient.Policy("forked", resilient.circuit_breaker())

def calls():
    (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    (metric,) = [metric for metric in scope.metrics if metric.name == "resilient.calls"]
    return [p.value for p in metric.data.data_points if "success" in p.attributes.values()]

for _ in range(7):
    policy.call(int)
before = calls()
reading = ours._newest[0]._export.reading
threading.Thread(target=reading._lock.acquire).start()      # as one may hold it now
child = os.fork()
if child == 0:
    policy.call(int)
    print("child", calls(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
reading._lock.release()
print("parent", before, calls())
"""


def test_forked(tmp_path: Any) -> None:
    """A child shows its own counts, also where pages would show those of all processes."""
    environment = {**os.environ, "RESILIENT_RUNTIME_DIR": str(tmp_path / "pages")}
    done = subprocess.run([sys.executable, "-c", FORKED], text=True, env=environment,
                          capture_output=True, timeout=30, check=True)  # fmt: skip
    assert done.stdout.splitlines() == ["child [1.0]", "parent [7.0] [7.0]"]
