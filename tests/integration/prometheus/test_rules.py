"""The file of rules, and all alerts but those on burn rates, with real windows: by promtool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resilient import Policy as Guarded
from resilient import circuit_breaker, registry
from resilient.monitoring.alerts import checked_runbook
from resilient.monitoring.inventory import Declared, Policy
from resilient.testing import ManualClock
from tests.integration.prometheus.promtool import (
    CAUTION,
    LOOK,
    NAME,
    RELEASE,
    Expected,
    Trial,
    alerts,
    always,
    counter,
    exported,
    flag,
    gauge,
    of_flag,
    of_policy,
    policy,
    written,
)

ON = 'resilient flags on recs --reason "..."'
SHOW = "resilient flags show recs"
DOCTOR = "resilient doctor"
TEXTS = (
    'say "no"', "it's", "back\\slash \\n \\u1234", "{{ $labels.job }}", "{{ nope", "}} end",
    "{{{ x }}}", "{{- x -}}", "{{/* x */}}", "two\nlines", "tab\there", "naïve 支払い",
    "no cart \U0001f600",
    "%{x} ${y} #z", "- a: b", "nobody", "itself", "ratios", "true", "1e3", "~", "null", "x" * 500,
)  # fmt: skip


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    """A policy and a flag, and a service of two processes in which nothing is wrong."""
    made = Trial(tmp_path, [policy()], [flag()], step=5)
    made.healthy()
    return made


def exactly(tmp_path: Path, *, step: int = 1) -> Trial:
    """Return the same, looked at each minute."""
    made = Trial(tmp_path, [policy()], [flag()], step=step)
    made.healthy()
    return made


# -- the file ---------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 200])
def test_good_rules(tmp_path: Path, number: int) -> None:
    """promtool takes the rules for any number of policies and flags, and finds none twice."""
    policies = [policy(f"p-{n}", owner=f"team-{n % 7}", tier=n % 10 or None) for n in range(number)]
    flags = [flag(f"f-{n}", owner=f"team-{n % 7}") for n in range(number)]
    written(tmp_path / "rules.yml", Declared(policies, flags))


def test_words_arrive_as_they_are(tmp_path: Path) -> None:
    """Owners and impacts may have quotes, braces and all of Unicode: nothing of it is executed."""
    said = dict(enumerate(TEXTS))
    trial = Trial(
        tmp_path, [policy(f"p{n}", owner=text, impact=text) for n, text in said.items()], step=5
    )
    for n in said:
        trial.says("abandoned_workers", always(10), policy=f"p{n}")
        trial.says("worker_limit", always(10), policy=f"p{n}")
    fired = []
    for n, text in said.items():
        labels, annotations = of_policy("page", "100% of its worker threads hang", policy=f"p{n}")
        fired.append((labels | {"owner": text}, annotations | {"impact": text}))
    trial.expect({("ResilientWorkersAbandoned", 10): fired})


def test_garbage_of_a_page(tmp_path: Path) -> None:
    """What no policy can be called, but a broken page may say, does not break the file."""
    for text in ("\x7f\x85\u2028", "\ud800", "\0", "\ufeff", "\ufffe", "\r\n"):
        written(
            tmp_path / "rules.yml", Declared([Policy("p", {"owner": text, "impact": text})], [])
        )


def test_nothing_is_said_of_nothing(tmp_path: Path) -> None:
    """Without owner, impact and tier there is no such label, and no such annotation."""
    trial = Trial(tmp_path, [Policy("pay", {})], step=5)
    trial.says("abandoned_workers", always(10), policy="pay")
    trial.says("worker_limit", always(10), policy="pay")
    labels, annotations = of_policy("page", "100% of its worker threads hang", tier=None)
    del labels["owner"], annotations["impact"]
    annotations |= {"lever": LOOK, "caution": CAUTION}
    trial.expect({("ResilientWorkersAbandoned", 10): [(labels, annotations)]})


def test_every_alert_has_what_it_needs() -> None:
    """Each alert carries an owner, an impact and a lever, but for those on resilient itself."""
    for rule in alerts(Declared([policy()], [flag()])):
        assert rule["annotations"]["lever"].startswith("resilient "), rule
        assert rule["annotations"]["summary"], rule
        if "owner" in rule["labels"]:
            assert rule["annotations"]["impact"], rule
        else:
            assert rule["annotations"]["lever"] == "resilient doctor", rule


def levers(*policies: Policy) -> dict[str, str]:
    """Return the lever of each alert, by its name."""
    return {
        rule["alert"]: rule["annotations"]["lever"] for rule in alerts(Declared(policies, [flag()]))
    }


def test_no_lever_harms() -> None:
    """Where nothing answers in its place a policy is looked at, and never forced open."""
    for about in ({"covered": False}, {"covered": False, "flags": ["recs"], "answered": []}):
        found = alerts(Declared([policy(tier=1, **about)], [flag()]))
        for rule in found:
            said = rule["annotations"]
            assert "force-open" not in said["lever"], rule
            assert "flags off" not in said["lever"], rule
            burns = rule["alert"] in ("ResilientErrorsBurn", "ResilientErrorsLeak")
            assert not burns or said["caution"] == CAUTION
    assert levers(policy())["ResilientCircuitFlaps"].startswith("resilient policies force-open")


def test_errors_in_spite_of_a_fallback() -> None:
    """The fallback fails, or does not answer them: to cut the policy off may make it worse."""
    for rule in alerts(Declared([policy(covered=True, flags=["recs"], answered=["recs"])], [])):
        if rule["alert"] in ("ResilientErrorsBurn", "ResilientErrorsLeak"):
            assert rule["annotations"]["lever"] == "resilient policies show pay"
            assert "resilient top" in rule["annotations"]["caution"]
    switched = levers(policy(covered=False, flags=["recs"], answered=["recs"]))
    assert switched["ResilientErrorsBurn"].startswith("resilient flags off recs")


def test_a_lever_fits_its_alert() -> None:
    """Who disagrees is asked why, and what a fallback answers already is not forced open."""
    found = levers(policy(tier=1))
    assert found["ResilientFlagDisagrees"] == DOCTOR
    for name in ("ResilientDegraded", "ResilientFullyDegraded", "ResilientProcessesDisagree"):
        assert found[name] == "resilient policies show pay"


def test_where_to_read_on(tmp_path: Path) -> None:
    """A template of a URL is filled in for each alert, each part quoted, and nothing executed."""
    template = "https://wiki/{{{{ $labels.job }}}}/{kind}/{name}?o={owner}#{alert}"
    declared = Declared([policy("a>b", owner="team pay")], [flag()])
    written(tmp_path / "rules.yml", declared, runbook=template)
    found = {
        r["alert"]: r["annotations"]["runbook_url"] for r in alerts(declared, runbook=template)
    }
    literal = '{{ "{{" }} $labels.job }}'
    assert found["ResilientErrorsBurn"] == (
        f"https://wiki/{literal}/policy/a%3Eb?o=team%20pay#ResilientErrorsBurn"
    )
    assert f"/flag/recs?o=team-recs#{'ResilientFlagStale'}" in found["ResilientFlagStale"]
    assert "/resilient/?o=#ResilientStoreSilent" not in found["ResilientStoreSilent"]
    assert "runbook_url" not in alerts(declared)[0]["annotations"]


@pytest.mark.parametrize(
    "bad", ["{", "{0}", "{}", "{nope}", "{name.__class__}", "wiki", "http://a b", "h://\n"]
)
def test_a_bad_template_is_refused(bad: str) -> None:
    """What is no URL, or asks for what there is not, is told with what there is."""
    with pytest.raises(ValueError, match="--runbook-url must be a URL with"):
        checked_runbook(bad)


def test_names_are_known() -> None:
    """Every rule asks for series that the catalogue has."""
    asked = {
        name
        for rule in alerts(Declared([policy()], [flag()]))
        for name in NAME.findall(rule["expr"])
    }
    assert len(asked) > 10
    assert asked <= exported()


@pytest.mark.parametrize("selector", ['job="shop"', 'env="prod",region=~"eu-.*"'])
def test_a_selector_is_in_every_query(tmp_path: Path, selector: str) -> None:
    """Every series that a rule asks for is bound by the selector."""
    from resilient.monitoring.alerts import Alerts

    declared = Declared([policy()], [flag()])
    written(tmp_path / "rules.yml", declared, selector=selector)
    for group in Alerts(declared, selector=selector).groups():
        for rule in group["rules"]:
            asked = rule["expr"].count("resilient_")
            assert rule["expr"].count(selector) >= asked, rule


# -- circuits ---------------------------------------------

DISAGREE = of_policy(
    "ticket", "the circuit is open in some processes and closed in others", lever=LOOK
)


def stands(trial: Trial, **states: str) -> None:
    """Say in how many processes a circuit is in a state."""
    for state in ("closed", "open", "half_open"):
        trial.says("breaker_workers", states.get(state, always(0)), policy="pay", state=state)


def test_processes_disagree(tmp_path: Path) -> None:
    """A circuit that is open in one process of two is told of after ten minutes."""
    trial = exactly(tmp_path)
    stands(trial, closed=gauge((2, 5), (1, 20), (2, 50)), open=gauge((0, 5), (1, 20), (0, 50)))
    name = "ResilientProcessesDisagree"
    trial.expect({(name, 15): [DISAGREE], (name, 24): [DISAGREE]}, quiet=[14, 25, 30])


def test_processes_disagree_with_probes(tmp_path: Path) -> None:
    """Also where the open one is half-open now and then, for its probes."""
    trial = exactly(tmp_path)
    stands(
        trial, closed=gauge((2, 5), (1, 40)),
        open=gauge((0, 5), *[(1, 3), (0, 1)] * 10), half_open=gauge((0, 5), *[(0, 3), (1, 1)] * 10),
    )  # fmt: skip
    trial.expect({("ResilientProcessesDisagree", 15): [DISAGREE]}, quiet=[14])


def test_processes_agree(tmp_path: Path) -> None:
    """Nobody disagrees where all are open, where all look for a way back, and for nine minutes."""
    trial = exactly(tmp_path)
    for closed, opened, half in (
        (always(0), always(2), always(0)),
        (always(0), gauge(*[(2, 3), (1, 1)] * 20), gauge(*[(0, 3), (1, 1)] * 20)),
        (gauge((2, 5), (1, 9), (2, 50)), gauge((0, 5), (1, 9), (0, 50)), always(0)),
    ):
        stands(trial, closed=closed, open=opened, half_open=half)
        trial.expect({}, quiet=[10, 14, 15, 20, 30])


def moved(trial: Trial, instance: str = "a:80", **moves: str) -> None:
    """Say how often a circuit has come to its states, by itself."""
    for to, values in moves.items():
        trial.says(
            "breaker_transitions_total",
            values,
            policy="pay",
            to=to,
            cause="auto",
            instance=instance,
        )


def test_a_circuit_flaps(tmp_path: Path) -> None:
    """One that closed more than five times in half an hour, in each process, is told of."""
    trial = exactly(tmp_path)
    flaps = counter((0, 10), (1, 20), (0, 60))  # in one process or the other, once a minute
    moved(trial, open=flaps, half_open=flaps, closed=flaps)
    name = "ResilientCircuitFlaps"
    first, most, last = (
        of_policy("ticket", f"the circuit closed {times} times in half an hour")
        for times in ("5.5", "10", "5.5")
    )
    trial.expect({(name, 21): [first], (name, 40): [most], (name, 49): [last]}, quiet=[20, 50])


def test_a_circuit_that_opened_a_few_times(trial: Trial) -> None:
    """Five times each are not enough, and it is no matter how often an operator moved it."""
    few = counter((0, 10), (1, 10), (0, 60))
    moved(trial, open=few, half_open=few, closed=few)
    often = counter((5, 60))
    for to in ("open", "half_open", "closed"):
        trial.says("breaker_transitions_total", often, policy="pay", to=to, cause="operator")
    trial.expect({}, quiet=range(0, 60, 5))


@pytest.fixture
def outage() -> Iterator[dict[str, list[int]]]:
    """How often a real breaker has come to each state, by the minute of an outage of 40 minutes."""
    clock = ManualClock()
    guarded = Guarded("outage", circuit_breaker(), clock=clock)
    counts: dict[str, list[int]] = {"open": [0], "half_open": [0], "closed": [0]}
    for minute in range(1, 81):
        for _ in range(120):
            guarded.try_call(int, "0" if minute > 50 or minute <= 10 else "x")
            clock.advance(0.5)
        (seen,) = guarded.snapshot()["guards"]
        for state, numbers in counts.items():
            numbers.append(seen["transitions"][f"{state}/auto"])
    yield counts
    registry.remove("outage")


def test_an_outage_is_no_flapping(trial: Trial, outage: dict[str, list[int]]) -> None:
    """A circuit that opens, asks once a minute, and closes at the end does not flap."""
    assert outage["open"][-1] > 30
    assert outage["closed"][-1] == 1
    twice = {to: " ".join(str(2 * n) for n in numbers) for to, numbers in outage.items()}
    moved(trial, **twice)
    trial.expect({}, quiet=range(0, 80, 5))


def test_many_instances(tmp_path: Path) -> None:
    """Twelve instances whose circuits open and close once do not flap."""
    trial = Trial(tmp_path, [policy()], step=5)
    once = counter((0, 10), (1, 1), (0, 60))
    for n in range(12):
        trial.healthy(instance=f"host-{n}:80")
        moved(trial, f"host-{n}:80", open=once, half_open=once, closed=once)
    trial.expect({}, quiet=range(0, 60, 5))


# -- threads ---------------------------------------------


def test_workers_abandoned(tmp_path: Path) -> None:
    """Worker threads that hang page from four fifths of the cap on, after a minute."""
    trial = exactly(tmp_path)
    trial.says("abandoned_workers", gauge((15, 10), (16, 5), (20, 5), (15, 50)), policy="pay")
    name, text = "ResilientWorkersAbandoned", "{} of its worker threads hang"
    eighty, every = (of_policy("page", text.format(share)) for share in ("80%", "100%"))
    trial.expect({(name, 11): [eighty], (name, 19): [every]}, quiet=[10, 20])


# -- levers that were forgotten ---------------------------------------------

FORGOTTEN = "ResilientOverrideForgotten"


def forced(kind: str) -> list[tuple[dict[str, str], dict[str, str]]]:
    """Return the alert on an order that has no end."""
    said = f"{kind} for more than 4 h, without an end"
    return [of_policy("ticket", said, lever=RELEASE, kind=kind)]


@pytest.mark.parametrize("kind", ["forced_open", "forced_closed"])
def test_an_override_is_forgotten(trial: Trial, kind: str) -> None:
    """An order without an end is told of after four hours, until it is taken back."""
    trial.says("override_active", gauge((0, 10), (1, 300), (0, 50)), policy="pay", kind=kind)
    trial.expect({(FORGOTTEN, 250): forced(kind), (FORGOTTEN, 305): forced(kind)}, quiet=[245, 310])


def test_a_timed_override(trial: Trial) -> None:
    """One that has an end is not, until that is over and it still holds; options are no order."""
    trial.says("override_active", always(1), policy="pay", kind="forced_open")
    trial.says("override_active", always(1), policy="pay", kind="options")
    trial.says(
        "override_expires_timestamp_seconds", always(300 * 60), policy="pay", kind="forced_open"
    )
    trial.expect({(FORGOTTEN, 540): forced("forced_open")}, quiet=[240, 300, 535])


def test_an_override_that_is_made_again(trial: Trial) -> None:
    """An order with an end after one without, or in one instance of two, begins anew."""
    trial.says("override_active", always(1), policy="pay", kind="forced_open")
    gone = f"_x199 {12_000 * 60}x20 _x300"  # from minute 200 to 220
    trial.says("override_expires_timestamp_seconds", gone, policy="pay", kind="forced_open")
    trial.expect({}, quiet=[235, 240, 245, 400])


OFF_FOR_LONG = of_flag("ticket", "off for more than 4 h, without an end", lever=ON)


def flipped(trial: Trial, enabled: str, **values: str) -> None:
    """Say what there is to say of a flag that was flipped."""
    trial.says("flag_enabled", enabled, flag="recs")
    for name, said in values.items():
        trial.says(f"flag_{name}_timestamp_seconds", said, flag="recs")


def test_a_flag_is_forgotten(trial: Trial) -> None:
    """A flag that was turned off without an end is told of after four hours, until it is on."""
    flipped(
        trial, gauge((1, 10), (0, 300), (1, 50)),
        flipped=f"_x9 {600}x300", review=always(9e9),
    )  # fmt: skip
    name = "ResilientFlagForgotten"
    trial.expect({(name, 250): [OFF_FOR_LONG], (name, 305): [OFF_FOR_LONG]}, quiet=[245, 310])


def test_a_timed_flag(trial: Trial) -> None:
    """One that has an end is not, while that is to come."""
    flipped(trial, always(0), flipped=always(600), expires=always(350 * 60))
    trial.expect({}, quiet=range(0, 351, 50))


def test_a_flag_that_is_off_by_declaration(trial: Trial) -> None:
    """A flag with default=False that nobody has flipped is as it should be."""
    flipped(trial, always(0))
    trial.says("flag_processes", always(0), flag="recs", state="on")
    trial.says("flag_processes", always(2), flag="recs", state="off")
    trial.expect({}, quiet=[0, 240, 250, 500])


def test_a_flag_disagrees(tmp_path: Path) -> None:
    """A flag that is on in one process and off in another pages after two minutes."""
    trial = exactly(tmp_path)
    trial.says("flag_processes", gauge((2, 10), (1, 10), (0, 20)), flag="recs", state="on")
    trial.says("flag_processes", gauge((0, 10), (1, 10), (2, 20)), flag="recs", state="off")
    told = of_flag("page", "on in some processes and off in others", lever=DOCTOR)
    name = "ResilientFlagDisagrees"
    trial.expect({(name, 12): [told], (name, 19): [told]}, quiet=[11, 20, 30])


def test_a_flag_is_stale(trial: Trial) -> None:
    """A flag whose day of review has come is told of an hour later, and not while it is to come."""
    trial.says("flag_review_timestamp_seconds", always(100 * 60), flag="recs")
    told = of_flag("ticket", "its day of review is over; remove it, or set a new one", lever=SHOW)
    trial.expect({("ResilientFlagStale", 165): [told]}, quiet=[0, 100, 160])


def test_one_instance_of_two(trial: Trial) -> None:
    """What is wrong in one instance alone is told of, once; what two have, the sum says."""
    trial.healthy(instance="b:80")
    there = {"instance": "b:80", "policy": "pay"}
    trial.says("breaker_workers", always(0), **there, state="closed")
    trial.says("breaker_workers", always(2), **there, state="open")
    trial.says("abandoned_workers", always(18), **there)
    trial.says("override_active", always(1), **there, kind="forced_open")
    there = {"instance": "b:80", "flag": "recs"}
    trial.says("flag_enabled", always(0), **there)
    trial.says("flag_flipped_timestamp_seconds", always(60), **there)
    trial.says("flag_processes", always(0), **there, state="on")
    trial.says("flag_processes", always(2), **there, state="off")
    trial.says("flag_review_timestamp_seconds", always(60), **there)
    trial.says("pages_unread", always(1), instance="b:80")
    hang = of_policy("page", "90% of its worker threads hang")
    disagree = of_flag("page", "on in some processes and off in others", lever=DOCTOR)
    stale = of_flag("ticket", "its day of review is over; remove it, or set a new one", lever=SHOW)
    unread = (
        {"job": "shop", "severity": "ticket"},
        {
            "summary": "pages of processes can't be read: counts are missing",
            "lever": "resilient doctor",
        },
    )
    trial.expect({
        ("ResilientProcessesDisagree", 245): [DISAGREE], ("ResilientWorkersAbandoned", 245): [hang],
        (FORGOTTEN, 245): forced("forced_open"), ("ResilientFlagForgotten", 245): [OFF_FOR_LONG],
        ("ResilientFlagDisagrees", 245): [disagree], ("ResilientFlagStale", 245): [stale],
        ("ResilientPagesUnread", 245): [unread],
    })  # fmt: skip


# -- resilient itself ---------------------------------------------


@pytest.mark.parametrize(
    ("name", "metric", "bad", "after", "summary"),
    [
        ("ResilientInactive", "active", 0.0, 5,
         "guards are switched off: calls pass breakers, timeouts and bulkheads"),
        ("ResilientStoreSilent", "flag_sync_age_seconds", 75.0, 5,
         "flips are not heard of: the store was last read 1m 15s ago"),
        ("ResilientPagesUnread", "pages_unread", 1.0, 5,
         "pages of processes can't be read: counts are missing"),
        ("ResilientPoliciesFolded", "policies_in_other", 7.0, 60,
         "7 policies have no series of their own"),
    ],
)  # fmt: skip
def test_itself(trial: Trial, name: str, metric: str, bad: float, after: int, summary: str) -> None:
    """What is wrong with resilient itself is told of, with the command that says more."""
    fine = {"flag_sync_age_seconds": 59.0, "active": 1.0}.get(metric, 0.0)
    trial.says(metric, gauge((fine, 10), (bad, 100), (fine, 20)))
    told = {"job": "shop", "severity": "ticket"}, {"summary": summary, "lever": "resilient doctor"}
    expected: Expected = {(name, 10 + after): [told], (name, 105): [told]}
    trial.expect(expected, quiet=[5 + after, 110])
