"""Tests of the kit: Prometheus scrapes, answers, alerts and leaves, and promtool judges."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from tests.kit.servers import prometheus as module
from tests.kit.servers import tree
from tests.kit.servers.process import HOST, ServerError, reserve
from tests.kit.servers.prometheus import (
    Prometheus,
    PrometheusError,
    Target,
    promtool_check_metrics,
    promtool_check_rules,
    promtool_test_rules,
)

RULES = """
groups:
- name: kit
  rules:
  - record: kit:heat:double
    expr: heat * 2
  - alert: Hot
    expr: heat > 100
    for: 1s
    labels: {severity: page}
    annotations: {summary: "{{ $labels.room }} has {{ $value }} degrees"}
"""
RULES_TEST = """
rule_files: [rules.yml]
evaluation_interval: 1s
tests:
- interval: 1s
  input_series: [{series: 'heat{room="a"}', values: 20 200x5}]
  promql_expr_test:
  - {expr: kit:heat:double, eval_time: 0s, exp_samples: [{labels: 'kit:heat:double{room="a"}', value: 40}]}
  alert_rule_test:
  - {eval_time: 1s, alertname: Hot, exp_alerts: []}
  - eval_time: 2s
    alertname: Hot
    exp_alerts:
    - exp_labels: {severity: page, room: a}
      exp_annotations: {summary: a has 200 degrees}
"""
ONES = """
groups:
- name: ones
  rules: [{record: one, expr: vector(1)}]
"""


class Exporter(HTTPServer):
    """An exporter of OpenMetrics, with a gauge and a counter."""

    def __init__(self) -> None:
        super().__init__((HOST, 0), Handler)
        self.address = f"{HOST}:{self.server_port}"
        self.asked: list[tuple[str, Any]] = []
        self.registry = CollectorRegistry()
        self.heat = Gauge("heat", "Degrees.", ["room"], registry=self.registry)
        self.visits = Counter("visits", "Visits.", registry=self.registry)


class Handler(BaseHTTPRequestHandler):
    """Answers a scrape."""

    server: Exporter

    def do_GET(self) -> None:
        """Answer any path."""
        self.server.asked.append((self.path, self.headers))
        self.send_response(200)
        self.send_header("Content-Type", openmetrics.CONTENT_TYPE_LATEST)
        self.end_headers()
        self.wfile.write(openmetrics.generate_latest(self.server.registry))

    def log_message(self, *words: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def exporter() -> Iterator[Exporter]:
    """An exporter, where it is 20 degrees."""
    with Exporter() as server:
        server.heat.labels("a").set(20)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def running(exporter: Exporter) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the exporter, and a port where nobody listens."""
    server = Prometheus()
    try:
        with reserve() as nobody:
            headers = {"Authorization": "Bearer secret"}
            good = Target(exporter.address, "/kit?name=x", headers, {"zone": "z"}, "kit")
            server.start([good, f"{HOST}:{nobody.getsockname()[1]}"], RULES)
            yield server.scraped()
    finally:
        server.close()


def test_it_scrapes_what_it_is_told(running: Prometheus, exporter: Exporter) -> None:
    path, headers = exporter.asked[-1]
    assert path == "/kit?name=x"
    assert headers["Authorization"] == "Bearer secret"
    assert "application/openmetrics-text" in headers["Accept"]
    good, bad = sorted(running.targets(), key=lambda each: each["health"] == "down")
    assert (good["health"], good["lastError"]) == ("up", "")
    assert good["url"] == f"http://{exporter.address}/kit?name=x"
    assert good["lastScrapeDuration"] > 0
    assert bad["health"] == "down"
    assert "refused" in bad["lastError"]


def test_a_query_gives_values(running: Prometheus, exporter: Exporter) -> None:
    labels = {"instance": exporter.address, "job": "kit", "room": "a", "zone": "z"}
    found = running.wait_until(lambda: running.query("kit:heat:double"), 60)
    assert found == [{"metric": {"__name__": "kit:heat:double", **labels}, "value": 40.0}]
    assert running.query("1 + 1") == [{"metric": {}, "value": 2.0}]
    assert running.query("nothing") == []
    now = time.time()
    (series,) = running.query_range("heat", now - 10, now)
    assert series["metric"]["room"] == "a"
    assert {value for _, value in series["values"]} == {20.0}
    assert all(now - 10.01 <= at <= now + 0.01 for at, _ in series["values"])
    assert {each["health"] for each in running.rules()} == {"ok"}
    with pytest.raises(PrometheusError, match="parse error"):
        running.query("heat ==")


def test_an_alert_fires_and_resolves(running: Prometheus, exporter: Exporter) -> None:
    seen: list[str | None] = []

    def reached(state: str | None) -> bool:
        now = running.states().get("Hot")
        if now not in seen[-1:]:
            seen.append(now)
        return now == state

    assert reached(None)
    exporter.heat.labels("a").set(200)
    running.wait_until(lambda: reached("firing"), 60)
    (alert,) = running.alerts()
    assert (alert["name"], alert["state"]) == ("Hot", "firing")
    assert alert["labels"]["severity"] == "page"
    assert alert["annotations"] == {"summary": "a has 200 degrees"}
    exporter.heat.labels("a").set(20)
    running.wait_until(lambda: reached(None), 60)
    # A look may come too late to find it pending; Prometheus itself has it.
    assert [each for each in seen if each != "pending"] == [None, "firing", None]
    assert running.query('max_over_time(ALERTS{alertname="Hot", alertstate="pending"}[5m])')


