"""Where a retry could have lost or doubled something: forks, switches, pauses that are cut short."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from resilient import (
    CallTimeoutError,
    Policy,
    bulkhead,
    circuit_breaker,
    flag,
    kill_switch,
    retry,
    timeout,
)
from resilient.engine.attempts import current
from resilient.engine.sync import workers
from resilient.testing import ManualClock
from tests.kit.forks import Fork, in_both
from tests.kit.policies import comes_to_idle, counts, part
from tests.kit.servers.http_server import HttpServer
from tests.kit.signals import signalled
from tests.kit.waiting import until

NOW: Any = {"on": ConnectionError, "wait_initial": 0, "wait_max": 0}


@pytest.fixture
def clock() -> ManualClock:
    made = ManualClock()
    made.skips = True
    return made


def down() -> None:
    raise ConnectionError


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_stream_of_the_parent_that_was_tried_again_is_not_the_childs(name: str) -> None:
    """The child gives back nothing that it has not taken."""
    shop = Policy(name, retry(**NOW), bulkhead(1))
    runs: list[int] = []

    def rows() -> Iterator[int]:
        runs.append(1)
        if len(runs) == 1:
            raise ConnectionError
        yield 1
        yield 2

    def scene(fork: Fork) -> Any:
        runs.clear()
        stream = shop.call(rows)
        next(stream)
        is_child = fork()
        list(stream)
        return is_child, shop.snapshot()["in_flight"], part(shop, "bulkhead")["running"]

    for _, in_flight, running in in_both(scene):
        assert (in_flight, running) == (0, 0)


@pytest.mark.filterwarnings("ignore::resilient.OrderWarning")
def test_a_switch_that_comes_on_while_it_is_asked_takes_no_slot_twice(
    name: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the switch is asked again, not what stands between it and the retry."""
    switch: Any = kill_switch(flag(f"{name}-flag"))
    policy = Policy(name, switch, bulkhead(2), retry(**NOW), clock=clock)
    monkeypatch.setattr(switch, "is_off", lambda: True)  # as if it moved between two looks
    assert policy.try_call(down).attempts == 3
    assert part(policy, "bulkhead")["used"] == 0
    comes_to_idle(policy)


def test_the_budget_is_the_policys_in_its_views_too(name: str, clock: ManualClock) -> None:
    """A view with a retry of its own has that retry's options, and the policy's budget."""
    policy = Policy(name, retry(**NOW), clock=clock)
    extra = sum(
        (policy.with_(retry(**NOW, attempts=50)).try_call(down).attempts or 0) - 1
        for _ in range(20)
    )
    assert 10 <= extra <= 12
    assert part(policy, "retry")["retries"] == extra


def test_marks_of_attempts_make_no_chain(name: str) -> None:
    """A job that schedules its next run holds nothing of those before."""
    policy = Policy(name, retry(**NOW))
    depths: list[int] = []

    async def main() -> None:
        over = asyncio.Event()
        left = [50]

        async def tick() -> None:
            left[0] -= 1
            if left[0]:
                tasks.append(asyncio.create_task(policy.acall(tick)))
                return
            seen, depth = current.get(), 0
            while seen is not None:
                seen, depth = seen.outer, depth + 1
            depths.append(depth)
            over.set()

        tasks = [asyncio.create_task(policy.acall(tick))]
        await over.wait()

    asyncio.run(main())
    assert depths[0] <= 2


def test_what_a_signal_handler_raises_in_the_pause_is_no_failure_of_an_attempt(name: str) -> None:
    """It ends the call, though `on` names it."""
    policy = Policy(name, retry(on=(ConnectionError, TimeoutError), retry_after=lambda error: 5.0))
    main = threading.main_thread().ident
    assert main is not None

    def waits() -> bool:
        held = policy.snapshot()["guards"][0]["held_for"]
        return bool(held) and sys._current_frames()[main].f_code is workers.Signal.wait.__code__

    with (
        signalled(TimeoutError("my time is up"), waits),
        pytest.raises(TimeoutError, match="my time is up"),
    ):
        policy.call(down)
    shown = part(policy, "retry")
    assert (shown["retries"], sum(shown["not_retried"].values())) == (0, 0)
    assert policy.snapshot()["in_flight"] == 0


def test_no_attempt_begins_for_a_caller_that_was_interrupted_in_the_pause(name: str) -> None:
    """The worker looks again after its pause."""
    outer = Policy(f"{name}-outer", bulkhead(1), timeout(30, sync="thread"))
    inner = Policy(name, retry(on=ConnectionError, retry_after=lambda error: 1.0))
    begun: list[int] = []

    def body() -> None:
        begun.append(1)
        raise ConnectionError

    with signalled(KeyboardInterrupt(), lambda: begun), pytest.raises(KeyboardInterrupt):
        outer.call(inner.call, body)
    assert outer.snapshot()["abandoned"] == 1
    until(lambda: outer.snapshot()["abandoned"] == 0)
    assert begun == [1]


def test_a_stream_is_judged_by_the_time_of_each_attempt(name: str, clock: ManualClock) -> None:
    """Two attempts of 4 s are not one of 8 s."""
    policy = Policy(
        name, retry(**NOW, budget=None), circuit_breaker(slow_call_duration=5), clock=clock
    )
    runs: list[int] = []

    def rows() -> Iterator[int]:
        runs.append(1)
        clock.advance(4)
        if len(runs) % 2:
            raise ConnectionError
        yield 1

    for _ in range(5):
        assert list(policy.call(rows)) == [1]
    breaker = part(policy, "circuit_breaker")
    assert breaker["slow_calls"] == 0
    assert policy.guards[0].typical == pytest.approx(4, rel=0.2)  # type: ignore[attr-defined]


