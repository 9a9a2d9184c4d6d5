"""Policies as they are declared: views, misuse that is named, and what they say of themselves."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

import resilient
from resilient import BulkheadFullError, Policy, bulkhead, circuit_breaker, fallback, timeout

pytest_plugins = ["pytester"]


def test_a_view_changes_nothing_of_its_policy() -> None:
    """A view with fewer slots or a longer limit leaves workers and probe lease of the base alone."""
    base = Policy("fault-base", circuit_breaker(), bulkhead(50), timeout(1, sync="thread"))
    before = base.snapshot()["guards"]
    limit = base.guards[2].max_workers  # type: ignore[attr-defined]
    view = base.with_(bulkhead(1), timeout(600, sync="thread"))
    assert view.guards[1] is not base.guards[1]
    assert base.snapshot()["guards"] == before
    assert base.guards[2].max_workers == limit == 50  # type: ignore[attr-defined]


def test_misuse_of_acall_is_the_callers_error() -> None:
    """A plain function under acall raises TypeError: no fallback answers, no circuit opens."""
    policy = Policy("fault-misuse", fallback(value=[]), circuit_breaker(failure_threshold=1))

    async def main() -> None:
        for _ in range(3):
            with pytest.raises(TypeError, match="awaitable"):
                await policy.acall(lambda: 1)  # type: ignore[arg-type, return-value]

    asyncio.run(main())
    assert policy.snapshot()["calls"]["ignored"] == 3
    assert policy.state == "closed"


def test_a_decorator_without_its_parentheses_is_told() -> None:
    """`@fallback` alone makes a guard of the function; whoever meets it next says so."""

    def fetch(user: int) -> int:
        return user

    guard: Any = fallback(fetch)
    for misuse in (
        lambda: circuit_breaker(guard),
        lambda: Policy("fault-bare")(guard),
        lambda: guard(7),
        lambda: guard(user=7),
        lambda: guard(),
    ):
        with pytest.raises(TypeError, match="parentheses"):
            misuse()
    with pytest.raises(TypeError, match="by name"):
        circuit_breaker(0.5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="clock"):
        Policy("fault-clock", clock=5)  # type: ignore[arg-type]


def test_a_warned_construction_takes_nothing() -> None:
    """With warnings as errors a suspicious order leaves name and guards free."""
    guards = bulkhead(1), circuit_breaker()
    with pytest.raises(resilient.OrderWarning):
        Policy("fault-order", *guards)
    Policy("fault-order", *reversed(guards))


def test_repr_of_a_fallbacks_value_is_asked_once() -> None:
    """Nobody's repr runs under the policy's lock."""

    class Loud:
        asked = 0

        def __repr__(self) -> str:
            Loud.asked += 1
            return "loud"

    policy = Policy("fault-repr", fallback(value=Loud()))
    asked = Loud.asked
    policy.snapshot()
    str(policy)
    assert Loud.asked == asked


def test_a_module_that_a_test_imports_keeps_its_policies(pytester: pytest.Pytester) -> None:
    """Its policies are known to later tests, as they were made, and follow the system's clock."""
    pytester.makepyfile(
        service="""
        from resilient import Policy, circuit_breaker
        recs = Policy("recs", circuit_breaker(failure_threshold=1))
        """
    )
    pytester.makepyfile(
        """
        import time

        def test_one(clock):
            import service
            service.recs.try_call(int, "x")
            assert service.recs.state == "open"

        def test_two(policies):
            import service
            assert service.recs.state == "closed"
            assert service.recs._core.now is time.monotonic
            with policies.forced_open("recs"):
                pass
        """
    )
    pytester.syspathinsert(Path(pytester.path))
    pytester.runpytest_subprocess("-p", "no:xdist").assert_outcomes(passed=2)
    sys.modules.pop("service", None)


def test_the_bulkhead_says_how_many_slots() -> None:
    """The message of a refusal has the numbers."""
    policy = Policy("fault-message", bulkhead(1))
    with pytest.raises(BulkheadFullError, match="all 1 slots"):
        policy.call(policy.call, int)
