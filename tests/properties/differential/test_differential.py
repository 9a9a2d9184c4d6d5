"""One sequence of operations gives one trace: in every colour, by every way of calling (G7)."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable
from random import Random
from typing import Any, Literal
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import resilient
from resilient import (
    Event,
    OrderWarning,
    Policy,
    bulkhead,
    circuit_breaker,
    concurrency_limit,
    fallback,
    hedge,
    last_good,
    rate_limit,
    retry,
    throttle,
    timeout,
)
from resilient.admin.registry import registry
from resilient.guards.retry.retry import Retry
from resilient.guards.shadow import Shadow
from resilient.testing import ManualClock
from tests.kit.colours import ASYNC_COLOURS, SYNC, THREAD, TIMED_COLOURS, Colour, Gone
from tests.kit.policies import comes_to_idle
from tests.kit.waiting import until

WayName = Literal["decorated", "twin", "call", "try", "block", "stream", "keyed"]
Op = tuple[Any, ...]
LIMIT = 2.0

relaxed = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Down(Exception):
    """A failure that the fallback answers."""


ERRORS: dict[str, type[BaseException]] = {
    "fail": ValueError, "down": Down, "ignored": KeyError, "gone": Gone,
    "exit": SystemExit, "timeout error": TimeoutError, "group": BaseExceptionGroup,
}  # fmt: skip

ways = st.sampled_from(["decorated", "call", "try"])
times = st.sampled_from([0.0, 0.5, 1.0, 1.5])
ends = st.sampled_from(["ok", "ok", "ok", "bad value", *ERRORS, *["fail", "down"] * 2])
levers = st.sampled_from([("open",), ("close",), ("release",), ("resize", 1), ("resize", 3)])
advances = st.tuples(st.just("advance"), st.sampled_from([0.1, 1.0, 4.9, 5.0, 5.1, 11.0]))
plain_calls = st.tuples(st.just("call"), times, ends, st.just(()))
late_calls = st.tuples(st.just("call"), st.sampled_from([1.999, 2.0, 2.5]), ends, st.just(()))
flat = st.lists(st.one_of(plain_calls, plain_calls, late_calls, advances, levers), max_size=14)
nested = st.lists(
    st.recursive(
        st.one_of(plain_calls, plain_calls, advances, levers),
        lambda ops: st.tuples(
            st.just("call"), times, ends, st.lists(ops, min_size=1, max_size=3).map(tuple)
        ),
        max_leaves=8,
    ),
    max_size=10,
)


def _drawn(guard: Any) -> Any:
    """Return a throttle whose draws are the same in each run."""
    guard.random = Random(7).random
    return guard


class Run:
    """One sequence, run in one colour by one way of calling, with all that could be seen of it."""

    def __init__(self, colour: Colour, way: WayName, guards: str, limit: float) -> None:
        self.colour = colour
        self.way = way
        self.clock = ManualClock()
        self.clock.skips = True
        self.hold = threading.Event()
        self.trace: list[Any] = []
        self.bodies = 0
        self.crowded = False  # a call was refused since as many probes ran as may
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OrderWarning)  # a delay that no limit leaves time for
            self.policy = Policy("differential", *self._guards(guards, limit), clock=self.clock)
        self.fn = colour.fn(self._body)
        self.guarded = self.policy(self.fn)
        if way == "keyed":
            self.keyed = self.policy.keyed(lambda op: "one")(self.fn)
        with patch("resilient.engine.compiled.compiled", None):
            self.twin = self.policy(self.fn)

    def _guards(self, words: str, limit: float) -> list[Any]:
        made: dict[str, Callable[[], Any]] = {
            "fallback": lambda: fallback(
                value="lesser", on=(Down, resilient.RefusedError, resilient.CallTimeoutError)
            ),
            "total": lambda: timeout(limit * 2, sync=self.colour.sync),
            "breaker": lambda: circuit_breaker(
                failure_threshold=2, minimum_calls=6, ignore=KeyError, slow_call_duration=1.5,
                half_open_max_calls=2, success_threshold=2,
            ),
            "judging": lambda: circuit_breaker(
                failure_threshold=2, minimum_calls=6, ignore=KeyError,
                failed_result=lambda value: value == "bad value",
            ),
            # What the compiled core has rules for.
            "blind": lambda: fallback(value="lesser"),
            "plain": lambda: circuit_breaker(failure_threshold=2, minimum_calls=6),
            "simple": lambda: circuit_breaker(failure_threshold=2, minimum_calls=6, ignore=KeyError),
            # With RefusedError: else the interpreter counts a refusal in its budget as ignored.
            "asking": lambda: retry(
                on=(ValueError, resilient.RefusedError), attempts=3, wait_initial=0.3
            ),
            "retry": lambda: retry(
                on=(ValueError, TimeoutError), failed_result=lambda value: value == "bad value",
                attempts=3, wait_initial=0.3,
            ),
            # All calls are one to it, so that what the last good one returned answers the others.
            "last_good": lambda: last_good(max_age=5, key=lambda op: 0, ignore=KeyError),
            # Copies run in tasks and on threads of their own; there is never a second one.
            "hedge": lambda: hedge(1e6, idempotent=True),
            "bulkhead": lambda: bulkhead(2),
            "rate": lambda: rate_limit(3, 2.0, burst=3),
            "throttle": lambda: _drawn(throttle(minimum_calls=2, window=5)),
            "quota": lambda: rate_limit(3, 2.0, quota=True),
            "adaptive": lambda: concurrency_limit(2, slow_call_duration=1.5, ignore=KeyError),
            "ramped": lambda: circuit_breaker(
                failure_threshold=2, minimum_calls=6, recovery_timeout=2, ramp=8.0, ignore=KeyError
            ),
            "shadow": lambda: Shadow(
                circuit_breaker(failure_threshold=1, recovery_timeout=2.0, ignore=KeyError)
            ),
            "timeout": lambda: timeout(limit, sync=self.colour.sync),
        }  # fmt: skip
        return [made[word]() for word in words.split()]

    def run(self, ops: list[Op]) -> list[Any]:
        registry_events = registry.subscribe(self._heard)
        try:
            self.colour.run(
                self._run, [*ops, ("close",), ("release",)] if self._forced(ops) else ops
            )
        finally:
            registry_events()
            registry.remove("differential")
        comes_to_idle(self.policy)
        return self.trace

    @staticmethod
    def _forced(ops: list[Op]) -> bool:
        """Tell whether the circuit was forced closed: its books are cleared by a release."""
        return "('close',)" in repr(ops)

    def _heard(self, event: Event) -> None:
        about = (event.guard, event.kind, event.before, event.after, event.cause)
        if event.kind == "abandoned":  # only threads can be
            return
        self.trace.append(("event", *about, round(event.at, 6), event.reason))

    async def _run(self, ops: list[Op]) -> None:
        for op in ops:
            await self._do(op)
            self._look()

    def _look(self) -> None:
        reasons = [getattr(guard, "why", "") for guard in self.policy.guards]
        self.crowded |= any("as many probes run as may" in each for each in reasons)
        shown = self.policy.snapshot()
        for word in ("abandoned", "abandoned_total"):
            del shown[word]  # of worker threads only
        for guard in shown["guards"]:
            guard.pop("workers", None)
            guard.get("options", {}).pop("sync", None)
        self.trace.append(("now", round(self.clock.now(), 6), shown, self._counted()))

    def _counted(self) -> list[Any]:
        """Return the counts that a snapshot leaves out."""
        core = self.policy._core
        asking = [guard for guard in self.policy.guards if isinstance(guard, Retry)]
        budgets = [(guard.budget.calls, round(guard.typical, 9)) for guard in asking]
        return [
            core.durations,
            round(core.duration_sum, 6),
            dict(core.refusals),
            core.peak,
            budgets,
        ]

    async def _do(self, op: Op) -> None:
        kind = op[0]
        if kind == "advance":
            self.clock.advance(op[1])
        elif kind == "open":
            self.policy.force_open("by hand")
        elif kind == "close":
            self.policy.force_closed("by hand")
        elif kind == "release":
            self.policy.release()
        elif kind == "resize":
            if any(guard.kind == "bulkhead" for guard in self.policy.guards):
                self.policy.update(bulkhead={"max_concurrent": op[1]})
        else:
            self.trace.append(("call", *await self._call(op)))

    async def _call(self, op: Op) -> tuple[Any, ...]:
        began, colour = self.clock.now(), self.colour
        value: Any = None
        error: BaseException | None = None
        try:
            if self.way == "keyed":
                value = await colour.call(self.keyed, op)
            elif self.way == "decorated":
                value = await colour.call(self.guarded, op)
            elif self.way == "twin":
                value = await colour.call(self.twin, op)
            elif self.way == "call":
                value = await colour.through(self.policy, self.fn, op)
            elif self.way == "block":
                value = await colour.in_block(self.policy, self.fn, op)
            elif self.way == "stream":
                value = await colour.as_stream(self.policy, self.fn, op)
            else:
                result = await colour.attempt(self.policy, self.fn, op)
                value, error = result.value, result.error
                assert result.elapsed == pytest.approx(self.clock.now() - began)
                if result.served == "degraded":
                    error = None
        except BaseException as raised:
            if isinstance(raised, AssertionError):
                raise
            error = raised
        if colour.threaded:
            self.hold.set()
            until(lambda: self.policy._core.abandoned == 0)
            self.hold.clear()
        return value, type(error).__name__, _details(error)

    async def _body(self, op: Op) -> str:
        self.bodies += 1
        self.trace.append(("body", self.bodies, _rounded(resilient.remaining())))
        _, seconds, end, inside = op
        for inner in inside:
            await self._do(inner)
        self.clock.advance(seconds)
        await self.colour.checkpoint(self.hold)
        if end in ("ok", "bad value"):
            return str(end)
        if end == "group":
            raise BaseExceptionGroup("two", [ValueError(), Gone()])
        raise ERRORS[end](end)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _details(error: BaseException | None) -> tuple[Any, ...]:
    if error is None:
        return ()
    if isinstance(error, resilient.ResilientError):
        retry_after = getattr(error, "retry_after", None)
        return (str(error), error.policy, error.guard, _rounded(retry_after))
    return (type(error.__cause__).__name__,)


STACKS = [
    "breaker", "bulkhead", "breaker bulkhead", "timeout", "breaker timeout",
    "fallback breaker bulkhead timeout", "fallback total breaker bulkhead timeout",
    "fallback judging bulkhead timeout", "fallback", "",
    "retry breaker bulkhead", "fallback total retry breaker bulkhead timeout",
    "fallback retry judging timeout", "last_good breaker bulkhead",
    "fallback last_good retry breaker timeout", "hedge breaker bulkhead",
    "fallback total retry hedge breaker timeout", "retry rate bulkhead", "throttle bulkhead", "fallback breaker quota",
    "fallback retry ramped adaptive", "adaptive", "ramped bulkhead",
    "fallback retry shadow breaker bulkhead timeout", "shadow bulkhead",
]  # fmt: skip


@relaxed
@given(ops=flat, stack=st.sampled_from(STACKS), way=ways)
def test_g7_every_colour_gives_the_same_trace(ops: list[Op], stack: str, way: WayName) -> None:
    """Results, counts, states, events and times do not depend on who drives the call."""
    expected = Run(SYNC, way, stack, LIMIT).run(ops)
    for colour in TIMED_COLOURS[1:]:
        assert Run(colour, way, stack, LIMIT).run(ops) == expected, colour.name


@relaxed
@given(ops=flat, stack=st.sampled_from(STACKS))
def test_g7_every_way_of_calling_gives_the_same_trace(ops: list[Op], stack: str) -> None:
    """The decorated function, call and try_call differ in nothing but how they hand over."""
    for colour in TIMED_COLOURS:
        expected = Run(colour, "call", stack, LIMIT).run(ops)
        for way in ("decorated", "try"):
            assert Run(colour, way, stack, LIMIT).run(ops) == expected, (colour.name, way)


KEYED = ["breaker bulkhead", "rate", "retry breaker bulkhead", "fallback breaker bulkhead timeout",
         "simple", "throttle bulkhead", "ramped adaptive", "shadow breaker"]  # fmt: skip


@relaxed
@given(ops=flat, stack=st.sampled_from(KEYED))
def test_g7_a_call_of_a_key_is_a_call_of_a_policy(ops: list[Op], stack: str) -> None:
    """One key that alone is called gets what the policy without keys would give."""
    for colour in TIMED_COLOURS:
        expected = _of_calls(Run(colour, "decorated", stack, LIMIT).run(ops))
        assert _of_calls(Run(colour, "keyed", stack, LIMIT).run(ops)) == expected, colour.name


def _of_calls(trace: list[Any]) -> list[Any]:
    """Return what a trace says of calls: what ran, what came of it, and what was counted."""
    found: list[Any] = []
    for kind, *rest in trace:
        if kind == "now":
            shown = rest[1]
            found.append([shown[word] for word in ("calls", "served", "refusals", "in_flight")])
        elif kind == "call":
            found.append(rest[:2])
        elif kind == "body":
            found.append(rest)
    return found


COMPILED = [
    "", "plain", "plain bulkhead", "plain timeout", "simple", "bulkhead", "simple bulkhead", "timeout", "simple bulkhead timeout", "blind simple",
    "blind bulkhead", "blind simple bulkhead timeout", "asking simple bulkhead",
    "blind asking simple bulkhead timeout", "last_good simple bulkhead",
    "rate", "blind simple rate bulkhead timeout", "asking rate", "quota bulkhead", "ramped bulkhead",
    "blind ramped timeout", "adaptive",
]  # fmt: skip
quick_calls = st.tuples(
    st.just("call"), st.sampled_from([0.0, 0.0, 0.004, 0.01]), ends, st.just(())
)
quick = st.lists(st.one_of(quick_calls, quick_calls, quick_calls, advances, levers), max_size=30)


@pytest.mark.parametrize("stack", COMPILED)
@settings(relaxed, max_examples=40)
@given(ops=quick)
def test_g7_the_compiled_path_and_its_twin_give_the_same_trace(ops: list[Op], stack: str) -> None:
    """The path in C, the same in Python and the interpreter differ in nothing that can be seen."""
    for colour in (SYNC, *ASYNC_COLOURS):
        expected = Run(colour, "call", stack, LIMIT).run(ops)
        for way in ("decorated", "twin"):
            assert Run(colour, way, stack, LIMIT).run(ops) == expected, (colour.name, way)


@settings(relaxed, max_examples=50)
@given(ops=nested, stack=st.sampled_from(COMPILED))
def test_g7_compiled_calls_inside_calls_give_the_same_trace(ops: list[Op], stack: str) -> None:
    """So they do where a call's body calls the policy again."""
    for colour in (SYNC, *ASYNC_COLOURS):
        expected = Run(colour, "call", stack, 1e6).run(ops)
        for way in ("decorated", "twin"):
            assert Run(colour, way, stack, 1e6).run(ops) == expected, (colour.name, way)


