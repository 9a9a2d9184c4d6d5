"""OpenTelemetry, with its real SDK: what the spans of calls are told, exemplars, and undoing it."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import opentelemetry.context
import opentelemetry.trace
import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from resilient import CallTimeoutError, bulkhead, circuit_breaker, fallback, timeout
from resilient.engine.policy_state import PolicyState
from resilient.integrations import opentelemetry as ours
from resilient.integrations import opentelemetry_spans as spans_of
from resilient.integrations.opentelemetry import instrument
from resilient.telemetry.exemplars import all_of_them
from resilient.testing import ManualClock
from tests.unit.integrations.otel_kit import (
    SLOW,
    Spans,
    calls_of,
    clock,
    events_of,
    fails,
    opened,
    ours_of,
    policy_of,
    spans,
    undo,
)

__all__ = ["clock", "spans", "undo"]  # fixtures

# -- one call ---------------------------------------------


def test_a_failed_call(spans: Spans, clock: ManualClock) -> None:
    """A failure is on the span, as attributes and as an event."""
    policy = policy_of(circuit_breaker(), clock=clock)

    def body() -> None:
        clock.advance(0.25)
        fails()

    span = spans.around(lambda: policy.call(body))
    said = {"policy": policy.name, "outcome": "failure", "served": "error",
            "breaker_state": "closed"}  # fmt: skip
    assert ours_of(span) == {**said, "unusual_calls": 1}
    assert calls_of(span) == [{**said, "duration": 0.25}]


def test_a_refused_call(spans: Spans) -> None:
    """A refusal names the guard that refused."""
    policy = opened()
    span = spans.around(lambda: policy.call(fails))
    said = {"policy": policy.name, "outcome": "refused", "served": "error",
            "guard": "circuit_breaker", "breaker_state": "open"}  # fmt: skip
    assert ours_of(span) == {**said, "unusual_calls": 1}
    assert calls_of(span) == [said]


def test_a_full_bulkhead(spans: Spans) -> None:
    """It is named as well; a policy without a breaker has no state of one."""
    policy = policy_of(bulkhead(1))
    with policy.block():
        span = spans.around(lambda: policy.call(int))
    said = ours_of(span)
    assert (said["outcome"], said["guard"]) == ("refused", "bulkhead")
    assert "breaker_state" not in said


def test_a_forced_state(spans: Spans) -> None:
    """A policy that is forced open refuses by itself, and says in which state it is."""
    policy = policy_of(bulkhead(1))
    policy.force_open(reason="cut off")
    said = ours_of(spans.around(lambda: policy.call(int)))
    assert (said["guard"], said["breaker_state"]) == ("policy", "forced_open")


@pytest.mark.parametrize("times", [1, 3])
def test_a_degraded_call(spans: Spans, times: int) -> None:
    """A fallback's answer is told, also by the short cut that refusals with a fallback take."""
    policy = policy_of(fallback(value="cached"), circuit_breaker(failure_threshold=1))
    guarded = policy(fails)
    guarded()
    for _ in range(times):
        span = spans.around(guarded)
    said = ours_of(span)
    assert (said["outcome"], said["served"]) == ("refused", "degraded")
    assert said["guard"] == "circuit_breaker"
    assert len(calls_of(span)) == 1


def test_a_good_call_that_took_long(spans: Spans, clock: ManualClock) -> None:
    """It sets attributes, and is no event: most calls over a network are that long."""
    policy = policy_of(circuit_breaker(), bulkhead(2), clock=clock)
    span = spans.around(lambda: policy.call(clock.advance, SLOW))
    assert ours_of(span) == {"policy": policy.name, "outcome": "success", "served": "full",
                             "breaker_state": "closed"}  # fmt: skip
    assert not span.events


