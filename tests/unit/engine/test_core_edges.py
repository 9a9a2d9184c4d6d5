"""The compiled path where calls end oddly: greenlets, interrupts, the end of the stack, recursion."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest

from resilient import BulkheadFullError, CircuitOpenError, bulkhead, circuit_breaker
from resilient.engine.call import Call
from resilient.engine.sync.workers import Job
from resilient.guards.base import RECOVER
from resilient.guards.facets import Admission, Answers
from resilient.guards.fallback import Fallback
from resilient.outcomes import FAILURE
from resilient.state_types import compiled
from resilient.testing import ManualClock
from tests.kit.policies import policy

greenlet: Any = pytest.importorskip("greenlet")


def in_flight(of: Any) -> int:
    of.try_call(int)
    number: int = of.snapshot()["in_flight"]
    return number


def test_a_dropped_greenlet_gives_its_slot_back() -> None:
    """A pass does not keep the greenlet that runs it: the last reference to that ends the call."""
    of = policy(circuit_breaker(), bulkhead(3))
    guarded = of(lambda do=None: None if do is None else do())
    guarded(), guarded()
    here = greenlet.getcurrent()
    other = greenlet.greenlet(lambda: guarded(here.switch))
    other.switch()
    assert of.snapshot()["in_flight"] == 1
    del other
    gc.collect()
    assert in_flight(of) == 0


LATE = """
import time
from resilient import CircuitOpenError, Policy, bulkhead, circuit_breaker
p = Policy("p", circuit_breaker(failure_threshold=1, failure_rate=None, recovery_timeout=.01, probe_lease=60), bulkhead(9))
@p
def f(do=None): return do() if do else 1
f(); f()
import greenlet
main = greenlet.getcurrent()
one = greenlet.greenlet(lambda: f(lambda: main.switch("in")))
one.switch()
try: f(lambda: 1 / 0)
except ZeroDivisionError: pass
while p._core.guards[0].retry_after(time.monotonic()): pass
two = greenlet.greenlet(lambda: f(lambda: main.switch("probe")))
two.switch()
for _ in range(3):
    try: f()
    except CircuitOpenError: print("refused")
"""


def test_a_probe_in_another_greenlet_is_no_caller_of_ours() -> None:
    """Nor is it where greenlet is imported only after the function was guarded."""
    done = subprocess.run(
        [sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["refused"] * 3


def test_probes_in_greenlets() -> None:
    """In a half-open circuit, another greenlet's probe does not let calls of this one pass."""
    clock = ManualClock()
    of = policy(circuit_breaker(failure_threshold=1, failure_rate=None), clock=clock)
    guarded = of(lambda do=None: None if do is None else do())
    guarded(), guarded()
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 / 0)
    clock.advance(6)
    here = greenlet.getcurrent()
    probe = greenlet.greenlet(lambda: guarded(here.switch))
    probe.switch()
    with pytest.raises(CircuitOpenError):
        guarded()
    probe.switch()
    assert of.state == "closed"