NOTHING_LESSER = [stack for stack in STACKS if "fallback" not in stack and "last_good" not in stack]
ONCE = [stack for stack in NOTHING_LESSER if "retry" not in stack]
UNHURRIED = flat.map(lambda ops: [op for op in ops if op[0] != "call" or op[1] < LIMIT])


@relaxed
@given(ops=flat, stack=st.sampled_from(ONCE))
def test_g7_a_block_gives_the_same_trace_as_a_call(ops: list[Op], stack: str) -> None:
    """Admission, outcome, deadline and counts of a block are those of a call, in every colour."""
    for colour in (colour for colour in TIMED_COLOURS if not colour.threaded):
        expected = Run(colour, "call", stack, LIMIT).run(ops)
        assert Run(colour, "block", stack, LIMIT).run(ops) == expected, colour.name


@relaxed
@given(ops=UNHURRIED, stack=st.sampled_from([stack for stack in ONCE if "hedge" not in stack]))
def test_g7_a_stream_of_one_gives_the_same_trace_as_a_call(ops: list[Op], stack: str) -> None:
    """So are those of a stream; but after a late item it is cut, where a late value is given."""
    for colour in (colour for colour in TIMED_COLOURS if not colour.threaded):
        expected = Run(colour, "call", stack, LIMIT).run(ops)
        assert Run(colour, "stream", stack, LIMIT).run(ops) == expected, colour.name


