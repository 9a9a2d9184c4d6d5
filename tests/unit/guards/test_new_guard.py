"""A guard is one file: those of `own_guards` run through all there is, as they are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient import (
    CallTimeoutError,
    Policy,
    RefusedError,
    bulkhead,
    circuit_breaker,
    fallback,
    load_settings,
    metrics,
    timeout,
)
from resilient.guards.base import REFUSE, Guard
from resilient.prometheus.catalogue import known
from resilient.testing import ManualClock
from tests.kit.colours import ASYNC_COLOURS, Colour, Gone, overrun
from tests.kit.own_guards import AdaptiveLimit, Cache, Counting, RateLimit, Retry, Switching
from tests.kit.policies import comes_to_idle, counts
from tests.kit.waiting import until

asynchronous = pytest.mark.parametrize("colour", ASYNC_COLOURS, ids=lambda colour: colour.name)


def assert_all_back(policy: Policy) -> None:
    """Every ticket of every guard has been given back, and nothing is in flight."""
    comes_to_idle(policy)
    for guard in policy.guards:
        if isinstance(guard, Counting):
            assert guard.out == set(), guard.kind


def flaky(colour: Colour, failures: int, error: BaseException) -> tuple[Any, list[int]]:
    """A function that fails so many times before it returns, and the record of its runs."""
    ran: list[int] = []

    async def fetch() -> str:
        ran.append(1)
        if len(ran) <= failures:
            raise error
        return "value"

    return colour.fn(fetch), ran


class Ticking(ManualClock):
    """A manual clock that moves on by itself to whatever somebody waits for."""

    def call_at(self, when: float, callback: Callable[[], object]) -> Any:
        alarm = super().call_at(when, callback)
        if threading.current_thread() is threading.main_thread() and when < 2000:
            self.advance(max(0.0, when - self.now()))
        return alarm


# -- retry ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("clocked", [False, True])
def test_a_retry_succeeds_after_failures(timed: Colour, clocked: bool, name: str) -> None:
    """after() asks for a delay twice; the third attempt's value is returned, one call counted."""
    clock = Ticking() if clocked else None
    policy = Policy(
        name, Retry(3, 0.001), bulkhead(1), timeout(1500.0, sync=timed.sync), clock=clock
    )
    fn, ran = flaky(timed, 2, OSError())

    async def body() -> None:
        assert await timed.call(policy(fn)) == "value"

    timed.run(body)
    assert len(ran) == 3
    assert policy.snapshot()["served"] == {"full": 1, "degraded": 0, "error": 0, "caller_error": 0}
    assert counts(policy) == {"success": 1}
    assert clock is None or clock.now() == pytest.approx(1000.002)
    assert_all_back(policy)


def test_a_retry_gives_up_and_the_fallback_answers(timed: Colour, name: str) -> None:
    """When after() keeps the failure, the guards outside it see it: once, after all attempts."""
    policy = Policy(
        name, fallback(value="lesser"), circuit_breaker(), Retry(2, 0.0005), bulkhead(1),
        timeout(1500.0, sync=timed.sync),
    )  # fmt: skip
    fn, ran = flaky(timed, 99, OSError())

    async def body() -> None:
        result = await timed.attempt(policy, fn)
        assert (result.value, result.served) == ("lesser", "degraded")

    timed.run(body)
    assert len(ran) == 3
    assert counts(policy) == {"failure": 1}
    assert policy.snapshot()["guards"][1]["window"]["failures"] == 1
    assert_all_back(policy)


def test_each_attempt_passes_the_guards_inside(timed: Colour, name: str) -> None:
    """A breaker inside a retry sees every attempt; what it refuses ends as the last one did."""
    policy = Policy(
        name, Retry(5, 0.0005), circuit_breaker(failure_threshold=2), bulkhead(1),
        timeout(1500.0, sync=timed.sync),
    )  # fmt: skip
    down = OSError()
    fn, ran = flaky(timed, 99, down)

    async def body() -> None:
        assert await timed.error_of(policy(fn)) is down

    timed.run(body)
    assert len(ran) == 2
    assert policy.state == "open"
    assert_all_back(policy)


def test_what_is_no_exception_is_not_tried_again(timed: Colour, name: str) -> None:
    """A retry never repeats a call whose caller went away."""
    policy = Policy(name, Retry(3, 0.001), timeout(1500.0, sync=timed.sync))
    fn, ran = flaky(timed, 1, Gone())

    async def body() -> None:
        assert isinstance(await timed.error_of(policy(fn)), Gone)

    timed.run(body)
    assert len(ran) == 1
    assert counts(policy) == {"cancelled": 1}
    assert_all_back(policy)


