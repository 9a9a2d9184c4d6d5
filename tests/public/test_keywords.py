"""A misspelt parameter is named, with the nearest one; what is seen of a signature is its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_overloads

import pytest

from resilient import (
    Policy,
    bulkhead,
    circuit_breaker,
    configure,
    fallback,
    flag,
    kill_switch,
    timeout,
)

RECS = flag("misspelt", impact="x")
POLICY = Policy("misspelt")


class Client:
    """A client of somebody's."""

    def find(self) -> int:
        return 7


MISSPELT: list[tuple[Callable[..., object], str, str, str]] = [
    (circuit_breaker, "circuit_breaker", "failure_treshold", "failure_threshold"),
    (circuit_breaker, "circuit_breaker", "recovery_time", "recovery_timeout"),
    (circuit_breaker, "circuit_breaker", "ignored", "ignore"),
    (bulkhead, "bulkhead", "max_concurent", "max_concurrent"),
    (timeout, "timeout", "secs", "seconds"),
    (timeout, "timeout", "synch", "sync"),
    (fallback, "fallback", "valu", "value"),
    (lambda **kw: kill_switch(RECS, **kw), "kill_switch", "anwser", "answer"),
    (lambda **kw: Policy("never-made", **kw), "Policy", "ownr", "owner"),
    (lambda **kw: Policy("never-made", **kw), "Policy", "teir", "tier"),
    (lambda **kw: flag("never-made", **kw), "flag", "impct", "impact"),
    (configure, "configure", "stroe", "store"),
    (lambda **kw: POLICY.wrap(Client(), **kw), "Policy.wrap", "onyl", "only"),
    (POLICY.force_open, "Levers.force_open", "reson", "reason"),
    (POLICY.force_closed, "Levers.force_closed", "for", "for_"),
]


@pytest.mark.parametrize(("make", "who", "wrong", "right"), MISSPELT)
def test_a_misspelt_parameter_is_told_with_the_nearest(
    make: Callable[..., Any], who: str, wrong: str, right: str
) -> None:
    """And all that there are, on every version of Python."""
    with pytest.raises(TypeError) as caught:
        make(**{wrong: 1})
    said = str(caught.value)
    assert said.startswith(f"{who.removeprefix('Levers.')}() has no parameter '{wrong}'; did you ")
    assert f"did you mean '{right}'? There is: " in said
    assert "self" not in said
    assert POLICY.state == "closed"


def test_what_is_like_nothing_is_told_with_what_there_is() -> None:
    """Without a guess."""
    with pytest.raises(TypeError) as caught:
        bulkhead(retries=3)  # type: ignore[call-overload]
    assert str(caught.value) == (
        "bulkhead() has no parameter 'retries'. There is: max_concurrent, max_waiting, max_wait, "
        "order"
    )


@pytest.mark.parametrize(
    ("fn", "shown"),
    [
        (
            timeout,
            "(seconds: 'Any' = 1.0, *, sync: \"Literal['thread', 'cooperative'] | None\" = None) -> 'Any'",
        ),
        (
            kill_switch,
            "(flag: 'Flag', *, answer: 'Callable[..., Any] | None' = None) -> 'KillSwitch'",
        ),
        (
            POLICY.force_open,
            "(reason: 'str' = '', *, for_: 'float | timedelta | None' = None) -> 'None'",
        ),
    ],
)
def test_the_signature_is_the_functions_own(fn: Callable[..., Any], shown: str) -> None:
    """For help(), an IDE, and whoever else inspects it."""
    assert str(inspect.signature(fn)) == shown
    assert inspect.isfunction(fn) or inspect.ismethod(fn)
    assert fn.__doc__
    assert fn.__module__.startswith("resilient.")


def test_overloads_are_found() -> None:
    """Those of the decorators."""
    assert len(get_overloads(circuit_breaker)) == 3
    assert list(inspect.signature(Policy).parameters)[:5] == [
        "name", "guards", "owner", "tier", "impact"
    ]  # fmt: skip


def test_errors_of_the_functions_own_are_as_they_were() -> None:
    """Missing arguments, too many of them, and bad values."""
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'flag'"):
        kill_switch()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="takes from 0 to 1 positional arguments but 2 were given"):
        timeout(1, 2)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="max_concurrent must be"):
        bulkhead(max_concurrent=0)
