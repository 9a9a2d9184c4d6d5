"""Decorators on partials, lambdas and callable objects: read by type checkers, never run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import assert_type

from resilient import Policy, bulkhead, circuit_breaker, timeout

policy = Policy("callables", circuit_breaker(), timeout(1.0, sync="thread"))
view = policy.with_(timeout(0.1, sync="thread"))


class Fetch:
    def __call__(self, a: int, /, *, b: str = "") -> float:
        return a / 1


class AsyncFetch:
    async def __call__(self, a: int, /, *, b: str = "") -> float:
        return a / 1


def divide(a: int, b: int, *, c: str = "") -> float:
    return a / b


async def adivide(a: int, b: int, *, c: str = "") -> float:
    return a / b


async def callable_objects() -> None:
    assert_type(policy(Fetch())(1, b="x"), float)
    assert_type(view(Fetch())(1, b="x"), float)
    assert_type(circuit_breaker(Fetch())(1, b="x"), float)
    assert_type(bulkhead(Fetch())(1, b="x"), float)
    assert_type(timeout(0.1, sync="thread")(Fetch())(1, b="x"), float)
    assert_type(await policy(AsyncFetch())(1, b="x"), float)
    assert_type(await timeout(AsyncFetch())(1, b="x"), float)
    assert_type(await bulkhead(20)(AsyncFetch())(1, b="x"), float)
    policy(Fetch())("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    circuit_breaker(Fetch())("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    bulkhead(20)(Fetch())("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await policy(AsyncFetch())(1, c=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def partials() -> None:
    assert_type(policy(partial(divide, 1))(2), float)
    assert_type(circuit_breaker(partial(divide, 1))(2, c="x"), float)
    assert_type(bulkhead(20)(partial(divide, 1))(2, c="x"), float)
    assert_type(await policy(partial(adivide, 1))(2), float)
    assert_type(await timeout(0.1)(partial(adivide, 1))(2), float)
    policy(partial(divide, "x"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def bound_methods_and_lambdas(fetch: Fetch) -> None:
    assert_type(policy(fetch.__call__)(1, b="x"), float)
    assert_type(circuit_breaker("".startswith)("x"), bool)
    by_lambda: Callable[[int], float] = circuit_breaker()(lambda a: a / 1)
    by_policy: Callable[[int], float] = policy(lambda a: a / 1)
    assert_type(by_lambda(1), float)
    assert_type(by_policy(1), float)
    by_lambda("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def opened(of_class: classmethod[Fetch, [int], float], of_none: staticmethod[[int], float]) -> None:
    assert_type(policy(of_class), classmethod[Fetch, [int], float])
    assert_type(circuit_breaker(of_class), classmethod[Fetch, [int], float])
    assert_type(timeout(of_class), classmethod[Fetch, [int], float])
    assert_type(bulkhead(of_class), classmethod[Fetch, [int], float])
    assert_type(policy(of_none), staticmethod[[int], float])
    assert_type(circuit_breaker(of_none), staticmethod[[int], float])
    assert_type(timeout(of_none), staticmethod[[int], float])
    assert_type(bulkhead(of_none), staticmethod[[int], float])
    assert_type(bulkhead(5)(of_none), staticmethod[[int], float])
    assert_type(bulkhead(5)(of_class), classmethod[Fetch, [int], float])
    bulkhead(5)(partial(divide, 1)).func  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]


def what_can_not_be_guarded() -> None:
    policy("x")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    policy()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    circuit_breaker(0.5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    circuit_breaker()("x")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    timeout("x")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    bulkhead("x")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    circuit_breaker()()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
