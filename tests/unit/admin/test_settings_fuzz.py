"""load_settings with anything: all of it is applied, or nothing and a readable error."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import resilient
from resilient import Policy, bulkhead, calls, circuit_breaker, fallback, load_settings, timeout
from tests.unit.admin.kit import every_option, said

NAMES = ("fuzz-a", "fuzz.b", "fuzz_c")
DECLARED: dict[str, dict[str, dict[str, Any]]] = {
    "fuzz-a": {"circuit_breaker": {}, "bulkhead": {"max_concurrent": 20}},
    "fuzz.b": {"circuit_breaker": {"window": calls(30)}, "timeout": {"seconds": 1.0}},
    "fuzz_c": {"fallback": {"value": 1}, "bulkhead": {"max_concurrent": 1}},
}
MADE: dict[str, Callable[..., Any]] = {
    "circuit_breaker": circuit_breaker,
    "bulkhead": bulkhead,
    "timeout": lambda seconds: timeout(seconds, sync="cooperative"),
}


@pytest.fixture(name="three", scope="module")
def three_policies() -> Iterator[list[Policy]]:
    """They are made once: the plugin would forget them after the first example."""
    yield [
        Policy("fuzz-a", circuit_breaker(), bulkhead(20)),
        Policy("fuzz.b", circuit_breaker(window=calls(30)), timeout(1, sync="cooperative")),
        Policy("fuzz_c", fallback(value=1), bulkhead(1)),
    ]
    for name in NAMES:
        resilient.registry.remove(name)


# -- what is written -------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
words = st.sampled_from(
    ["none", "None", "lifo", "fifo", "calls(5)", "calls(50)", "calls(0)", "calls(1e3)", "calls()",
     "calls(٣)", "calls(" + "9" * 5000 + ")", "true", "5", "", "thread"]
)  # fmt: skip
plain = st.one_of(
    st.integers(-1, 60), st.booleans(), words, texts, st.floats(0, 2), st.floats(),
    st.sampled_from([0.5, 1.0, 10**18, 10**400, -(10**30), 1e-9]),
    st.dates(), st.times(), st.datetimes(),
)  # fmt: skip
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=2)
)
FITTING: dict[str, dict[str, list[Any]]] = {
    "circuit_breaker": {
        "failure_rate": [0.3, 1, "none"], "failure_threshold": [3, "none"],
        "window": [5, 60.0, "calls(25)", "calls(100)"], "minimum_calls": [5, 28],
        "slow_call_duration": [1, "none"], "slow_call_rate": [0.2], "recovery_timeout": [9],
        "recovery_backoff": [1, 4.0], "max_recovery_timeout": [30, "none"],
        "ramp": [7, "none"],
        "half_open_max_calls": [2], "success_threshold": [2], "probe_lease": [4, "none"],
        "metrics_only": [True, False],
    },
    "bulkhead": {
        "max_concurrent": [3, 9], "max_waiting": [0, 2], "max_wait": [1, 0.5, "none"],
        "order": ["lifo", "fifo"],
    },
    "timeout": {"seconds": [0.2, 7]},
    "fallback": {},
}  # fmt: skip
odd_names = st.sampled_from(["on", "sync", "value", "maxconcurrent", "Window", "", "a.b"]) | texts


def fitting(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {}, optional={name: st.sampled_from(some) for name, some in FITTING[kind].items()}
    )


def all_fitting(name: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={kind: fitting(kind) for kind in DECLARED[name]})


right = st.fixed_dictionaries({}, optional={name: all_fitting(name) for name in NAMES})


@st.composite
def anything(draw: st.DrawFn) -> dict[str, Any]:
    """Mostly right, and wrong in one or two places."""
    data: dict[str, Any] = draw(right)
    for _ in range(draw(st.integers(0, 2))):
        policy = draw(st.sampled_from(NAMES) | st.sampled_from(["fuzz", "FUZZ-A"]) | texts)
        kind = draw(st.sampled_from(list(FITTING)) | st.sampled_from(["bulkhed"]) | texts)
        known = list(FITTING.get(kind, {"max_concurrent": []})) or ["value"]
        option = draw(st.sampled_from(known) | odd_names)
        where = draw(st.sampled_from(["policy", "kind", "option", "option", "option"]))
        if where == "policy":
            data[policy] = draw(values)
        elif where == "kind":
            data[policy] = {**_dict(data.get(policy)), kind: draw(values)}
        else:
            inner = _dict(data.get(policy))
            data[policy] = {**inner, kind: {**_dict(inner.get(kind)), option: draw(values)}}
    return data


def _dict(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def toml(value: Any) -> str:
    """Write a value as TOML: tables inline, so that every shape can be written."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = re.sub(r'[\x00-\x1f"\\\x7f]', lambda found: f"\\u{ord(found.group()):04x}", value)
        return f'"{escaped}"'
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return repr(value)


