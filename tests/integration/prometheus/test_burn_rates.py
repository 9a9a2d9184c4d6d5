"""Burn rates, with their real windows: by promtool, against plain arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resilient.monitoring.inventory import Declared
from tests.integration.prometheus.promtool import (
    FAST,
    LOOK,
    MILD,
    OFF,
    SLOW,
    Expected,
    Minutes,
    Pairs,
    Trial,
    always,
    counter,
    flag,
    of_policy,
    policy,
)

Watched = dict[str, tuple[str, Pairs, str]]
BURN, LEAK, MILDER = "ResilientErrorsBurn", "ResilientErrorsLeak", "ResilientDegraded"
ERRORS: Watched = {
    BURN: ("page", FAST, "customers get errors, {} of the calls, callers' own errors aside"),
    LEAK: ("ticket", SLOW, "errors use up the budget, {} of the calls, callers' own errors aside"),
}
DEGRADED: Watched = {
    MILDER: (
        "ticket",
        MILD,
        "a fallback or a switch answers {} of the calls, callers' own errors aside",
    )
}


def told(
    watched: Watched, calls: Minutes, budget: float, minutes: list[int], **labels: Any
) -> Expected:
    """Return what must fire at some minutes, as arithmetic says."""
    expected: Expected = {}
    for name, (severity, pairs, text) in watched.items():
        for minute in minutes:
            share = calls.burns(minute, budget, pairs)
            if share is not None:
                said = text.format(f"{share * 100:.4g}%")
                lever = LOOK if name == MILDER else OFF
                expected[name, minute] = [of_policy(severity, said, lever=lever, **labels)]
    return expected


# An hour of health, a fault of some minutes, and health again: of errors, and of degraded answers.
TIERS: dict[int | None, float] = {1: 0.001, 2: 0.005, 3: 0.01, None: 0.005, 9: 0.005}
STORIES: dict[str, tuple[int | None, Watched, Minutes, set[str]]] = {
    "a": (1, ERRORS, Minutes((600, 0, 60), (570, 30, 30), (600, 0, 45)), {BURN, LEAK}),
    "b": (2, ERRORS, Minutes((600, 0, 60), (0, 600, 12), (600, 0, 63)), {BURN, LEAK}),
    "c": (3, ERRORS, Minutes((600, 0, 60), (421, 179, 40), (600, 0, 35)), {BURN, LEAK}),
    "d": (None, ERRORS, Minutes((600, 0, 60), (480, 120, 20), (600, 0, 55)), {BURN, LEAK}),
    "e": (9, ERRORS, Minutes((600, 0, 60), (480, 120, 20), (600, 0, 55)), {BURN, LEAK}),
    "f": (2, ERRORS, Minutes((600, 0, 60), (588, 12, 75)), {LEAK}),  # nobody is woken
    "g": (2, ERRORS, Minutes((600, 0, 60), (598, 2, 75)), set()),  # within the budget
    "h": (2, DEGRADED, Minutes((600, 0, 60), (0, 600, 40), (600, 0, 35)), {MILDER}),
    "i": (2, DEGRADED, Minutes((600, 0, 60), (450, 150, 75)), set()),  # a quarter, for an hour
    "j": (3, DEGRADED, Minutes((600, 0, 40), (420, 180, 95)), {MILDER}),
}


def test_to_the_minute(tmp_path: Path) -> None:
    """A page and two tickets come and go at the very minutes that arithmetic says, by the tier."""
    trial = Trial(tmp_path, [policy(name, tier=story[0]) for name, story in STORIES.items()])
    minutes = {134}
    for name, (tier, watched, calls, which) in STORIES.items():
        budget = TIERS[tier] if watched is ERRORS else 0.05
        for alert, (_, pairs, _) in watched.items():
            turns = calls.turns(budget, pairs)
            assert bool(turns) == (alert in which), name
            minutes |= turns
        what = "error" if watched is ERRORS else "degraded"
        trial.served(calls.good, policy=name, **{what: calls.bad})
    expected: Expected = {}
    for name, (tier, watched, calls, _) in STORIES.items():
        budget = TIERS[tier] if watched is ERRORS else 0.05
        found = told(watched, calls, budget, sorted(minutes), policy=name, tier=tier)
        for key, fired in found.items():
            expected.setdefault(key, []).extend(fired)
    assert {name for name, _ in expected} == {BURN, LEAK, MILDER}
    trial.expect(expected, minutes)


FULLY = "ResilientFullyDegraded"


def test_fully_degraded(tmp_path: Path) -> None:
    """At tier 1 somebody is told within minutes that all answers are a fallback's; and for no less."""
    trial = Trial(tmp_path, [
        policy("all", tier=1), policy("most", tier=1), policy("tier2"), policy("few", tier=1),
        policy("ill", tier=1),
    ])  # fmt: skip
    healthy, rest = (600, 30), (600, 30)
    for name, good, bad in (("all", 0, 600), ("most", 60, 540), ("tier2", 0, 600)):
        trial.served(
            counter(healthy, (good, 30), rest), degraded=counter((0, 30), (bad, 30), (0, 30)),
            policy=name,
        )  # fmt: skip
    trial.served(always(0), degraded=counter((0, 30), (3, 60)), policy="few")  # in three minutes
    # Callers' own errors are beside it.
    trial.served(always(0), degraded=counter((0, 30), (6, 60)), own=counter((0, 30), (600, 60)),
                 policy="ill")  # fmt: skip
    told = [
        of_policy(
            "page",
            "a fallback or a switch answers 100% of the calls, callers' own errors aside",
            policy=name,
            tier=1,
            lever=LOOK,
        )
        for name in ("all", "ill")
    ]
    # Those that degrade for long have their ticket too; that is looked at elsewhere.
    trial.only(FULLY, {30: [], 31: [], 37: told, 59: told, 65: told[1:], 85: told[1:]})


