"""A caller's own, tighter deadline says little of the dependency: unless that had time enough."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import trio

from resilient import CallTimeoutError, Policy, circuit_breaker, fallback, timeout
from resilient.deadline import bounded
from resilient.testing import ManualClock


def ended(policy: Policy) -> dict[str, int]:
    return {word: n for word, n in policy.snapshot()["calls"].items() if n}


def takes(
    clock: ManualClock, seconds: float, error: BaseException | None = None
) -> Callable[[], Any]:
    def body() -> None:
        clock.advance(seconds)
        raise TimeoutError("the socket's own") if error is None else error

    return body


def under(clock: ManualClock, seconds: float, policy: Policy, body: Callable[[], Any]) -> Any:
    """Call a body through a policy, for a caller who has so many seconds."""
    with bounded(seconds, "the client", clock.now):
        return policy.try_call(body)


@pytest.mark.parametrize(
    ("options", "limit", "callers", "expected"),
    [
        ({}, 10, 4.9, "cancelled"),  # half of its own limit
        ({}, 10, 5, "failure"),
        ({}, None, 0.9, "cancelled"),  # 1 s where it has none
        ({}, None, 1, "failure"),
        ({"patience": 3}, 10, 2.9, "cancelled"),
        ({"patience": 3}, 10, 3, "failure"),
        ({"patience": 0.001}, None, 0.5, "failure"),
    ],
)
def test_patience(options: Any, limit: float | None, callers: float, expected: str) -> None:
    clock = ManualClock()
    limits = [] if limit is None else [timeout(limit, sync="cooperative")]
    name = f"patience-{limit}-{callers}-{expected}"
    policy = Policy(name, circuit_breaker(), *limits, clock=clock, **options)
    result = under(clock, callers, policy, takes(clock, callers))
    assert isinstance(result.error, TimeoutError)
    assert ended(policy) == {expected: 1}
    guarded = policy(takes(clock, callers))
    with bounded(callers, "the client", clock.now), pytest.raises(TimeoutError):
        guarded()
    assert ended(policy) == {expected: 2}


def test_a_failure_before_the_callers_time_is_up_is_a_failure() -> None:
    """However little time a caller gives: who refuses at once would have refused anybody."""
    clock = ManualClock()
    policy = Policy("refuses", circuit_breaker(), timeout(10, sync="cooperative"), clock=clock)
    under(clock, 0.1, policy, takes(clock, 0.001, ConnectionRefusedError()))
    assert ended(policy) == {"failure": 1}


def test_what_its_own_limit_cuts_is_a_failure() -> None:
    clock = ManualClock()
    policy = Policy("own", circuit_breaker(), timeout(1, sync="cooperative"), clock=clock)
    under(clock, 5, policy, takes(clock, 1.5))
    under(clock, 5, policy, takes(clock, 6))  # past both: its own was the first
    assert ended(policy) == {"failure": 2}
    patient = Policy("patient", timeout(1, sync="cooperative"), patience=100, clock=clock)
    under(clock, 5, patient, takes(clock, 6))
    assert ended(patient) == {"failure": 1}


def test_hostile_clients_do_not_open_the_circuit_and_hung_ones_do() -> None:
    clock = ManualClock()
    policy = Policy(
        "payments", fallback(value="later"), circuit_breaker(failure_threshold=3),
        timeout(5, sync="cooperative"), clock=clock,
    )  # fmt: skip
    for _ in range(50):
        result = under(clock, 0.005, policy, takes(clock, 0.005))
        assert result.served == "error"  # there is no time for an answer either
    assert (policy.state, policy.snapshot()["served"]["error"]) == ("closed", 0)
    for _ in range(3):
        under(clock, 4, policy, takes(clock, 4))
    assert policy.state == "open"


def test_a_timeout_of_the_callers_that_an_integration_raises() -> None:
    clock = ManualClock()
    policy = Policy("shortened", circuit_breaker(), timeout(10, sync="cooperative"), clock=clock)
    for callers, outcome in ((1, "cancelled"), (6, "failure")):
        with bounded(callers, "the client", clock.now) as _:
            from resilient.deadline import enclosing

            def body(callers: float = callers) -> None:
                clock.advance(callers)
                bound = enclosing()
                assert bound is not None
                raise bound.error()

            result = policy.try_call(body)
        assert isinstance(result.error, CallTimeoutError)
        assert ended(policy)[outcome] == 1


@pytest.mark.parametrize("run", [asyncio.run, trio.run], ids=["asyncio", "trio"])
@pytest.mark.parametrize(("callers", "outcome"), [(1.0, "cancelled"), (6.0, "failure")])
def test_the_same_in_a_task(run: Any, callers: float, outcome: str) -> None:
    """A dependency that hangs is found out also where the callers' deadlines cancel the calls."""
    clock = ManualClock()
    outer = Policy(f"outer-{run.__module__}-{callers}", timeout(callers), clock=clock)
    inner = Policy(
        f"inner-{run.__module__}-{callers}", fallback(value="no"), circuit_breaker(), timeout(10),
        clock=clock,
    )  # fmt: skip

    @inner
    async def hangs() -> None:
        clock.advance(callers)
        await (asyncio.Event().wait() if run is asyncio.run else trio.sleep_forever())  # noqa: ASYNC105 - it is awaited, by either branch

    @outer
    async def called() -> None:
        await hangs()

    async def main() -> None:
        with pytest.raises(CallTimeoutError):
            await called()

    run(main()) if run is asyncio.run else run(main)
    assert ended(inner) == {outcome: 1}
    assert inner.snapshot()["served"]["degraded"] == 0
    assert ended(outer) == {"failure": 1}


def test_a_cancellation_by_the_caller_is_never_a_failure() -> None:
    clock = ManualClock()
    policy = Policy("went-away", circuit_breaker(), timeout(10), clock=clock)

    @policy
    async def hangs() -> None:
        clock.advance(9)
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.ensure_future(hangs())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert ended(policy) == {"cancelled": 1}


@pytest.mark.parametrize("value", [0, -1, float("nan"), "1", True])
def test_a_bad_patience(value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="patience"):
        Policy("impatient", patience=value)