def test_a_deadline_outside_a_retry_ends_the_pause(timed: Colour, name: str) -> None:
    """A total timeout outside is not outlived by a pause: it is named, and nothing is held."""
    policy = Policy(name, timeout(0.02, sync=timed.sync), Retry(3, 10.0))
    fn, ran = flaky(timed, 99, OSError())

    async def body() -> None:
        error = await timed.error_of(policy(fn))
        assert isinstance(error, CallTimeoutError)
        assert error.timeout == 0.02

    timed.run(body)
    assert len(ran) == 1
    assert policy.snapshot()["timeouts"] == 1
    comes_to_idle(policy)


def test_a_guard_that_is_denied_another_attempt_is_told(timed: Colour, name: str) -> None:
    """Where no time is left for the attempt that after() asked for, its ticket still ends."""
    policy = Policy(name, timeout(0.01, sync=timed.sync), Retry(3, 10.0))
    fn, _ = flaky(timed, 99, OSError())
    assert isinstance(timed.run(timed.error_of, policy(fn)), CallTimeoutError)
    assert_all_back(policy)


def test_a_timeout_of_one_attempt_is_tried_again(
    timed: Colour, name: str, clock: ManualClock
) -> None:
    """A timeout inside a retry bounds each attempt afresh."""
    ran: list[int] = []
    hold = threading.Event()
    policy = Policy(name, bulkhead(2), Retry(1, 0.0), timeout(1.0, sync=timed.sync), clock=clock)

    async def fetch() -> str:
        ran.append(1)
        if len(ran) == 1:
            await overrun(timed, clock, 1, hold)
        return "value"

    assert timed.run(timed.call, policy(timed.fn(fetch))) == "value"
    assert len(ran) == 2
    assert counts(policy) == {"success": 1}
    assert policy._core.abandoned == timed.threaded
    hold.set()
    until(lambda: policy._core.abandoned == 0)
    assert_all_back(policy)


@asynchronous
def test_a_cancel_in_the_pause_leaves_at_once(
    colour: Colour, name: str, clock: ManualClock
) -> None:
    """Who is cancelled between two attempts is gone: no attempt more, every ticket back."""
    policy = Policy(name, fallback(value=0), Retry(3, 50.0), bulkhead(1), clock=clock)
    fn, ran = flaky(colour, 99, OSError())
    ended: list[str] = []

    async def caller() -> None:
        try:
            await policy(fn)()
            ended.append("answered")
        except anyio.get_cancelled_exc_class():
            ended.append("cancelled")
            raise

    async def body() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(caller)
            while not clock.waiting:
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()

    colour.run(body)
    assert len(ran) == 1
    assert ended == ["cancelled"]
    assert_all_back(policy)


# -- a rate limiter -------------------------------------------------------------------------------


@pytest.mark.parametrize("clocked", [False, True])
def test_a_guard_may_let_its_caller_wait_for_its_own_time(
    timed: Colour, clocked: bool, name: str
) -> None:
    """PARK with a deadline is a wait until then, after which unpark() gives the ticket."""
    clock = Ticking() if clocked else None
    policy = Policy(
        name, RateLimit(0.002, 1.0), bulkhead(1), timeout(1500.0, sync=timed.sync), clock=clock
    )
    fn, ran = flaky(timed, 0, OSError())

    async def body() -> float:
        began = policy._core.now()
        for _ in range(4):
            assert await timed.call(policy(fn)) == "value"
        return policy._core.now() - began

    took = timed.run(body)
    assert took >= 0.006 - 1e-9
    assert not clocked or took == pytest.approx(0.006)
    assert len(ran) == 4
    assert not clocked or policy.snapshot()["wait"]["count"] == 3
    assert_all_back(policy)


def test_a_guard_whose_line_is_too_long_refuses(timed: Colour, name: str) -> None:
    """A refusal of a new guard has the policy, the guard's kind and its reason."""
    policy = Policy(
        name, RateLimit(10.0, 0.001), timeout(1500.0, sync=timed.sync), clock=ManualClock()
    )
    fn, ran = flaky(timed, 0, OSError())

    async def body() -> RefusedError:
        await timed.call(policy(fn))
        error = await timed.error_of(policy(fn))
        assert isinstance(error, RefusedError)
        return error

    error = timed.run(body)
    assert (error.policy, error.guard) == (name, "own_rate_limit")
    assert "too many are waiting" in str(error)
    assert len(ran) == 1
    assert policy.snapshot()["refusals"]["own_rate_limit"] == 1
    assert counts(policy) == {"success": 1, "refused": 1}
    assert_all_back(policy)