# A probe whose call then finds no slot.
NO_SLOT: list[Op] = [("resize", 1), ("open",), ("release",)]
NO_SLOT += [("call", 0.0, "ok", (("call", 0.0, "ok", ()),)), ("call", 0.0, "ok", ())]


@relaxed
@example(ops=NO_SLOT, stack="breaker bulkhead", way="decorated")
@given(ops=nested, stack=st.sampled_from(STACKS), way=ways)
def test_g7_calls_inside_calls_give_the_same_trace(ops: list[Op], stack: str, way: WayName) -> None:
    """Calls that overlap, because a body calls the policy again, give one trace in all colours."""
    expected = Run(SYNC, way, stack, 1e6).run(ops)
    for colour in TIMED_COLOURS[1:]:
        if colour.threaded and "total" in stack:
            continue  # there a call may find no worker, before it gets to the bulkhead
        run = Run(colour, way, stack, 1e6)
        seen = run.run(ops)
        if colour.threaded and run.crowded:
            continue  # inside a probe that runs on a worker the policy is refused, as documented
        assert seen == expected, colour.name
    if way == "decorated":
        assert Run(SYNC, "call", stack, 1e6).run(ops) == expected
        assert Run(ASYNC_COLOURS[0], "try", stack, 1e6).run(ops) == expected


