"""A rate limit of a fleet in one process, on a real Redis that is killed, frozen and slow.

The policies follow a manual clock: by it an answer is late only where the test says so.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis

import resilient
from resilient import (
    BulkheadFullError,
    Event,
    Policy,
    RateLimitedError,
    bulkhead,
    rate_limit,
    timeout,
)
from resilient.fleet_limits import asker as asker_module
from resilient.fleet_limits.asker import NO_REDIS, FleetAsker
from resilient.guards.rate_limit.fleet import AGAIN, ANSWER_WITHIN, LOST, Answer
from resilient.testing import ManualClock
from tests.kit.colours import Colour
from tests.kit.forks import Fork
from tests.kit.policies import part
from tests.kit.proxy import GARBAGE, Proxy
from tests.kit.servers.redis_server import RedisServer
from tests.kit.waiting import WAIT, until

Asking = Callable[[str], FleetAsker]


def fleet(name: str, *limit: Any, clock: ManualClock | None = None, **more: Any) -> Policy:
    guard = rate_limit(*limit, scope="fleet", **more)
    return Policy(name, guard, timeout(60, sync="cooperative"), clock=clock)


def shown(policy: Policy) -> Any:
    return part(policy, "rate_limit")["fleet"]


class Calls:
    """Calls in threads, and what came of them."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.results: list[Any] = []
        self._threads: list[threading.Thread] = []

    def begin(self) -> None:
        before = part(self.policy, "rate_limit")["waiting"]
        ended = len(self.results)

        def call() -> None:
            self.results.append(self.policy.try_call(lambda: "full"))

        self._threads.append(threading.Thread(target=call, daemon=True))
        self._threads[-1].start()
        until(
            lambda: part(self.policy, "rate_limit")["waiting"] > before or len(self.results) > ended
        )

    def ends(self) -> list[Any]:
        for thread in self._threads:
            thread.join(WAIT)
            assert not thread.is_alive(), "a call hangs"
        return self.results


@pytest.mark.parametrize("how", ["through", "in_block", "as_stream"])
def test_every_shape_of_a_call_has_its_turn(
    colour: Colour, how: str, name: str, asking: Asking, redis_server: RedisServer
) -> None:
    asking(redis_server.url)
    policy = fleet(name, 2, 60.0, burst=2, clock=ManualClock())

    async def body() -> str:
        return "full"

    async def scene() -> None:
        fn = colour.fn(body)
        for _ in range(2):
            assert await getattr(colour, how)(policy, fn) == "full"
        with pytest.raises(RateLimitedError, match="2 calls in 60 s, of the whole fleet") as caught:
            await getattr(colour, how)(policy, fn)
        assert caught.value.retry_after == pytest.approx(30, abs=1)

    if colour.is_async:
        colour.run(scene)
    else:
        asyncio.run(_in_thread(lambda: colour.run(scene)))
    assert shown(policy) == {"processes": 1, "away": ""}


async def _in_thread(scene: Callable[[], object]) -> None:
    """Run a sync scene where no loop runs."""
    await asyncio.to_thread(scene)


def test_refusals_ask_nobody(name: str, asking: Asking, redis_server: RedisServer) -> None:
    """Until the next turn is known to have come."""
    asked: list[object] = []
    asker = asking(redis_server.url)
    ask, asker.ask = asker.ask, lambda *given: (asked.append(given), ask(*given))  # type: ignore[method-assign, func-returns-value]
    asking_again(asker)
    clock = ManualClock()
    policy = fleet(name, 1, 10.0, clock=clock)
    assert policy.call(lambda: "full") == "full"
    for _ in range(100):
        assert isinstance(policy.try_call(int).error, RateLimitedError)
    assert len(asked) == 1
    clock.advance(11)
    policy.try_call(int)  # by the server's clock its turn has not come
    assert len(asked) == 2
    assert 8 < policy.try_call(int).error.retry_after <= 10  # type: ignore[union-attr, operator]
    assert len(asked) == 2


def asking_again(asker: FleetAsker) -> None:
    """Let policies find the asker's method that a test has replaced."""
    resilient.engine.policy_state.PolicyState.on_fleet_asked = asker.ask


