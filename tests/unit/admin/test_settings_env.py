"""load_settings: what the environment may say, and how it meets the file and other changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import resilient
from resilient import Policy, bulkhead, calls, circuit_breaker, load_settings, timeout
from tests.unit.admin.kit import every_option, loaded, options, said, updated, written


@pytest.fixture(name="shop", autouse=True)
def a_shop() -> Iterator[Policy]:
    """A policy whose name needs to be written differently in a variable."""
    yield Policy("live.env-Shop", circuit_breaker(), bulkhead(20), timeout(1, sync="cooperative"))
    resilient.registry.remove("live.env-Shop")


SHOP = "RESILIENT__LIVE_ENV_SHOP__"
SLOTS = f"{SHOP}BULKHEAD__MAX_CONCURRENT"


def load(**environ: str) -> None:
    load_settings(environ=environ)


def slots(of: Policy) -> int:
    number: int = options(of, "bulkhead")["max_concurrent"]
    return number


def test_a_variable_sets_an_option(shop: Policy) -> None:
    """Every character but A-Z and 0-9 is an underscore."""
    load(**{SLOTS: "7"})
    assert slots(shop) == 7
    load()
    assert slots(shop) == 20


def test_the_environment_goes_over_the_file(shop: Policy, tmp_path: Path) -> None:
    """Option by option."""
    text = '[policies."live.env-Shop".bulkhead]\nmax_concurrent = 3\norder = "lifo"'
    loaded(tmp_path, text, **{SLOTS: "7"})
    assert (slots(shop), options(shop, "bulkhead")["order"]) == (7, "lifo")
    loaded(tmp_path, text)
    assert (slots(shop), options(shop, "bulkhead")["order"]) == (3, "lifo")


def test_it_is_the_process_environment_by_default(
    shop: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """os.environ, read at each call."""
    monkeypatch.setenv(SLOTS, "7")
    load_settings()
    assert slots(shop) == 7
    monkeypatch.delenv(SLOTS)
    load_settings()
    assert slots(shop) == 20


VALUES: list[tuple[str, str, Any]] = [
    ("BULKHEAD__MAX_CONCURRENT", " 7 ", 7),
    ("BULKHEAD__MAX_CONCURRENT", "+7", 7),
    ("BULKHEAD__MAX_CONCURRENT", "1_000", 1000),
    ("BULKHEAD__ORDER", "lifo", "lifo"),
    ("CIRCUIT_BREAKER__FAILURE_RATE", "0.25", 0.25),
    ("CIRCUIT_BREAKER__FAILURE_RATE", "1", 1.0),
    ("CIRCUIT_BREAKER__FAILURE_RATE", "1e-1", 0.1),
    ("CIRCUIT_BREAKER__FAILURE_RATE", "none", None),
    ("CIRCUIT_BREAKER__FAILURE_RATE", "None", None),
    ("CIRCUIT_BREAKER__WINDOW", "calls(50)", calls(50)),
    ("CIRCUIT_BREAKER__WINDOW", "60", 60.0),
    ("CIRCUIT_BREAKER__METRICS_ONLY", "true", True),
    ("CIRCUIT_BREAKER__METRICS_ONLY", "True", True),
    ("CIRCUIT_BREAKER__METRICS_ONLY", "FALSE", False),
    ("TIMEOUT__SECONDS", "0.5", 0.5),
]


@pytest.mark.parametrize(("name", "text", "value"), VALUES)
def test_every_kind_of_value(shop: Policy, name: str, text: str, value: Any) -> None:
    """Numbers, words, none, calls(n), true and false."""
    load(**{SHOP + name: text})
    kind, option = name.lower().split("__")
    assert options(shop, kind)[option] == value
    assert type(options(shop, kind)[option]) is type(value)


BAD: list[tuple[str, str, list[str]]] = [
    (SLOTS, "", ["max_concurrent", "''"]),
    (SLOTS, "  ", ["max_concurrent"]),
    (SLOTS, "many", ["max_concurrent", "'many'"]),
    (SLOTS, "7.0", ["max_concurrent", "7.0"]),
    (SLOTS, "1e2", ["max_concurrent", "100.0"]),
    (SLOTS, "true", ["max_concurrent", "True"]),
    (SLOTS, "none", ["max_concurrent", "None"]),
    (SLOTS, "0", ["max_concurrent", "0"]),
    (SLOTS, "9" * 400, ["max_concurrent", "999"]),
    (SLOTS, "9" * 5000, ["max_concurrent"]),
    (SLOTS, "0x10", ["max_concurrent", "0x10"]),
    (SLOTS, "[5]", ["max_concurrent", "[5]"]),
    (SLOTS, "\udcff", ["max_concurrent"]),
    (f"{SHOP}TIMEOUT__SECONDS", "nan", ["seconds", "nan"]),
    (f"{SHOP}TIMEOUT__SECONDS", "-inf", ["seconds", "inf"]),
    (f"{SHOP}TIMEOUT__SECONDS", "1 s", ["seconds", "1 s"]),
    (f"{SHOP}TIMEOUT__SYNC", "thread", ["sync can't change"]),
    (f"{SHOP}CIRCUIT_BREAKER__METRICS_ONLY", "1", ["metrics_only", "1"]),
    (f"{SHOP}CIRCUIT_BREAKER__METRICS_ONLY", "yes", ["metrics_only", "yes"]),
    (f"{SHOP}CIRCUIT_BREAKER__WINDOW", "calls(10)", ["minimum_calls", "calls(10)"]),
    (f"{SHOP}CIRCUIT_BREAKER__WINDOW", "calls(0)", ["live.env-Shop", "window"]),
    (f"{SHOP}BULKHEAD__MAX_CONCURENT", "5", ["'max_concurent'", "'max_concurrent'"]),
    (f"{SHOP}BULKHED__MAX_CONCURRENT", "5", ["live.env-Shop", "'bulkhed'", "'bulkhead'"]),
    (f"{SHOP}FALLBACK__VALUE", "5", ["live.env-Shop", "'fallback'"]),
    ("RESILIENT__LIVE_ENV_SHPO__BULKHEAD__MAX_CONCURRENT", "5", ["'LIVE_ENV_SHOP'"]),
    ("RESILIENT__live.env-Shop__BULKHEAD__MAX_CONCURRENT", "5", ["LIVE_ENV_SHOP"]),
    ("RESILIENT__live_env_shop__BULKHEAD__MAX_CONCURRENT", "5", ["LIVE_ENV_SHOP"]),
    ("RESILIENT____BULKHEAD__MAX_CONCURRENT", "5", []),
    ("RESILIENT__LIVE_ENV_SHOP__BULKHEAD", "5", ["<POLICY>__<GUARD>__<OPTION>"]),
    ("RESILIENT__LIVE_ENV_SHOP", "5", ["<POLICY>__<GUARD>__<OPTION>"]),
    ("RESILIENT__", "5", ["<POLICY>__<GUARD>__<OPTION>"]),
    ("RESILIENT______", "5", []),
    (f"{SHOP}BULKHEAD__", "5", ["live.env-Shop", "bulkhead"]),
    (f"{SHOP}__MAX_CONCURRENT", "5", []),
    ("RESILIENT__LÄDEN__BULKHEAD__MAX_CONCURRENT", "5", ["LÄDEN"]),
]


@pytest.mark.parametrize(("name", "text", "words"), BAD, ids=lambda each: str(each)[:60])
def test_a_bad_variable_changes_nothing_and_says_why(
    shop: Policy, tmp_path: Path, name: str, text: str, words: list[str],
    events: list[resilient.Event],
) -> None:  # fmt: skip
    """ValueError or TypeError that names the variable; the file beside it is not obeyed either."""
    load(**{f"{SHOP}TIMEOUT__SECONDS": "3"})
    before = every_option()
    del events[:]
    path = written(tmp_path, '[policies."live.env-Shop".bulkhead]\norder = "lifo"')
    with pytest.raises((ValueError, TypeError)) as caught:
        load_settings(path, environ={name: text})
    said(caught.value, name, *words)
    assert every_option() == before
    assert not events


def test_an_error_names_the_variable_of_the_bad_option_and_not_the_good_ones(
    shop: Policy, tmp_path: Path
) -> None:
    """Where file and environment both speak of one guard, the one to be corrected is named."""
    path = written(tmp_path, '[policies."live.env-Shop".bulkhead]\norder = "lifo"')
    with pytest.raises(ValueError) as caught:
        load_settings(path, environ={SLOTS: "0"})
    said(caught.value, SLOTS, "max_concurrent")
    assert str(path) not in str(caught.value)


def test_two_policies_that_are_written_alike_are_ambiguous(shop: Policy) -> None:
    """Both are named; a file can tell them apart; other variables are not in the way."""
    twin = Policy("live_env.shop", bulkhead(1))
    load(OTHER="x")
    with pytest.raises(ValueError) as caught:
        load(**{SLOTS: "5"})
    said(caught.value, SLOTS, "live.env-Shop", "live_env.shop", "file")
    assert (slots(shop), slots(twin)) == (20, 1)


def test_a_name_with_two_underscores_is_found() -> None:
    """Guard and option are the last two parts."""
    odd = Policy("live__odd--x", bulkhead(1))
    load(RESILIENT__LIVE__ODD__X__BULKHEAD__MAX_CONCURRENT="5")
    assert slots(odd) == 5


def test_one_option_in_two_spellings_is_ambiguous() -> None:
    """Which one counts must not hang on the order of the environment."""
    with pytest.raises(ValueError, match="max_concurrent"):
        load(**{SLOTS: "5", SLOTS.replace("BULKHEAD", "bulkhead").replace("MAX", "max"): "6"})


def test_other_variables_are_nobodys_business(shop: Policy) -> None:
    """Lower case, other prefixes, values that are anything."""
    load(
        resilient__live_env_shop__bulkhead__max_concurrent="5",
        RESILIENT_DEBUG="1", RESILIENTX__A="1", XRESILIENT__A__B__C="1",
    )  # fmt: skip
    assert slots(shop) == 20


@pytest.mark.parametrize("environ", [{SLOTS: 5}, {SLOTS: None}, {5: "5"}, 5, [SLOTS]])
def test_an_environment_that_is_none_is_a_type_error(shop: Policy, environ: Any) -> None:
    """As every other argument of a wrong type."""
    with pytest.raises(TypeError):
        load_settings(environ=environ)
    assert slots(shop) == 20


def test_updates_go_over_settings_and_stay_when_these_go(
    shop: Policy, events: list[resilient.Event]
) -> None:
    """A reload can't undo what was ordered since."""
    load(**{SLOTS: "5"})
    shop.update(bulkhead={"max_concurrent": 6})
    load(**{SLOTS: "7"})
    load()
    assert slots(shop) == 6
    assert len(updated(events, shop)) == 2


def test_all_or_nothing_when_another_change_comes_between(shop: Policy) -> None:
    """An update by a listener makes the settings of the second policy invalid: neither changes."""
    second = Policy("live-second", circuit_breaker())
    done: list[int] = []

    def interfere(event: resilient.Event) -> None:
        if event.policy == shop.name and not done:
            done.append(1)
            second.update(circuit_breaker={"window": calls(30)})

    unsubscribe = resilient.registry.subscribe(interfere)
    try:
        load(**{SLOTS: "5", "RESILIENT__LIVE_SECOND__CIRCUIT_BREAKER__MINIMUM_CALLS": "50"})
    except ValueError:
        wanted = (20, 20)
    else:
        wanted = (5, 50)
    finally:
        unsubscribe()
    assert (slots(shop), options(second, "circuit_breaker")["minimum_calls"]) == wanted
