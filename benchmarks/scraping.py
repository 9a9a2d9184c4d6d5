"""How long a scrape of many policies takes."""

from __future__ import annotations

import time
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
    found: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(scrapes):
        for name, registry in (("ours", mine), ("plain", plain)):
            began = time.process_time()
            generate_latest(registry)
            found[name].append(time.process_time() - began)
    return {**found, "lines": lines}


def measure(scrapes: int = SCRAPES) -> list[Row]:
    """Measure a scrape, and one of prometheus_client's own gauges with as many lines."""
    row = Row(CASE, "ms", goal=LIMIT, rounds=scrapes)
    try:
        found = child("scrape", scrapes)
    except WrongSetupError as error:
        row.wrong = str(error)
        return [row]
    row.spread = Spread.of(found["ours"]).scaled(1e3)
    row.ours = row.spread.median
    lines = f"a scrape of as many plain gauges ({found['lines']:,})"
    plain = Spread.of(found["plain"]).scaled(1e3)
    return [row, Row(lines, "ms", plain.median, spread=plain, rounds=scrapes)]
