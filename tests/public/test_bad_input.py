"""Every option is refused where it is given, with its name, the value and what is allowed."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    OrderWarning,
    Policy,
    bulkhead,
    calls,
    circuit_breaker,
    fallback,
    registry,
    timeout,
)

NAN, INF = float("nan"), float("inf")


class Liar(int):
    """An int that claims to be in every range."""

    def __lt__(self, other: object) -> bool:
        return False

    def __le__(self, other: object) -> bool:
        return True


class Bomb:
    def __float__(self) -> float:
        raise RuntimeError("boom")

    def __repr__(self) -> str:
        raise RuntimeError("boom")


NOT_NUMBERS: list[Any] = [
    True, False, "5", b"5", None, Decimal(5), Fraction(5), Liar(5), Bomb(), [5], 5j,
]  # fmt: skip
BAD_DURATIONS: list[Any] = [
    -1, 0, -0.0, NAN, INF, -INF, 10**400, 5e-324, 1e300, timedelta(0), timedelta(seconds=-1),
    *NOT_NUMBERS,
]  # fmt: skip
BAD_COUNTS: list[Any] = [-1, 0, 10**400, 1.0, 1.5, NAN, *NOT_NUMBERS]
BAD_SHARES: list[Any] = [
    -0.1,
    0,
    1.0000001,
    2,
    NAN,
    INF,
    *[n for n in NOT_NUMBERS if n is not None],
]

BAD_FACTORS: list[Any] = [-2, 0, 0.999, 100.001, 10**400, NAN, INF, *NOT_NUMBERS]

Make = Callable[[Any], object]
DURATIONS: dict[str, Make] = {
    "seconds": lambda v: timeout(v),
    "max_wait": lambda v: bulkhead(1, max_waiting=1, max_wait=v),
    "recovery_timeout": lambda v: circuit_breaker(recovery_timeout=v),
    "max_recovery_timeout": lambda v: circuit_breaker(
        recovery_timeout=0.001, max_recovery_timeout=v
    ),
    "window": lambda v: circuit_breaker(window=v),
    "slow_call_duration": lambda v: circuit_breaker(slow_call_duration=v),
    "probe_lease": lambda v: circuit_breaker(probe_lease=v),
    "ramp": lambda v: circuit_breaker(ramp=v),
}
OPTIONAL = {
    "slow_call_duration",
    "probe_lease",
    "ramp",
    "max_recovery_timeout",
    "failure_rate",
    "failure_threshold",
}
COUNTS: dict[str, Make] = {
    "max_concurrent": lambda v: bulkhead(v),
    "minimum_calls": lambda v: circuit_breaker(minimum_calls=v),
    "failure_threshold": lambda v: circuit_breaker(failure_threshold=v),
    "half_open_max_calls": lambda v: circuit_breaker(half_open_max_calls=v),
    "success_threshold": lambda v: circuit_breaker(success_threshold=v),
    "calls": lambda v: calls(v),
}
FACTORS: dict[str, Make] = {
    "recovery_backoff": lambda v: circuit_breaker(recovery_backoff=v),
}
SHARES: dict[str, Make] = {
    "failure_rate": lambda v: circuit_breaker(failure_rate=v),
    "slow_call_rate": lambda v: circuit_breaker(slow_call_rate=v),
}


def cases(makers: dict[str, Make], values: list[Any]) -> list[Any]:
    return [
        pytest.param(name, make, value, id=f"{name}-{number}")
        for name, make in makers.items()
        for number, value in enumerate(values)
        if not (value is None and name in OPTIONAL)
    ]


@pytest.mark.parametrize(
    ("name", "make", "value"),
    cases(DURATIONS, BAD_DURATIONS)
    + cases(COUNTS, BAD_COUNTS)
    + cases(SHARES, BAD_SHARES)
    + cases(FACTORS, BAD_FACTORS),
)
def test_bad_numbers_are_refused(name: str, make: Make, value: object) -> None:
    """The error names the parameter, what is allowed and the value, shortly."""
    with pytest.raises((ValueError, TypeError)) as caught:
        make(value)
    text = str(caught.value)
    assert text.startswith(name)
    assert ("must be" in text and "got" in text) or "given" in text
    assert len(text) < 300


@pytest.mark.parametrize("make", [*DURATIONS.values()])
def test_good_durations_are_taken(make: Make) -> None:
    """Int and float seconds and timedeltas are all durations."""
    for value in (1, 0.25, timedelta(milliseconds=5)):
        make(value)


BAD_FILTERS: list[Any] = [
    ValueError(), "ValueError", (), (ValueError, "x"), ((ValueError,),), 5, [ValueError], object,
    int, BaseException, KeyboardInterrupt,
]  # fmt: skip


async def async_predicate(_: object) -> bool:
    return True


def generator_predicate(_: object) -> Any:
    yield True


@pytest.mark.parametrize("value", [*BAD_FILTERS, async_predicate, generator_predicate])
@pytest.mark.parametrize("option", ["on", "ignore"])
@pytest.mark.parametrize("factory", [circuit_breaker, lambda **kw: fallback(value=1, **kw)])
def test_bad_filters_are_refused(factory: Any, option: str, value: object) -> None:
    """An exception filter is a type, a tuple of types, or a plain predicate."""
    with pytest.raises((ValueError, TypeError), match=option):
        factory(**{option: value})


@pytest.mark.parametrize("value", [5, "x", ValueError, async_predicate])
def test_bad_result_predicates_are_refused(value: Any) -> None:
    """failed_result is a plain predicate of the value."""
    with pytest.raises(TypeError, match="failed_result"):
        circuit_breaker(failed_result=value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: circuit_breaker(window=calls(10), minimum_calls=11),
        lambda: circuit_breaker(failure_rate=None, failure_threshold=None),
        lambda: circuit_breaker(recovery_timeout=30, max_recovery_timeout=29),
        lambda: bulkhead(1, max_waiting=1),
        lambda: bulkhead(1, max_wait=1.0),
        lambda: bulkhead(1, max_waiting=-1, max_wait=1.0),
        lambda: bulkhead(1, order="random"),  # type: ignore[call-overload]
        lambda: timeout(1, sync="signal"),  # type: ignore[call-overload]
        lambda: timeout(1, sync=True),  # type: ignore[call-overload]
        lambda: fallback(),
        lambda: fallback(len, value=1),
        lambda: fallback(5),  # type: ignore[arg-type]
        lambda: fallback(value=1, with_error=True),
        lambda: fallback(len, with_error=1),  # type: ignore[arg-type]
        lambda: circuit_breaker(metrics_only="yes"),  # type: ignore[call-overload]
    ],
)
def test_bad_combinations_are_refused(make: Callable[[], object]) -> None:
    """Options that contradict each other are refused too."""
    with pytest.raises((ValueError, TypeError)):
        make()


BAD_NAMES: list[Any] = [
    "", "x" * 101, "x" * 1_000_000, "a\0b", "a\nb", 'a"b', "a\\b", "a{}", "a\u202eb", "a\u200bb",
    "a\ud800", "é", "e\u0301", "-rf", "..", "a/b", "%00", "a b", "\x1b[31m", "<script>", None, 5,
    b"x", ("a",), ".a", "#2",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES, ids=range(len(BAD_NAMES)))
def test_bad_names_are_refused(name: Any) -> None:
    """A name is 1 to 100 characters of a small alphabet; the message is short and printable."""
    with pytest.raises((ValueError, TypeError), match=r"A-Z a-z 0-9") as caught:
        Policy(name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
    assert name not in registry.names()


@pytest.mark.parametrize(
    "about",
    [
        {"owner": 5}, {"owner": "a\nb"}, {"owner": "x" * 501}, {"tier": 0}, {"tier": 10},
        {"tier": "1"}, {"impact": None}, {"impact": "\x1b[31m"},
    ],
)  # fmt: skip
def test_bad_descriptions_are_refused(about: Any) -> None:
    """Owner, tier and impact are checked, and nothing is registered."""
    with pytest.raises((ValueError, TypeError), match=next(iter(about))):
        Policy("bad-description", **about)
    assert "bad-description" not in registry.names()


@pytest.mark.parametrize("part", [circuit_breaker, bulkhead, 5, None, "timeout", CircuitOpenError])
def test_what_is_no_guard_is_refused(part: Any) -> None:
    """A factory without its parentheses, or anything else, is no guard."""
    with pytest.raises(TypeError, match="parentheses"):
        Policy("no-guard", part)
    assert "no-guard" not in registry.names()


def test_what_fails_takes_nothing() -> None:
    """After a refused construction the name and the guards are still free."""
    guard = bulkhead(1)
    with pytest.raises(ValueError, match="at most one"):
        Policy("taken", guard, bulkhead(2))
    Policy("taken", guard)


def test_a_name_is_taken_once() -> None:
    """The error shows both places."""
    Policy("twice")
    with pytest.raises(ValueError, match="twice") as caught:
        Policy("twice")
    assert str(caught.value).count("test_bad_input.py") == 2


def test_errors_travel() -> None:
    """Our exceptions survive pickling, with their attributes, for whoever uses processes."""
    policy = Policy("travels", bulkhead(1))
    policy.force_open("test")
    error = policy.try_call(len, "x").error
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is CircuitOpenError
    assert (again.policy, again.guard, str(again)) == ("travels", "policy", str(error))
    assert isinstance(CallTimeoutError("x", timeout=2.0), TimeoutError)
    assert pickle.loads(pickle.dumps(CallTimeoutError("x", timeout=2.0))).timeout == 2.0
    assert issubclass(BulkheadFullError, resilient_error())


def resilient_error() -> type[Exception]:
    import resilient

    return resilient.ResilientError


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "2", None])
def test_bad_sizes_are_refused_live(value: Any) -> None:
    """A live change is validated like the option, and changes nothing when refused."""
    policy = Policy("resized-badly", bulkhead(3))
    with pytest.raises((ValueError, TypeError), match="max_concurrent"):
        policy.update(bulkhead={"max_concurrent": value})
    assert policy.snapshot()["guards"][0]["options"]["max_concurrent"] == 3
    with pytest.raises(ValueError, match="no guard 'bulkhead'"):
        Policy("no-bulkhead").update(bulkhead={"max_concurrent": 1})


@pytest.mark.parametrize("value", [None, 5, "x\ny", "x" * 501])
def test_bad_reasons_are_refused(value: Any) -> None:
    """An operator's reason is a printable text of bounded length."""
    policy = Policy("bad-reason")
    with pytest.raises((ValueError, TypeError), match="reason"):
        policy.force_open(value)
    assert policy.state == "closed"