def test_a_deadline_outside_a_line_ends_the_wait(timed: Colour, name: str) -> None:
    """A timeout outside the waiting guard is named, and the place in line is given back."""
    policy = Policy(name, timeout(1.0, sync=timed.sync), RateLimit(10.0, 100.0), clock=Ticking())
    limit = policy.guards[1]
    fn, ran = flaky(timed, 0, OSError())

    async def body() -> None:
        policy._pipeline("async").guards[1].admit(policy._core.now())
        assert isinstance(await timed.error_of(policy(fn)), CallTimeoutError)

    timed.run(body)
    assert ran == []
    assert limit.line == {}  # type: ignore[attr-defined]
    assert policy._core.in_flight == 0


@asynchronous
def test_a_cancel_in_the_line_leaves_it(colour: Colour, name: str, clock: ManualClock) -> None:
    """Who is cancelled while waiting for a new guard quits its line."""
    policy = Policy(name, bulkhead(5), RateLimit(50.0, 1000.0), clock=clock)
    fn, ran = flaky(colour, 0, OSError())

    async def body() -> None:
        assert await policy(fn)() == "value"
        async with anyio.create_task_group() as group:
            group.start_soon(policy(fn))
            while not clock.waiting:
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()

    colour.run(body)
    assert len(ran) == 1
    assert policy.guards[1].line == {}  # type: ignore[attr-defined]
    assert counts(policy) == {"success": 1, "cancelled": 1}
    assert_all_back(policy)


# -- a switch that answers ------------------------------------------------------------------------


def test_a_guard_may_answer_by_itself(timed: Colour, name: str) -> None:
    """before() says ANSWER and recover() answers; the body does not run, the call is degraded."""
    switch = Switching(lambda value: f"answer to {value}")
    policy = Policy(name, switch, bulkhead(1), timeout(9.0, sync=timed.sync))

    async def fetch(value: int) -> str:
        return f"value of {value}"

    async def body() -> None:
        fn = timed.fn(fetch)
        assert await timed.call(policy(fn), 1) == "value of 1"
        switch.on = False
        assert await timed.call(policy(fn), 2) == "answer to 2"
        result = await timed.attempt(policy, fn, 3)
        assert (result.value, result.served) == ("answer to 3", "degraded")
        assert isinstance(result.error, RefusedError)
        assert result.error.guard == "own_switch"

    timed.run(body)
    assert counts(policy) == {"success": 1, "refused": 2}
    assert policy.snapshot()["served"] == {"full": 1, "degraded": 2, "error": 0, "caller_error": 0}
    assert policy.snapshot()["refusals"]["own_switch"] == 2
    assert_all_back(policy)


def test_an_answer_that_fails_goes_to_the_fallback(timed: Colour, name: str) -> None:
    """What recover() raises comes from the refusal, and a fallback further out answers it."""

    def answer() -> None:
        raise LookupError

    switch = Switching(answer)
    policy = Policy(
        name, fallback(lambda error: type(error.__cause__).__name__, with_error=True), switch,
        timeout(9.0, sync=timed.sync),
    )  # fmt: skip
    switch.on = False
    fn, ran = flaky(timed, 0, OSError())

    async def body() -> None:
        assert await timed.call(policy(fn)) == "RefusedError"

    timed.run(body)
    assert ran == []
    assert_all_back(policy)


def test_a_guard_that_refuses_goes_to_the_fallback(timed: Colour, name: str) -> None:
    """REFUSE of an inner guard gives back what the outer ones took, and the fallback answers."""
    switch = Switching(None)
    policy = Policy(
        name, fallback(value="lesser"), RateLimit(0.0, 0.0), bulkhead(1), switch,
        timeout(9.0, sync=timed.sync),
    )  # fmt: skip
    switch.on = False
    fn, ran = flaky(timed, 0, OSError())

    async def body() -> None:
        for _ in range(3):
            assert await timed.call(policy(fn)) == "lesser"

    timed.run(body)
    assert ran == []
    assert counts(policy) == {"refused": 3}
    assert_all_back(policy)