class Real:
    """The same sequence under the real clock: what the fast paths of asyncio need."""

    def __init__(self, colour: Colour, decorated: bool, stack: str) -> None:
        self.colour = colour
        self.decorated = decorated
        self.stack = stack
        guards = Run._guards(self, stack, 0.03)  # type: ignore[arg-type]
        self.policy = Policy("differential", *guards)
        self.trace: list[Any] = []

    async def _body(self, op: str) -> str:
        if op == "late":
            time.sleep(0.035 if "timeout" in self.stack else 0)
        elif op != "ok":
            raise ERRORS[op](op)
        return op

    async def _run(self, ops: list[str]) -> None:
        fn = self.colour.fn(self._body)
        guarded = self.policy(fn)
        for op in ops:
            try:
                if self.decorated:
                    ended = await self.colour.call(guarded, op)
                else:
                    ended = await self.colour.through(self.policy, fn, op)
            except BaseException as error:
                ended = type(error).__name__
            shown = self.policy.snapshot()
            known = ("calls", "served", "refusals", "timeouts", "late_values", "state")
            self.trace.append((op, ended, {word: shown[word] for word in known}))

    def run(self, ops: list[str]) -> list[Any]:
        try:
            self.colour.run(self._run, ops)
        finally:
            registry.remove("differential")
        comes_to_idle(self.policy)
        return self.trace


