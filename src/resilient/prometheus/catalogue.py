"""All metrics, and their names in Prometheus."""

from __future__ import annotations

from ..guards.kinds import kinds
from ..metric_types import Metric
from ..pages.process_entries import OF_PROCESSES
from ..telemetry.policy_samples import HISTOGRAMS, OF_POLICIES
from .scrape import OF_SCRAPES


def known() -> list[Metric]:
    """Return every metric that can exist: ours, and those that guards declare."""
    found = dict.fromkeys(OF_POLICIES)
    for kind in kinds():
        found.update(dict.fromkeys(kind.metrics))
    return [*found, *OF_PROCESSES, *OF_SCRAPES]


def name_and_type(metric: Metric) -> tuple[str, str]:
    """Return a metric's family and its type."""
    name = f"resilient_{metric.name}"
    if metric in HISTOGRAMS:
        return name.rpartition("_")[0], "histogram"
    if name.endswith("_info"):
        return name.removesuffix("_info"), "info"
    return name.removesuffix("_total"), metric.kind
