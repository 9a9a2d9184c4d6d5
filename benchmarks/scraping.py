"""How long a scrape of many policies takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from resilient import metrics

from .children import child
from .model import Row, Spread, WrongSetupError, require
from .ours import bare, whole

POLICIES: Final = 1000
SCRAPES: Final = 15
LIMIT: Final = 150.0  # ms
CASE: Final = f"scrape of {POLICIES:,} policies"


def scrape(scrapes: int) -> dict[str, Any]:
    """In a process of its own: scrape policies, beside as many plain gauges as that has lines."""
    for number in range(POLICIES):
        require(whole(f"policy-{number}", "cooperative")(bare)(1) == 1, "wrong answer")
    mine, plain = CollectorRegistry(), CollectorRegistry()
    metrics.register(mine)
    text = generate_latest(mine).decode()
    for number in (0, POLICIES - 1):
        line = f'resilient_calls_total{{outcome="success",policy="policy-{number}"}} 1.0'
        require(line in text, f"no line {line}")
    shown = text.count('\nresilient_calls_total{outcome="success",policy="policy-')
    require(shown == POLICIES, f"{shown} policies are shown, not {POLICIES}")
    lines = sum(not line.startswith("#") for line in text.splitlines())
    gauge = Gauge("plain", "As many samples.", ["one", "two"], registry=plain)
    for number in range(lines):
        gauge.labels("value", str(number)).set(1)
    written = metrics.exposition()[0].decode()
    shown = written.count('\nresilient_calls_total{outcome="success",policy="policy-')
    require(shown == POLICIES, f"our own writer shows {shown} policies, not {POLICIES}")
    ways: dict[str, Callable[[], object]] = {
        "ours": metrics.exposition,
        "client": lambda: generate_latest(mine),
        "plain": lambda: generate_latest(plain),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(scrapes):
        for name, way in ways.items():
            began = time.process_time()
            way()
            found[name].append(time.process_time() - began)
    return {**found, "lines": lines}


def measure(scrapes: int = SCRAPES) -> list[Row]:
    """Measure a scrape by our own writer, by prometheus_client's, and of as many plain gauges."""
    row = Row(CASE, "ms", goal=LIMIT, rounds=scrapes)
    try:
        found = child("scrape", scrapes)
    except WrongSetupError as error:
        row.wrong = str(error)
        return [row]
    row.spread = Spread.of(found["ours"]).scaled(1e3)
    row.ours = row.spread.median
    shown = [row]
    for name, case in (
        ("client", f"{CASE}, by prometheus_client's writer"),
        ("plain", f"a scrape of as many plain gauges ({found['lines']:,}), by that writer"),
    ):
        spread = Spread.of(found[name]).scaled(1e3)
        shown.append(Row(case, "ms", spread.median, spread=spread, rounds=scrapes))
    return shown