def test_policies_of_one_name_share_a_limit_and_a_view_has_its_own(
    name: str, asking: Asking, redis_server: RedisServer
) -> None:
    asking(redis_server.url)
    policy = fleet(name, 1, 60.0, clock=ManualClock())
    strict = policy.with_(rate_limit(2, 60.0, burst=2, scope="fleet"))
    assert [each.try_call(int).served for each in (policy, strict, strict)] == ["full"] * 3
    assert [each.try_call(int).served for each in (policy, strict)] == ["error"] * 2
    plain: Any = redis.Redis.from_url(redis_server.url)
    keys = sorted(key.decode() for key in plain.keys("*turns:*"))
    assert keys == [f"{{resilient}}:turns:{name}", f"{{resilient}}:turns:{name}:2/60.0/2"]
    other = FleetAsker(lambda: redis_server.url)._source()
    request = policy._core.guards[0].request(0.0)  # type: ignore[attr-defined]
    (answer,) = other.take([request])  # another process has no turn either
    assert isinstance(answer, Answer)
    assert answer.turns == ()
    other.close()
    plain.close()


def test_callers_wait_for_turns_that_are_theirs(
    name: str, asking: Asking, redis_server: RedisServer
) -> None:
    """The store has given them, in order, by the time that they come."""
    asking(redis_server.url)
    clock = ManualClock()
    policy = fleet(name, 4, 1.0, max_wait=1.0, clock=clock)
    calls = Calls(policy)
    for _ in range(4):
        calls.begin()
        until(lambda: policy._core.guards[0].pace.asked_at is None)  # type: ignore[attr-defined]
        until(lambda: len(calls.results) == 1)
    for number in (2, 3, 4):
        clock.advance(0.26)
        until(lambda number=number: len(calls.results) == number)
    assert [each.served for each in calls.ends()] == ["full"] * 4


def test_without_a_redis_it_says_so_and_keeps_the_limit_alone(
    name: str, asking: Asking, events: list[Event]
) -> None:
    asking("")
    policy = fleet(name, 2, 60.0, burst=2, clock=ManualClock())
    assert [policy.try_call(int).served for _ in range(3)] == ["full", "full", "error"]
    assert shown(policy) == {"processes": 1, "away": NO_REDIS}
    assert "alone: no Redis is named (RESILIENT_STORE)" in str(policy)
    error = policy.try_call(int).error
    assert "this process alone keeps the whole limit" in str(error)
    until(lambda: [each for each in events if each.policy == name])
    kinds = [(each.kind, each.reason) for each in events if each.policy == name]
    assert kinds[0] == ("away", f"{NO_REDIS}; this process alone keeps the whole limit")


@pytest.mark.parametrize(
    ("when_away", "served"), [("open", ["full"] * 3), ("refuse", ["error"] * 3)]
)
def test_who_would_rather_have_no_limit_or_no_calls_says_so(
    name: str, asking: Asking, when_away: str, served: list[str]
) -> None:
    asking("sqlite:////nowhere/x.db")
    policy = fleet(name, 1, 60.0, when_away=when_away, clock=ManualClock())
    assert [policy.try_call(int).served for _ in range(3)] == served
    if when_away == "refuse":
        error = policy.try_call(int).error
        assert isinstance(error, RateLimitedError)
        assert 0 < (error.retry_after or 0) <= AGAIN
        assert "no call may begin" in str(error)


def test_killed_and_started_again(
    name: str, asking: Asking, redis_server: RedisServer, events: list[Event]
) -> None:
    asking(redis_server.url)
    clock = ManualClock()
    policy = fleet(name, 1000, 1.0, burst=1000, clock=clock)
    assert policy.call(lambda: "full") == "full"
    redis_server.kill()
    for _ in range(5):  # one of them finds out; nobody pays for it
        assert policy.call(lambda: "full") == "full"
    assert "Connection" in shown(policy)["away"]
    redis_server.start()
    clock.advance(AGAIN)
    assert policy.call(lambda: "full") == "full"
    until(lambda: not shown(policy)["away"])
    assert policy.call(lambda: "full") == "full"
    until(lambda: [each.kind for each in events if each.policy == name] == ["away", "back"])


