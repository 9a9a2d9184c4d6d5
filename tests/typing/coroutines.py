"""Each decorator on an async function: read by mypy and pyright, both strict; never run."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any, assert_type

from resilient import Policy, bulkhead, circuit_breaker, fallback, timeout

policy = Policy("coroutines", circuit_breaker(), timeout(1.0))
view = policy.with_(timeout(0.1))


@circuit_breaker
async def bare_breaker(a: int, *, b: str = "") -> float:
    return a / 1


@bulkhead
async def bare_bulkhead(a: int, *, b: str = "") -> float:
    return a / 1


@timeout
async def bare_timeout(a: int, *, b: str = "") -> float:
    return a / 1


@circuit_breaker(slow_call_duration=0.2)
async def breaker(a: int, *, b: str = "") -> float:
    return a / 1


@bulkhead(20)
async def bulkheaded(a: int, *, b: str = "") -> float:
    return a / 1


@timeout(0.3)
async def timed(a: int, *, b: str = "") -> float:
    return a / 1


async def _other(a: int, *, b: str = "") -> float:
    return 0.0


@fallback(_other)
async def answered(a: int, *, b: str = "") -> float:
    return a / 1


@policy
async def by_policy(a: int, *, b: str = "") -> float:
    return a / 1


@view
async def by_view(a: int, *, b: str = "") -> float:
    return a / 1


@fallback(value=0.0)
@circuit_breaker
@bulkhead
@timeout(0.3)
async def stacked(a: int, *, b: str = "") -> float:
    return a / 1


@policy
def hands_out(a: int) -> Awaitable[float]:
    return by_policy(a)


async def results_are_those_of_the_function() -> None:
    assert_type(await bare_breaker(1, b="x"), float)
    assert_type(await bare_bulkhead(1, b="x"), float)
    assert_type(await bare_timeout(1, b="x"), float)
    assert_type(await breaker(1, b="x"), float)
    assert_type(await bulkheaded(1, b="x"), float)
    assert_type(await timed(1, b="x"), float)
    assert_type(await answered(1, b="x"), float)
    assert_type(await by_policy(1, b="x"), float)
    assert_type(await by_view(1, b="x"), float)
    assert_type(await stacked(1, b="x"), float)
    assert_type(await hands_out(1), float)


async def arguments_are_those_of_the_function() -> None:
    await bare_breaker("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await bare_bulkhead("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await bare_timeout("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await breaker("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await bulkheaded("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await timed("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await answered("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await by_policy("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await by_view("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await stacked("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await stacked(1, c=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await by_policy()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def they_are_coroutine_functions() -> None:
    for coroutine in (bare_breaker(1), bulkheaded(1), by_policy(1), stacked(1)):
        made: Coroutine[Any, Any, float] = coroutine
        assert_type(await made, float)
    number: float = stacked(1)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    stacked(1)  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    await number  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
