"""A scenario is checked to its last key: each error names the key, its value and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resilient.simulate import from_data, load
from tests.kit.paths import ROOT
from tests.unit.simulate.kit import calm, guards

STALL = [{"kind": "stall", "at": 10, "seconds": 5}]
BAD: list[tuple[dict[str, Any], str]] = [
    ({"secods": 3}, "a scenario has no key 'secods'; did you mean 'seconds'? There is: name, "),
    ({"seconds": 0}, "seconds must be a duration > 0, in seconds (int, float) or a timedelta; got 0"),
    ({"seconds": "60"}, "seconds must be a duration > 0, in seconds (int, float) or a timedelta; got '60' (str)"),
    ({"seed": -1}, "seed must be an int from 0 to 1,000,000; got -1"),
    ({"seed": True}, "seed must be an int from 0 to 1,000,000; got True (bool)"),
    ({"name": 7}, "name must be a str; got 7 (int)"),
    ({"step": 100}, "step must be a number from 0.001 to 40; got 100"),
    ({"clients": {"rat": 3}}, "clients has no key 'rat'; did you mean 'rate'?"),
    ({"clients": {"kind": "opened"}}, "clients.kind must be one of 'open', 'closed'; got 'opened'"),
    ({"clients": {"rate": 0}}, "clients.rate must be a number from 0.001 to 1e+06; got 0"),
    ({"clients": {"users": 3}}, "clients.users has no meaning where kind is 'open'; leave it out"),
    ({"clients": {"kind": "closed"}}, "clients.rate has no meaning where kind is 'closed'; leave it out"),
    ({"clients": {"arrivals": "trace"}}, "clients.rate has no meaning where arrivals is 'trace'"),
    ({"clients": {"gives_up": 1}}, "clients.gives_up must be True or False; got 1 (int)"),
    ({"clients": {"processes": 0}}, "clients.processes must be an int from 1 to 1,000,000; got 0"),
    ({"clients": {"rate": 1e6}, "seconds": 1e6}, "clients.rate must be at most 50,000,000 calls in a run"),
    ({"service": {"workers": 0}}, "service.workers must be an int from 1 to 1,000,000; got 0"),
    ({"service": {"queue": -1}}, "service.queue must be an int from 0 to 1,000,000; got -1"),
    ({"service": {"time": {"kind": "normal", "mean": 1}}}, "service.time.kind must be one of 'constant', 'exponential', 'lognormal', 'pareto'; got 'normal'"),
    ({"service": {"time": {"kind": "lognormal", "mean": 1}}}, "service.time.sigma is missing"),
    ({"service": {"time": {"kind": "pareto", "mean": 1, "sigma": 1}}}, "service.time.sigma has no meaning where kind is 'pareto'"),
    ({"service": {"time": {"kind": "pareto", "mean": 1, "alpha": 1}}}, "service.time.alpha must be a number from 1.01 to 100; got 1"),
    ({"service": {"time": "trace"}}, "service.time must be a distribution, since no [trace] names `seconds`; got 'trace'"),
    ({"service": 3}, "service must be a table; got 3 (int)"),
    ({"fault": [{"kind": "stalled", "at": 1, "seconds": 1}]}, "fault 1.kind must be one of 'stall', 'slow', 'errors', 'workers'; got 'stalled'"),
    ({"fault": [{"kind": "stall", "at": 1}]}, "fault 1.seconds is missing"),
    ({"fault": [*STALL, {"kind": "stall", "at": 1, "seconds": 1, "share": 0.5}]}, "fault 2.share has no meaning where kind is 'stall'"),
    ({"fault": [{"kind": "errors", "at": 1, "seconds": 1, "share": 2}]}, "fault 1.share must be a number from 0 to 1; got 2"),
    ({"fault": {}}, "fault must be a list; in TOML it is written [[fault]]; got {} (dict)"),
    ({"policy": []}, "policy is missing: a scenario has at least one"),
    ({"policy": [{"name": "a b"}]}, "policy 1.name must be 1 to 100 characters"),
    ({"policy": [{"name": "a"}, {"name": "a"}]}, "policy 2.name must be a name that no other policy has; got 'a'"),
    ({"policy": guards({"guard": "retri"})}, "policy 'ours', guard 1.guard: there is no guard 'retri'; did you mean 'retry'? There is: "),
    ({"policy": guards({})}, "policy 'ours', guard 1.guard is missing; there is nothing"),
    ({"policy": guards({"guard": "retry"})}, "policy 'ours', guard 1 (retry): on must be the exceptions to try again after"),
    ({"policy": guards({"guard": "retry", "on": "ConectionError"})}, "on must be the name of an exception of Python or resilient, such as ConnectionError (did you mean 'ConnectionError'?); got 'ConectionError'"),
    ({"policy": guards({"guard": "retry", "on": "KeyboardInterrupt"})}, "on must be the name of an exception"),
    ({"policy": guards({"guard": "circuit_breaker", "failure_rat": 1})}, "policy 'ours', guard 1 (circuit_breaker): circuit_breaker() has no parameter 'failure_rat'; did you mean 'failure_rate'?"),
    ({"policy": guards({"guard": "timeout", "seconds": -1})}, "policy 'ours', guard 1 (timeout): seconds must be a duration > 0"),
    ({"policy": [{"name": "a", "guards": ["timeout"]}]}, "policy 'a', guard 1 must be a table such as {guard = \"timeout\"}; got 'timeout'"),
    ({"clients": {"keys": 0}}, "clients.keys must be an int from 1 to 1,000,000; got 0"),
    ({"fault": [{**STALL[0], "keys": 1}]}, "fault 1.keys has no meaning where clients.keys is left out"),
    ({"clients": {"keys": 2}, "fault": [{**STALL[0], "keys": 3}]}, "fault 1.keys must be an int from 1 to 2; got 3"),
    ({"clients": {"keys": 2}, "fault": [{"kind": "workers", "workers": 1, "at": 1, "seconds": 1, "keys": 1}]}, "fault 1.keys has no meaning where kind is 'workers', which all keys share"),
    ({"policy": [{"name": "a", "keyed": True}]}, "policy 1.keyed has no meaning where clients.keys is left out"),
    ({"clients": {"keys": 2}, "policy": [{"name": "a", "max_keys": 3}]}, "policy 1.max_keys has no meaning where keyed is not true"),
    ({"clients": {"keys": 2}, "policy": [{"name": "a", "keyed": True}]}, "policy 'a': simulated.a has no guard that each key could have for itself"),
    ({"policy": [{"name": "a", "collapse": 1}]}, "policy 1.collapse must be True or False; got 1 (int)"),
    ({"policy": [{"name": "a", "shadows": [{"guard": "timeout", "seconds": 1}]}]}, "policy 'a': candidate must be a guard that can refuse"),
    ({"policy": [{"name": "a", "shadows": [{"guard": "circuit_breakr"}]}]}, "policy 'a', shadow 1.guard: there is no guard 'circuit_breakr'; did you mean 'circuit_breaker'?"),
    ({"policy": guards({"guard": "circuit_breaker"}, {"guard": "circuit_breaker"})}, "policy 'ours': "),
    ({"expect": {"other_keys": 1}}, "expect.other_keys has no meaning where no [[fault]] is one of some keys alone"),
    ({"expect": {}}, "expect says nothing: give it goodput_back, goodput, attempts or other_keys"),
    ({"expect": {"goodput_back": 0.9}}, "expect.goodput_back needs a [[fault]]"),
    ({"expect": {"goodput": 1.1}}, "expect.goodput must be a number from 0 to 1; got 1.1"),
    ({"expect": {"within": 5, "attempts": 2}}, "expect.within has no meaning where goodput_back is left out"),
    ({"expect": {"of": ["our"], "goodput": 1}}, "expect.of: no policy is named 'our'; did you mean 'ours'? There is: ours"),
    ({"fault": STALL, "expect": {"goodput_back": 0.9}}, "seconds must be at least 50: the last fault ends at 15, expect.within is 30, and 5 s after that are looked at; got 40"),
    ({"fault": [{**STALL[0], "at": 3}], "expect": {"goodput_back": 0.9, "within": 1}}, "fault.at must be at least 6: "),
    ({"trace": {"at": "x"}}, "trace.file is missing"),
    ({"trace": {"file": "x.csv"}}, "trace names no column"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), BAD, ids=[said[:50] for _, said in BAD])
def test_what_is_wrong_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        from_data(calm(**changes))
    assert said in str(caught.value)


@pytest.mark.parametrize("key", ["seconds", "clients", "service", "policy"])
def test_what_is_needed_is_asked_for(key: str) -> None:
    data = calm()
    del data[key]
    with pytest.raises(ValueError, match=f"^{key} is missing"):
        from_data(data)


def test_options_are_the_constructors(tmp_path: Path) -> None:
    """TOML has neither None nor a window of calls: both are written as text."""
    scenario = from_data(
        calm(
            policy=guards(
                {"guard": "naive_retry", "attempts": 6},
                {"guard": "circuit_breaker", "window": "calls(50)", "failure_threshold": "none"},
            )
        )
    )
    naive, breaker = scenario.policies[0].guards()
    options = naive.options()
    assert (options["attempts"], options["budget"], options["wait_max"]) == (6, None, 0)
    assert options["on"] == (ConnectionError, TimeoutError)
    assert str(breaker.options()["window"]) == "calls(50)"
    assert breaker.options()["failure_threshold"] is None


def test_a_file_is_named_in_what_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("seconds = ")
    with pytest.raises(ValueError, match=r"x\.toml: Invalid value"):
        load(path)
    path.write_text("seconds = 60")
    with pytest.raises(ValueError, match=r"x\.toml: clients is missing"):
        load(path)
    with pytest.raises(OSError, match=r"none\.toml"):
        load(tmp_path / "none.toml")


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda p: p.stem)
def test_each_example_is_read(path: Path) -> None:
    assert load(path).policies
