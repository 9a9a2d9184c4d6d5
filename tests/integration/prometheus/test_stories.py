"""A real service, load and Prometheus: each alert fires in its story, and no other does."""

from __future__ import annotations

import pytest

from tests.integration.prometheus.promtool import CAUTION, alerts
from tests.integration.prometheus.story import (
    AT_ONCE,
    ENDS,
    FLAGS,
    LATER,
    RIGHT_FROM_THE_START,
    STAYS,
    TIERS,
    Key,
    Run,
)

FIRES = sorted(ENDS | STAYS | RIGHT_FROM_THE_START)
SEVERE = {
    "ResilientErrorsBurn", "ResilientWorkersAbandoned", "ResilientFlagDisagrees",
    "ResilientFullyDegraded",
}  # fmt: skip
LEVERS = {
    "switched": 'resilient flags off recs --reason "..." --for 30m',
    "forced": 'resilient policies release forced --reason "..."',
    "stale": "resilient flags show stale",
    "old-look": 'resilient flags on old-look --reason "..."',
    "search-v2": "resilient doctor",
    "": "resilient doctor",
}

COVERED = {"ResilientDegraded", "ResilientFullyDegraded"}
CUTS = {
    "ResilientErrorsBurn", "ResilientErrorsLeak", "ResilientCircuitFlaps",
    "ResilientWorkersAbandoned",
}  # fmt: skip

pytestmark = pytest.mark.timeout(120)  # the first one waits for the whole run, which takes 40 s


def test_health(run: Run) -> None:
    """While nothing is wrong nothing fires, and nothing is about to; but for what is right."""
    assert len(run.healthy) > 10
    assert {key for seen in run.healthy for key in seen} == RIGHT_FROM_THE_START


@pytest.mark.parametrize("key", FIRES, ids=" ".join)
def test_fires(run: Run, key: Key) -> None:
    """Each alert fires in its story, with all that whoever is woken needs."""
    name, subject = key
    alert = run.fired[key]
    labels = {"alertname": name, "job": "shop", "severity": "page" if name in SEVERE else "ticket"}
    impact = {}
    if subject in TIERS:
        labels |= {"policy": subject, "owner": f"team-{subject}"}
        if (tier := TIERS[subject]) is not None:
            labels["tier"] = str(tier)
        if subject == "forced":
            labels["kind"] = "forced_closed"
        impact = {"impact": f"No {subject}, \U0001f600."}
    elif subject:
        labels |= {"flag": subject, "owner": "team-shop"}
        impact = {"impact": FLAGS[subject]}
    assert alert["labels"] == labels
    annotations = dict(alert["annotations"])
    assert annotations.pop("summary").startswith(f"{subject}: " if subject else "")
    # None of the others has anything that answers in its place, or it answers already.
    lever = f"resilient policies show {subject}"
    if name not in COVERED:
        lever = LEVERS.get(subject, lever)
    caution = {"caution": CAUTION} if name in CUTS and subject != "switched" else {}
    assert annotations == {**impact, "lever": lever, **caution}


def test_nothing_else_fires(run: Run) -> None:
    """No alert fires for a policy or flag in whose story it has no part."""
    assert set(run.fired) == set(FIRES), run.fired_at


def test_what_is_declared(run: Run) -> None:
    """The pages of the running processes say all that is declared, flags that are off too."""
    assert {policy.name: policy.tier for policy in run.declared.policies} == TIERS
    assert {flag.name: flag.impact for flag in run.declared.flags} == FLAGS


def test_every_alert_has_a_story(run: Run) -> None:
    """There is no alert that this run would not have shown to be broken."""
    # That guards are switched off would be the story of all policies: test_rules has it.
    told = {name for name, _ in FIRES} | {"ResilientInactive"}
    assert {rule["alert"] for rule in alerts(run.declared)} == told


@pytest.mark.parametrize("key", sorted(ENDS), ids=" ".join)
def test_ends(run: Run, key: Key) -> None:
    """Once the fault is over the alert ends, as soon as its windows let it."""
    assert run.ended_at[key] > run.fired_at[key], run.now


def test_the_levers_work(run: Run) -> None:
    """Each command of an alert, pasted into a shell while it fires, is obeyed by every process."""
    for key in {AT_ONCE, *LATER}:
        lever = run.fired[key]["annotations"]["lever"]
        code, said = run.levers[lever]
        if lever == "resilient doctor":
            assert "flag stale is due for a review" in said, said
        else:
            assert (code, "applied by 2 of 2 processes" in said) == (0, True), said
    for answer in run.told:
        assert answer["got"]["switched"] == "lesser"
        assert answer["flags"]["old-look"]
        assert not answer["flags"]["search-v2"]  # as it was ordered, in all of them


def test_every_rule_is_well(run: Run) -> None:
    """Prometheus had nothing to complain of, of any rule, at any time."""
    assert len(run.rules) > 100
    assert [rule for rule in run.rules if rule["health"] != "ok" or rule["lastError"]] == []
    said = run.prometheus.log.read_text().splitlines()
    assert [line for line in said if "level=info" not in line] == []
