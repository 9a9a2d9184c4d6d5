"""load_settings: what a TOML file may say, and what its errors say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import resilient
from resilient import Policy, bulkhead, calls, circuit_breaker, fallback, load_settings, timeout
from tests.unit.admin.kit import changed_by, every_option, loaded, options, said, updated, written


@pytest.fixture(name="shop")
def a_shop() -> Iterator[Policy]:
    """A policy with a guard of each kind, and names that an operator may write wrong."""
    yield Policy(
        "live-shop", fallback(value=0), circuit_breaker(), bulkhead(20),
        timeout(1, sync="cooperative"),
    )  # fmt: skip
    resilient.registry.remove("live-shop")


HERE = "[policies.live-shop."


# -- what is taken ---------------------------------------------------------------------------------


def test_every_kind_of_value(shop: Policy, tmp_path: Path, events: list[resilient.Event]) -> None:
    """Ints, floats, bools, words, none and calls(n); one event a policy."""
    loaded(
        tmp_path,
        f"""
        {HERE}circuit_breaker]
        failure_rate = "none"
        failure_threshold = 7
        window = "calls(50)"
        slow_call_duration = 2
        slow_call_rate = 0.25
        probe_lease = 1e1
        metrics_only = true
        {HERE}bulkhead]
        max_concurrent = 40
        max_waiting = 0x10
        max_wait = 0.5
        order = "lifo"
        {HERE}timeout]
        seconds = 3
        """,
    )
    seen = options(shop, "circuit_breaker")
    assert (seen["failure_rate"], seen["failure_threshold"]) == (None, 7)
    assert (seen["window"], seen["probe_lease"]) == (calls(50), 10.0)
    assert (seen["slow_call_duration"], seen["slow_call_rate"]) == (2.0, 0.25)
    assert shop.state == "metrics_only"
    assert options(shop, "bulkhead") == {
        "max_concurrent": 40, "max_waiting": 16, "max_wait": 0.5, "order": "lifo",
    }  # fmt: skip
    assert options(shop, "timeout")["seconds"] == 3
    (event,) = updated(events, shop)
    assert event.reason == "settings were loaded"
    assert event.cause == "operator"


@pytest.mark.parametrize("word", ["none", "None", "NONE"])
def test_none_in_any_case(shop: Policy, tmp_path: Path, word: str) -> None:
    """TOML has no null."""
    shop.update(circuit_breaker={"slow_call_duration": 3})
    loaded(tmp_path, f'{HERE}circuit_breaker]\nprobe_lease = "{word}"\nfailure_rate = "{word}"')
    assert options(shop, "circuit_breaker")["failure_rate"] is None


def test_names_with_dots_are_quoted(tmp_path: Path) -> None:
    """A policy may be named like a module, as anonymous ones are."""
    dotted = Policy("live.shop.<locals>:x", bulkhead(1))
    loaded(tmp_path, '[policies."live.shop.<locals>:x".bulkhead]\nmax_concurrent = 3')
    assert options(dotted, "bulkhead")["max_concurrent"] == 3
    with pytest.raises(ValueError) as caught:
        loaded(tmp_path, "[policies.live.shop.bulkhead]\nmax_concurrent = 4")
    said(caught.value, ".toml", "'live'")
    assert options(dotted, "bulkhead")["max_concurrent"] == 3


def test_inline_and_dotted_tables_are_tables(shop: Policy, tmp_path: Path) -> None:
    """However TOML lets one write it."""
    loaded(tmp_path, "policies.live-shop.bulkhead.max_concurrent = 3")
    assert options(shop, "bulkhead")["max_concurrent"] == 3
    loaded(tmp_path, "policies = {live-shop = {bulkhead = {max_concurrent = 4}}}")
    assert options(shop, "bulkhead")["max_concurrent"] == 4


@pytest.mark.parametrize(
    "text", ["", "# nothing", "[policies]", "[policies.live-shop]", f"{HERE}bulkhead]",
             f"{HERE}fallback]"]
)  # fmt: skip
def test_empty_tables_change_nothing(
    shop: Policy, tmp_path: Path, text: str, events: list[resilient.Event]
) -> None:
    """And what an earlier file said goes back to declared."""
    loaded(tmp_path, text)
    assert not updated(events, shop)
    loaded(tmp_path, f"{HERE}bulkhead]\nmax_concurrent = 3")
    loaded(tmp_path, text)
    assert options(shop, "bulkhead")["max_concurrent"] == 20
    assert not changed_by(shop, "bulkhead")


def test_a_reload_is_idempotent(
    shop: Policy, tmp_path: Path, events: list[resilient.Event]
) -> None:
    """The same file again: no event; the evidence stays, also with a window in it."""
    path = loaded(tmp_path, f'{HERE}circuit_breaker]\nwindow = "calls(30)"\nminimum_calls = 3')
    shop.try_call(int, "x")
    for _ in range(3):
        load_settings(path, environ={})
    assert len(updated(events, shop)) == 1
    assert shop.snapshot()["guards"][1]["window"]["failures"] == 1


def test_a_policy_that_is_removed_from_the_file_goes_back(shop: Policy, tmp_path: Path) -> None:
    """The other one stays."""
    other = Policy("live-other", bulkhead(1))
    both = f"{HERE}bulkhead]\nmax_concurrent=2\n[policies.live-other.bulkhead]\nmax_concurrent=3\n"
    loaded(tmp_path, both)
    loaded(tmp_path, "[policies.live-other.bulkhead]\nmax_concurrent=3\n")
    assert options(shop, "bulkhead")["max_concurrent"] == 20
    assert options(other, "bulkhead")["max_concurrent"] == 3


def test_the_environment_names_the_file_and_an_argument_goes_over_it(
    shop: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RESILIENT_SETTINGS, of the mapping that is given or of the process."""
    three = written(tmp_path, f"{HERE}bulkhead]\nmax_concurrent = 3")
    four = written(tmp_path, f"{HERE}bulkhead]\nmax_concurrent = 4")
    load_settings(environ={"RESILIENT_SETTINGS": str(three)})
    assert options(shop, "bulkhead")["max_concurrent"] == 3
    load_settings(str(four), environ={"RESILIENT_SETTINGS": str(three)})
    assert options(shop, "bulkhead")["max_concurrent"] == 4
    monkeypatch.setenv("RESILIENT_SETTINGS", str(three))
    load_settings()
    assert options(shop, "bulkhead")["max_concurrent"] == 3
    load_settings(environ={"RESILIENT_SETTINGS": ""})
    assert options(shop, "bulkhead")["max_concurrent"] == 20