def test_frozen_a_call_goes_on_when_its_time_is_up(
    name: str, asking: Asking, redis_server: RedisServer
) -> None:
    """And the next ones do not wait at all."""
    asking(redis_server.url)
    clock = ManualClock()
    policy = fleet(name, 1000, 1.0, burst=1000, clock=clock)
    assert policy.call(lambda: "full") == "full"
    redis_server.stop()
    calls = Calls(policy)
    calls.begin()
    calls.begin()
    clock.advance(ANSWER_WITHIN)
    assert [each.served for each in calls.ends()] == ["full", "full"]
    assert policy.call(lambda: "full") == "full"
    redis_server.cont()
    until(lambda: policy._core.guards[0].pace.asked_at is None)  # type: ignore[attr-defined]
    clock.advance(AGAIN)
    policy.call(int)
    until(lambda: not shown(policy)["away"])


def test_a_redis_that_is_always_slow_costs_one_wait_and_no_more(
    name: str, asking: Asking, proxy: Proxy, events: list[Event]
) -> None:
    """An answer after the time is up brings nobody back."""
    asking(proxy.url)
    clock = ManualClock()
    policy = fleet(name, 1000, 1.0, burst=1000, clock=clock)
    assert policy.call(lambda: "full") == "full"
    proxy.set("delay", 0.3)
    for _ in range(3):
        calls = Calls(policy)
        calls.begin()
        clock.advance(ANSWER_WITHIN + 0.001)
        assert [each.served for each in calls.ends()] == ["full"]
        until(lambda: policy._core.guards[0].pace.asked_at is None)  # type: ignore[attr-defined]
        clock.advance(AGAIN)
    assert [each.kind for each in events if each.policy == name] == ["away"]


@pytest.mark.parametrize("garbage", [*GARBAGE, "reset"])
def test_whatever_it_answers_the_call_goes_on(
    name: str, asking: Asking, proxy: Proxy, garbage: str
) -> None:
    asking(proxy.url)
    proxy.set(garbage)
    clock = ManualClock()
    policy = fleet(name, 1, 60.0, burst=1, clock=clock)
    assert policy.call(lambda: "full") == "full"
    assert isinstance(policy.try_call(int).error, RateLimitedError)
    proxy.set("pass")
    clock.advance(AGAIN)
    policy.try_call(int)
    until(lambda: not shown(policy)["away"])


def test_a_password_is_never_told(name: str, asking: Asking, events: list[Event]) -> None:
    asking("redis://ana:hunter2@127.0.0.1:1/0")
    policy = fleet(name, 1, 60.0, clock=ManualClock())
    policy.call(int)
    assert "hunter2" not in f"{policy} {policy.snapshot()} {[str(each) for each in events]}"
    assert "127.0.0.1:1" in shown(policy)["away"]


def test_a_loop_goes_on_while_its_calls_wait(
    name: str, asking: Asking, redis_server: RedisServer
) -> None:
    asking(redis_server.url)
    clock = ManualClock()
    policy = fleet(name, 10, 1.0, burst=10, clock=clock)

    async def body() -> str:
        return "full"

    async def scene() -> None:
        assert await policy.acall(body) == "full"
        redis_server.stop()
        call = asyncio.create_task(policy.acall(body))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not call.done()
        with pytest.raises(RateLimitedError, match="event loop is running"):
            policy.call(int)
        clock.advance(ANSWER_WITHIN)
        assert await call == "full"

    asyncio.run(scene())


def test_a_child_asks_for_itself(name: str, asking: Asking, redis_server: RedisServer) -> None:
    """By its own thread and connection; what its parent had at hand is its parent's."""
    asker = asking(redis_server.url)
    resilient.process._at_fork["limits"]["in_child"] = asker.in_child
    policy, fork = fleet(name, 3, 60.0, burst=3, clock=ManualClock()), Fork()
    assert policy.call(lambda: "full") == "full"
    if fork():
        try:
            fork.report({"value": [policy.try_call(lambda: "full").served for _ in range(2)]})
        except BaseException as error:
            fork.report({"error": repr(error)})
    assert fork.answer() == ["full", "full"]
    assert policy.try_call(lambda: "full").served == "error"
    assert shown(policy)["processes"] == 2


