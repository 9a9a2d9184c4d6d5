"""The rate limit in threads, on asyncio and on trio: who begins, who waits, and what is shown."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction
from typing import Any

import anyio
import pytest

from resilient import (
    OrderWarning,
    Policy,
    RateLimitedError,
    bulkhead,
    circuit_breaker,
    fallback,
    hedge,
    rate_limit,
    retry,
    timeout,
)
from resilient.guards.base import Waiter
from resilient.outcomes import REFUSED
from resilient.testing import ManualClock
from tests.kit.forks import Fork, in_both
from tests.kit.policies import counts, idle, part, policy, raised
from tests.kit.waiting import WAIT, until
from tests.kit.worlds import BACKENDS, World, run, world_of


@pytest.fixture(params=["threads", *BACKENDS])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with world_of(request.param) as made:
        yield made


def waits(of: Policy) -> int:
    found: int = part(of, "rate_limit")["waiting"]
    return found


def begin(world: World, of: Policy) -> Any:
    """Begin calls in tasks or threads, without waiting until their bodies run."""
    before = waits(of)
    ended: list[Any] = []
    if world.portal is None:
        threading.Thread(target=lambda: ended.append(of.try_call(int)), daemon=True).start()
    else:

        async def body() -> int:
            return 0

        async def call() -> None:
            ended.append(await of.atry_call(body))

        world.portal.start_task_soon(call)
    until(lambda: ended or waits(of) > before)
    return ended


# -- refusing ---------------------------------------------


def test_calls_begin_evenly(clock: ManualClock) -> None:
    of = policy(rate_limit(10, 1.0), clock=clock)
    for _ in range(3):
        assert of.try_call(int).error is None
        error = of.try_call(int).error
        assert isinstance(error, RateLimitedError)
        assert (error.policy, error.guard) == (of.name, "rate_limit")
        assert error.retry_after is not None
        clock.advance(error.retry_after)
    assert counts(of) == {"success": 3, "refused": 3}
    idle(of)


def test_a_burst_after_a_pause(clock: ManualClock) -> None:
    of = policy(rate_limit(10, timedelta(seconds=1), burst=5), clock=clock)
    for _ in range(2):
        assert [of.try_call(int).error is None for _ in range(6)] == [True] * 5 + [False]
        clock.advance(60)


def test_a_quota_lets_all_come_at_once_and_no_more_in_any_period(clock: ManualClock) -> None:
    of = policy(rate_limit(3, 60, quota=True), clock=clock)
    assert [of.try_call(int).error is None for _ in range(4)] == [True] * 3 + [False]
    clock.advance(59.75)
    assert of.try_call(int).error.retry_after == 0.25  # type: ignore[union-attr]
    clock.advance(0.25)
    assert [of.try_call(int).error is None for _ in range(4)] == [True] * 3 + [False]


def test_it_refuses_what_decorates(clock: ManualClock) -> None:
    calls: list[int] = []

    @rate_limit(1, 3600)
    def fetch() -> int:
        calls.append(1)
        return len(calls)

    assert fetch() == 1
    assert isinstance(raised(fetch), RateLimitedError)
    assert calls == [1]


def test_a_fallback_answers() -> None:
    of = policy(fallback(value="later"), rate_limit(1, 3600))
    assert [of.call(str) for _ in range(2)] == ["", "later"]


def test_one_count_for_threads_and_loops() -> None:
    """Trap 17: it is made without a loop, and each loop and thread takes from the same count."""
    of = policy(rate_limit(2, 3600, burst=3))

    async def body() -> int:
        return 1

    async def call() -> Any:
        return await of.atry_call(body)

    assert asyncio.run(call()).error is None
    assert anyio.run(call, backend="trio").error is None
    thread = threading.Thread(target=of.try_call, args=(int,))
    thread.start()
    thread.join()
    assert isinstance(asyncio.run(call()).error, RateLimitedError)


def test_it_needs_no_thread_and_no_timer() -> None:
    """Trap 22: what is over is dropped when somebody asks."""
    before = threading.enumerate()
    of = policy(rate_limit(5, 0.01, quota=True, max_wait=30))
    for _ in range(20):
        of.call(int)
    assert threading.enumerate() == before


@pytest.mark.parametrize("quota", [False, True])
def test_a_call_that_a_guard_inside_refuses_does_not_count(quota: bool, clock: ManualClock) -> None:
    of = policy(rate_limit(2, 1.0, quota=quota), bulkhead(1), clock=clock)

    def outer() -> Any:
        if not quota:
            clock.advance(0.5)
        return [of.try_call(int).error.guard for _ in range(3)]  # type: ignore[union-attr]

    assert of.call(outer) == ["bulkhead"] * 3
    assert of.try_call(int).error is None
    assert of.try_call(int).error.guard == "rate_limit"  # type: ignore[union-attr]


@pytest.mark.parametrize("takes", [0.0, 0.01])
@pytest.mark.parametrize("quota", [False, True])
@pytest.mark.parametrize("way", ["call", "decorated"])
def test_a_call_counts_whose_body_is_refused_by_the_same_policy(
    way: str, quota: bool, takes: float, clock: ManualClock
) -> None:
    """It has begun, whatever comes of it."""
    of, begun = policy(rate_limit(1, 1.0, quota=quota), clock=clock), list[float]()

    def body(again: bool) -> Any:
        begun.append(clock.now())
        if takes:
            clock.advance(takes)
        return make(False) if again else 1

    make = of(body) if way == "decorated" else lambda again: of.call(body, again)
    for _ in range(3):
        assert isinstance(raised(make, True), RateLimitedError)
    assert len(begun) == 1
    clock.advance(1)
    assert make(False) == 1


def test_each_attempt_of_a_retry_counts(clock: ManualClock) -> None:
    of = policy(
        retry(on=OSError, attempts=3, wait_initial=0), rate_limit(2, 1.0, burst=2), clock=clock
    )
    tried: list[int] = []

    def fail() -> None:
        tried.append(1)
        raise OSError("down")

    assert isinstance(raised(of.call, fail), OSError)
    assert len(tried) == 2
    assert of.snapshot()["calls"]["refused"] == 0


def test_a_block_counts(clock: ManualClock) -> None:
    of = policy(circuit_breaker(), rate_limit(1, 1.0), clock=clock)
    for _ in range(3):
        with of.block():
            pass
        with pytest.raises(RateLimitedError), of.block():
            pass
        clock.advance(1)


def test_a_stream_counts_at_its_first_step(clock: ManualClock) -> None:
    of = policy(rate_limit(1, 1.0), clock=clock)

    @of
    def items() -> Iterator[int]:
        yield from range(3)

    streams = [items() for _ in range(2)]
    assert list(streams[0]) == [0, 1, 2]
    assert isinstance(raised(list, streams[1]), RateLimitedError)


# -- waiting ---------------------------------------------


def test_they_wait_in_order_for_their_turns(world: World, clock: ManualClock) -> None:
    of = policy(rate_limit(4, 1.0, max_wait=0.5), clock=clock)
    ended = [begin(world, of) for _ in range(4)]
    until(lambda: ended[0])
    assert waits(of) == 2
    until(lambda: ended[3])
    assert isinstance(ended[3][0].error, RateLimitedError)  # at once: its turn is too late
    for number in (1, 2):
        assert not ended[number]
        clock.advance(0.25)
        until(lambda number=number: ended[number])
        assert ended[number][0].error is None
    idle(of)


@pytest.mark.parametrize("world", BACKENDS, indirect=True)
def test_who_leaves_the_line_makes_room(world: World, clock: ManualClock) -> None:
    """The next one begins at the turn of the one that left."""
    assert world.portal is not None
    of = policy(rate_limit(1, 1.0, max_wait=60), clock=clock)
    scopes: list[anyio.CancelScope] = []

    async def call() -> Any:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            return await of.atry_call(anyio.lowlevel.checkpoint)

    assert world.portal.call(call).error is None
    first = world.portal.start_task_soon(call)
    until(lambda: waits(of) == 1)
    second = world.portal.start_task_soon(call)
    until(lambda: waits(of) == 2)
    world.portal.call(scopes[1].cancel)
    until(lambda: waits(of) == 1)
    first.result(WAIT)
    clock.advance(1)
    assert second.result(WAIT).error is None
    idle(of)


def test_a_caller_whose_time_is_too_short_is_refused_at_once(clock: ManualClock) -> None:
    of = policy(timeout(0.5, sync="cooperative"), rate_limit(1, 1.0, max_wait=60), clock=clock)
    assert of.try_call(int).error is None
    error = of.try_call(int).error
    assert isinstance(error, RateLimitedError)
    assert "0.5 s left" in str(error)


def test_in_a_thread_whose_loop_runs_no_sync_call_waits(clock: ManualClock) -> None:
    of = policy(rate_limit(1, 1.0, max_wait=60), clock=clock)

    async def main() -> Any:
        return [of.try_call(int).error for _ in range(2)]

    first, second = asyncio.run(main())
    assert first is None
    assert isinstance(second, RateLimitedError)
    assert "loop" in str(second)
    idle(of)


def test_who_does_not_take_its_turn_is_passed_over(clock: ManualClock) -> None:
    """A loop that is blocked holds up nobody behind it, and comes last when it is back."""
    of = policy(rate_limit(1, 1.0, max_wait=60), clock=clock)
    of.call(int)
    loop_blocked, go_on = threading.Event(), threading.Event()

    async def blocked() -> Any:
        task = asyncio.ensure_future(of.atry_call(asyncio.sleep, 0))
        await asyncio.sleep(0)  # the call stands in line
        assert waits(of) == 1
        loop_blocked.set()
        go_on.wait(WAIT)
        return await task

    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.append(asyncio.run(blocked())), daemon=True)
    thread.start()
    assert loop_blocked.wait(WAIT)
    behind: list[Any] = []
    other = threading.Thread(target=lambda: behind.append(of.try_call(int)), daemon=True)
    other.start()
    until(lambda: waits(of) == 2)
    start = clock.now()
    until(lambda: clock.advance(0.125) or behind)
    assert behind[0].error is None
    assert clock.now() - start <= 2.5
    go_on.set()
    until(lambda: clock.advance(0.5) or ended)
    assert ended[0].error is None
    idle(of)


def test_who_never_comes_back_stands_in_nobodys_way(clock: ManualClock) -> None:
    """Its loop was closed while it stood in line."""
    of = policy(rate_limit(1, 1.0, max_wait=0.75), clock=clock)
    of.call(int)
    clock.advance(0.5)

    async def leaves_a_call() -> None:
        tasks.append(asyncio.ensure_future(of.atry_call(asyncio.sleep, 0)))
        await asyncio.sleep(0)

    tasks: list[Any] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(leaves_a_call())
    assert waits(of) == 1
    loop.close()
    clock.advance(0.5)  # its turn
    assert of.try_call(int).error is not None
    clock.advance(0.125)
    assert of.try_call(int).error is None
    for _ in range(3):
        clock.advance(1)
        assert of.try_call(int).error is None
    idle(of)
    tasks.clear()


def test_the_last_place_in_line_is_within_reach(clock: ManualClock) -> None:
    """Turns are rounded up to floats, and who waits for all of `max_wait` does not wait in vain."""
    of = policy(rate_limit(10, 1.0, max_wait=1.0), clock=clock)
    ended: list[Any] = [of.try_call(int)]
    for _ in range(10):
        threading.Thread(target=lambda: ended.append(of.try_call(int)), daemon=True).start()
    until(lambda: waits(of) == 10)
    for number in range(2, 12):
        clock.advance(0.1001)
        until(lambda number=number: len(ended) == number)
    assert [each.error for each in ended] == [None] * 11
    idle(of)


def test_whose_turn_comes_too_late_by_now_is_told_at_once(clock: ManualClock) -> None:
    of = policy(rate_limit(10, 1.0, max_wait=1.0), clock=clock)
    of.call(int)
    ended: list[Any] = []
    for _ in range(5):
        threading.Thread(target=lambda: ended.append(of.try_call(int)), daemon=True).start()
    until(lambda: waits(of) == 5)
    of.update(rate_limit={"max_calls": 2})
    until(lambda: len(ended) == 3)
    assert {type(each.error) for each in ended} == {RateLimitedError}
    for number in (4, 5):
        clock.advance(0.5)
        until(lambda number=number: len(ended) == number)
    assert [each.error for each in ended[3:]] == [None, None]
    idle(of)


def test_a_look_forgets_nothing(clock: ManualClock) -> None:
    """A call in the bulkhead's line may give its turn back long after it began."""
    of = policy(
        fallback(value=9), rate_limit(3, 1.0, quota=True),
        bulkhead(1, max_waiting=1, max_wait=5), clock=clock,
    )  # fmt: skip
    ended: list[Any] = []

    def hold() -> None:
        thread = threading.Thread(target=lambda: ended.append(of.call(int)), daemon=True)
        thread.start()
        until(lambda: part(of, "bulkhead")["waiting"] == 1)
        clock.advance(2)
        assert part(of, "rate_limit")["ready"] == 3
        clock.advance(4)
        thread.join(WAIT)

    of.call(hold)
    assert ended == [9]
    idle(of)