def test_new_guards_work_together_under_load(name: str) -> None:
    """Fifty tasks through retry, limiter, switch and bulkhead: all answered, all given back."""
    switch = Switching(lambda number: "off")
    policy = Policy(
        name, fallback(value="lesser"), switch, Retry(2, 0.0001), RateLimit(0.00002, 5.0),
        bulkhead(3, max_waiting=50, max_wait=5.0), timeout(5.0),
    )  # fmt: skip

    @policy
    async def fetch(number: int) -> str:
        await asyncio.sleep(0)
        if number % 3 == 0:
            raise OSError
        if number % 10 == 0:
            switch.on = not switch.on
        return "value"

    async def body() -> list[str]:
        return await asyncio.gather(*[fetch(number) for number in range(50)])

    answers = asyncio.run(body())
    assert set(answers) <= {"value", "lesser", "off"}
    assert sum(counts(policy).values()) == 50
    assert_all_back(policy)


# -- a limit that finds the capacity --------------------------------------------------------------


def test_an_adaptive_limit_grows_while_it_is_used_and_all_goes_well(name: str) -> None:
    """Each success at the limit raises it; a failure halves it."""
    limit = AdaptiveLimit(1.0)
    policy = Policy(name, limit, clock=ManualClock())
    blocks = []
    for _ in range(3):
        blocks = [policy.block() for _ in range(limit.slots())]
        for block in blocks:
            block.__enter__()
        for block in blocks:
            block.__exit__(None, None, None)
    assert limit.slots() == 5
    with pytest.raises(OSError):
        policy.call(fails)
    assert limit.slots() == 2
    comes_to_idle(policy)


@asynchronous
def test_an_adaptive_limit_has_a_queue(colour: Colour, name: str) -> None:
    """Who finds no slot waits, is refused where the queue is full, and leaves it if cancelled."""
    limit = AdaptiveLimit(1.0, waiting=2)
    policy = Policy(name, limit, clock=ManualClock())
    gate: list[anyio.Event] = []
    ended: list[str] = []

    @policy
    async def fetch() -> None:
        await gate[0].wait()

    async def caller() -> None:
        try:
            await fetch()
            ended.append("done")
        except RefusedError as error:
            ended.append(error.guard)

    async def body() -> None:
        gate.append(anyio.Event())
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(caller)
            while limit.running < 2:
                await anyio.lowlevel.checkpoint()
            async with anyio.create_task_group() as gone:
                gone.start_soon(caller)
                while len(limit.queue) < 1:
                    await anyio.lowlevel.checkpoint()
                gone.cancel_scope.cancel()
            assert len(limit.queue) == 0
            for _ in range(3):
                group.start_soon(caller)
            while "own_adaptive_limit" not in ended:
                await anyio.lowlevel.checkpoint()
            gate[0].set()

    colour.run(body)
    assert ended == ["own_adaptive_limit", *["done"] * 4]
    assert (limit.running, len(limit.queue), limit.queue.granted) == (0, 0, 0)
    assert policy.snapshot()["wait"]["count"] == 2


def test_an_abandoned_worker_keeps_its_slot_of_an_adaptive_limit(name: str) -> None:
    """The slot comes back when the worker ends, and not when its caller gives up."""
    hold = threading.Event()
    limit = AdaptiveLimit(1.0)
    policy = Policy(name, limit, timeout(0.2, sync="thread"))
    with pytest.raises(CallTimeoutError):
        policy.call(hold.wait)
    assert (limit.running, limit.abandoned) == (0, 1)
    hold.set()
    until(lambda: limit.abandoned == 0)


# -- a cache --------------------------------------------------------------------------------------


def test_a_guard_may_answer_before_the_body_runs(timed: Colour, name: str) -> None:
    """A kept value is the answer; where there is none, the call goes on inwards."""
    cache = Cache(most=2)
    policy = Policy(name, circuit_breaker(), cache, timeout(1500.0, sync=timed.sync))
    ran: list[int] = []

    async def fetch(number: int) -> int:
        ran.append(number)
        return len(ran)

    guarded = policy(timed.fn(fetch))

    async def body() -> list[int]:
        return [await timed.call(guarded, number) for number in (7, 7, 7, 7, 8)]

    assert timed.run(body) == [1, 1, 1, 2, 3]
    assert ran == [7, 7, 8]
    served = policy.snapshot()["served"]
    assert (served["full"], served["degraded"], served["error"]) == (3, 2, 0)
    assert counts(policy) == {"success": 3, "refused": 2}
    assert policy.snapshot()["fallback_failures"] == 0
    comes_to_idle(policy)