def test_the_options_change_while_it_runs(
    name: str, asking: Asking, redis_server: RedisServer
) -> None:
    asking(redis_server.url)
    clock = ManualClock()
    policy = fleet(name, 1, 60.0, clock=clock)
    assert policy.call(lambda: "full") == "full"
    policy.update(rate_limit={"burst": 5})
    assert [policy.try_call(int).served for _ in range(5)] == ["full"] * 4 + ["error"]
    redis_server.kill()
    policy.update(rate_limit={"when_away": "open"})
    clock.advance(100)
    assert [policy.try_call(int).served for _ in range(5)] == ["full"] * 5


def test_what_it_does_not_take() -> None:
    with pytest.raises(ValueError, match="scope must be one of 'process', 'fleet'; got 'galaxy'"):
        rate_limit(1, scope="galaxy")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="when_away must be one of 'local', 'open', 'refuse'"):
        rate_limit(1, scope="fleet", when_away="panic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"when_away must be given with scope=\"fleet\" alone"):
        rate_limit(1, when_away="open")


# -- faults that were found by breaking it ---------------------------------------------


def pace_of(policy: Policy) -> Any:
    return policy._core.guards[0].pace  # type: ignore[attr-defined]


def test_a_request_that_is_lost_is_made_again(
    name: str, asking: Asking, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by an interrupt between two steps: else it would be alone for ever."""
    asking(redis_server.url)
    clock = ManualClock()
    policy = fleet(name, 1000, 1.0, burst=1000, when_away="refuse", clock=clock)
    assert policy.call(lambda: "full") == "full"
    pace_of(policy).asked_at = clock.now()  # nobody has heard of it
    clock.advance(LOST)
    assert policy.try_call(int).served == "error"
    clock.advance(AGAIN)
    assert policy.try_call(int).served == "error"
    until(lambda: not shown(policy)["away"])
    assert policy.try_call(int).served == "full"


def test_a_child_is_not_bound_by_what_its_parent_asked_or_has_at_hand(
    name: str, asking: Asking, redis_server: RedisServer
) -> None:
    asker = asking(redis_server.url)
    resilient.process._at_fork["limits"]["in_child"] = asker.in_child
    clock, fork = ManualClock(), Fork()
    policy = fleet(name, 3, 60.0, burst=3, clock=clock)
    assert policy.call(lambda: "full") == "full"
    pace = pace_of(policy)
    pace.asked_at = clock.now()
    pace._turns.extend([(-math.inf, math.inf)] * 5)
    if fork():
        try:
            fork.report({"value": [policy.try_call(lambda: "full").served for _ in range(3)]})
        except BaseException as error:
            fork.report({"error": repr(error)})
    assert fork.answer() == ["full", "full", "error"]


def test_what_a_test_saves_has_nothing_of_what_was_asked_for() -> None:
    guard = rate_limit(3, 60.0, scope="fleet")
    pace: Any = guard.pace
    pace.asked_at, pace.processes = 5.0, 4
    pace._turns.append((0.0, math.inf))
    guard.restore(guard.save())
    assert (guard.pace.asked_at, len(guard.pace._turns)) == (None, 0)  # type: ignore[attr-defined]
    assert guard.pace.processes == 4  # type: ignore[attr-defined]


def test_a_thread_that_can_not_be_started_is_started_by_the_next_call(
    name: str, asking: Asking, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking(redis_server.url)
    clock = ManualClock()
    policy = fleet(name, 1000, 1.0, burst=1000, clock=clock)
    policy.call(int)  # so that nothing else begins a thread
    with monkeypatch.context() as patch:
        asker = asking(redis_server.url)
        patch.setattr(threading.Thread, "start", _no_thread)
        pace_of(policy)._turns.clear()
        loop = asyncio.new_event_loop()
        error = loop.run_until_complete(_sync_error(policy))
        loop.close()
        assert isinstance(error, RateLimitedError)
        assert asker._thread is None
    for seconds in (LOST, AGAIN):
        clock.advance(seconds)
        assert policy.call(lambda: "full") == "full"
    until(lambda: not shown(policy)["away"] and pace_of(policy).asked_at is None)


def _no_thread(_: object) -> None:
    raise RuntimeError("can't start new thread")


async def _sync_error(policy: Policy) -> Any:
    """Return what a sync call in a running loop ends with: it waits for nothing."""
    return policy.try_call(int).error


def test_many_limits_are_asked_for_together(
    name: str, asking: Asking, redis_server: RedisServer
) -> None:
    """One round trip for all of them: the last does not wait for the first."""
    asker = asking(redis_server.url)
    sizes: list[int] = []
    source = asker._source()
    take = source.take
    source.take = lambda requests: (sizes.append(len(requests)), take(requests))[1]  # type: ignore[method-assign]
    policies = [fleet(f"{name}-{n}", 5, 60.0, burst=5, clock=ManualClock()) for n in range(40)]
    redis_server.stop()  # so that they come to wait together
    calls = [Calls(policy) for policy in policies]
    for each in calls:
        each.begin()
    redis_server.cont()
    assert {result.served for each in calls for result in each.ends()} == {"full"}
    assert max(sizes) > 10
    assert len(sizes) < len(policies)


def test_an_error_of_one_limit_is_its_own(
    name: str, asking: Asking, redis_server: RedisServer
) -> None:
    asking(redis_server.url)
    plain: Any = redis.Redis.from_url(redis_server.url)
    plain.lpush(f"{{resilient}}:turns:{name}-odd", "a list")
    odd, even = (fleet(f"{name}-{each}", 5, 60.0, clock=ManualClock()) for each in ("odd", "even"))
    assert odd.call(lambda: "full") == even.call(lambda: "full") == "full"
    assert "WRONGTYPE" in shown(odd)["away"]
    assert shown(even)["away"] == ""
    plain.close()


def test_a_sync_call_under_a_running_loop_needs_no_wait_where_no_redis_is_named(
    name: str, asking: Asking
) -> None:
    """As in a notebook, or a unit test."""
    asking("")
    policy = fleet(name, 2, 60.0, burst=2, clock=ManualClock())

    async def scene() -> list[str]:
        return [policy.try_call(lambda: "full").served for _ in range(3)]

    assert asyncio.run(scene()) == ["full", "full", "error"]


def test_a_sync_call_under_a_running_loop_has_its_turn_when_it_comes_again(
    name: str, asking: Asking, redis_server: RedisServer
) -> None:
    asking(redis_server.url)
    policy = fleet(name, 2, 60.0, burst=2, clock=ManualClock())

    async def scene() -> None:
        redis_server.stop()  # else it may answer before the call has been refused
        error = policy.try_call(int).error
        redis_server.cont()
        assert "event loop is running" in str(error)
        until(lambda: pace_of(policy).asked_at is None)
        assert policy.call(lambda: "full") == "full"

    asyncio.run(scene())


def test_nobody_waits_for_a_turn_who_does_not_want_to(
    name: str, asking: Asking, redis_server: RedisServer
) -> None:
    """It hears that its turn comes in 40 ms, and is refused, though it may wait 100 for the answer."""
    asking(redis_server.url)
    clock = ManualClock()
    policies = [fleet(name, 25, 1.0, clock=clock)]
    policies.append(Policy(f"{name}-other", rate_limit(25, 1.0, scope="fleet"), clock=clock))
    for each in policies:  # as two processes have one name
        each._core.name = name  # type: ignore[attr-defined]
    assert policies[0].call(lambda: "full") == "full"
    assert isinstance(policies[1].try_call(int).error, RateLimitedError)


def test_refuse_refuses_at_once_whoever_would_wait(name: str, asking: Asking) -> None:
    asking("")
    policy = fleet(name, 1, 1.0, max_wait=30.0, when_away="refuse", clock=ManualClock())
    error = policy.try_call(int).error
    assert isinstance(error, RateLimitedError)
    assert error.retry_after == AGAIN


def test_who_has_less_time_than_its_turn_needs_is_refused_when_it_hears_of_it(
    name: str, asking: Asking, redis_server: RedisServer
) -> None:
    asking(redis_server.url)
    clock = ManualClock()
    first = fleet(name, 1, 2.0, max_wait=5.0, clock=clock)
    assert first.call(lambda: "full") == "full"
    guard = rate_limit(1, 2.0, max_wait=5.0, scope="fleet")
    other = Policy(f"{name}-other", timeout(0.5, sync="cooperative"), guard, clock=clock)
    other._core.name = name  # type: ignore[attr-defined]
    assert isinstance(other.try_call(int).error, RateLimitedError)


def test_what_began_with_the_fleet_counts_when_it_goes_alone(
    name: str, asking: Asking, redis_server: RedisServer
) -> None:
    """And what began alone counts when the fleet is back: one slow answer doubles nothing."""
    asking(redis_server.url)
    clock = ManualClock()
    policy = fleet(name, 100, 60.0, quota=True, clock=clock)
    assert sum(policy.try_call(int).served == "full" for _ in range(60)) == 60
    redis_server.kill()
    assert sum(policy.try_call(int).served == "full" for _ in range(100)) == 40
    redis_server.start()
    clock.advance(AGAIN)
    policy.try_call(int)
    until(lambda: not shown(policy)["away"])
    plain: Any = redis.Redis.from_url(redis_server.url)
    assert plain.llen(f"{{resilient}}:quota:{name}") == 40
    plain.close()


def test_another_limit_counts_from_its_change_on(
    name: str, asking: Asking, redis_server: RedisServer
) -> None:
    """Turns that were given at the old pace are not used, nor is an answer to an old question."""
    asking(redis_server.url)
    policy = fleet(name, 1000, 1.0, burst=1000, clock=ManualClock())
    policy.call(int)
    pace = pace_of(policy)
    pace._turns.extend([(-math.inf, math.inf)] * 50)
    guard: Any = policy._core.guards[0]  # type: ignore[attr-defined]
    old = guard.request(0.0)
    policy.update(rate_limit={"max_calls": 10, "burst": 1})
    assert len(pace_of(policy)._turns) == 0
    guard.told(Answer((0.0,) * 50, 3600.0, 1), old, 0.0)
    assert len(pace_of(policy)._turns) == 0
    assert pace_of(policy).following == -math.inf


def test_a_turn_that_a_full_bulkhead_left_is_another_callers(
    name: str, asking: Asking, redis_server: RedisServer
) -> None:
    asking(redis_server.url)
    guards = rate_limit(5, 600.0, burst=5, scope="fleet"), bulkhead(1)
    policy = Policy(name, *guards, clock=ManualClock())
    with policy.block():
        for _ in range(10):
            assert isinstance(policy.try_call(int).error, BulkheadFullError)
    assert [policy.try_call(int).served for _ in range(4)] == ["full"] * 4


def test_what_it_shows_of_the_fleet(name: str, asking: Asking, redis_server: RedisServer) -> None:
    """The limit is one, however many processes say it."""
    asking(redis_server.url)
    policy = fleet(name, 100, 1.0, burst=100, clock=ManualClock())
    assert part(policy, "rate_limit")["ready"] == 100
    policy.call(int)
    guard: Any = policy._core.guards[0]  # type: ignore[attr-defined]
    guard.pace.processes = 4
    found = {metric.name: value for metric, _, value in guard.measure(1000.0)}
    assert found == {
        "rate_limit_ready": 99, "rate_limit_fleet_per_second": 100, "rate_limit_away": 0,
        "rate_limit_waiting": 0,
    }  # fmt: skip
    with pytest.raises(ValueError, match="when_away must be one of"):
        rate_limit(1, scope="fleet", when_away="")  # type: ignore[arg-type]


def test_a_thread_that_ends_leaves_nobody_behind(
    name: str, asking: Asking, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends when it has been idle; the next call starts another."""
    monkeypatch.setattr(asker_module, "_IDLE", 0.001)
    asker = asking(redis_server.url)
    policy = fleet(name, 1000, 1e-3, burst=1000, clock=ManualClock())
    for _ in range(30):
        assert policy.call(lambda: "full") == "full"
        until(lambda: asker._thread is None)
    assert shown(policy)["away"] == ""


def test_who_asks_just_as_the_thread_ends_is_heard(asking: Asking) -> None:
    asker = asking("redis://127.0.0.1:1/0")
    asker._thread = threading.current_thread()
    assert asker._is_over(asker._queue)
    assert asker._thread is None
    asker._thread = threading.current_thread()
    asker._queue.put((lambda: None, lambda: None))  # type: ignore[arg-type]
    assert not asker._is_over(asker._queue)
    assert asker._thread is threading.current_thread()
