"""Faults that a review of the short cuts found, each held by a test."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import weakref
from typing import Any

import pytest

from resilient import (
    CallTimeoutError,
    CircuitOpenError,
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    registry,
    timeout,
)
from resilient.drive import workers
from resilient.testing import ManualClock


def fails(*_: Any) -> None:
    raise OSError("down")


@pytest.mark.parametrize("seconds", [1.0, 3.0, 0.5, 7.0, 10.0, 60.0])
def test_no_slice_outlives_the_window(seconds: float) -> None:
    """A slice whose end is rounded to lie inside it leaves the window all the same."""
    clock = ManualClock()
    breaker = circuit_breaker(
        window=seconds, failure_rate=0.5, failure_threshold=None, minimum_calls=20
    )
    policy = Policy(f"reviewed-slices-{seconds}", breaker, clock=clock)
    for number in range(200):
        policy.call(int)
        clock.advance(seconds / 10 if number % 3 else seconds / 7)
    clock.advance(seconds * 2)
    for _ in range(20):
        policy.try_call(fails)
    assert policy.state == "open", policy.snapshot()["guards"][0]["window"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_in_the_fallback_of_a_refusal_holds_no_slot_in_the_child() -> None:
    """A call that was refused is not in flight, also when its fallback forks."""
    pids: list[int] = []

    def forks(hold: Any) -> str:
        pids.append(os.fork())
        return "lesser"

    policy = Policy("reviewed-fork", fallback(forks), bulkhead(1))

    @policy
    def call(hold: Any) -> Any:
        return hold()

    def inside() -> str:
        for _ in range(2):  # the first refusal after a quiet time takes the long way
            value = call(None)
            if pids[-1] == 0:
                shown = policy.snapshot()
                os._exit(int(shown["in_flight"] > 1 or shown["guards"][1]["used"] > 1))
        return str(value)

    assert call(inside) == "lesser"
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0


def test_a_fallback_that_fails_while_the_policy_is_forced_open() -> None:
    """Its own error comes out, with a refusal as its cause."""
    policy = Policy("reviewed-forced", fallback(lambda meanwhile: meanwhile()), bulkhead(1))

    @policy
    def call(meanwhile: Any) -> Any:
        call(int)  # the one slot is taken: this is the first refusal, which is news
        return call(meanwhile)

    def incident() -> None:
        policy.force_open("incident")
        policy.try_call(int)
        raise KeyError("the fallback's own")

    # The fallback of the inner call fails; the outer one's, too, with the same function.
    with pytest.raises(KeyError) as caught:
        call(incident)
    assert isinstance(caught.value.__cause__, (CircuitOpenError, KeyError))


def test_what_a_turned_call_changes_is_told_at_once() -> None:
    """A circuit that opens at an admission tells so, though the call is answered by the short cut."""
    clock, seen = ManualClock(), []
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=1, probe_lease=1)
    policy = Policy("reviewed-told", fallback(value=0), breaker, clock=clock)
    unsubscribe = registry.subscribe(lambda event: seen.append(event.kind))
    guarded = policy(fails)
    guarded(), guarded()
    clock.advance(1)
    probe = policy.block()
    with probe:  # the probe hangs
        clock.advance(1.5)
        seen.clear()
        assert guarded() == 0
        assert seen == ["opened"]
    unsubscribe()


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("good", [False, True])
def test_a_background_task_does_not_keep_the_call_that_started_it(nested: bool, good: bool) -> None:
    """Its context has the closed deadline, which knows neither the task nor the exception."""
    policy = Policy(f"reviewed-kept-{nested}-{good}", circuit_breaker(), timeout(5))
    outer = Policy(f"reviewed-outer-{nested}-{good}", timeout(9))

    kept: list[weakref.ref[Any]] = []

    async def main() -> None:
        stop, background = asyncio.Event(), set()

        @policy
        async def body() -> None:
            background.add(asyncio.create_task(stop.wait()))
            await asyncio.sleep(0)
            if not good:
                raise OSError

        async def caller() -> None:
            try:
                await (outer.acall(body) if nested else body())
            except OSError:
                pass

        task = asyncio.create_task(caller())
        kept.append(weakref.ref(task))
        await task
        del task
        await asyncio.sleep(0)
        gc.collect()
        alive = [ref() is not None for ref in kept]
        stop.set()
        await asyncio.gather(*background)
        assert alive == [False]

    asyncio.run(main())


@pytest.mark.parametrize("end", ["value", "error"])
def test_a_job_that_ends_as_its_time_is_up_has_its_own_end(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds the job claimed finds its value too, however the threads are switched."""
    claimed, policy = threading.Event(), Policy(f"reviewed-job-{end}", timeout(0.1, sync="thread"))
    real = workers.Job.abandon

    def abandon(self: workers.Job) -> bool:
        body_may_end.set()
        claimed.wait(5)
        return real(self)

    body_may_end = threading.Event()

    class Claim:
        """A lock whose first taker is followed by a switch of threads."""

        def __init__(self, lock: Any) -> None:
            self._lock = lock

        def locked(self) -> bool:
            return bool(self._lock.locked())

        def acquire(self, blocking: bool = True) -> bool:
            got = bool(self._lock.acquire(blocking))
            if got and threading.current_thread() is not threading.main_thread():
                claimed.set()
                threading.Event().wait(0.05)
            return got

    made = workers.Job.__init__

    def init(self: workers.Job, *args: Any) -> None:
        made(self, *args)
        self._claim = Claim(self._claim)  # type: ignore[assignment]

    monkeypatch.setattr(workers.Job, "__init__", init)
    monkeypatch.setattr(workers.Job, "abandon", abandon)

    def body() -> str:
        body_may_end.wait(5)
        if end == "error":
            raise KeyError("its own")
        return "its own"

    result = policy.try_call(body)
    assert result.value == "its own" or isinstance(result.error, (KeyError, CallTimeoutError))
    assert (result.value, result.error) != (None, None)