def test_a_call_that_is_slow_to_its_policy(spans: Spans, clock: ManualClock) -> None:
    """One that its breaker counts as slow is an event."""
    policy = policy_of(circuit_breaker(slow_call_duration=2), clock=clock)
    span = spans.around(lambda: policy.call(clock.advance, 2))
    assert [each["duration"] for each in calls_of(span)] == [2]
    assert ours_of(span)["unusual_calls"] == 1
    assert not spans.around(lambda: policy.call(clock.advance, 1.9)).events


def test_a_value_that_came_late(spans: Spans, clock: ManualClock) -> None:
    """One that was returned after the time was up is an event too."""
    policy = policy_of(timeout(1, sync="cooperative"), clock=clock)
    span = spans.around(lambda: policy.call(clock.advance, 2))
    (call,) = calls_of(span)
    assert (call["outcome"], call["served"], call["duration"]) == ("success", "full", 2)


def test_a_failed_result(spans: Spans) -> None:
    """A returned value that counts as a failure did not just go well."""
    policy = policy_of(circuit_breaker(failed_result=lambda value: value == 503))
    (call,) = calls_of(spans.around(lambda: policy.call(int, "503")))
    assert (call["outcome"], call["served"]) == ("failure", "full")


def test_a_call_that_says_nothing_of_the_dependency(spans: Spans) -> None:
    """One that counts as ignored, and gave its caller what it asked for, went well."""
    policy = policy_of(circuit_breaker())
    for seconds in (0.001, SLOW):
        span = spans.around(
            lambda s=seconds: spans_of.on_end(policy._core, "ignored", "full", "", s)
        )
        assert not span.events
        assert ours_of(span).get("outcome") == (None if seconds < SLOW else "ignored")


def test_a_block_and_try_call(spans: Spans) -> None:
    """Every way to make a call is told of."""
    policy = policy_of(circuit_breaker())

    def blocked() -> None:
        with policy.block() as block:
            block.fail("bad data")

    assert len(calls_of(spans.around(blocked))) == 1
    assert len(calls_of(spans.around(lambda: policy.try_call(fails)))) == 1


# -- what costs nothing ---------------------------------------------