def test_a_decorated_call_overtakes_nobody(clock: ManualClock) -> None:
    """Whoever is first has not woken yet, though its turn has come."""
    of = policy(rate_limit(1, 1.0, max_wait=0.5), clock=clock)
    zero = of(lambda: 0)
    for _ in range(3):
        assert zero() == 0
        clock.advance(1)
    guard: Any = of.guards[0]
    waiter = Waiter(guard, lambda: True)
    waiter.deadline = clock.now() + 0.25
    guard.turns.park(waiter, clock.now() + 0.5)
    assert isinstance(raised(zero), RateLimitedError)
    guard.quit(waiter, clock.now())
    assert zero() == 0


def test_a_decorated_call_waits_where_it_was_refused_before(clock: ManualClock) -> None:
    of = policy(fallback(value=-1), rate_limit(1, 1.0), clock=clock)
    zero = of(lambda: 0)
    assert [zero() for _ in range(4)] == [0, -1, -1, -1]
    of.update(rate_limit={"max_wait": 5})
    ended: list[int] = []
    threading.Thread(target=lambda: ended.append(zero()), daemon=True).start()
    until(lambda: waits(of) == 1 or ended)
    assert not ended
    clock.advance(1)
    until(lambda: ended)
    assert ended == [0]
    idle(of)


