"""The dashboard: what Grafana needs, and queries that get an answer of a real service."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from resilient.monitoring.dashboard import dashboard, queries
from tests.integration.prometheus.promtool import (
    NAME,
    Trial,
    always,
    counter,
    exported,
    flag,
    policy,
)
from tests.integration.prometheus.story import SELECTOR, Run
from tests.kit.command import Cli


@pytest.fixture
def made() -> dict[str, Any]:
    """A dashboard."""
    return dashboard("shop", SELECTOR)


def test_names_are_known(made: dict[str, Any]) -> None:
    """Every query, that for the variable too, asks for series that the catalogue has."""
    variables = [each["query"] for each in made["templating"]["list"] if each["type"] == "query"]
    asked = {name for query in [*queries(made), *variables] for name in NAME.findall(query)}
    assert len(asked) > 15
    assert asked <= exported()


@pytest.mark.timeout(120)  # it may be the first to wait for the run
def test_names_are_exported(made: dict[str, Any], run: Run) -> None:
    """A real service exports all of them, and nothing that the catalogue does not have."""
    created = {name for name in run.exported if name.endswith("_created")}
    assert created == set()
    assert {name for query in queries(made) for name in NAME.findall(query)} <= run.exported
    assert run.exported <= exported()


@pytest.mark.timeout(120)
def test_every_query_is_answered(made: dict[str, Any], run: Run) -> None:
    """Prometheus takes every query, and each of them returned something in the run."""
    assert run.refused == {}
    assert set(run.answers) == set(queries(made))
    assert [query for query, number in run.answers.items() if not number] == []


def test_a_selector_is_in_every_query(made: dict[str, Any]) -> None:
    """Every series that is asked for is bound by the selector, and without one by nothing."""
    for query in queries(made):
        assert query.count(SELECTOR) == len(NAME.findall(query)), query
    for query in queries(made):
        assert query.count('job=~"$job"') == len(NAME.findall(query)), query
    for query in queries(dashboard()):
        assert "{}" not in query


def test_what_is_the_callers_own_doing_is_in_no_ratio(made: dict[str, Any]) -> None:
    """Neither above the line nor below it."""
    asked = [query for query in queries(made) if "served_total" in query]
    assert asked
    for query in asked:
        for labels in re.findall(r"served_total{([^}]*)}", query):
            assert re.search(r'served(!="caller_error"|="\w+"|=~"degraded\|error")', labels), query


def asked(title: str, of: dict[str, Any]) -> str:
    """Return the first query of a panel, as Grafana sends it."""
    (found,) = [panel for panel in of["panels"] if (panel["title"].partition(",")[0] == title)]
    query: str = found["targets"][0]["expr"]
    for word, value in (("$policy", ".*"), ("$job", ".*"), ("$__rate_interval", "5m")):
        query = query.replace(word, value)
    return query


def test_a_fleet(tmp_path: Path) -> None:
    """A flag that is off on three hosts is one flag; processes add up; a service can be chosen."""
    trial = Trial(tmp_path, [policy()], [flag()])
    for host in ("a", "b", "c"):
        trial.healthy(instance=f"{host}:80")
        trial.says("flag_enabled", always(0), flag="recs", instance=f"{host}:80")
        trial.says("flag_enabled", always(1), flag="beta", instance=f"{host}:80")
    trial.says("flag_enabled", always(0), flag="recs", job="other")
    made = dashboard()
    off, processes = asked("Flags that are off", made), asked("Processes", made)
    trial.answers({off: [("{}", 2)], processes: [("{}", 6)]}, 10)
    chosen = off.replace('job=~".*"', 'job=~"shop"')
    trial.answers({chosen: [("{}", 1)]}, 10)
    for host in ("a", "b", "c"):
        trial.says("flag_enabled", always(1), flag="recs", instance=f"{host}:80")
    trial.answers({chosen: [("{}", 0)]}, 10)


def test_shares_are_of_what_is_not_the_callers_own_doing(tmp_path: Path) -> None:
    """Three of four, however many errors of their own callers got besides."""
    trial = Trial(tmp_path, [policy()])
    trial.served(counter((90, 60)), error=counter((30, 60)), own=counter((900, 60)))
    made = dashboard()
    trial.answers({
        asked("Customers: full", made): [("{}", 0.75)],
        asked("Customers: error", made): [("{}", 0.25)],
        asked("Customers: degraded", made): [("{}", 0)],
    }, 30)  # fmt: skip


def test_no_quantile_goes_over_the_limit_that_cuts_it(tmp_path: Path) -> None:
    """All calls end in the bucket of 0.5 s: with a timeout of 0.3 s, that is what is drawn."""
    trial = Trial(tmp_path, [policy()])
    for name in ("cut", "free", "idle"):
        step = 0 if name == "idle" else 60
        for edge in ("0.25", "0.5", "+Inf"):
            values = counter((0 if edge == "0.25" else step, 60))
            trial.says("call_duration_seconds_bucket", values, policy=name, le=edge)
        if name != "free":
            trial.says("timeout_seconds", always(0.3), policy=name)
    trial.answers({
        f"({asked('p99 of calls', dashboard())}) > 0": [
            ('{policy="cut"}', 0.3), ('{policy="free"}', 0.4975),
        ],
        f"({asked('p50 of calls', dashboard())}) > 0": [
            ('{policy="cut"}', 0.3), ('{policy="free"}', 0.375),
        ],
    }, 30)  # fmt: skip


def test_the_grid(made: dict[str, Any]) -> None:
    """Panels have ids of their own, a title of their own, and a place where no other is."""
    panels = made["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 15
    assert len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] >= 0 <= at["y"]
        assert at["x"] + at["w"] <= 24
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert taken.isdisjoint(cells), panel["title"]
        taken |= cells
    assert {y for _, y in taken} == set(range(max(y for _, y in taken) + 1)), "no gaps"


def test_what_grafana_needs(made: dict[str, Any]) -> None:
    """Any Prometheus can be chosen, and any policies; every panel and query uses that choice."""
    source, job, policy = made["templating"]["list"]
    assert job["query"] == f"label_values(resilient_policy_info{{{SELECTOR}}}, job)"
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    uid = {"type": "prometheus", "uid": f"${{{source['name']}}}"}
    assert policy["datasource"] == uid
    assert policy["query"] == (
        f'label_values(resilient_policy_info{{job=~"$job",{SELECTOR}}}, policy)'
    )
    assert (policy["multi"], policy["includeAll"], policy["allValue"]) == (True, True, ".*")
    for panel in made["panels"]:
        assert panel["datasource"] == uid
        assert panel["type"] in ("stat", "timeseries")
        assert panel["fieldConfig"]["defaults"]["unit"]
        ids = [target["refId"] for target in panel["targets"]]
        assert len(set(ids)) == len(ids) > 0
        for target in panel["targets"]:
            assert target["datasource"] == uid
            assert target["legendFormat"]
    (openings,) = made["annotations"]["list"]
    assert openings["datasource"] == uid
    assert made["title"] == "shop"
    assert made["schemaVersion"] >= 36
    assert made.get("id") is None, "it is a new one, wherever it is imported"


def test_legends_name_labels_that_are_there(made: dict[str, Any]) -> None:
    """Where a legend asks for a label, the query keeps it."""
    for panel in made["panels"]:
        for target in panel["targets"]:
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                kept = ", ".join(re.findall(r"by \(([^)]*)\)", target["expr"]))
                assert label in kept.split(", "), target


def test_the_command_prints_it(tmp_path: Path, made: dict[str, Any]) -> None:
    """`resilient metrics dashboard` prints the same, without any service."""
    cli = Cli("", tmp_path)
    words = "metrics", "dashboard", "--title", "shop", "--selector", SELECTOR
    assert cli(*words).said(0).json == made
    assert cli("metrics", "dashboard").said(0).json == json.loads(json.dumps(dashboard()))