# -- what is refused -------------------------------------------------------------------------------

BAD: list[tuple[str, list[str]]] = [
    ("policies = 4", ["policies", "table", "4"]),
    ("[policies]\nlive-shop = 4", ["live-shop", "table", "4"]),
    ("[policies]\nlive-shop = []", ["live-shop", "table"]),
    ("[[policies.live-shop]]", ["live-shop", "table"]),
    ("[policies.live-shop]\nbulkhead = 40", ["live-shop", "bulkhead", "table", "40"]),
    ("[policy.live-shop]", ["'policy'", "'policies'"]),
    ("[policies.live-shpo.bulkhead]\nmax_concurrent = 1", ["'live-shpo'", "'live-shop'"]),
    ("[policies.LIVE-SHOP.bulkhead]\nmax_concurrent = 1", ["'LIVE-SHOP'"]),
    ('[policies."läden".bulkhead]\nmax_concurrent = 1', ["läden"]),
    ('[policies."".bulkhead]\nmax_concurrent = 1', ["''"]),
    (f"{HERE}bulkhed]\nmax_concurrent = 1", ["live-shop", "'bulkhed'", "'bulkhead'"]),
    (f"{HERE}kill_switch]", ["live-shop", "kill_switch"]),
    (f"{HERE}bulkhead]\nmax_concurent = 1", ["live-shop", "bulkhead", "'max_concurent'"]),
    (f"{HERE}bulkhead]\nmax_concurrent = 0", ["live-shop", "bulkhead", "max_concurrent", "0"]),
    (f"{HERE}bulkhead]\nmax_concurrent = true", ["max_concurrent", "True", "bool"]),
    (f"{HERE}bulkhead]\nmax_concurrent = '5'", ["max_concurrent", "'5'", "str"]),
    (f"{HERE}bulkhead]\nmax_concurrent = 5.0", ["max_concurrent", "5.0", "float"]),
    (f"{HERE}bulkhead]\nmax_concurrent = [5]", ["max_concurrent", "[5]", "list"]),
    (f"{HERE}bulkhead]\nmax_concurrent = {{a = 1}}", ["max_concurrent", "dict"]),
    (f"{HERE}bulkhead]\nmax_concurrent = {{}}", ["max_concurrent", "dict"]),
    (f"{HERE}bulkhead]\nmax_concurrent = 2020-01-01", ["max_concurrent", "date"]),
    (f"{HERE}bulkhead]\nmax_concurrent = inf", ["max_concurrent", "inf"]),
    (f"{HERE}bulkhead]\nmax_concurrent = {'9' * 400}", ["max_concurrent", "999"]),
    (f"{HERE}bulkhead]\nmax_concurrent = {'9' * 5000}", []),
    (f"{HERE}bulkhead]\nmax_concurrent = 0x{'f' * 5000}", ["max_concurrent"]),
    (f"{HERE}bulkhead]\nmax_concurrent = 'none'", ["max_concurrent", "None"]),
    (f"{HERE}bulkhead]\nmax_waiting = 3", ["live-shop", "bulkhead", "max_wait"]),
    (f"{HERE}bulkhead]\norder = 1", ["order", "1"]),
    (f"{HERE}bulkhead]\n'' = 1", ["live-shop", "bulkhead", "''"]),
    (f"{HERE}timeout]\nseconds = nan", ["live-shop", "timeout", "seconds", "nan"]),
    (f"{HERE}timeout]\nseconds = -1", ["seconds", "-1"]),
    (f"{HERE}timeout]\nseconds = 1e400", ["seconds", "inf"]),
    (f"{HERE}timeout]\nseconds = {'9' * 400}", ["seconds"]),
    (f"{HERE}timeout]\nseconds = 10:00:00", ["seconds", "time"]),
    (f"{HERE}timeout]\nsync = 'thread'", ["live-shop", "timeout", "sync can't change"]),
    (f"{HERE}fallback]\nvalue = 1", ["live-shop", "fallback", "value"]),
    (f"{HERE}circuit_breaker]\nwindow = 'calls(0)'", ["live-shop", "circuit_breaker", "window"]),
    (f"{HERE}circuit_breaker]\nwindow = 'calls(10)'", ["minimum_calls", "calls(10)"]),
    (f"{HERE}circuit_breaker]\nwindow = 'calls(-1)'", ["window", "calls(-1)"]),
    (f"{HERE}circuit_breaker]\nwindow = 'calls()'", ["window", "calls()"]),
    (f"{HERE}circuit_breaker]\nwindow = 'calls({'9' * 5000})'", ["live-shop", "window"]),
    (f"{HERE}circuit_breaker]\nwindow = 'calls({'9' * 50})'", ["live-shop", "window"]),
    (f"{HERE}circuit_breaker]\nminimum_calls = 'calls(3)'", ["minimum_calls", "calls(3)"]),
    (f"{HERE}circuit_breaker]\nmetrics_only = 1", ["metrics_only", "1"]),
    (f"{HERE}circuit_breaker]\non = 'OSError'", ["on can't change"]),
    (
        f"{HERE}circuit_breaker]\nfailure_rate='none'\nfailure_threshold='none'",
        ["live-shop", "circuit_breaker", "nothing opens it"],
    ),
    ("policies.live-shop.bulkhead.max_concurrent.more = 1", ["max_concurrent", "dict"]),
    ("[policies", ["no TOML"]),
    ("a = 1\na = 2", ["no TOML"]),
    ("\ufeff[policies]", ["no TOML"]),
    ("a = \x00", ["no TOML"]),
    ("x = " + "[" * 5000, []),
    ("x" + ".x" * 5000 + " = 1", []),
]


