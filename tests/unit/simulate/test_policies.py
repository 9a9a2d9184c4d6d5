"""The policies of a run: real, repeatable, with chance, and apart from those of the process."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from resilient import circuit_breaker, registry, retry, timeout
from resilient.engine.policy_state import PolicyState
from resilient.guards.facets import Admission
from resilient.simulate import from_data, run
from tests.kit.waiting import WAIT
from tests.unit.simulate.kit import calm, guards

STORM = calm(
    seconds=30,
    fault=[{"kind": "stall", "at": 10, "seconds": 5}],
    clients={"processes": 2},
    policy=guards(
        {"guard": "retry", "on": ["ConnectionError", "TimeoutError"]},
        {"guard": "circuit_breaker"},
        {"guard": "timeout", "seconds": 0.5},
    ),
)


def told(seed: int) -> str:
    """Return all that a run has to say."""
    return json.dumps(run(from_data(STORM), seed=seed).as_data(), sort_keys=True)


def test_a_seed_gives_one_run_and_another_seed_another() -> None:
    assert told(3) == told(3)
    assert told(3) != told(4)


def test_a_seed_gives_the_same_run_in_another_process() -> None:
    """Neither the seed of hashes nor where objects lie plays a part."""
    code = "from tests.unit.simulate.test_policies import told; print(told(3))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT, check=True,
        env={"PYTHONHASHSEED": "77", "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.stdout.strip() == told(3)


def test_all_policies_meet_the_same_arrivals() -> None:
    data = {**STORM, "policy": STORM["policy"] + [{"name": "nothing", "guards": []}]}
    report = run(from_data(data), seed=1)
    first, second = report.runs.values()
    assert first._tape.begun == second._tape.begun


def test_chance_is_on() -> None:
    """A manual clock stops it; here no two circuits stay open for the same time."""
    data = {**STORM, "clients": {"rate": 60, "deadline": 1.0, "processes": 6}}
    found = run(from_data(data), seed=1).runs["ours"]
    waits: set[float] = set()
    for process in range(6):
        opened, probed = [move.at for move in found.moves if move.process == process][:2]
        waits.add(round(probed - opened, 6))
    assert len(waits) == 6
    assert 4.0 <= min(waits) < 5.0  # drawn from the last fifth, and then the next call probes


def test_nothing_is_left_in_the_process(caplog: pytest.LogCaptureFixture) -> None:
    """No policy, no event, no log, no first call, which would begin to follow a store."""
    events: list[Any] = []
    begun: list[Any] = []
    stop, before = registry.subscribe(events.append), registry.names()
    hook = PolicyState.on_first_call
    PolicyState.on_first_call = lambda core: bool(begun.append(core)) or True
    try:
        with caplog.at_level(logging.DEBUG, "resilient"):
            assert run(from_data(STORM), seed=1).runs["ours"].opened
    finally:
        PolicyState.on_first_call = hook
        stop()
    assert (events, begun, caplog.records) == ([], [], [])
    assert registry.names() == before


def test_guards_can_be_made_by_a_function() -> None:
    """What a service has in its code is tried as it is."""
    report = run(
        from_data(STORM), seed=1,
        guards={"mine": lambda: (retry(on=ConnectionError), circuit_breaker(), timeout(0.5))},
    )  # fmt: skip
    assert list(report.runs) == ["mine"]
    assert report.runs["mine"].opened


def test_progress_is_told_and_moves_nothing() -> None:
    """Of even arrivals and constant times many timers end at once: their order must not change."""
    seen: list[tuple[str, float]] = []
    even = from_data(calm(clients={"arrivals": "even"}, service={"workers": 2}))
    told = run(even, progress=lambda name, done: seen.append((name, done)))
    assert told.as_data() == run(even).as_data()
    assert seen[-1] == ("ours", 1.0)
    assert [done for _, done in seen] == sorted(done for _, done in seen)


@pytest.mark.parametrize(
    "guards",
    [
        {"mine": (timeout(1.0),)},
        {"mine": lambda: timeout(1.0)},
        {"mine": lambda: ("timeout",)},
        [timeout(1.0)],
    ],
)
def test_what_makes_no_guards_is_named(guards: Any) -> None:
    with pytest.raises(TypeError, match=r"guards.* must be a dict of functions that return guards"):
        run(from_data(STORM), guards=guards)


def test_where_no_call_comes_after_the_fault_nothing_is_said() -> None:
    short = {**STORM, "seconds": 25, "expect": {}}
    del short["expect"]
    found = run(from_data(short), seed=1).runs
    (only,) = found.values()
    assert only.back(within=100) is None


def test_inside_a_loop_it_says_what_to_do() -> None:
    async def main() -> None:
        run(from_data(calm()))

    with pytest.raises(RuntimeError, match=r"asyncio\.to_thread"):
        asyncio.run(main())


def test_a_seed_is_an_int() -> None:
    with pytest.raises(TypeError, match="seed must be an int"):
        run(from_data(calm()), seed=True)


def test_a_guard_that_breaks_its_contract_is_no_result() -> None:
    """What nobody catches in the loop is not a run that went well."""

    class Broken(Admission):
        kind = "broken_in_a_test"

        def admit(self, now: float) -> int:
            asyncio.get_running_loop().call_soon(lambda: 1 / 0)
            return 0

    with pytest.raises(RuntimeError, match="the policy mine broke the simulation") as caught:
        run(from_data(STORM), guards={"mine": lambda: (Broken(),)})
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
