"""The dashboard: what Grafana needs, and queries that get an answer of a real service."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from resilient.monitoring.dashboard import dashboard, queries

from ..cli.kit import Cli
from .promtool import NAME, exported
from .story import SELECTOR, Run


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
    for query in queries(dashboard()):
        assert "job" not in query
        assert "{}" not in query


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
    source, policy = made["templating"]["list"]
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    uid = {"type": "prometheus", "uid": f"${{{source['name']}}}"}
    assert policy["datasource"] == uid
    assert policy["query"] == f"label_values(resilient_policy_info{{{SELECTOR}}}, policy)"
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