def test_the_time_of_a_call_ends_with_its_last_attempt(name: str, clock: ManualClock) -> None:
    """That of all attempts and pauses; not that of a fallback."""
    from resilient import fallback

    policy = Policy(
        name, fallback(lambda: clock.advance(7)), retry(on=ConnectionError, attempts=2), clock=clock
    )

    def slow() -> None:
        clock.advance(1)
        raise ConnectionError

    policy.call(slow)
    assert policy.snapshot()["duration"]["sum"] == pytest.approx(2.1)


def test_the_context_of_the_last_error_is_its_own(name: str) -> None:
    """Not the error of the attempt before, in whose handling it came."""
    policy = Policy(name, retry(**NOW))
    errors = [ConnectionError("1"), ConnectionError("2"), ConnectionError("3")]
    left = iter(errors)

    @policy
    def fetch() -> None:
        try:
            raise KeyError("inside")
        except KeyError:
            raise next(left)  # noqa: B904

    policy.call(int)
    with pytest.raises(ConnectionError) as caught:
        fetch()
    assert caught.value is errors[2]
    assert isinstance(caught.value.__context__, KeyError)
    assert caught.value.__context__.__context__ is None


def test_an_error_that_is_raised_again_and_again_has_one_note(name: str) -> None:
    """The newest."""
    policy, error = Policy(name, retry(**NOW)), ConnectionError()

    def same() -> None:
        raise error

    for _ in range(9):
        policy.try_call(same)
    assert len(error.__notes__) == 1


def test_a_limit_of_the_attempts_own_is_not_the_calls(name: str) -> None:
    """A cooperative timeout inside the retry bounds each attempt anew."""
    policy = Policy(name, retry(on=TimeoutError), timeout(1, sync="cooperative"))
    clock = ManualClock()
    clock.skips = True
    policy._core.follow(clock)

    def slow() -> None:
        clock.advance(2)
        raise TimeoutError

    assert policy.try_call(slow).attempts == 3
    assert policy.call(int) == 0
    with pytest.raises((TimeoutError, CallTimeoutError)):
        policy(slow)()
    assert part(policy, "retry")["retries"] == 4


@pytest.mark.parametrize("is_async", [False, True])
def test_an_answer_that_is_replaced_is_closed(
    name: str, http_server: HttpServer, is_async: bool
) -> None:
    """Its connection goes back to the client's pool."""
    url = http_server.url + "/status/503"
    limits = httpx.Limits(max_connections=1)
    policy = Policy(name, retry(**{**NOW, "on": httpx.TransportError}))
    if not is_async:
        with httpx.Client(trust_env=False, limits=limits) as client:
            guarded = policy.wrap(client)
            for _ in range(2):
                answer = guarded.send(client.build_request("GET", url), stream=True)
                assert answer.status_code == 503
                answer.close()
        return

    async def main() -> None:
        async with httpx.AsyncClient(trust_env=False, limits=limits) as client:
            guarded = policy.wrap(client)
            for _ in range(2):
                answer = await guarded.send(client.build_request("GET", url), stream=True)
                assert answer.status_code == 503
                await answer.aclose()

    asyncio.run(main())


def test_contexts_stay_as_they_are(name: str) -> None:
    """After calls nothing is left in the context but a closed record, which keeps no policy."""
    policy = Policy(name, retry(**NOW))
    policy.try_call(down)
    for _ in range(2):
        policy(lambda: policy.with_(retry(**NOW)).call(int))()
    mark = contextvars.copy_context().get(current)
    assert mark is None or mark.whose is None
    assert mark is None or mark.outer is None or mark.outer.outer is None, "it does not grow"
    assert counts(policy) == {"failure": 1, "success": 4}


def test_a_circle_of_contexts_is_no_endless_loop(name: str) -> None:
    """An error may be made so."""
    policy = Policy(name, retry(**NOW))

    @policy
    def fetch() -> None:
        one, other = ConnectionError("one"), KeyError("other")
        try:
            raise one
        finally:
            one.__context__, other.__context__ = other, one

    policy.call(int)
    with pytest.raises(ConnectionError, match="one"):
        fetch()
    assert part(policy, "retry")["retries"] == 2


def test_the_error_of_a_block_is_not_said_to_be_of_a_stream(name: str) -> None:
    """Its note is true of both."""
    policy = Policy(name, retry(**NOW))
    with pytest.raises(ConnectionError) as caught, policy.block():
        raise ConnectionError
    assert caught.value.__notes__ == [
        f"{name}: not tried again: a block, or a stream after its first item, is not repeated"
    ]


def test_a_servers_wait_and_the_events_are_the_policys_in_its_views_too(
    name: str, clock: ManualClock, events: Any
) -> None:
    """What one view was told holds for the others, and is told once."""
    policy = Policy(name, retry(on=ConnectionError, attempts=2), clock=clock)

    def busy() -> None:
        error: Any = ConnectionError()
        error.retry_after = 4.0
        raise error

    policy.with_(retry(on=ConnectionError, attempts=1)).try_call(busy)
    assert part(policy, "retry")["held_for"] == 4
    began = clock.now()
    policy.with_(retry(on=ConnectionError, attempts=2)).try_call(down)
    assert clock.now() - began == 4
    for _ in range(5):
        policy.with_(retry(on=ConnectionError, attempts=1)).try_call(down)
    told = [each for each in events if each.kind == "not_retried" and each.policy == name]
    assert len(told) == 1
