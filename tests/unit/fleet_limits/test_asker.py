"""A rate limit of a fleet in one process, on a real Redis that is killed, frozen and slow.

The policies follow a manual clock: by it an answer is late only where the test says so.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis

import resilient
from resilient import Event, Policy, RateLimitedError, rate_limit, timeout
from resilient.fleet_limits.asker import NO_REDIS, FleetAsker
from resilient.guards.rate_limit.fleet import AGAIN, ANSWER_WITHIN
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
    keys = sorted(key.decode() for key in plain.keys("*turns*"))
    assert keys == [f"{{resilient}}:turns:{name}", f"{{resilient}}:turns:{name}:2/60"]
    other = FleetAsker(lambda: redis_server.url)._source()
    request = policy._core.guards[0].request(0.0)  # type: ignore[attr-defined]
    assert other.take(request._replace(turns=1)).turns == ()  # another process has no turn either
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
    assert calls.results == []
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
    proxy.set("delay", 0.1)
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