# -- changing ---------------------------------------------


def test_a_change_holds_at_once_and_keeps_what_began(clock: ManualClock) -> None:
    of = policy(rate_limit(1, 3600), clock=clock)
    of.call(int)
    of.update(rate_limit={"max_calls": 10, "period": 1.0})
    assert of.try_call(int).error is not None
    clock.advance(0.1)
    assert of.try_call(int).error is None
    with pytest.raises((ValueError, TypeError), match="quota"):
        of.update(rate_limit={"quota": True})


def test_a_change_wakes_those_in_line(world: World, clock: ManualClock) -> None:
    of = policy(rate_limit(1, 3600, max_wait=7200), clock=clock)
    begin(world, of)
    ended = begin(world, of)
    assert waits(of) == 1
    of.update(rate_limit={"period": 0.5})
    clock.advance(0.5)
    until(lambda: ended)
    assert ended[0].error is None
    idle(of)


def test_a_child_counts_on_and_has_no_line(clock: ManualClock) -> None:
    of = policy(rate_limit(2, 3600, burst=2, max_wait=7200), clock=clock)

    def scene(fork: Fork) -> Any:
        of.call(int)
        of.call(int)
        threading.Thread(target=of.try_call, args=(int,), daemon=True).start()
        until(lambda: waits(of) == 1)
        fork()
        return part(of, "rate_limit")["ready"], waits(of)

    assert [list(each) for each in in_both(scene)] == [[0, 1], [0, 0]]