def test_a_cache_lets_blocks_pass_and_refuses_streams(name: str) -> None:
    """Nothing can be answered in the place of a block, nothing is kept of one; a stream has none."""
    cache = Cache()
    policy = Policy(name, bulkhead(1), cache)
    with policy.block():
        assert policy.snapshot()["in_flight"] == 1
    assert cache.kept == {}
    assert counts(policy) == {"success": 1}

    def items() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="own_cache keeps values"):
        policy(items)


def test_a_cache_keeps_no_failure(timed: Colour, name: str) -> None:
    """keep() has what went well, and nothing else."""
    cache = Cache()
    policy = Policy(name, cache, timeout(1500.0, sync=timed.sync))
    fn, ran = flaky(timed, 1, OSError())

    async def body() -> None:
        assert isinstance(await timed.error_of(policy(fn)), OSError)
        assert cache.kept == {}
        assert await timed.call(policy(fn)) == "value"

    timed.run(body)
    assert len(ran) == 2
    assert list(cache.kept) == [()]
    assert counts(policy) == {"failure": 1, "success": 1}


def test_what_keeping_raises_is_logged_once(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is no business of the caller."""
    cache = Cache()
    policy = Policy(name, cache)

    def broken(*_: object) -> None:
        raise LookupError("no room")

    cache.keep = broken  # type: ignore[method-assign]
    assert [policy.call(lambda: 1), policy.call(lambda: 1)] == [1, 1]
    assert len(caplog.records) == 1
    assert "own_cache" in caplog.text


def test_a_retry_has_its_pause_from_the_error(name: str) -> None:
    """hint() reads the error outside the lock, and again() goes by it."""

    class BusyError(Exception):
        again_in = 7.0

    clock = Ticking()
    policy = Policy(name, Retry(3, 0.5), clock=clock)
    ran: list[int] = []

    def fetch() -> str:
        ran.append(1)
        if len(ran) < 3:
            raise BusyError if len(ran) == 1 else OSError
        return "value"

    began = clock.now()
    assert policy.call(fetch) == "value"
    assert clock.now() - began == pytest.approx(7.5)


# -- all that is told of guards -------------------------------------------------------------------


def test_a_new_guard_is_in_metrics_plan_snapshot_and_the_table_of_metrics(name: str) -> None:
    """Without one edit outside its file."""
    policy = Policy(name, fallback(value="later"), RateLimit(5.0, 0.0), clock=ManualClock())
    assert [policy.call(str), policy.call(str)] == ["", "later"]
    scraped = {
        line.partition("{")[0]: line
        for line in metrics.exposition()[0].decode().splitlines()
        if f'policy="{name}"' in line and "own_rate" in line
    }
    assert scraped["resilient_own_rate_interval_seconds"].endswith(" 5.0")
    refused = next(line for word, line in scraped.items() if "refus" in word)
    assert refused.endswith(" 1.0")
    assert "own_rate_limit lets one call in every 5 s" in str(policy)
    assert policy.snapshot()["refusals"]["own_rate_limit"] == 1
    assert policy.snapshot()["guards"][1]["options"] == {"interval": 5.0, "max_wait": 0.0}
    assert "own_rate_interval_seconds" in {metric.name for metric in known()}


def test_options_of_a_new_guard_change_by_update_and_by_a_file(name: str, tmp_path: Path) -> None:
    """Its own constructor checks them, and what was changed is told with what was declared."""
    policy = Policy(name, RateLimit(5.0, 0.0))
    policy.update(own_rate_limit={"interval": 2.0})
    assert policy.guards[0].options()["interval"] == 2.0
    file = tmp_path / "settings.toml"
    file.write_text(f'[policies."{name}".own_rate_limit]\nmax_wait = 3.0\n')
    load_settings(file)
    assert policy.guards[0].options() == {"interval": 2.0, "max_wait": 3.0}
    changed = policy.snapshot()["guards"][0]["changed"]
    assert changed == {
        "interval": {"declared": 5.0, "by": "update"},
        "max_wait": {"declared": 0.0, "by": "settings"},
    }
    with pytest.raises(ValueError, match="there is no option 'intervall'"):
        policy.update(own_rate_limit={"intervall": 1.0})


def test_a_method_that_nobody_would_ask_is_refused() -> None:
    """Where the facet is forgotten the class is not made, and the message names the facet."""
    with pytest.raises(TypeError, match=r"Loose.admit would never be asked.*facets.Admission"):

        class Loose(Guard):
            kind = "loose"

            def admit(self, now: float) -> int:
                return REFUSE


def fails() -> None:
    """Fail."""
    raise OSError