# -- what should come of it ------------------------------------------------------------------------


def meant(value: Any) -> Any:
    """What the docstring says of a value."""
    if isinstance(value, str):
        if value.lower() == "none":
            return None
        if found := re.fullmatch(r"calls\((\d+)\)", value):
            return calls(int(found[1]))
    return value


def wanted(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options that should be in force, or raise where something is wrong."""
    assert set(data) <= set(NAMES)
    found: dict[str, dict[str, Any]] = {}
    for name, declared in DECLARED.items():
        said_here = data.get(name, {})
        assert isinstance(said_here, dict)
        assert set(said_here) <= set(declared)
        for kind, options in declared.items():
            given = said_here.get(kind, {})
            assert isinstance(given, dict)
            assert set(given) <= set(FITTING[kind])
            if kind in MADE:
                merged = {**options, **{key: meant(value) for key, value in given.items()}}
                found.setdefault(name, {})[kind] = MADE[kind](**merged).options()
    return found


def in_force(policies: list[Policy]) -> dict[str, dict[str, Any]]:
    return {
        each.name: {guard.kind: guard.options() for guard in each.guards if guard.kind in MADE}
        for each in policies
    }


def check(policies: list[Policy], data: dict[str, Any], path: Path, environ: Any) -> None:
    before = every_option()
    try:
        expected = wanted(data)
    except Exception:
        with pytest.raises((ValueError, TypeError)) as caught:
            load_settings(path, environ=environ)
        message = said(caught.value)
        assert str(path) in message or any(name in message for name in environ), message
        assert every_option() == before
    else:
        load_settings(path, environ=environ)
        assert in_force(policies) == expected


quickly = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@quickly
@given(data=anything())
def test_all_or_nothing(three: list[Policy], tmp_path: Path, data: dict[str, Any]) -> None:
    """The file is obeyed as the decorators would have it, or it says what is wrong in it."""
    path = tmp_path / "settings.toml"
    path.write_text(f"policies = {toml(data)}\n", encoding="utf-8")
    check(three, data, path, {})


@quickly
@given(
    data=right,
    name=st.sampled_from(NAMES),
    kind=st.sampled_from(["circuit_breaker", "bulkhead", "timeout", "fallback", "bulkhed"]),
    option=st.sampled_from([key for some in FITTING.values() for key in some] + ["x", "on"]),
    value=st.integers(-1, 60) | st.booleans() | st.floats(0, 2) | words.filter(str.strip),
    spaces=st.sampled_from(["", " "]),
)
def test_all_or_nothing_with_a_variable_over_it(
    three: list[Policy], tmp_path: Path, data: dict[str, Any], name: str, kind: str, option: str,
    value: Any, spaces: str,
) -> None:  # fmt: skip
    """One variable over a right file: it counts like a line of the file, or nothing does."""
    path = tmp_path / "settings.toml"
    path.write_text(f"policies = {toml(data)}\n", encoding="utf-8")
    written = re.sub("[^A-Z0-9]", "_", name.upper())
    variable = f"RESILIENT__{written}__{kind.upper()}__{option.upper()}"
    shown = f"{spaces}{value}{spaces}"
    read = {"true": True, "5": 5}.get(value, value) if isinstance(value, str) else value
    inner = data.get(name, {})
    whole = {**data, name: {**inner, kind: {**inner.get(kind, {}), option: read}}}
    check(three, whole, path, {variable: shown})


@quickly
@given(
    raw=st.binary(max_size=60)
    | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.lists(
        st.sampled_from(
            ["[policies", "]", "[", "fuzz-a", ".", "bulkhead", "\n", "=", "max_concurrent", "3",
             '"', "'", "{", "}", "[[", "]]", "#", ","]
        ),
        max_size=20,
    ).map(lambda parts: "".join(parts).encode())
)  # fmt: skip
def test_any_bytes(three: list[Policy], tmp_path: Path, raw: bytes) -> None:
    """Whatever is in the file: it changes nothing, or a readable error does."""
    load_settings(environ={})
    path, before = tmp_path / "settings.toml", every_option()
    path.write_bytes(raw)
    try:
        load_settings(path, environ={})
    except (ValueError, TypeError) as error:
        said(error, str(path))
        assert every_option() == before
    else:
        changed = every_option()
        changed["fuzz-a"]["1"]["max_concurrent"] = 20
        assert changed == before