def test_exemplars_come_through(running: Prometheus, exporter: Exporter) -> None:
    began = time.time()
    exporter.visits.inc(3, {"trace_id": "abc"})
    (found,) = running.wait_until(lambda: running.exemplars("visits_total"), 60)
    assert found["metric"]["__name__"] == "visits_total"
    assert found["labels"] == {"trace_id": "abc"}
    assert found["value"] == 3.0
    assert began - 1 <= found["timestamp"] <= time.time() + 1


def test_what_never_holds_fails_in_time(running: Prometheus) -> None:
    with pytest.raises(AssertionError, match=r"not in 0\.2 s: \[\].*refused"):
        running.wait_until(lambda: running.query("nothing"), 0.2)


def test_reload_takes_good_rules_and_refuses_bad_ones(
    prometheus_server: Prometheus, tmp_path: Path
) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(ONES)
    prometheus_server.start(rules=file)
    file.write_text(ONES.replace("one,", "two,"))
    prometheus_server.reload()
    assert [each["name"] for each in prometheus_server.rules()] == ["two"]
    file.write_text(ONES.replace("vector(1)", "vector("))
    with pytest.raises(PrometheusError, match="could not parse expression"):
        prometheus_server.reload()
    assert [each["name"] for each in prometheus_server.rules()] == ["two"]
    prometheus_server.reload(rules="")
    assert prometheus_server.rules() == []
    with pytest.raises(FileNotFoundError):
        prometheus_server.reload(rules=tmp_path / "none.yml")


def test_it_does_not_start_with_bad_rules(prometheus_server: Prometheus) -> None:
    with pytest.raises(ServerError, match="could not parse expression"):
        prometheus_server.start(rules=ONES.replace("vector(1)", "vector("))
    with pytest.raises(ValueError, match="not X-Kit"):
        prometheus_server.start([Target("x:1", headers={"X-Kit": "1"})])


def test_it_keeps_what_it_knows_over_a_kill(prometheus_server: Prometheus) -> None:
    prometheus_server.start(rules=ONES, evaluation_interval="200ms")
    prometheus_server.wait_until(lambda: prometheus_server.query("one"), 60)
    prometheus_server.kill()
    with pytest.raises(ConnectionRefusedError):
        prometheus_server.query("one")
    prometheus_server.start(rules="")
    assert prometheus_server.query("one")[0]["value"] == 1.0


def test_close_leaves_no_process_and_no_files() -> None:
    with Prometheus() as server:
        pids = set(tree.tree(server.process.pid))
        assert tree.alive(pids)
    assert not tree.alive(pids)
    assert not server.directory.exists()


def test_promtool_judges_rules(tmp_path: Path) -> None:
    rules, tests = tmp_path / "rules.yml", tmp_path / "tests.yml"
    rules.write_text(RULES)
    tests.write_text(RULES_TEST)
    assert promtool_check_rules(rules)[0]
    passed, said = promtool_test_rules(tests)
    assert passed, said
    rules.write_text(RULES.replace("for: 1s", "for: 3s"))
    assert promtool_check_rules(rules)[0]
    passed, said = promtool_test_rules(tests)
    assert not passed
    assert "alertname: Hot, time: 2s" in said
    rules.write_text(RULES.replace("heat >", "heat > >"))
    good, said = promtool_check_rules(rules)
    assert not good
    assert "could not parse expression" in said
    rules.unlink()
    assert not promtool_check_rules(rules)[0]
    tests.write_text("rule_files: [rules.yml]")
    assert not promtool_test_rules(tests)[0]


def test_promtool_judges_metrics(exporter: Exporter) -> None:
    good, said = promtool_check_metrics("# HELP heat Degrees.\n# TYPE heat gauge\nheat 20\n")
    assert (good, said) == (True, "")
    good, said = promtool_check_metrics("# TYPE visits counter\nvisits 1\n")
    assert not good
    assert "no help text" in said
    assert '"_total" suffix' in said
    assert not promtool_check_metrics("heat{ 20\n")[0]
    good, said = promtool_check_metrics(generate_latest(exporter.registry))
    assert good, said


@pytest.mark.parametrize("needed", ["1", ""])
@pytest.mark.parametrize("found", ["prometheus_program", "promtool_program"])
def test_without_the_program_it_skips_or_fails(
    found: str, needed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, found, lambda: None)
    monkeypatch.setenv("RESILIENT_NEED_PROMETHEUS", needed)
    expected = pytest.fail.Exception if needed else pytest.skip.Exception
    with pytest.raises(expected, match="there is no"):
        Prometheus() if found == "prometheus_program" else promtool_check_metrics("")
