"""A retry in a policy: what is tried again, what is not, and what everybody sees of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    Policy,
    RefusedError,
    bulkhead,
    circuit_breaker,
    fallback,
    flag,
    kill_switch,
    retry,
    timeout,
)
from resilient.testing import ManualClock, flag_off
from tests.kit.colours import Colour, Gone
from tests.kit.policies import comes_to_idle, counts, part
from tests.kit.waiting import until

QUICK: Any = {"on": ConnectionError, "wait_initial": 0.1, "wait_max": 5}


class Flaky:
    """A dependency that fails so many times, then answers."""

    def __init__(
        self, failures: float, error: Callable[[], BaseException] = ConnectionError
    ) -> None:
        self.failures, self.error = failures, error
        self.calls = 0
        self.raised: list[BaseException] = []

    async def __call__(self) -> int:
        self.calls += 1
        if self.calls > self.failures:
            return self.calls
        self.raised.append(self.error())
        raise self.raised[-1]


@pytest.fixture
def clock() -> ManualClock:
    """A clock that skips pauses."""
    clock = ManualClock()
    clock.skips = True
    return clock


@pytest.fixture
def tries(colour: Colour, name: str, clock: ManualClock) -> Iterator[Callable[..., Any]]:
    """Call a function through a policy of these guards; give the Result and the policy."""
    made: list[Policy] = []

    def run(fn: Any, *guards: Any) -> tuple[Any, Policy]:
        policy = Policy(f"{name}-{len(made)}", *guards, clock=clock)
        made.append(policy)

        async def body() -> Any:
            return await colour.attempt(policy, colour.fn(fn.__call__))

        return colour.run(body), policy

    yield run
    for policy in made:
        comes_to_idle(policy)


def limit(colour: Colour, seconds: float) -> Any:
    return timeout(seconds, sync=colour.sync)


# -- what is tried again ---------------------------------------------


def test_the_third_attempt_answers(tries: Any, clock: ManualClock) -> None:
    """Guards inside see each attempt, those outside and the caller see one call."""
    began = clock.now()
    result, policy = tries(Flaky(2), retry(**QUICK), circuit_breaker())
    assert (result.value, result.served, result.attempts) == (3, "full", 3)
    assert result.why_no_retry is None
    assert clock.now() - began == pytest.approx(0.3)
    assert counts(policy) == {"success": 1}
    assert "2 of 3 calls failed" in str(policy)
    assert part(policy, "retry")["retries"] == 2


def test_the_last_error_is_raised_as_it_is(tries: Any, clock: ManualClock) -> None:
    """With a note that says why there was no other attempt; nobody sleeps after the last one."""
    flaky = Flaky(9)
    began = clock.now()
    result, policy = tries(flaky, retry(**QUICK))
    assert result.error is flaky.raised[-1]
    assert (flaky.calls, result.attempts, result.served) == (3, 3, "error")
    assert result.why_no_retry == "3 attempts were made"
    assert result.error.__notes__ == [f"{policy.name}: not tried again: 3 attempts were made"]
    assert result.error.__context__ is None
    assert clock.now() - began == pytest.approx(0.3)
    assert counts(policy) == {"failure": 1}


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (KeyError, {}),
        (ConnectionResetError, {"ignore": ConnectionResetError}),
        (lambda: ExceptionGroup("", [KeyError(), ValueError()]), {}),
        (ConnectionError, {"attempts": 1}),
    ],
    ids=["of another kind", "ignored", "a group", "one attempt"],
)
def test_what_is_not_tried_again(tries: Any, error: Any, options: dict[str, Any]) -> None:
    """Only what `on` names and `ignore` does not, and no more often than `attempts` says."""
    flaky = Flaky(9, error)
    result, _ = tries(flaky, retry(**{**QUICK, **options}))
    assert flaky.calls == 1
    assert result.error is flaky.raised[-1]


@pytest.mark.parametrize("error", [Gone, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_who_went_away_is_not_tried_again(
    name: str, clock: ManualClock, error: type[BaseException]
) -> None:
    """What is no Exception passes, whatever a predicate says."""
    calls: list[int] = []

    def leaves() -> None:
        calls.append(1)
        raise error

    policy = Policy(name, retry(on=lambda _: True), clock=clock)
    with pytest.raises(error):
        policy.call(leaves)
    assert calls == [1]
    assert counts(policy) == {"cancelled": 1}


def test_a_failed_value_is_tried_again_and_returned_as_it_is(tries: Any) -> None:
    """Without `on` no error is tried again."""
    values = iter([503, 503, 200])

    async def fetch() -> int:
        return next(values)

    result, _ = tries(_Body(fetch), retry(failed_result=lambda value: value >= 500))
    assert (result.value, result.attempts) == (200, 3)

    async def broken() -> int:
        return 503

    result, _ = tries(_Body(broken), retry(failed_result=lambda value: value >= 500))
    assert (result.value, result.attempts) == (503, 3)
    assert result.why_no_retry == "3 attempts were made"
    flaky = Flaky(9)
    result, _ = tries(flaky, retry(failed_result=lambda value: value >= 500))
    assert flaky.calls == 1


class _Body:
    def __init__(self, fn: Any) -> None:
        self.fn = fn

    async def __call__(self) -> Any:
        return await self.fn()


# -- never after our own refusals ---------------------------------------------


def test_a_circuit_that_opens_stops_at_once(tries: Any, clock: ManualClock) -> None:
    """The call that trips it raises its own error, without a pause."""
    flaky, began = Flaky(9), clock.now()
    result, policy = tries(flaky, retry(**QUICK), circuit_breaker(failure_threshold=1))
    assert result.error is flaky.raised[-1]
    assert (flaky.calls, clock.now() - began) == (1, 0)
    assert result.why_no_retry == "its circuit_breaker refuses for 5 s"
    assert counts(policy) == {"failure": 1}
    assert part(policy, "retry")["budget_left"] == 10


@pytest.mark.parametrize("guard", [circuit_breaker, bulkhead])
def test_a_refusal_is_not_tried_again(
    name: str, clock: ManualClock, guard: Callable[[], Any]
) -> None:
    """Neither by a guard inside the retry nor by one outside."""
    began = clock.now()
    refuses = bulkhead(1) if guard is bulkhead else circuit_breaker(failure_threshold=1)
    policy = Policy(name, retry(on=Exception), refuses, clock=clock)
    if guard is bulkhead:
        with policy.block():
            result = policy.try_call(int)
        assert isinstance(result.error, BulkheadFullError)
    else:
        policy.try_call(int, "x")
        result = policy.try_call(int)
        assert isinstance(result.error, CircuitOpenError)
    assert (clock.now() - began, result.attempts, result.why_no_retry) == (0, 0, None)


def test_a_refusal_of_another_policy_is_a_failure_like_any_other(
    name: str, clock: ManualClock
) -> None:
    """And its retry_after says when to ask again."""
    inner = Policy(f"{name}-inner", circuit_breaker(failure_threshold=1), clock=clock)
    inner.try_call(int, "x")
    outer = Policy(name, retry(on=RefusedError, wait_max=9), clock=clock)
    began = clock.now()
    assert outer.call(inner.call, int) == 0
    assert clock.now() - began == 5


@pytest.mark.parametrize("lever", ["flag", "forced", "bulkhead", "answer"])
def test_what_turns_it_off_in_the_pause_ends_it(name: str, clock: ManualClock, lever: str) -> None:
    """No attempt begins; the caller gets the last real error, or the answer of the switch."""
    off = flag(f"{name}-flag")
    switch = kill_switch(off, answer=lambda: "answered") if lever == "answer" else kill_switch(off)
    policy = Policy(name, switch, retry(on=ConnectionError), bulkhead(1), clock=clock)
    calls: list[ConnectionError] = []
    undo: list[Any] = []

    def turn_off() -> None:
        if lever in ("flag", "answer"):
            undo.append(flag_off(off))
            undo[-1].__enter__()
        elif lever == "forced":
            policy.force_open("by hand")
        else:
            undo.append(policy.block())
            undo[-1].__enter__()

    def down() -> None:
        calls.append(ConnectionError())
        clock.call_at(clock.now() + 0.05, turn_off)
        raise calls[-1]

    result = policy.try_call(down)
    for each in undo:
        each.__exit__(None, None, None)
    assert len(calls) == 1
    if lever == "answer":
        assert result.value == "answered"
    else:
        assert result.error is calls[0]
        assert result.attempts == 1
        assert counts(policy)["failure"] == 1
        assert result.why_no_retry
    assert part(policy, "retry")["budget_left"] == 10
    assert part(policy, "retry")["retries"] == 0
    comes_to_idle(policy)


# -- time ---------------------------------------------


def test_no_attempt_begins_without_time_for_it(tries: Any, colour: Colour, clock: Any) -> None:
    """Not where the wait would end after the time limit round it, nor just before."""
    flaky = Flaky(9)
    guards = limit(colour, 0.25), retry(**QUICK), circuit_breaker()
    result, policy = tries(flaky, *guards)
    assert flaky.calls == 2  # 0.1 s, and 0.2 s more would be too late
    assert result.error is flaky.raised[-1]
    assert result.why_no_retry == "0.15 s are left, for a wait of 0.2 s and an attempt of about 0 s"
    assert part(policy, "retry")["not_retried"]["time"] == 1


def test_an_attempt_needs_as_long_as_good_ones_took(name: str, clock: ManualClock) -> None:
    """The running median is near what they took."""
    policy = Policy(name, timeout(1, sync="cooperative"), retry(**QUICK), clock=clock)
    good = policy(lambda: clock.advance(0.5))
    for _ in range(20):
        good()
    bad = Flaky(9)

    def late() -> None:
        clock.advance(0.5)
        bad.calls += 1
        raise ConnectionError

    result = policy.try_call(late)
    assert bad.calls == 1
    assert "an attempt of about 0.5" in (result.why_no_retry or "")


def test_its_own_timeout_ends_the_attempts(tries: Any, clock: ManualClock) -> None:
    """It cuts off none, and none begins after it."""
    flaky = Flaky(99)
    result, _ = tries(flaky, retry(**QUICK, attempts=50, timeout=0.65))
    assert flaky.calls == 3
    assert result.why_no_retry == "its timeout of 0.65 s would be over"


def test_an_attempt_that_timed_out_is_tried_again(tries: Any, colour: Colour, clock: Any) -> None:
    """A timeout inside the retry bounds each attempt, and names its policy."""
    slow = _Slow(colour, clock, 2)
    result, policy = tries(slow, retry(on=TimeoutError), limit(colour, 0.3))
    if colour.threaded or colour.is_async:
        assert (result.value, result.attempts) == (3, 3)
    assert policy.snapshot()["in_flight"] == 0


class _Slow:
    """Takes longer than its limit so many times."""

    def __init__(self, colour: Colour, clock: ManualClock, times: int) -> None:
        self.colour, self.clock, self.times, self.calls = colour, clock, times, 0

    async def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.times:
            self.clock.advance(0.4)
            await self.colour.checkpoint()
        return self.calls


def test_no_attempt_begins_for_a_caller_that_has_gone(name: str) -> None:
    """tenacity's, inside a thread timeout, goes on and keeps its slot for ever."""
    policy = Policy(name, bulkhead(3), timeout(0.2, sync="thread"))
    calls: list[int] = []
    gone = threading.Event()

    @policy
    @Policy(f"{name}-inner", retry(on=ConnectionError, attempts=100, budget=None, wait_initial=0))
    def fetch() -> None:
        calls.append(1)
        gone.wait(10)
        raise ConnectionError

    with pytest.raises(CallTimeoutError):
        fetch()
    gone.set()
    until(lambda: policy.snapshot()["abandoned"] == 0)
    assert calls == [1]