def test_callers_own_errors_burn_no_budget(tmp_path: Path) -> None:
    """However many 404s there are: they count neither as errors, nor as calls beside which few are."""
    trial = Trial(tmp_path, [policy("shop", tier=1), policy("ill", tier=1)])
    trial.served(counter((600, 90)), own=counter((6000, 90)), policy="shop")
    trial.served(counter((570, 90)), error=counter((30, 90)), own=counter((6000, 90)),
                 policy="ill")  # fmt: skip
    share = "customers get errors, 5% of the calls, callers' own errors aside"
    trial.only(BURN, {85: [of_policy("page", share, policy="ill", tier=1)]})


def test_objectives(tmp_path: Path) -> None:
    """Another objective is another limit; what no share of errors can reach is as good as all."""
    some, every = Minutes((600, 0, 30), (90, 510, 70)), Minutes((600, 0, 30), (0, 600, 70))
    minutes = list(range(0, 100, 5))
    trial = Trial(tmp_path, [policy(), policy("search")], objectives={2: 0.1, None: 0.5}, step=5)
    trial.served(some.good, error=some.bad)
    trial.served(every.good, error=every.bad, policy="search")
    assert not told(ERRORS, some, 0.9, minutes)
    expected = told(ERRORS, every, 0.9, minutes, policy="search")
    assert set(expected) == {(BURN, 90), (BURN, 95)}
    trial.expect(expected, minutes)


# In three days: what each pair of windows sees alone, and when.
DAYS: dict[str, tuple[Watched, Minutes, dict[str, set[int]]]] = {
    # 0.6 %, and 0.45 %
    "leak": (ERRORS, Minutes((4970, 30, 4400)), {LEAK: {4300, 4380}}),
    "fine": (ERRORS, Minutes((4978, 22, 4400)), {}),
    "over": (ERRORS, Minutes((4970, 30, 4320), (5000, 0, 80)), {LEAK: {4300, 4360}}),
    # 2.5 %, after two busy days beside which three do not see it
    "busy": (
        ERRORS, Minutes((6000, 0, 2000), (600, 0, 1480), (585, 15, 920)), {LEAK: {4360, 4380}},
    ),
    # 7 %, for 170 minutes
    "fast": (
        ERRORS, Minutes((600, 0, 4170), (558, 42, 170), (600, 0, 60)),
        {BURN: {4340}},
    ),
    # a fifth of the calls, and all of them
    "mild": (DEGRADED, Minutes((600, 0, 3270), (480, 120, 1130)), {MILDER: {4360, 4380}}),
    "worse": (DEGRADED, Minutes((600, 0, 4245), (0, 600, 155)), {MILDER: {4360, 4380}}),
}  # fmt: skip


