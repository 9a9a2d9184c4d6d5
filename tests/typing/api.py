"""What type checkers see: read by mypy and pyright, both strict, in `make types`; never run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, assert_type

from resilient import (
    Policy,
    Result,
    bulkhead,
    calls,
    circuit_breaker,
    fallback,
    remaining,
    timeout,
)

policy = Policy("typing", circuit_breaker(window=calls(50)), timeout(timedelta(seconds=1)))


@policy
def by_policy(a: int, *, b: str = "") -> float:
    return a / 1


@circuit_breaker
def bare(a: int, *, b: str = "") -> float:
    return a / 1


@bulkhead
def bare_bulkhead(a: int, *, b: str = "") -> float:
    return a / 1


@circuit_breaker(failure_rate=0.3)
def optioned(a: int, *, b: str = "") -> float:
    return a / 1


@fallback(value=0.0)
@circuit_breaker
@bulkhead(20, max_waiting=5, max_wait=0.1)
@timeout(0.3, sync="thread")
def stacked(a: int, *, b: str = "") -> float:
    return a / 1


@timeout
async def bare_async(a: int, *, b: str = "") -> float:
    return a / 1


@fallback(value=0.0)
@circuit_breaker
@bulkhead
@timeout(0.3)
async def stacked_async(a: int, *, b: str = "") -> float:
    return a / 1


def sync_calls() -> None:
    for value in (
        by_policy(1, b="x"), bare(1, b="x"), bare_bulkhead(1), optioned(1), stacked(1, b="x"),
    ):  # fmt: skip
        assert_type(value, float)
    by_policy("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    bare(1, c=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    stacked(1, b=2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(policy.call(by_policy, 1, b="x"), float)
    policy.call(by_policy, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(policy.try_call(by_policy, 1), Result[float])
    assert_type(policy.try_call(by_policy, 1).value, float)
    assert_type(policy.with_(timeout(0.1)), Policy)
    assert_type(remaining(), float | None)


async def async_calls() -> None:
    assert_type(await bare_async(1, b="x"), float)
    assert_type(await stacked_async(1, b="x"), float)
    coroutine: Coroutine[Any, Any, float] = stacked_async(1)
    assert_type(await coroutine, float)
    await stacked_async("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await policy.acall(stacked_async, 1, b="x"), float)
    assert_type(await policy.atry_call(stacked_async, 1), Result[float])
    policy.acall(by_policy, 1)  # type: ignore[arg-type,unused-coroutine]  # pyright: ignore[reportArgumentType, reportUnusedCoroutine]


class Client:
    @policy
    def method(self, a: int) -> float:
        return a / 1

    @circuit_breaker
    async def amethod(self, a: int) -> float:
        return a / 1

    @classmethod
    @policy
    def inner_class(cls, a: int) -> float:
        return a / 1

    @staticmethod
    @circuit_breaker
    def inner_static(a: int) -> float:
        return a / 1

    @policy
    @classmethod
    def outer_class(cls, a: int) -> float:
        return a / 1

    @bulkhead
    @staticmethod
    def outer_static(a: int) -> float:
        return a / 1


async def methods(client: Client) -> None:
    assert_type(client.method(1), float)
    assert_type(await client.amethod(1), float)
    assert_type(Client.inner_class(1), float)
    assert_type(Client.inner_static(1), float)
    assert_type(Client.outer_class(1), float)
    assert_type(Client.outer_static(1), float)
    client.method("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


plain: Callable[[int], float] = circuit_breaker()(lambda a: a / 1)
