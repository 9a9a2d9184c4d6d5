"""A guard is one file: three of them, written here, run through the drivers as they are."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ClassVar

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
    timeout,
)
from resilient.guards.base import ANSWER, PARK, REFUSE, Guard, Waiter
from resilient.outcomes import FAILURE
from resilient.testing import ManualClock
from tests.kit.colours import ASYNC_COLOURS, Colour, Gone, overrun
from tests.kit.policies import comes_to_idle, counts
from tests.kit.waiting import until

asynchronous = pytest.mark.parametrize("colour", ASYNC_COLOURS, ids=lambda colour: colour.name)


class Counting(Guard):
    """A guard that knows which of its tickets are out."""

    unique: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.out: set[int] = set()
        self.serial = 0

    def ticket(self) -> int:
        self.serial += 1
        self.out.add(self.serial)
        return self.serial


class Retry(Counting):
    """Tries again `more` times after a failure, `delay` seconds later each."""

    kind: ClassVar[str] = "retry"

    def __init__(self, more: int, delay: float) -> None:
        super().__init__()
        self.more = more
        self.delay = delay
        self.left: dict[int, int] = {}

    def admit(self, now: float) -> int:
        ticket = self.ticket()
        self.left[ticket] = self.more
        return ticket

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> float | None:
        if outcome == FAILURE and self.left[ticket]:
            self.left[ticket] -= 1
            return self.delay
        del self.left[ticket]
        if not held:
            self.out.remove(ticket)
        return None

    def release(self, ticket: int, now: float) -> None:
        self.out.remove(ticket)


class RateLimit(Counting):
    """Lets one call in every `interval` seconds; who comes early waits, at most `max_wait`."""

    kind: ClassVar[str] = "rate_limit"

    def __init__(self, interval: float, max_wait: float) -> None:
        super().__init__()
        self.interval = interval
        self.max_wait = max_wait
        self.next = float("-inf")
        self.line: OrderedDict[Waiter, float] = OrderedDict()  # waiter -> when its turn comes

    def admit(self, now: float) -> int:
        if now >= self.next:
            self.next = now + self.interval
            return self.ticket()
        if self.next - now > self.max_wait:
            self.why = "too many are waiting"
            return REFUSE
        return PARK

    def park(self, waiter: Waiter, now: float) -> int:
        answer = self.admit(now)
        if answer == PARK:
            self.line[waiter] = waiter.deadline = self.next
            self.next += self.interval
        return answer

    def unpark(self, waiter: Waiter, now: float) -> int:
        if now < self.line[waiter]:
            return PARK
        del self.line[waiter]
        return self.ticket()

    def quit(self, waiter: Waiter, now: float) -> None:
        del self.line[waiter]

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> None:
        if not held:
            self.out.remove(ticket)

    def release(self, ticket: int, now: float) -> None:
        self.out.remove(ticket)


class Switch(Counting):
    """Answers by itself while it is off."""

    kind: ClassVar[str] = "switch"

    def __init__(self, answer: Callable[..., Any] | None) -> None:
        super().__init__()
        self.on = True
        self.answer = answer

    def admit(self, now: float) -> int:
        if self.on:
            return self.ticket()
        self.why = "it is off"
        return ANSWER if self.answer else REFUSE

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> None:
        self.out.remove(ticket)

    def recover(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        assert isinstance(error, RefusedError)
        assert self.answer is not None
        return self.answer(*args, **kwargs)


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
    """A breaker inside a retry sees every attempt, and its refusal is not tried again."""
    policy = Policy(
        name, Retry(5, 0.0005), circuit_breaker(failure_threshold=2), bulkhead(1),
        timeout(1500.0, sync=timed.sync),
    )  # fmt: skip
    fn, ran = flaky(timed, 99, OSError())

    async def body() -> None:
        error = await timed.error_of(policy(fn))
        assert isinstance(error, RefusedError)

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
    assert (error.policy, error.guard) == (name, "rate_limit")
    assert "too many are waiting" in str(error)
    assert len(ran) == 1
    assert policy.snapshot()["refusals"]["rate_limit"] == 1
    assert counts(policy) == {"success": 1, "refused": 1}
    assert_all_back(policy)


def test_a_deadline_outside_a_line_ends_the_wait(timed: Colour, name: str) -> None:
    """A timeout outside the waiting guard is named, and the place in line is given back."""
    policy = Policy(name, timeout(1.0, sync=timed.sync), RateLimit(10.0, 100.0), clock=Ticking())
    limit = policy.guards[1]
    fn, ran = flaky(timed, 0, OSError())

    async def body() -> None:
        policy._plan("async").guards[1].admit(policy._core.now())
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
    switch = Switch(lambda value: f"answer to {value}")
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
        assert result.error.guard == "switch"

    timed.run(body)
    assert counts(policy) == {"success": 1, "refused": 2}
    assert policy.snapshot()["served"] == {"full": 1, "degraded": 2, "error": 0, "caller_error": 0}
    assert policy.snapshot()["refusals"]["switch"] == 2
    assert_all_back(policy)


def test_an_answer_that_fails_goes_to_the_fallback(timed: Colour, name: str) -> None:
    """What recover() raises comes from the refusal, and a fallback further out answers it."""

    def answer() -> None:
        raise LookupError

    switch = Switch(answer)
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
    switch = Switch(None)
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
    switch = Switch(lambda number: "off")
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
