"""Calls of many keys: faults of some of them, guards for each, shared calls; and shadows."""

from __future__ import annotations

import logging
import os
from typing import Any

import pytest

from resilient.simulate import Run, from_data, load, run
from resilient.simulate.chance import source
from resilient.simulate.faults import Fault, Schedule
from tests.kit.paths import ROOT
from tests.unit.simulate.kit import calm, guards

ERRORS = {"kind": "errors", "share": 1.0, "at": 10, "seconds": 20, "keys": 1}
BREAKER: dict[str, Any] = {"guard": "circuit_breaker", "failure_threshold": 3}
SEEDS = (1,) if os.environ.get("RESILIENT_QUICK") else (1, 2, 3)


def ran(policy: dict[str, Any], seed: int = 1, **changes: Any) -> Run:
    data = calm(**{"clients": {"keys": 4}, **changes}, policy=[{"name": "ours", **policy}])
    return run(from_data(data), seed=seed).runs["ours"]


def test_a_fault_of_some_keys_is_none_of_the_others() -> None:
    schedule = Schedule(
        [
            Fault("errors", 10, 10, 0.5, keys=2),
            Fault("slow", 10, 10, 4.0, keys=1),
            Fault("errors", 15, 10, 0.5),
        ],
        workers=3,
        errors=0.0,
    )
    assert [schedule.errors(12, key) for key in range(4)] == [0.5, 0.5, 0.0, 0.0]
    assert [schedule.errors(16, key) for key in range(4)] == [0.75, 0.75, 0.5, 0.5]
    assert [schedule.finish(12, 1.0, key) for key in range(3)] == [16.0, 13.0, 13.0]
    assert {schedule.workers(12), schedule.workers(30)} == {3}


def test_each_key_is_asked_as_often_and_by_the_seed_alone() -> None:
    nothing, keyed = ({"guards": [BREAKER]}, {"guards": [BREAKER], "keyed": True})
    first, second = ran(nothing)._tape, ran(keyed)._tape
    assert first.keys == second.keys
    draw = source(1, "keys").randrange
    assert first.keys == [draw(4) for _ in first.keys]
    assert all(first.keys.count(key) > 150 for key in range(4))


def test_a_sick_key_opens_its_own_circuit_alone() -> None:
    found = ran({"guards": [BREAKER], "keyed": True}, fault=[ERRORS])
    assert {move.key for move in found.moves} == {"1"}
    assert found.other_keys == 1.0
    assert found.errors["CircuitOpenError"] > found.errors["ServiceFaultError"]
    together = ran(
        {"guards": [{**BREAKER, "minimum_calls": 4, "failure_rate": 0.1}]}, fault=[ERRORS]
    )
    assert together.other_keys is not None
    assert together.other_keys < 0.8
    tape = together._tape
    others = [end for key, end in zip(tape.keys, tape.ends, strict=True) if key != 0]
    assert together.other_keys == others.count("good") / len(others)
    assert {move.key for move in together.moves} == {""}


def test_further_keys_share_the_guards_of_the_overflow() -> None:
    found = ran(
        {"guards": [BREAKER], "keyed": True, "max_keys": 1},
        clients={"keys": 50, "rate": 40},
        fault=[{**ERRORS, "keys": 49}],
    )
    assert {move.key for move in found.moves} >= {"(overflow)"}
    assert found.points[12]["states"]["open"] >= 1


def test_the_guards_of_keys_draw_from_the_seed() -> None:
    keyed = {"guards": [BREAKER], "keyed": True}
    times = [ran(keyed, seed, fault=[ERRORS]).moves for seed in (1, 1, 2)]
    assert times[0] == times[1] != times[2]
    opened, probed = (
        next(move.at for move in times[0] if move.state == s) for s in ("open", "half_open")
    )
    assert abs(probed - opened - 5) > 0.1  # the jitter of its recovery


def test_callers_of_one_key_share_a_call() -> None:
    shared = ran({"guards": [], "collapse": True}, clients={"rate": 100})
    alone = ran({"guards": []}, clients={"rate": 100})
    assert alone.attempts == alone.calls
    # At most one of each key at a time, each of 0.1 s.
    assert shared.attempts <= 4 * 40 / 0.1
    assert shared.ends["good"] == shared.calls
    assert alone.ends["good"] < 0.1 * alone.calls


def test_without_keys_all_calls_are_alike() -> None:
    found = run(from_data(calm(policy=[{"name": "ours", "guards": [], "collapse": True}])), seed=1)
    assert found.runs["ours"].attempts_per_call < 0.5


@pytest.mark.parametrize("keyed", [False, True])
def test_a_shadow_refuses_nothing_and_says_what_it_would_have_done(
    keyed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        found = ran({"guards": [], "shadows": [BREAKER]} if not keyed else {
            "guards": [{"guard": "bulkhead", "max_concurrent": 1000}], "shadows": [BREAKER], "keyed": True,
        }, fault=[ERRORS])  # fmt: skip
    would = found.shadows["circuit_breaker"]
    assert found.opened == 0
    assert set(found.errors) == {"ServiceFaultError"}
    assert (would["would_open"] > 0) is keyed  # three failures in a row: of one key, not among all
    assert (would["would_refuse"] > 20) is keyed
    assert not caplog.records


@pytest.mark.parametrize("name", ["sick-tenant", "hot-keys", "candidate"])
def test_the_examples_show_what_they_say(name: str) -> None:
    for seed in SEEDS:
        assert run(load(ROOT / "examples" / f"{name}.toml"), seed=seed).unmet == []


def test_what_was_expected_of_other_keys_is_held_against_them() -> None:
    data = calm(
        clients={"keys": 4}, fault=[ERRORS], policy=guards(BREAKER), expect={"other_keys": 1.0}
    )  # fmt: skip
    data["policy"][0]["guards"][0] = {**BREAKER, "failure_rate": 0.1, "minimum_calls": 4}
    assert (
        run(from_data(data), seed=1)
        .unmet[0]
        .startswith("ours: goodput of keys without a fault is ")
    )


def test_a_fault_of_all_keys_is_none_of_some() -> None:
    """There would be no other keys, of which a share could be good."""
    data = calm(clients={"keys": 4}, fault=[{**ERRORS, "keys": 4}], policy=guards(BREAKER))
    with pytest.raises(ValueError, match=r"fault 1\.keys is 4, as many as there are: leave it out"):
        from_data(data)


def test_equal_expectations_are_expectations() -> None:
    one = 1.0
    expect = {"within": 5, "goodput_back": one, "goodput": one, "attempts": one, "other_keys": one}
    data = calm(clients={"keys": 4}, fault=[ERRORS], policy=guards(BREAKER), expect=expect)
    assert from_data(data).expected.other_keys == 1.0