@pytest.mark.parametrize("stack", [stack for stack in STACKS if "total" not in stack])
@pytest.mark.parametrize("colour", [SYNC, *ASYNC_COLOURS], ids=lambda colour: colour.name)
def test_g7_fast_path_and_interpreter_agree_under_the_real_clock(
    colour: Colour, stack: str
) -> None:
    """A decorated function counts as call does: success, every error, and a value that is late."""
    ops = ["ok", "ignored", "fail", "ok", "gone", "late", "down", "ok", "fail", "fail", "ok"]
    assert Real(colour, True, stack).run(ops) == Real(colour, False, stack).run(ops)


def test_g7_threads_and_the_callers_own_thread_agree() -> None:
    """A fixed sequence with every kind of end gives on a worker what it gives without one."""
    ops: list[Op] = [("call", 0.5, end, ()) for end in ("ok", "bad value", *ERRORS)]
    ops += [("call", 2.0, "ok", ()), ("advance", 5.0), ("call", 0.0, "ok", ())]
    stack = "fallback breaker bulkhead timeout"
    expected = Run(SYNC, "decorated", stack, LIMIT).run(ops)
    assert Run(THREAD, "decorated", stack, LIMIT).run(ops) == expected
    assert [entry for entry in expected if entry[0] == "event"]