@pytest.mark.parametrize(
    ("guards", "said"),
    [
        (lambda: (circuit_breaker(), fallback(value=1)), "fallback stands inside circuit_breaker"),
        (lambda: (bulkhead(1), circuit_breaker()), "circuit_breaker stands inside bulkhead"),
        (lambda: (timeout(1), fallback(value=1)), "can't answer when that timeout is up"),
    ],
)
def test_a_suspicious_order_is_warned_of(guards: Any, said: str) -> None:
    """The warning says what is lost, and points at the line that made the policy."""
    with pytest.warns(OrderWarning, match=said) as caught:
        Policy("odd-order", *guards())
    assert caught[0].filename == __file__


def test_mixed_ways_of_bounding_sync_calls_are_refused() -> None:
    """A policy runs a sync body in one way."""
    with pytest.raises(ValueError, match="same sync="):
        Policy("mixed", timeout(2, sync="thread"), timeout(1, sync="cooperative"))


def test_a_predicate_that_raises_gives_the_default(caplog: pytest.LogCaptureFixture) -> None:
    """It is counted, logged once, and the call is judged as if there were no predicate."""

    def broken(_: object) -> bool:
        raise RuntimeError("broken predicate")

    policy = Policy("broken-predicate", circuit_breaker(ignore=broken, failed_result=broken))
    for _ in range(3):
        assert policy.call(len, "abc") == 3
    with pytest.raises(ValueError, match="invalid literal"):
        policy.call(int, "x")
    assert policy.snapshot()["calls"]["success"] == 3
    assert policy.snapshot()["calls"]["failure"] == 1
    assert policy.snapshot()["predicate_errors"] >= 4
    assert len([r for r in caplog.records if "predicate" in r.message]) == 1
