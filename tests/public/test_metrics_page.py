"""The catalogue of metrics in the docs is made from the code: this holds it to that.

Renew it with ``python tests/public/test_metrics_page.py --write``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from resilient.guards.kinds import kinds
from resilient.metric_types import Metric
from resilient.prometheus.catalogue import known, name_and_type
from resilient.telemetry.flag_samples import OF_FLAG, OF_ORDER
from resilient.telemetry.policy_samples import OF_POLICIES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
RENEW = "python tests/public/test_metrics_page.py --write"
BEGIN, END = f"<!-- made by {RENEW} -->\n", "<!-- end of what is made -->\n"
OVER = {"sum": "added up", "max": "the largest", "min": "the smallest", "mean": "by their calls"}


def test_the_catalogue_is_that_of_the_code() -> None:
    """The page has each metric with its type, labels and meaning, as the code declares them."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    written, end, _ = rest.partition(END)
    assert all((before, end)), f"{PAGE.name} has lost its marks"
    assert written == table(), f"renew the page: {RENEW}"


def test_every_metric_has_a_meaning() -> None:
    """No family is without a word on what it says, and none says two things."""
    families: dict[str, list[Metric]] = {}
    for metric in known():
        families.setdefault(name_and_type(metric)[0], []).append(metric)
    for name, metrics in families.items():
        assert any(metric.help.endswith(".") for metric in metrics), name
        assert len({metric.kind for metric in metrics}) == 1, name


def table() -> str:
    """Return the catalogue."""
    rows = [
        "| name | type | labels | meaning | of several processes | present |",
        "|---|---|---|---|---|---|",
    ]
    guards = _guards("resilient.")
    others = _guards("").keys() - guards.keys()  # of tests and of examples in the docs
    for metric in (each for each in known() if each not in others):
        name, kind = name_and_type(metric)
        if not metric.help:  # another line of a histogram
            continue
        if kind in ("counter", "info"):
            name = f"resilient_{metric.name}"
        own = ["policy"] * (metric in (*OF_POLICIES, *OF_ORDER) or metric in guards)
        own += ["flag"] * (metric in OF_FLAG)
        labels = [label for label in (*own, *metric.labels) if label != "le"]
        shown = ", ".join(f"`{label}`" for label in labels)
        usual = f"with a {guards[metric]}" if metric in guards else "always"
        kind = "gauge" if kind == "info" else kind
        rows.append(
            f"| `{name}` | {kind} | {shown} | {metric.help} | {OVER[metric.over]} | "
            f"{metric.present or usual} |"
        )
    return "\n".join(rows) + "\n"


def _guards(package: str) -> dict[Metric, str]:
    """Return whose each metric is that a guard of a package declares."""
    found: dict[Metric, str] = {}
    for kind in kinds():
        if kind.__module__.startswith(package):
            found.update(dict.fromkeys(kind.metrics, kind.kind))
    return found


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(f"usage: {RENEW}")
    head, _, tail = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(head + BEGIN + table() + END + tail.partition(END)[2], encoding="utf-8")