def test_a_call_of_before_gives_no_other_one_back(clock: ManualClock) -> None:
    of = policy(rate_limit(2, 10, burst=2), bulkhead(1), clock=clock)
    guard: Any = of.guards[0]
    saved = guard.save()
    number = guard.admit(clock.now())
    guard.restore(saved)
    guard.admit(clock.now())
    guard.settle(number, clock.now(), REFUSED, 0.0, "", False)
    assert part(of, "rate_limit")["ready"] == 1


@pytest.mark.parametrize("quota", [False, True])
def test_what_it_remembers_can_be_put_back(quota: bool, clock: ManualClock) -> None:
    of = policy(rate_limit(2, 1.0, quota=quota), clock=clock)
    of.call(int)
    guard: Any = of.guards[0]
    saved = guard.save()
    clock.advance(0.5)
    for _ in range(2):
        assert of.try_call(int).error is None
        assert of.try_call(int).error is not None
        guard.restore(saved)


# -- showing ---------------------------------------------


def test_what_it_shows(clock: ManualClock) -> None:
    of = policy(rate_limit(10, 60, burst=3, max_wait=2), clock=clock)
    of.call(int)
    assert part(of, "rate_limit") == {
        "guard": "rate_limit", "ready": 2, "waiting": 0, "changed": {},
        "options": {
            "max_calls": 10, "period": 60.0, "burst": 3, "quota": False, "max_wait": 2.0,
            "scope": "process", "when_away": None,
        },
    }  # fmt: skip
    assert "lets 10 calls in 60 s begin, evenly, 3 of them at once" in str(of)
    assert "2 may begin at once, 0 waiting" in str(of)
    quota = policy(rate_limit(1, 60, quota=True), clock=clock)
    assert "lets at most 1 call in 60 s begin" in str(quota)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_calls": 0}, "max_calls"), ({"max_calls": 2.5}, "max_calls"), ({"max_calls": True}, "max_calls"),
        ({"max_calls": 1, "period": 0}, "period"), ({"max_calls": 1, "period": float("nan")}, "period"),
        ({"max_calls": 1, "period": "1s"}, "period"), ({"max_calls": 1, "burst": 0}, "burst"),
        ({"max_calls": 1, "burst": 2, "quota": True}, "burst"), ({"max_calls": 1, "quota": 1}, "quota"),
        ({"max_calls": 1, "max_wait": -1}, "max_wait"), ({"max_calls": 1, "max_wait": "no"}, "max_wait"),
        ({"max_calls": 1, "bust": 2}, "burst"),
    ],
)  # fmt: skip
def test_bad_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        rate_limit(**options)