@pytest.mark.parametrize(("text", "words"), BAD, ids=lambda each: str(each)[:60])
def test_a_bad_file_changes_nothing_and_says_why(
    shop: Policy, tmp_path: Path, text: str, words: list[str], events: list[resilient.Event]
) -> None:
    """ValueError or TypeError, with the file, what is wrong in it, and the nearest name."""
    other = Policy("live-other", bulkhead(1))
    loaded(tmp_path, "[policies.live-other.bulkhead]\nmax_concurrent = 2")
    before = every_option()
    del events[:]
    beside = "\n[policies.live-other.bulkhead]\nmax_concurrent = 3\n"
    for whole in (text, text + beside if text.startswith(HERE) else text):
        path = written(tmp_path, whole)
        with pytest.raises((ValueError, TypeError)) as caught:
            load_settings(path, environ={})
        said(caught.value, str(path), *words)
        assert every_option() == before
    assert not events
    loaded(tmp_path, f"{HERE}bulkhead]\nmax_concurrent = 6{beside}")
    assert options(shop, "bulkhead")["max_concurrent"] == 6
    assert options(other, "bulkhead")["max_concurrent"] == 3


def test_bytes_that_are_no_text(shop: Policy, tmp_path: Path) -> None:
    """TOML is UTF-8."""
    path = tmp_path / "latin.toml"
    path.write_bytes("# für".encode("latin-1"))
    with pytest.raises(ValueError) as caught:
        load_settings(path, environ={})
    said(caught.value, str(path), "no TOML")


def test_files_that_can_not_be_read(shop: Policy, tmp_path: Path) -> None:
    """OSError, with the name; what an earlier file said stays."""
    loaded(tmp_path, f"{HERE}bulkhead]\nmax_concurrent = 3")
    for path in (tmp_path / "missing.toml", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(OSError) as caught:
            load_settings(path, environ={})
        said(caught.value, str(path))
        with pytest.raises(OSError):
            load_settings(environ={"RESILIENT_SETTINGS": str(path)})
    with pytest.raises(OSError):
        load_settings("", environ={})
    assert options(shop, "bulkhead")["max_concurrent"] == 3


def test_two_guards_of_one_kind_are_ambiguous(tmp_path: Path) -> None:
    """The file and the policy are named."""
    limited = timeout(5, sync="cooperative"), timeout(1, sync="cooperative")
    Policy("live-twice", *limited)
    with pytest.raises(ValueError) as caught:
        path = written(tmp_path, "[policies.live-twice.timeout]\nseconds = 2")
        load_settings(path, environ={})
    said(caught.value, "live-twice", "timeout", "2 guards", str(path))
    assert [guard.seconds for guard in limited] == [5, 1]
