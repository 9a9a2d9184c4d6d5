"""Faults that a reader of the code found, each with the program that showed it."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest

import resilient
from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    timeout,
)
from resilient.testing import ManualClock

pytest_plugins = ["pytester"]


class Proxy:
    """An object that answers, or raises, whatever it is asked for."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


@pytest.mark.parametrize("value", [Mock(), MagicMock(), Proxy()], ids=["mock", "magic", "proxy"])
def test_nothing_is_asked_of_a_returned_value(value: object) -> None:
    """A mock or lazy proxy passes through by identity and keeps no slot."""
    policy = Policy("reviewed-values", bulkhead(1))
    guarded = policy(lambda: value)
    assert guarded() is value
    assert guarded() is value
    assert policy.call(lambda: value) is value
    assert policy.snapshot()["in_flight"] == 0


@pytest.mark.parametrize("way", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy])
@pytest.mark.parametrize("kind", [CircuitOpenError, CallTimeoutError])
def test_a_copied_error_of_ours_is_a_failure_like_any_other(way: Any, kind: Any) -> None:
    """What another process raised and this one raises again is judged, not stumbled over."""
    policy = Policy("reviewed-copies", fallback(value="less"), bulkhead(1))
    error = way(kind("from elsewhere"))

    def body() -> None:
        raise error

    assert policy.try_call(body).value == "less"
    assert policy.snapshot()["calls"]["failure"] == 1


def test_a_view_changes_nothing_of_its_policy() -> None:
    """A view with fewer slots or a longer limit leaves workers and probe lease of the base alone."""
    base = Policy("reviewed-base", circuit_breaker(), bulkhead(50), timeout(1, sync="thread"))
    before = base.snapshot()["guards"]
    limit = base.guards[2].max_workers  # type: ignore[attr-defined]
    view = base.with_(bulkhead(1), timeout(600, sync="thread"))
    assert view.guards[1] is not base.guards[1]
    assert base.snapshot()["guards"] == before
    assert base.guards[2].max_workers == limit == 50  # type: ignore[attr-defined]


def test_an_abandoned_body_is_told_that_its_time_is_up() -> None:
    """Until it ends, an abandoned body reads 0 s left, and check() raises in it."""
    policy = Policy("reviewed-abandoned", timeout(0.02, sync="thread"))
    go, told = threading.Event(), []
    done = threading.Event()

    def body() -> None:
        go.wait(10)
        told.append(resilient.remaining())
        try:
            resilient.check()
        except CallTimeoutError as error:
            told.append(error.policy)
        done.set()

    with pytest.raises(CallTimeoutError):
        policy.call(body)
    go.set()
    assert done.wait(10)
    assert told == [0.0, "reviewed-abandoned"]


def test_an_awaitable_that_is_dropped_gives_its_slot_back_at_once() -> None:
    """No cycle keeps a guarded awaitable alive, without the collector."""

    async def body() -> None: ...

    policy = Policy("reviewed-dropped", bulkhead(1))
    gc.collect()
    gc.disable()
    try:
        inner = body()
        pending = policy.call(lambda: inner)
        assert policy.snapshot()["in_flight"] == 1
        pending = None  # noqa: F841
        assert policy.snapshot()["in_flight"] == 0
        inner.close()
    finally:
        gc.enable()


def test_deadlines_of_a_task_that_starts_its_successor_form_no_chain() -> None:
    """A poller that goes on in a new task each time links to no dead deadline."""
    policy = Policy("reviewed-chain", timeout(60))
    lengths: list[int] = []

    async def generation(left: int) -> None:
        async def body() -> asyncio.Task[None] | None:
            return asyncio.create_task(generation(left - 1)) if left else None

        successor = await policy.acall(body)
        seen, length = resilient.deadline.current.get(), 0
        while seen is not None:
            seen, length = seen.outer, length + 1
        lengths.append(length)
        if successor is not None:
            await successor

    asyncio.run(generation(30))
    assert max(lengths) <= 2


def test_misuse_of_acall_is_the_callers_error() -> None:
    """A plain function under acall raises TypeError: no fallback answers, no circuit opens."""
    policy = Policy("reviewed-misuse", fallback(value=[]), circuit_breaker(failure_threshold=1))

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
        lambda: Policy("reviewed-bare")(guard),
        lambda: guard(7),
        lambda: guard(user=7),
        lambda: guard(),
    ):
        with pytest.raises(TypeError, match="parentheses"):
            misuse()
    with pytest.raises(TypeError, match="by name"):
        circuit_breaker(0.5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="clock"):
        Policy("reviewed-clock", clock=5)  # type: ignore[arg-type]


