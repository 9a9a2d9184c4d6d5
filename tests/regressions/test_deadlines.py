"""Bodies, workers and tasks that outlive the call that began them."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest

import resilient
from resilient import CallTimeoutError, Policy, bulkhead, circuit_breaker, timeout
from resilient.engine.sync import workers
from resilient.testing import ManualClock


def test_an_abandoned_body_is_told_that_its_time_is_up() -> None:
    """Until it ends, an abandoned body reads 0 s left, and check() raises in it."""
    policy = Policy("fault-abandoned", timeout(0.2, sync="thread"))
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
    assert told == [0.0, "fault-abandoned"]


def test_an_awaitable_that_is_dropped_gives_its_slot_back_at_once() -> None:
    """No cycle keeps a guarded awaitable alive, without the collector."""

    async def body() -> None: ...

    policy = Policy("fault-dropped", bulkhead(1))
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
    policy = Policy("fault-chain", timeout(60))
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


def test_a_thread_body_that_overruns_a_manual_clock_is_late_every_time() -> None:
    """By a manual clock the outcome does not hang on which thread is the quicker."""
    clock = ManualClock()
    policy = Policy("fault-manual", timeout(0.3, sync="thread"), clock=clock)
    for _ in range(50):
        with pytest.raises(CallTimeoutError):
            policy.call(lambda: clock.advance(1))
    assert policy.snapshot()["abandoned"] >= 0


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("good", [False, True])
def test_a_background_task_does_not_keep_the_call_that_started_it(nested: bool, good: bool) -> None:
    """Its context has the closed deadline, which knows neither the task nor the exception."""
    policy = Policy(f"fault-kept-{nested}-{good}", circuit_breaker(), timeout(5))
    outer = Policy(f"fault-outer-{nested}-{good}", timeout(9))

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
    claimed, policy = threading.Event(), Policy(f"fault-job-{end}", timeout(0.1, sync="thread"))
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