def test_without_its_options() -> None:
    with pytest.raises(TypeError, match=r"rate_limit\(100, 1.0\)"):
        rate_limit(lambda: 1)  # type: ignore[arg-type]


def test_a_place_that_is_suspicious_is_warned_of() -> None:
    with pytest.warns(OrderWarning, match="would hold the outer guard's slots"):
        policy(bulkhead(5), rate_limit(1))
    policy(hedge(0.1, idempotent=True), circuit_breaker(), rate_limit(5), bulkhead(1), timeout(0.5))


def test_real_time_keeps_the_bound() -> None:
    """Forty calls of four threads: in no interval more begin than the limit says."""
    of, began = policy(rate_limit(200, 1.0, burst=2, max_wait=30)), list[float]()

    def work() -> None:
        for _ in range(10):
            of.call(lambda: None)

    guard: Any = of.guards[0]
    pace = guard.pace

    class Seen:
        def __getattr__(self, name: str) -> Any:
            return getattr(pace, name)

        def take(self, now: float) -> int:
            number: int = pace.take(now)
            if number >= 0:
                began.append(now)
            return number

    guard.pace = Seen()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert len(began) == 40
    for first, at in enumerate(began):
        for last in range(first, 40):
            width = Fraction(began[last]) - Fraction(at)
            assert last - first + 1 <= 2 + 200 * width
    assert counts(of) == {"success": 40}
    idle(of)


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_tasks_wait_in_line(backend: str) -> None:
    of = policy(rate_limit(500, 1.0, max_wait=30))
    came, done = list[int](), list[int]()

    async def call(number: int) -> None:
        async def body() -> None:
            done.append(number)

        came.append(number)
        await of.acall(body)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(call, number)

    run(backend, main)
    assert done == came
    assert len(done) == 50
    idle(of)