def test_a_guard_that_a_view_brings_follows_the_forced_state() -> None:
    """Forced closed holds for the breaker of a view that is made later."""
    policy = Policy("reviewed-forced", circuit_breaker())
    policy.force_closed()
    view = policy.with_(circuit_breaker(failure_threshold=1))
    for _ in range(3):
        assert isinstance(view.try_call(int, "x").error, ValueError)


def test_who_waits_while_the_policy_is_forced_open_hears_why() -> None:
    """A caller in line is refused with the operator's reason; a new reason is a new event."""
    policy = Policy("reviewed-line", bulkhead(1, max_waiting=1, max_wait=10))
    inside, go = threading.Event(), threading.Event()
    first = threading.Thread(target=lambda: policy.call(lambda: inside.set() or go.wait(10)))
    first.start()
    assert inside.wait(10)
    ends: list[Any] = []
    second = threading.Thread(target=lambda: ends.append(policy.try_call(int)))
    second.start()
    while policy.snapshot()["guards"][0]["waiting"] == 0:
        time.sleep(0)
    events: list[Any] = []
    unsubscribe = resilient.registry.subscribe(events.append)
    policy.force_open("INC-1")
    policy.force_open("INC-1")
    policy.force_open("INC-2")
    unsubscribe()
    go.set()
    first.join(10)
    second.join(10)
    assert "INC-2" in str(ends[0].error)
    assert [event.reason for event in events if event.kind == "forced"] == ["INC-1", "INC-2"]


def test_a_warned_construction_takes_nothing() -> None:
    """With warnings as errors a suspicious order leaves name and guards free."""
    guards = bulkhead(1), circuit_breaker()
    with pytest.raises(resilient.OrderWarning):
        Policy("reviewed-order", *guards)
    Policy("reviewed-order", *reversed(guards))


def test_repr_of_a_fallbacks_value_is_asked_once() -> None:
    """Nobody's repr runs under the policy's lock."""

    class Loud:
        asked = 0

        def __repr__(self) -> str:
            Loud.asked += 1
            return "loud"

    policy = Policy("reviewed-repr", fallback(value=Loud()))
    asked = Loud.asked
    policy.snapshot()
    str(policy)
    assert Loud.asked == asked


_INTERRUPTED = """
import logging, signal, threading, time
from resilient import Policy, bulkhead, circuit_breaker, fallback

logging.disable()  # its locks are not safe from interrupts
policy = Policy(
    "interrupted",
    fallback(value=0),
    circuit_breaker(failure_threshold=2, recovery_timeout=1e-4),
    bulkhead(100_000),
)

def bad():
    raise ValueError

def interrupt(*_):
    raise KeyboardInterrupt

good, failing = policy(lambda: 0), policy(bad)
signal.signal(signal.SIGALRM, interrupt)
end, number = time.monotonic() + 2, 0
while time.monotonic() < end or number <= 100:
    number += 1
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.00002 + number % 97 * 0.000003)
        for _ in range(200):
            good()
            failing()
            policy.try_call(bad)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        pass
signal.signal(signal.SIGALRM, lambda *_: None)
ends = []
other = threading.Thread(target=lambda: ends.append(policy.call(int)), daemon=True)
other.start()
other.join(10)
print(ends, policy._core.gate, number > 100)
"""


def test_an_interrupt_anywhere_in_the_bookkeeping_wedges_nothing() -> None:
    """Whenever KeyboardInterrupt comes, the lock is free and the gate open afterwards."""
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stdout.strip() == "[0] 0 True", done.stderr


def test_a_thread_body_that_overruns_a_manual_clock_is_late_every_time() -> None:
    """By a manual clock the outcome does not hang on which thread is the quicker."""
    clock = ManualClock()
    policy = Policy("reviewed-manual", timeout(0.3, sync="thread"), clock=clock)
    for _ in range(50):
        with pytest.raises(CallTimeoutError):
            policy.call(lambda: clock.advance(1))
    assert policy.snapshot()["abandoned"] >= 0


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
    policy = Policy("reviewed-message", bulkhead(1))
    with pytest.raises(BulkheadFullError, match="all 1 slots"):
        policy.call(policy.call, int)