# -- the budget ---------------------------------------------


def test_an_empty_budget_lets_failures_stand(tries: Any, name: str, clock: ManualClock) -> None:
    """Ten at once, then a tenth of the calls, and one in ten seconds."""
    policy = Policy(name, retry(on=ConnectionError, attempts=100, wait_initial=0), clock=clock)

    def down() -> None:
        raise ConnectionError

    result = policy.try_call(down)
    assert (result.attempts, result.why_no_retry) == (11, "its budget of extra attempts is empty")
    assert part(policy, "retry")["not_retried"]["budget"] == 1
    assert [policy.try_call(down).attempts for _ in range(10)] == [1] * 9 + [2]
    clock.advance(10)
    assert policy.try_call(down).attempts == 2
    for _ in range(20):
        policy.call(int)
    assert policy.try_call(down).attempts == 3


def test_without_a_budget_only_attempts_count(name: str, clock: ManualClock) -> None:
    """A script that calls once may want that."""
    policy = Policy(
        name, retry(on=ConnectionError, attempts=50, wait_initial=0, budget=None), clock=clock
    )
    assert policy.try_call(_down).attempts == 50
    assert part(policy, "retry")["budget_left"] is None


def _down() -> None:
    raise ConnectionError


@pytest.mark.parametrize(
    ("nested", "calls", "left"), [("share", 3, 8), ("apart", 9, 8), ("never", 3, 8)]
)
def test_attempts_inside_attempts(
    tries: Any, name: str, clock: ManualClock, nested: Any, calls: int, left: int
) -> None:
    """They multiply, unless the policy outside pays for them too."""
    flaky = Flaky(99)
    inner = Policy(f"{name}-inner", retry(**QUICK, nested=nested, budget=None), clock=clock)
    outer_retry = retry(**QUICK)
    outer = Policy(f"{name}-outer", outer_retry, clock=clock)
    for _ in range(8 if nested == "share" else 0):
        outer_retry.budget.take(clock.now())

    def fetch() -> Any:
        flaky.calls += 1
        raise ConnectionError

    result = outer.try_call(inner(fetch))
    assert flaky.calls == calls
    assert isinstance(result.error, ConnectionError)
    if nested == "never":
        assert any("inside an attempt of" in note for note in result.error.__notes__)


# -- streams and blocks ---------------------------------------------


def test_a_stream_is_never_replayed(name: str, clock: ManualClock) -> None:
    """Before its first item it is tried again, after it not."""
    policy = Policy(name, retry(**QUICK), clock=clock)
    begun: list[int] = []

    @policy
    def rows(fails_at: int) -> Iterator[int]:
        begun.append(1)
        for number in range(3):
            if len(begun) < 2 and number == fails_at:
                raise ConnectionError
            yield number

    assert list(rows(0)) == [0, 1, 2]
    assert len(begun) == 2
    begun.clear()
    taken: list[int] = []
    with pytest.raises(ConnectionError) as caught:
        taken.extend(rows(1))
    assert begun == [1]
    assert caught.value.__notes__ == [
        f"{name}: not tried again: a block, or a stream after its first item, is not repeated"
    ]


def test_a_fallback_answers_what_is_not_tried_again(tries: Any) -> None:
    """It stands outside, and sees one failure."""
    result, policy = tries(Flaky(9), fallback(value="lesser"), retry(**QUICK))
    assert (result.value, result.served, result.attempts) == ("lesser", "degraded", 3)
    assert result.why_no_retry == "3 attempts were made"
    assert policy.snapshot()["served"]["degraded"] == 1
