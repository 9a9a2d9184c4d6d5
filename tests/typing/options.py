"""The options of the four guards: read by mypy and pyright, both strict; never run."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from resilient import Policy, bulkhead, calls, circuit_breaker, fallback, timeout

policy = Policy("options")


def is_temporary(error: Exception) -> bool:
    return isinstance(error, OSError)


def is_empty(value: object) -> bool:
    return not value


def judged_by_text(error: str) -> bool:
    return bool(error)


def circuit_breakers() -> None:
    assert_type(circuit_breaker().kind, str)
    circuit_breaker(failure_rate=None, failure_threshold=None)
    circuit_breaker(window=30)
    circuit_breaker(window=timedelta(minutes=1))
    circuit_breaker(window=calls(100), minimum_calls=10, slow_call_rate=1)
    circuit_breaker(slow_call_duration=timedelta(seconds=1), recovery_timeout=timedelta(seconds=1))
    circuit_breaker(half_open_max_calls=2, success_threshold=2, probe_lease=1, metrics_only=True)
    circuit_breaker(recovery_backoff=1, max_recovery_timeout=timedelta(minutes=1), ramp=10)
    circuit_breaker(recovery_backoff=None)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    circuit_breaker(max_recovery_timeout="x")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    circuit_breaker(on=OSError, ignore=(KeyError, IndexError), failed_result=is_empty)
    circuit_breaker(on=is_temporary, ignore=lambda error: isinstance(error, KeyError))
    circuit_breaker(failure_rate="x")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    circuit_breaker(failure_threshold=1.5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    circuit_breaker(window="10 s")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    circuit_breaker(minimum_calls=None)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    circuit_breaker(slow_call_duration="x")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    circuit_breaker(slow_call_rate=None)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    circuit_breaker(recovery_timeout=None)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    circuit_breaker(half_open_max_calls=0.5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    circuit_breaker(success_threshold=0.5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    circuit_breaker(probe_lease="x")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    circuit_breaker(metrics_only="yes")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    circuit_breaker(on=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    circuit_breaker(on=judged_by_text)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    circuit_breaker(ignore=[KeyError])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    circuit_breaker(ignore="KeyError")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    circuit_breaker(failed_result="x")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    circuit_breaker(failure_rates=0.5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def timeouts() -> None:
    assert_type(timeout().kind, str)
    timeout(timedelta(seconds=1), sync="thread")
    timeout(seconds=1, sync="cooperative")
    timeout(0.3, sync=None)
    timeout("x")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    timeout(None)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    timeout(1, sync="process")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    timeout(1, "thread")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    timeout(second=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def bulkheads() -> None:
    assert_type(bulkhead().kind, str)
    bulkhead(max_concurrent=20)
    bulkhead(20, max_waiting=5, max_wait=timedelta(seconds=1), order="lifo")
    bulkhead("x")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    bulkhead(0.5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    bulkhead(20, 5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    bulkhead(20, max_waiting=None)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    bulkhead(20, max_wait="x")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    bulkhead(20, order="random")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    bulkhead(20, max_queue=5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def fallbacks() -> None:
    assert_type(fallback(value=None).kind, str)
    fallback(is_empty)
    fallback(lambda: 1)
    fallback(value=[])
    fallback(is_empty, with_error=True, on=OSError, ignore=KeyError, failed_result=is_empty)
    fallback(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fallback(fn=is_empty)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    fallback(is_empty, with_error="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fallback(value=1, on="OSError")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fallback(value=1, ignore=judged_by_text)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fallback(value=1, failed_result=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fallback(value=1, default=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def windows() -> None:
    assert_type(calls(100).size, int)
    calls("100")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    calls()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    policy(calls(100))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


@fallback
def without_parentheses(a: int) -> float:
    return a / 1


without_parentheses(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
