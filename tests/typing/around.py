"""Registry, events, settings, errors, metrics, testing: read by type checkers, never run."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, assert_type

from prometheus_client import CollectorRegistry

from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    Event,
    FlagOffError,
    OrderWarning,
    Policy,
    ReentrantCallError,
    RefusedError,
    ResilientError,
    WorkersBusyError,
    bulkhead,
    check,
    load_settings,
    metrics,
    registry,
    remaining,
)
from resilient.testing import ManualClock
from resilient.testing.plugin import Policies

policy = Policy("around", bulkhead(5))


def listen(event: Event) -> None:
    assert_type(event.policy, str)
    assert_type(event.guard, str)
    assert_type(event.cause, Literal["auto", "operator"])
    assert_type(event.at, float)
    assert_type(event.reason, str)
    assert_type(event.before, str)
    assert_type(event.after, str)
    assert_type(str(event), str)
    if event.kind == "opened":
        assert_type(event.kind, Literal["opened"])
    wrong = event.kind == "open"  # type: ignore[comparison-overlap]  # pyright: ignore[reportUnnecessaryComparison]
    print(wrong)
    event.state  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def listen_to_text(event: str) -> None:
    print(event)


class Listener:
    def __call__(self, event: Event) -> bool:
        return True


def the_registry() -> None:
    assert_type(registry.subscribe(listen), Callable[[], None])
    assert_type(registry.subscribe(lambda event: event.kind), Callable[[], None])
    assert_type(registry.subscribe(print), Callable[[], None])
    assert_type(registry.subscribe(Listener()), Callable[[], None])
    assert_type(registry.snapshot(), dict[str, Any])
    assert_type(registry.names(), list[str])
    registry.subscribe(listen_to_text)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    registry.subscribe(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    registry.subscribe()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    registry.subscribe(listen, "opened")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def settings() -> None:
    load_settings()
    load_settings("policies.toml")
    load_settings(Path("policies.toml"), environ=os.environ)
    load_settings(path=None, environ={"RESILIENT__AROUND__BULKHEAD__MAX_CONCURRENT": "5"})
    load_settings(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    load_settings(environ={"A": 5})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    load_settings("a.toml", {})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def time_left() -> None:
    assert_type(remaining(), float | None)
    check()
    remaining(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    check(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    left: float = remaining()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(left)


def errors() -> None:
    try:
        policy.call(print)
    except CircuitOpenError as error:
        assert_type(error.policy, str)
        assert_type(error.guard, str)
        assert_type(error.retry_after, float | None)
    except (BulkheadFullError, WorkersBusyError, FlagOffError, ReentrantCallError) as error:
        assert_type(error.retry_after, float | None)
    except CallTimeoutError as error:
        assert_type(error.timeout, float)
        builtin: TimeoutError = error
        print(builtin)
        error.retry_after  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    refused: type[RefusedError] = CircuitOpenError
    base: type[ResilientError] = CallTimeoutError
    warning: type[Warning] = OrderWarning
    print(refused, base, warning)
    wrong: type[RefusedError] = CallTimeoutError  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(wrong)
    assert_type(RefusedError("x", policy="p", guard="bulkhead", retry_after=1.0), RefusedError)
    assert_type(CallTimeoutError("x", timeout=1), CallTimeoutError)
    RefusedError()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    RefusedError("x", retry_after="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def exporting() -> None:
    assert_type(metrics.register(), Callable[[], None])
    assert_type(metrics.register(CollectorRegistry(), max_policies=10), Callable[[], None])
    limit: int = metrics.MAX_POLICIES
    assert_type(metrics.register(max_policies=limit), Callable[[], None])
    metrics.unregister()
    metrics.register("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    metrics.register(max_policies="10")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    metrics.unregister(CollectorRegistry())  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def test_something(clock: ManualClock, policies: Policies) -> Generator[None]:
    assert_type(clock.now(), float)
    assert_type(clock.waiting, int)
    clock.advance(30)
    clock.advance(timedelta(seconds=30))
    clock.call_at(clock.now() + 1, print).cancel()
    assert_type(ManualClock(), ManualClock)
    assert_type(policies.outcomes("around"), dict[str, int])
    assert_type(policies.served(policy), dict[str, int])
    with policies.forced_open("around"), policies.forced_closed(policy):
        yield
    clock.advance("30")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    clock.waiting = 3  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    ManualClock("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policies.outcomes(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policies.forced_open()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