@pytest.mark.skipif(
    compiled is None, reason="the twin loses that one call's accounting, as the docs say"
)
@pytest.mark.parametrize("odd", [True, False], ids=["odd value", "new error"])
def test_an_interrupt_as_the_interpreter_takes_over(
    odd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a pass holds stays its own until there is a call that will be ended."""

    def body() -> Any:
        if odd:
            return (each for each in ())
        raise type("New", (Exception,), {})

    def interrupted(*args: Any) -> Any:
        raise KeyboardInterrupt

    of = policy(bulkhead(1))
    guarded = of(body)
    for _ in range(2):
        with pytest.raises(Exception, match=r"^$"):
            next(guarded())
    with monkeypatch.context() as patched:
        patched.setattr(Call, "entered", interrupted)
        with pytest.raises(KeyboardInterrupt):
            guarded()
    assert in_flight(of) == 0
    assert of.try_call(int).value == 0


def at(depth: int, fn: Callable[[], Any]) -> Any:
    return fn() if depth == 0 else at(depth - 1, fn)


@pytest.mark.skipif(
    compiled is None, reason="it is the compiled path's pass that a traceback may keep"
)
def test_a_slot_is_free_while_the_error_of_the_stack_lives() -> None:
    """A handler of the RecursionError may try again: the slot is not held by the traceback."""
    of = policy(bulkhead(1))

    def fails() -> None:
        raise ValueError("down")

    guarded = of(fails)
    kept: list[BaseException] = []
    for depth in range(sys.getrecursionlimit() - 150, sys.getrecursionlimit()):
        try:
            at(depth, guarded)
        except (RecursionError, ValueError) as error:
            kept.append(error)
            if isinstance(error, RecursionError):
                assert of.try_call(int).value == 0, depth
    assert any(isinstance(error, RecursionError) for error in kept)


@pytest.mark.skipif(
    compiled is None or sys.version_info < (3, 12),
    reason="a function's vectorcall is ours from 3.12 on",
)
def test_a_function_whose_cell_is_another() -> None:
    """Who writes into the closure of a guarded function gets what Python makes of it."""
    guarded: Any = policy(bulkhead(1))(lambda: 7)
    guarded.__closure__[0].cell_contents = lambda: "other"
    assert guarded() == "other"


@pytest.mark.skipif(compiled is None, reason="the twin fails otherwise")
def test_a_clock_that_raises_as_the_call_ends() -> None:
    """It is no failure of the dependency, and the slot is not lost."""

    class Broken(ManualClock):
        breaks = False

        def now(self) -> float:
            if self.breaks:
                raise OSError("no clock")
            return super().now()

    clock = Broken()
    of = policy(circuit_breaker(), bulkhead(2), clock=clock)

    def breaks() -> None:
        clock.breaks = True

    guarded = of(lambda do=None: None if do is None else do())
    guarded(), guarded()
    with pytest.raises(OSError, match="no clock"):
        guarded(breaks)
    clock.breaks = False
    assert in_flight(of) == 0
    assert of.snapshot()["calls"]["failure"] == 0


def test_a_failure_in_a_generator_leaves_no_exception_behind() -> None:
    """What the caller of a generator handles is not what the generator handles."""
    guarded = policy(bulkhead(2))(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        guarded()

    def steps() -> Any:
        for _ in range(3):
            with contextlib.suppress(ZeroDivisionError):
                guarded()
        yield
        yield sys.exc_info()[0]

    made = steps()
    try:
        raise KeyError("the caller's")
    except KeyError:
        next(made)
    assert next(made) is None


class Both(Admission, Answers):
    kind = "both"

    def admit(self, now: float) -> int:
        return 0

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> float | None:
        return RECOVER if outcome == FAILURE else None

    def recover(self, error: Exception, args: Any, kwargs: Any) -> str:
        return "answered"


def test_a_guard_that_admits_and_answers() -> None:
    """A failure that a guard answers is no plain one."""
    guarded = policy(Both())(lambda: 1 // 0)
    assert [guarded() for _ in range(4)] == ["answered"] * 4


class Logged(Fallback):
    def recover(self, error: Exception, args: Any, kwargs: Any) -> Any:
        return "logged", super().recover(error, args, kwargs)


def test_a_fallback_whose_answer_is_another() -> None:
    """The compiled path asks what stands in the place of a fallback's method."""
    options: dict[str, Any] = {
        "with_error": False,
        "on": None,
        "ignore": None,
        "failed_result": None,
    }
    guarded = policy(Logged(None, value=7, **options), bulkhead(1))(lambda do=None: do and do())
    assert guarded() is None
    assert [guarded(guarded) for _ in range(4)] == [("logged", 7)] * 4


def test_a_slot_is_free_while_the_error_of_an_async_stack_lives() -> None:
    """It is so for coroutines too."""
    of = policy(bulkhead(1))
    kept: list[BaseException] = []
    refused: list[int] = []

    @of
    async def fails() -> None:
        raise ValueError("down")

    @of
    async def good() -> int:
        return 1

    async def deep(depth: int, fn: Any) -> Any:
        return await (fn() if depth == 0 else deep(depth - 1, fn))

    async def body() -> None:
        await good()
        for fn in (fails, good):
            for depth in range(sys.getrecursionlimit() - 150, sys.getrecursionlimit()):
                try:
                    await deep(depth, fn)
                except (RecursionError, ValueError) as error:
                    kept.append(error)
                    try:
                        await good()
                    except BulkheadFullError:
                        refused.append(depth)

    asyncio.run(body())
    assert any(isinstance(error, RecursionError) for error in kept)
    assert refused == []


FIRST = """
import {0} as interpreters
made = interpreters.create(**{1})
interpreters.run_string(made, "import sys; sys.path[:0] = {2}; import resilient; print(resilient.compiled)")
import resilient
print(resilient.bulkhead(1)(lambda: 7)())
"""


def test_a_subinterpreter_that_comes_first() -> None:
    """It takes the twin, and leaves the types to the main interpreter."""
    name = "_xxsubinterpreters" if sys.version_info < (3, 13) else "_interpreters"
    pytest.importorskip(name)
    shared: dict[str, Any] = {"isolated": False} if sys.version_info < (3, 13) else {}
    code = FIRST.format(name, shared, [path for path in sys.path if path])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["False", "7"]), done.stderr


def test_a_body_is_taken_once() -> None:
    """A worker has taken it up, or its caller takes it back: never both, never neither."""
    ran: list[int] = []
    withdrawn, begun = (Job(copy_context(), lambda: ran.append(1)) for _ in range(2))
    assert withdrawn.withdraw() is True
    withdrawn.run()
    assert ran == []
    begun.run()
    assert begun.withdraw() is False
    assert (ran, begun.ended, withdrawn.ended) == ([1], True, False)