def test_interrupted_bookkeeping_never_makes_successes_fewer() -> None:
    """Successes are derived: what ended is counted before what did not succeed."""
    policy = Policy("reviewed-derived", bulkhead(1))
    core = policy._core
    order: list[str] = []

    def trace(frame: Any, event: str, arg: Any) -> Any:
        if frame.f_code.co_name == "ended" and event == "line":
            order.append(str(core.outcomes()[0]))
        return trace

    sys.settrace(trace)
    try:
        policy.try_call(fails)
    finally:
        sys.settrace(None)
    assert order and not any(number.startswith("-") for number in order)


@pytest.mark.parametrize("stack", ["breaker", "bulkhead", "both", "whole"])
def test_a_runaway_recursion_wedges_nothing_and_keeps_no_slot(stack: str) -> None:
    """However little of the stack is left, the section is freed and every call is given back."""
    breaker = circuit_breaker(failure_threshold=10**6, minimum_calls=10**6)
    guards = {
        "breaker": (breaker,),
        "bulkhead": (bulkhead(10**5),),
        "both": (breaker, bulkhead(10**5)),
        "whole": (
            fallback(value=0), breaker, bulkhead(10**5), timeout(50, sync="cooperative")
        ),
    }[stack]  # fmt: skip
    policy = Policy(f"reviewed-deep-{stack}", *guards)

    @policy
    def deeper(number: int) -> Any:
        return deeper(number + 1)

    def from_a_depth(left: int) -> Any:
        return deeper(0) if left == 0 else from_a_depth(left - 1)

    for depth in range(12):
        try:
            from_a_depth(depth)
        except RecursionError:
            pass
    other = threading.Thread(target=policy.call, args=(int,), daemon=True)
    other.start()
    other.join(5)
    policy.call(int)
    shown = policy.snapshot()
    assert (other.is_alive(), policy._core.gate, shown["in_flight"]) == (False, 0, 0)
    assert all(guard.get("used", 0) == 0 for guard in shown["guards"])
