"""Bad options of a retry, a suspicious order, and what the plan says."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import OrderWarning, Policy, circuit_breaker, fallback, retry
from tests.public.test_bad_input import BAD_COUNTS, BAD_DURATIONS, BAD_SHARES, NOT_NUMBERS


def bad(name: str, values: list[Any], *but: Any) -> list[Any]:
    return [
        pytest.param(name, value, id=f"{name}-{number}")
        for number, value in enumerate(values)
        if not any(value is each for each in but)
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *bad("attempts", [*BAD_COUNTS, 101]),
        *bad("timeout", BAD_DURATIONS, None),
        *bad("wait_initial", [-1, float("nan"), float("inf"), 1e300, *NOT_NUMBERS]),
        *bad("wait_max", [-1, float("nan"), float("inf"), 1e300, 0.05, *NOT_NUMBERS]),
        *bad("budget", BAD_SHARES),
        *bad("nested", ["", "Share", True, None, 1]),
        *bad("hold", ["yes", 1, None]),
        *bad("idempotent", ["yes", 1, None]),
        *bad("retry_after", [1.0, "x"]),
        *bad("on", [None, (), "OSError", KeyboardInterrupt, (OSError, 5), BaseException]),
        *bad("ignore", [(), "OSError", SystemExit]),
        *bad("failed_result", ["x", 5]),
    ],
)
def test_each_option_is_named_with_its_value(name: str, value: Any) -> None:
    """At once, and with what is allowed."""
    options = {"on": ConnectionError, name: value}
    with pytest.raises((TypeError, ValueError)) as caught:
        retry(**options)
    assert str(caught.value).startswith(f"{name} must be ")
    assert "got " in str(caught.value)


def test_a_retry_without_its_options_is_told() -> None:
    """It can't guess what passes by itself."""
    options: Any = retry
    with pytest.raises(TypeError, match="@retry needs its options"):

        @options
        def fetch() -> None: ...

    with pytest.raises(TypeError, match="retry takes options by name"):
        options(3)
    with pytest.raises(TypeError, match=r"^on must be"):
        options()


def test_a_retry_inside_the_breaker_is_warned_of(name: str) -> None:
    """And so is one outside the fallback; the recommended order is not."""
    with pytest.warns(OrderWarning, match="retry stands inside circuit_breaker"):
        Policy(name, circuit_breaker(), retry(on=OSError))
    with pytest.warns(OrderWarning, match="fallback stands inside retry"):
        Policy(f"{name}-2", retry(on=OSError), fallback(value=0))
    Policy(f"{name}-3", fallback(value=0), retry(on=OSError), circuit_breaker())
    with pytest.raises(ValueError, match="at most one retry"):
        Policy(f"{name}-4", retry(on=OSError), retry(on=OSError))


def test_the_plan_says_what_it_does(name: str) -> None:
    """With what is left of the budget, and where nothing is tried again."""
    plan = str(Policy(name, retry(on=(OSError, KeyError), attempts=4, wait_max=2)))
    assert "makes up to 4 attempts after OSError, KeyError" in plan
    assert "2 s at most; at most 0.1 extra attempts a call [10.0 extra attempts left]" in plan
    assert "a block, a context manager or a Future is not tried again" in plan
    free = str(Policy(f"{name}-2", retry(failed_result=lambda value: not value, budget=None)))
    assert "after a failed result" in free
    assert "without a budget" in free
