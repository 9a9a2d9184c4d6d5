"""Scrapes while calls run, and one over HTTP."""

from __future__ import annotations

import sys
import threading
import time
import urllib.request

import pytest
from prometheus_client import generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families as parse

from resilient import Policy, bulkhead, circuit_breaker, fallback, metrics, timeout


@pytest.fixture
def fast_switches():
    """Let threads take turns very often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def test_each_scrape_is_consistent_while_four_threads_call(scrape, fast_switches) -> None:
    """Calls are those let in and those refused, at every instant, and nothing goes back."""
    policy = Policy(
        "busy", fallback(value=0), circuit_breaker(failure_rate=0.9, window=0.2), bulkhead(2),
        timeout(5, sync="cooperative"),
    )  # fmt: skip
    done = threading.Event()

    def work(seed: int) -> None:
        turn = seed
        while not done.is_set():
            turn += 1
            policy.call(int, "1" if turn % 3 else "x")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    last: dict[str, float] = {}
    try:
        until = time.monotonic() + 1
        while time.monotonic() < until or last.get("calls", 0) < 100:
            last = check(scrape(), last)
    finally:
        done.set()
        for thread in threads:
            thread.join(60)
    final = check(scrape(), last)
    counts = policy.snapshot()["calls"]
    assert final["calls"] == sum(counts.values()) > 100
    assert scrape()("in_flight", "busy") == 0


def check(seen, before: dict[str, float]) -> dict[str, float]:
    def total(name: str, **fixed: str) -> float:
        key = "resilient_" + name
        return sum(
            n for (found, labels), n in seen.of("busy").items()
            if found == key and set(fixed.items()) <= labels
        )  # fmt: skip

    calls, refused = total("calls_total"), total("calls_total", outcome="refused")
    assert calls == total("call_duration_seconds_count") + refused
    assert refused == total("refusals_total")
    assert total("call_duration_seconds_bucket", le="+Inf") == total("call_duration_seconds_count")
    assert total("served_total") == calls
    assert total("served_total", served="degraded") == total("fallbacks_total", outcome="success")
    assert total("breaker_workers") == 1
    assert 0 <= total("in_flight") <= total("in_flight_peak") <= 4
    assert 0 <= total("slots_used") <= total("limit") == 2  # a fallback runs without a slot
    now = {"calls": calls, "refused": refused, "seconds": total("call_duration_seconds_sum")}
    assert all(now[key] >= n for key, n in before.items())
    return now


def test_scrapes_at_the_same_time_never_count_twice(fast_switches, scrape_of) -> None:
    from prometheus_client import CollectorRegistry

    target = CollectorRegistry()
    undo = metrics.register(target, max_policies=1)
    policies = [Policy(f"p{n}") for n in range(6)]
    done = threading.Event()
    shown: list[list[float]] = []

    def look() -> None:
        mine: list[float] = []
        while not done.is_set():
            mine.append(scrape_of(target)("calls_total", "_other", outcome="success") or 0)
        shown.append(mine)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3000):
        for policy in policies:
            policy.call(int)
    done.set()
    for thread in threads:
        thread.join(60)
    for mine in shown:
        assert mine == sorted(mine)
    assert scrape_of(target)("calls_total", "_other", outcome="success") == 5 * 3000
    undo()


@pytest.mark.filterwarnings("ignore::resilient.DeclarationWarning")  # as it should be told
def test_policies_that_come_and_go_during_scrapes(scrape, fast_switches) -> None:
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            kept = bulkhead(3)(lambda: 1)
            view = Policy.with_(kept.__resilient__.policy, timeout(1, sync="thread"))
            kept(), view.call(int)

    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 1
    while time.monotonic() < until:
        scrape()
    done.set()
    for thread in threads:
        thread.join(60)


def test_a_scrape_over_http() -> None:
    """The default registry, served by prometheus_client itself."""
    metrics.register()
    Policy("served", bulkhead(2)).call(int)
    server, thread = start_http_server(0, addr="127.0.0.1")
    try:
        port = server.server_address[1]
        for accept in ("text/plain", "application/openmetrics-text; version=1.0.0"):
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept}
            )
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - a server of the test
                text = answer.read().decode()
            assert 'resilient_calls_total{outcome="success",policy="served"} 1.0' in text
            assert len(list(parse(text))) > 10
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


def test_a_thousand_policies_in_bounded_time_and_space(scrape_of, mine) -> None:
    """It grows with their number, and no faster; the true figure is in the benchmarks."""
    spent: dict[int, float] = {}
    for n in range(1000):
        Policy(
            f"dependency-{n}", fallback(value=1), circuit_breaker(), bulkhead(20),
            timeout(1, sync="cooperative"),
        )  # fmt: skip
        if n + 1 in (100, 1000):
            took = []
            for _ in range(3):
                started = time.thread_time()
                text = generate_latest(mine)
                took.append(time.thread_time() - started)
            spent[n + 1] = min(took)
    assert text.count(b"\n") > 45_000
    assert spent[1000] < 30 * spent[100], spent
