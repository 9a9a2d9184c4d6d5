"""Each decorator on a plain function: read by mypy and pyright, both strict; never run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar, assert_type, overload

from resilient import Policy, bulkhead, calls, circuit_breaker, fallback, timeout

T = TypeVar("T")

policy = Policy("functions", circuit_breaker(window=calls(50)), timeout(timedelta(seconds=1)))
view = policy.with_(timeout(0.1, sync="thread"))


@circuit_breaker
def bare_breaker(a: int, *, b: str = "") -> float:
    return a / 1


@bulkhead
def bare_bulkhead(a: int, *, b: str = "") -> float:
    return a / 1


@timeout
def bare_timeout(a: int, *, b: str = "") -> float:
    return a / 1


@circuit_breaker(failure_rate=0.3, window=calls(50), ignore=KeyError)
def breaker(a: int, *, b: str = "") -> float:
    return a / 1


@bulkhead(20, max_waiting=5, max_wait=0.1, order="lifo")
def bulkheaded(a: int, *, b: str = "") -> float:
    return a / 1


@timeout(0.3, sync="thread")
def timed(a: int, *, b: str = "") -> float:
    return a / 1


@fallback(value=0.0)
def valued(a: int, *, b: str = "") -> float:
    return a / 1


def _other(a: int, *, b: str = "") -> float:
    return 0.0


@fallback(_other)
def answered(a: int, *, b: str = "") -> float:
    return a / 1


@policy
def by_policy(a: int, *, b: str = "") -> float:
    return a / 1


@view
def by_view(a: int, *, b: str = "") -> float:
    return a / 1


@policy.with_(timeout(0.1))
def by_view_of_its_own(a: int, *, b: str = "") -> float:
    return a / 1


@fallback(value=0.0)
@circuit_breaker
@bulkhead(20, max_waiting=5, max_wait=0.1)
@timeout(0.3, sync="thread")
def stacked(a: int, *, b: str = "") -> float:
    return a / 1


@policy
@circuit_breaker
@bulkhead()
def policy_outside(a: int, *, b: str = "") -> float:
    return a / 1


def results_are_those_of_the_function() -> None:
    assert_type(bare_breaker(1, b="x"), float)
    assert_type(bare_bulkhead(1, b="x"), float)
    assert_type(bare_timeout(1, b="x"), float)
    assert_type(breaker(a=1), float)
    assert_type(bulkheaded(1, b="x"), float)
    assert_type(timed(1, b="x"), float)
    assert_type(valued(1, b="x"), float)
    assert_type(answered(1, b="x"), float)
    assert_type(by_policy(1, b="x"), float)
    assert_type(by_view(a=1, b="x"), float)
    assert_type(by_view_of_its_own(1, b="x"), float)
    assert_type(stacked(1, b="x"), float)
    assert_type(policy_outside(1, b="x"), float)


def arguments_are_those_of_the_function() -> None:
    bare_breaker("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    bare_bulkhead("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    bare_timeout("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    breaker("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    bulkheaded("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    timed("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    valued("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    answered("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    by_policy("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    by_view("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    by_view_of_its_own("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    stacked("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy_outside("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def keywords_and_counts_are_checked() -> None:
    bare_breaker(1, b=2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    bare_bulkhead(1, c=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    bare_timeout()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    breaker(1, "x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    valued(1, c=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    by_policy()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    by_view(1, b=2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    stacked(1, "x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# -- generic and overloaded functions stay what they are -----------------------------


@policy
def first_by_policy(items: Sequence[T]) -> T:
    return items[0]


@circuit_breaker
def first_bare(items: Sequence[T]) -> T:
    return items[0]


@circuit_breaker()
def first_optioned(items: Sequence[T]) -> T:
    return items[0]


@overload
def same(a: int) -> int: ...
@overload
def same(a: str) -> str: ...
def same(a: Any) -> Any:
    return a


def generics_and_overloads() -> None:
    assert_type(first_by_policy([1]), int)
    assert_type(first_bare([""]), str)
    assert_type(first_optioned([b""]), bytes)
    assert_type(policy(same)(1), int)
    assert_type(policy(same)(""), str)
    assert_type(bulkhead(same)(""), str)
    assert_type(timeout(0.1)(same)(1), int)
    policy(same)(1.0)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    first_bare(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