@pytest.fixture
def tripwire(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Take note of whatever is asked of OpenTelemetry."""
    asked: list[str] = []

    def tripped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def trip(*args: Any, **kwargs: Any) -> Any:
            asked.append(name)
            return real(*args, **kwargs)

        return trip

    for where in (spans_of, opentelemetry.trace):
        real = where.get_current_span
        monkeypatch.setattr(where, "get_current_span", tripped("get_current_span", real))
    for name in ("get_current", "get_value"):
        monkeypatch.setattr(
            opentelemetry.context, name, tripped(name, getattr(opentelemetry.context, name))
        )
    return asked


def test_a_quick_good_call_asks_nothing(spans: Spans, tripwire: list[str]) -> None:
    """Neither by the short way nor by the long one is OpenTelemetry asked for anything."""
    clock = ManualClock()  # so that none is slow by chance
    inner = policy_of(circuit_breaker(), timeout(1, sync="cooperative"), clock=clock)
    outer = policy_of(fallback(value=0), circuit_breaker(), bulkhead(3),
                      timeout(2, sync="cooperative"), clock=clock)  # fmt: skip
    quick, nested = outer(lambda: 1), outer(lambda: inner.call(int, "1"))
    ignoring = policy_of(circuit_breaker(ignore=KeyError), clock=clock)

    async def calls() -> None:
        for _ in range(3):
            await outer.acall(asyncio.sleep, 0, result=1)

    with spans():
        del tripwire[:]  # of opening the span
        for _ in range(3):
            assert quick() == nested() == 1
            assert outer.try_call(int, "1").value == 1
            assert ignoring.call(int, "1") == 1
            with outer.block():
                pass
        asyncio.run(calls())
        assert tripwire == []
        ignoring.try_call(fails)
        assert tripwire  # the wire is there
    assert outer.snapshot()["calls"]["success"] >= 12


def test_without_a_recording_span_nothing_happens() -> None:
    """No span, or one that only passes the caller's context on: nothing is kept anywhere."""
    policy = policy_of(fallback(value=0), circuit_breaker())
    before = set(spans_of._told)
    policy.call(fails)
    remote = NonRecordingSpan(SpanContext(1, 1, is_remote=True, trace_flags=TraceFlags(1)))
    with use_span(remote):
        policy.call(fails)
        policy.force_open(reason="cut off")
    assert set(spans_of._told) <= before
    assert policy.name not in all_of_them()


def test_no_span_is_ever_made(spans: Spans) -> None:
    """The one span of the request is all there is."""
    spans.around(lambda: opened().call(fails))
    assert len(spans.ended()) == 1


# -- in which span ---------------------------------------------


def test_nested_spans(spans: Spans) -> None:
    """A call is told to the innermost span that is current at its end."""
    inner, outer = policy_of(circuit_breaker()), policy_of(fallback(value=0))

    def body() -> None:
        with spans("inner"):
            inner.call(fails)

    with spans("outer"):
        outer.call(body)
    assert ours_of(spans.named("inner"))["policy"] == inner.name
    assert ours_of(spans.named("outer"))["policy"] == outer.name
    assert len(calls_of(spans.named("outer"))) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks(spans: Spans, backend: str) -> None:
    """Each of many tasks finds its own calls on its own span."""
    policy = policy_of(circuit_breaker(failure_threshold=None), bulkhead(50), timeout(5))

    @policy
    async def ask(number: int) -> None:
        await anyio.sleep(SLOW)
        if number % 3 == 0:
            raise ConnectionError

    async def request(number: int) -> None:
        with spans(f"task-{number}"):
            try:
                await ask(number)
            except ConnectionError:
                pass

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(9):
                group.start_soon(request, number)

    anyio.run(main, backend=backend)
    for number in range(9):
        span = spans.named(f"task-{number}")
        assert len(calls_of(span)) == (number % 3 == 0)
        assert ours_of(span)["outcome"] == ("success" if number % 3 else "failure")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_timeouts_and_cancellation(spans: Spans, backend: str) -> None:
    """A call that was cut is a failure; one whose caller went away is served to nobody."""
    policy = policy_of(circuit_breaker(), timeout(0.3))

    async def main() -> None:
        with spans("cut"), pytest.raises(CallTimeoutError):
            await policy.acall(anyio.sleep, 5)
        with spans("gone"):
            with anyio.move_on_after(0.02):
                await policy.acall(anyio.sleep, 5)
        await policy.atry_call(fails_async)
        with spans("refused"):
            policy.force_open(reason="cut off")
            await policy.atry_call(anyio.sleep, 5)

    anyio.run(main, backend=backend)
    assert ours_of(spans.named("cut"))["outcome"] == "failure"
    assert ours_of(spans.named("gone")) == {
        "policy": policy.name, "outcome": "cancelled", "breaker_state": "closed",
        "unusual_calls": 1,
    }  # fmt: skip
    assert ours_of(spans.named("refused"))["guard"] == "policy"


async def fails_async() -> None:
    raise ConnectionError


@pytest.mark.parametrize(
    "guards",
    [
        lambda: [circuit_breaker(failure_threshold=None)],
        lambda: [circuit_breaker(), bulkhead(50)],
        lambda: [circuit_breaker(), bulkhead(50), timeout(5, sync="thread")],
        list,
    ],
    ids=["one", "two", "three", "none"],
)
def test_threads(spans: Spans, guards: Callable[[], list[Any]]) -> None:
    """Each of many threads finds its own slow call on its own span, by every way out."""
    policy = policy_of(*guards())
    guarded = policy(lambda: time.sleep(SLOW))
    guarded()
    start = threading.Barrier(8)

    def request(number: int) -> None:
        start.wait()
        with spans(f"thread-{number}"):
            guarded()

    threads = [threading.Thread(target=request, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(8):
        assert ours_of(spans.named(f"thread-{number}"))["outcome"] == "success", number


def test_another_thread_that_flushes_does_not_tell(spans: Spans, monkeypatch: Any) -> None:
    """A thread that is stopped between the lock and the telling tells its call itself."""
    between, done, flush = threading.Event(), threading.Event(), PolicyState.flush

    def preempted(core: PolicyState) -> None:
        if threading.current_thread().name == "stopped":
            between.set()
            done.wait(5)
        flush(core)

    monkeypatch.setattr(PolicyState, "flush", preempted)
    guarded = policy_of(circuit_breaker())(time.sleep)
    guarded(0)

    def request(name: str) -> None:
        with spans(name):
            guarded(SLOW)

    stopped = threading.Thread(target=request, args=("stopped",), name="stopped")
    stopped.start()
    between.wait(0.5)  # for ever, where nothing is left to be flushed
    request("other")
    done.set()
    stopped.join()
    for name in ("stopped", "other"):
        assert ours_of(spans.named(name))["outcome"] == "success"


def test_a_worker_thread(spans: Spans) -> None:
    """A timeout on a worker is told in the caller's span, not in the worker's context."""
    policy = policy_of(circuit_breaker(), timeout(0.1, sync="thread"))
    for _ in range(2):
        span = spans.around(lambda: policy.call(time.sleep, 0.3))
        assert (ours_of(span)["outcome"], ours_of(span)["served"]) == ("failure", "error")
        assert len(calls_of(span)) == 1


def test_streams(spans: Spans) -> None:
    """A stream is told of at its end: exhausted, failed, left early or refused."""
    policy = policy_of(circuit_breaker(failure_threshold=None), bulkhead(1))

    @policy
    def numbers(then: Callable[[], Any] = int) -> Iterator[int]:
        yield 1
        then()

    def left() -> None:
        stream = numbers()
        next(stream)
        stream.close()

    assert ours_of(spans.around(lambda: list(numbers()))) == {}
    assert ours_of(spans.around(lambda: list(numbers(fails))))["outcome"] == "failure"
    assert ours_of(spans.around(left))["outcome"] == "cancelled"
    held = numbers()
    next(held)
    assert ours_of(spans.around(lambda: list(numbers())))["guard"] == "bulkhead"
    held.close()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_streams(spans: Spans, backend: str) -> None:
    """An async stream is told of at its end, in the span of who reads it."""
    policy = policy_of(circuit_breaker(failure_threshold=None))

    @policy
    async def numbers() -> Any:
        yield 1
        await anyio.lowlevel.checkpoint()
        fails()

    async def main() -> None:
        with spans():
            try:
                async for _ in numbers():
                    pass
            except ConnectionError:
                pass

    anyio.run(main, backend=backend)
    assert ours_of(spans.only())["outcome"] == "failure"


# -- what can go wrong ---------------------------------------------


def test_a_tracer_that_raises_costs_no_call_anything(
    spans: Spans, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call is answered, the fault is logged once, and no call is traced any more."""
    policy = policy_of(fallback(value="cached"), circuit_breaker())
    guarded = policy(fails)

    def breaks(*_: Any) -> None:
        raise RuntimeError("the tracer is broken")

    with spans() as span:
        monkeypatch.setattr(type(span), "set_attributes", breaks)
        with caplog.at_level(logging.ERROR, "resilient"):
            assert [guarded() for _ in range(3)] == ["cached"] * 3
    assert [record.getMessage() for record in caplog.records if record.exc_info] == [
        "calls are traced no more: the tracing raised"
    ]
    assert policy.snapshot()["calls"]["failure"] == 3


def test_a_listener_that_raises_is_removed(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change goes on where the span can't take its event."""
    policy = policy_of()

    def breaks(*_: Any) -> None:
        raise RuntimeError("the tracer is broken")

    with spans() as span:
        monkeypatch.setattr(type(span), "add_event", breaks)
        policy.force_open(reason="cut off")
        policy.release(reason="over")
    assert policy.state == "closed"


class Slotted(NonRecordingSpan):
    """A span of another make, which can't be referred to weakly."""

    __slots__ = ("told",)

    def __init__(self) -> None:
        super().__init__(SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(1)))
        self.told: dict[str, Any] = {}

    def is_recording(self) -> bool:
        return True

    def set_attributes(self, attributes: Any) -> None:
        self.told.update(attributes)

    def __hash__(self) -> int:
        raise TypeError("unhashable")


def test_spans_of_another_make() -> None:
    """A span that can't be remembered has the attributes of the newest call."""
    span = Slotted()
    with use_span(span):
        policy_of(fallback(value=0)).call(fails)
    assert span.told["resilient.served"] == "degraded"


def test_spans_are_not_kept(spans: Spans) -> None:
    """A span that nobody has any more is forgotten."""
    policy = opened()
    with spans() as span:
        policy.try_call(int)
        assert span in spans_of._told
    known = weakref.ref(span)
    del span
    gc.collect()
    assert known() is None


def test_undo(spans: Spans, undo: Callable[[], None]) -> None:
    """Afterwards nothing is told, and a second time does no harm."""
    undo()
    undo()
    assert PolicyState.on_end is None
    policy = opened()
    span = spans.around(lambda: policy.call(fails))
    assert ours_of(span) == {}
    assert not span.events or {event.name for event in span.events} == {"exception"}


def test_a_second_instrument_takes_the_place_of_the_first(
    spans: Spans, undo: Callable[[], None]
) -> None:
    """Nothing is told twice, and the first one's undo ends nothing that is not its own."""
    end = instrument()
    try:
        undo()
        policy = opened()
        span = spans.around(lambda: (policy.try_call(fails), policy.force_open(reason="cut off")))
        assert len(calls_of(span)) == 1
        assert len(events_of(span, "resilient.forced")) == 1
    finally:
        end()
    assert PolicyState.on_end is None


def test_a_hook_of_somebody_elses_comes_back(undo: Callable[[], None]) -> None:
    """What was there before is there afterwards, and what came later stays."""
    undo()

    def other(*_: Any) -> None: ...

    def later(*_: Any) -> None: ...

    try:
        PolicyState.on_end = other
        end = instrument()
        assert PolicyState.on_end is not other
        instrument()
        instrument()()
        end()
        assert PolicyState.on_end is other
        end = instrument()
        PolicyState.on_end = later
        end()
        assert PolicyState.on_end is later
    finally:
        PolicyState.on_end = None


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"metrics": 1}, TypeError),
        ({"metrics": True, "meter_provider": "mine"}, TypeError),
        ({"meter_provider": opentelemetry.metrics.NoOpMeterProvider()}, ValueError),
        ({"metrics": True, "max_policies": 0}, ValueError),
        ({"max_policies": "many"}, TypeError),
    ],
)
def test_bad_options(options: dict[str, Any], error: type[Exception]) -> None:
    """They are refused before anything is changed."""
    before = PolicyState.on_end, list(ours._newest)
    with pytest.raises(error):
        instrument(**options)
    assert before == (PolicyState.on_end, ours._newest)


WITHOUT_SDK = """
import sys
sys.modules["opentelemetry.sdk"] = None          # not installed
import resilient
from resilient.integrations.opentelemetry import instrument
undo = instrument(metrics=True)
policy = resilient.Policy("alone", resilient.fallback(value=7), resilient.circuit_breaker())
def fails(): raise ConnectionError
print([policy.call(fails) for _ in range(8)], policy.state)
undo()
loaded = [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
print(loaded, "prometheus_client" in sys.modules)
"""


def test_without_the_sdk() -> None:
    """With OpenTelemetry's API alone all calls go as ever, and nothing comes of it."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", WITHOUT_SDK], text=True,
                          capture_output=True, timeout=30, check=True)  # fmt: skip
    assert done.stdout == f"{[7] * 8} open\n['opentelemetry.sdk'] False\n"