def test_three_days(tmp_path: Path) -> None:
    """Leaks of half a day and of three days come and go when arithmetic says so."""
    trial = Trial(tmp_path, [policy(name) for name in DAYS], step=20)
    minutes = [4300, 4320, 4340, 4360, 4380]
    expected: Expected = {}
    for name, (watched, calls, fires) in DAYS.items():
        what = "error" if watched is ERRORS else "degraded"
        trial.served(calls.good, policy=name, **{what: calls.bad})
        budget = 0.005 if watched is ERRORS else 0.05
        found = told(watched, calls, budget, minutes, policy=name)
        for alert, wanted in fires.items():
            assert wanted <= {minute for each, minute in found if each == alert}, name
        assert {alert for alert, _ in found} == set(fires), name
        for key, fired in found.items():
            expected.setdefault(key, []).extend(fired)
    assert not [minute for name, minute in expected if name == MILDER and minute < 4360]
    trial.expect(expected, minutes)


# -- what must not wake anybody ---------------------------------------------


def silent(trial: Trial, *minutes: int) -> None:
    """Check that no alert of any kind fires."""
    trial.expect({}, minutes)


def test_healthy(tmp_path: Path) -> None:
    """Of a healthy service nobody hears anything, nor of one that is not there yet."""
    trial = Trial(tmp_path, [policy(), policy("search", tier=None)], [flag()], step=10)
    silent(trial, 0, 10)
    trial.healthy()
    trial.healthy("search")
    silent(trial, *range(0, 601, 10))


def test_low_traffic(tmp_path: Path) -> None:
    """One error of two calls is nothing, nor is any share of 99 calls; of 100 it is something."""
    few = {"two": (1, 1), "most": (80, 19), "all": (0, 99), "enough": (0, 100)}
    trial = Trial(tmp_path, [policy(name, tier=1) for name in few], step=5)
    for name, (good, bad) in few.items():
        well, badly = (counter((0, 60), (number, 1), (0, 90)) for number in (good, bad))
        trial.served(well, error=badly, policy=name)
    all_of_100 = Minutes((0, 0, 60), (0, 100, 1), (0, 0, 90))
    minutes = [60, 65, 70, 100, 150]
    expected = told(ERRORS, all_of_100, 0.001, minutes, policy="enough", tier=1)
    assert {(BURN, 65), (LEAK, 65)} <= set(expected)
    trial.expect(expected, minutes)


def test_few_degraded(tmp_path: Path) -> None:
    """Nor do few degraded answers mean anything."""
    trial = Trial(tmp_path, [policy()], step=5)
    trial.served(always(0), degraded=counter((0, 60), (9, 11), (0, 90)))
    silent(trial, *range(0, 161, 5))


def test_no_calls(tmp_path: Path) -> None:
    """Where there are no calls there is no ratio, and no alert: before the first, and at night."""
    trial = Trial(tmp_path, [policy(tier=1)], step=5)
    trial.healthy()
    trial.served(counter((0, 100), (600, 10), (0, 200)))
    silent(trial, *range(0, 301, 25))


def test_a_restart(tmp_path: Path) -> None:
    """Counters that begin anew are no errors, and do not hide those that go on."""
    trial = Trial(tmp_path, [policy(tier=1), policy("search", tier=1)], step=5)
    trial.healthy()
    again = f"{counter((600, 89))} {counter((600, 90))}"
    trial.served(again, error="1000x89 0x200", degraded="5000x89 0x200")
    trial.served(again, error=again, policy="search")
    low, high = (
        "errors use up the budget, 50% of the calls, callers' own errors aside",
        "customers get errors, 50% of the calls, callers' own errors aside",
    )
    trial.expect({
        (name, minute): [of_policy(severity, said, tier=1, policy="search")]
        for name, severity, said in ((BURN, "page", high), (LEAK, "ticket", low))
        for minute in (85, 90, 95, 100, 150)
    })  # fmt: skip


