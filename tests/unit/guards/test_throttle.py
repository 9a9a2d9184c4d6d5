"""The throttle: what it refuses, what counts, and what is shown."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from resilient import (
    OrderWarning,
    Policy,
    ThrottledError,
    bulkhead,
    circuit_breaker,
    fallback,
    rate_limit,
    retry,
    throttle,
    timeout,
)
from resilient.testing import ManualClock
from tests.kit.forks import Fork, in_both
from tests.kit.policies import counts, fails, part, policy, raised


def made(
    clock: ManualClock, *others: Any, draws: Callable[[], float] | None = None, **options: Any
) -> Policy:
    of = policy(throttle(**options), *others, clock=clock)
    guard: Any = of.guards[0]
    guard.random = draws or random.Random(1).random
    return of


def share(of: Policy) -> float:
    found: float = part(of, "throttle")["refused_share"]
    return found


def test_nothing_is_refused_while_most_is_answered(clock: ManualClock) -> None:
    of = made(clock, draws=lambda: 0.0)
    for _ in range(100):
        of.call(int)
        of.try_call(fails)
    assert counts(of) == {"success": 100, "failure": 100}
    assert share(of) == 0.0


def test_an_outage_is_refused_up_to_nine_tenths(clock: ManualClock) -> None:
    of = made(clock)
    for _ in range(2000):
        of.try_call(fails)
    assert share(of) == 0.9
    seen = counts(of)
    assert 0.85 < seen["refused"] / 2000 < 0.9
    error = raised(of.call, fails)
    while not isinstance(error, ThrottledError):
        error = raised(of.call, fails)
    assert (error.policy, error.guard, error.retry_after) == (of.name, "throttle", None)
    assert "calls failed: it refuses 90% of them" in str(error)


def test_it_finds_that_all_is_well_again(clock: ManualClock) -> None:
    """By the calls that it lets through, and without a moment at which all come back."""
    of = made(clock, window=10)
    for _ in range(500):
        of.try_call(fails)
    shares = [share(of)]
    for _ in range(600):
        clock.advance(0.1)
        for _ in range(5):
            of.try_call(int)
        shares.append(share(of))
    assert shares[0] == 0.9
    assert shares[-1] == 0.0
    assert max(before - after for before, after in pairwise(shares)) < 0.4


def test_a_few_calls_say_nothing(clock: ManualClock) -> None:
    of = made(clock, draws=lambda: 0.0)
    for _ in range(19):
        of.try_call(fails)
    assert counts(of) == {"failure": 19}
    of.try_call(fails)
    assert isinstance(of.try_call(fails).error, ThrottledError)


def test_what_is_not_the_dependencys_does_not_count(clock: ManualClock) -> None:
    """An ignored error, a refusal inside, a cancellation."""
    of = made(clock, bulkhead(1), ignore=KeyError, minimum_calls=1)

    def key() -> None:
        raise KeyError

    async def cancelled() -> None:
        raise asyncio.CancelledError

    async def cancel() -> None:
        with pytest.raises(asyncio.CancelledError):
            await of.acall(cancelled)

    of.try_call(key)
    asyncio.run(cancel())
    assert part(of, "throttle")["calls"] == 0
    of.call(lambda: of.try_call(int))
    assert part(of, "throttle")["calls"] == 1


def test_a_value_can_be_a_failure(clock: ManualClock) -> None:
    of = made(clock, failed_result=lambda value: value == 0, minimum_calls=1, draws=lambda: 0.99)
    of.call(int)
    assert part(of, "throttle")["failures"] == 1


def test_a_value_that_came_too_late_is_a_failure(clock: ManualClock) -> None:
    """It is returned; but who overruns its limit is overloaded."""
    of = made(clock, timeout(1, sync="cooperative"), minimum_calls=1, draws=lambda: 0.99)
    for _ in range(2):
        of.call(clock.advance, 2)
    seen = part(of, "throttle")
    assert (seen["calls"], seen["failures"]) == (2, 2)
    assert counts(of) == {"success": 2}


def test_what_is_long_ago_is_forgotten(clock: ManualClock) -> None:
    of = made(clock, window=10)
    for _ in range(100):
        of.try_call(fails)
    assert share(of) > 0.5
    clock.advance(11)
    assert share(of) == 0.0


def test_a_retry_outside_does_not_ask_again_for_a_refusal(clock: ManualClock) -> None:
    of = policy(
        retry(on=Exception, attempts=3, wait_initial=0), throttle(minimum_calls=1), clock=clock
    )
    guard: Any = of.guards[1]
    guard.random = lambda: 0.0
    result = of.try_call(fails)
    assert (type(result.error), result.attempts) == (OSError, 1)
    assert isinstance(of.try_call(fails).error, ThrottledError)


def test_a_fallback_answers(clock: ManualClock) -> None:
    of = policy(fallback(value="later"), throttle(minimum_calls=1), clock=clock)
    guard: Any = of.guards[1]
    guard.random = lambda: 0.0
    assert [of.call(fails) for _ in range(3)] == ["later"] * 3
    assert counts(of) == {"failure": 1, "refused": 2}


def test_bare_and_with_options() -> None:
    @throttle
    def one() -> int:
        return 1

    @throttle(failure_rate=0.1)
    async def two() -> int:
        return 2

    assert one() == 1
    assert asyncio.run(two()) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"failure_rate": 0}, "failure_rate"), ({"failure_rate": 1.0}, "failure_rate"),
        ({"failure_rate": None}, "failure_rate"), ({"window": 0}, "window"), ({"window": "1"}, "window"),
        ({"minimum_calls": 0}, "minimum_calls"), ({"max_refused": 0.95}, "max_refused"),
        ({"max_refused": 0}, "max_refused"), ({"on": 3}, "on"), ({"widow": 3}, "window"),
    ],
)  # fmt: skip
def test_bad_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        throttle(**options)
    with pytest.raises(TypeError, match="fn"):
        throttle(0.5)  # type: ignore[call-overload]


def test_options_change_while_calls_go_on(clock: ManualClock) -> None:
    of = made(clock)
    for _ in range(100):
        of.try_call(fails)
    of.update(throttle={"max_refused": 0.25})
    assert share(of) == 0.25
    of.update(throttle={"window": 60})
    assert share(of) == 0.0
    assert part(of, "throttle")["options"] == {
        "failure_rate": 0.5, "window": 60.0, "minimum_calls": 20, "max_refused": 0.25,
    }  # fmt: skip


def test_what_it_remembers_can_be_put_back(clock: ManualClock) -> None:
    of = made(clock, minimum_calls=1)
    guard: Any = of.guards[0]
    saved = guard.save()
    for _ in range(2):
        of.try_call(fails)
        assert share(of) > 0
        guard.restore(saved)
        assert share(of) == 0


def test_a_child_knows_what_its_parent_saw(clock: ManualClock) -> None:
    of = made(clock, minimum_calls=1)
    for _ in range(50):
        of.try_call(fails)

    def scene(fork: Fork) -> Any:
        fork()
        return share(of)

    assert set(in_both(scene)) == {0.9}


def test_what_it_shows(clock: ManualClock) -> None:
    of = made(clock, minimum_calls=1)
    of.call(int)
    assert "from 50% failures in 120 s on, and at most 90%" in str(of)
    assert "0% are refused" in str(of)
    assert part(of, "throttle")["calls"] == 1


def test_its_place() -> None:
    policy(circuit_breaker(), throttle(), rate_limit(5), bulkhead(1), timeout(0.5))
    with pytest.warns(OrderWarning, match="would hold the outer guard's slots"):
        policy(bulkhead(5), throttle())