def test_one_bad_minute(tmp_path: Path) -> None:
    """A minute of little but errors in four hours pages for tier 1 alone, and for five minutes.

    There it is 2 % of what a month may have; a few errors less, and nobody is woken.
    """
    bad, less = (Minutes((600, 0, 240), (600 - n, n, 1), (600, 0, 60)) for n in (525, 515))
    tiers = {"one": 1, "two": 2, "three": 3, "none": None, "less": 1}
    trial = Trial(tmp_path, [policy(name, tier=tier) for name, tier in tiers.items()], step=2)
    minutes = [*range(240, 250, 2), 270]
    expected = told(ERRORS, less, 0.001, minutes, policy="less", tier=1)
    assert {name for name, _ in expected} == {LEAK}
    for key, fired in told(ERRORS, bad, 0.001, minutes, policy="one", tier=1).items():
        expected.setdefault(key, []).extend(fired)
    assert [minute for name, minute in expected if name == BURN] == [242, 244]
    for name in tiers:
        calls = less if name == "less" else bad
        trial.served(calls.good, error=calls.bad, policy=name)
    trial.expect(expected, minutes)


def test_missing_scrapes(tmp_path: Path) -> None:
    """Scrapes that fail, three of every five, hide nothing and make nothing up."""
    trial = Trial(tmp_path, [policy(tier=1), policy("search", tier=1)])
    gaps = " ".join(f"{n * 3000} {n * 3000 + 600} _ _ _" for n in range(10))
    trial.served(gaps)
    trial.served(gaps, error=gaps, policy="search")
    low, high = (
        "errors use up the budget, 50% of the calls, callers' own errors aside",
        "customers get errors, 50% of the calls, callers' own errors aside",
    )
    trial.expect({
        (name, minute): [of_policy(severity, said, tier=1, policy="search")]
        for name, severity, said in ((BURN, "page", high), (LEAK, "ticket", low))
        for minute in range(40, 46)
    })  # fmt: skip


# -- whose it is ---------------------------------------------

FAULT = Minutes((600, 0, 20), (0, 600, 20))
LATE = [0, 20, 30, 35]


@pytest.mark.parametrize(
    ("selector", "job"), [('job="shop"', "till"), ("", "till"), ('job="shop"', "shop")]
)
def test_another_job(tmp_path: Path, selector: str, job: str) -> None:
    """A selector bounds the rules to a job; without one the alert says which job it is."""
    trial = Trial(tmp_path, [policy()], [flag()], selector=selector, step=5)
    trial.healthy(job="shop")
    trial.healthy(job="till")
    trial.served(FAULT.good, error=FAULT.bad, job=job)
    seen = job == "shop" or not selector
    trial.expect(told(ERRORS, FAULT, 0.005, LATE, job=job) if seen else {}, LATE)


def test_two_files_of_rules(tmp_path: Path) -> None:
    """Rules with one selector do not look at what those with another one have recorded."""
    trial = Trial(tmp_path, [policy()], selector='job="shop"', step=5)
    trial.more_rules(Declared([policy("bank")], []), selector='job="till"')
    trial.healthy(job="shop")
    trial.healthy(job="till")
    trial.served(FAULT.good, error=FAULT.bad, job="till")
    silent(trial, *LATE)


def test_two_environments_of_one_job(tmp_path: Path) -> None:
    """Production and staging of one job, each with rules of its own, are kept apart."""
    trial = Trial(tmp_path, [policy()], selector='env="prod"', step=5)
    trial.more_rules(Declared([policy(tier=9, owner="cat")], []), selector='env="staging"')
    trial.healthy(env="prod")
    trial.healthy(env="staging")
    trial.served(FAULT.good, error=FAULT.bad, env="staging")
    trial.expect(told(ERRORS, FAULT, 0.005, LATE, tier=9, owner="cat", env="staging"), LATE)


def test_instances_are_added_up(tmp_path: Path) -> None:
    """An instance of ten that fails is a tenth of the calls, and one alert."""
    trial = Trial(tmp_path, [policy(tier=3)], step=5)
    for n in range(9):
        trial.served(counter((600, 60)), instance=f"host-{n}:80")
    trial.served(always(0), error=counter((600, 60)), instance="host-9:80")
    calls = Minutes((5400, 600, 60))
    expected = told(ERRORS, calls, 0.01, [30, 55], tier=3)
    assert {name for name, _ in expected} == {BURN, LEAK}
    trial.expect(expected)
