"""The scripts on a real Redis, by a clock of the test's, against the definition of the limit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resilient.errors import StoreError
from resilient.fleet_limits import redis_turns
from resilient.fleet_limits.redis_turns import RedisTurns
from resilient.guards.rate_limit.asking import Request
from resilient.guards.rate_limit.fleet import Answer
from tests.kit.fleet_turns import NaiveTurns
from tests.kit.servers.redis_server import RedisServer

MICRO = Fraction(1, 1_000_000)
_keys = itertools.count()


class Server:
    """Turns of a Redis whose time is a key, and a client of it."""

    def __init__(self, url: str) -> None:
        self.turns = RedisTurns(url)
        self.plain: Any = redis.Redis.from_url(url)

    def take(self, asked: Request) -> Answer:
        """Return what it answers."""
        return one(self.turns, asked)


def one(turns: RedisTurns, asked: Request) -> Answer:
    (answer,) = turns.take([asked])
    if isinstance(answer, StoreError):
        raise answer
    return answer


def request(
    key: str, turns: int, within: float, limit: tuple[int, float], burst: int | None, **more: Any
) -> Request:
    """Return one; no burst says a quota."""
    options = (*limit, burst or 1, burst is None)
    asked = Request(key, turns, within, 0.0, 0, False, *options, options)
    return asked._replace(**more)


@pytest.fixture
def server(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Give turns by the test's own time."""
    for script in ("_SMOOTH", "_QUOTA"):
        text = getattr(redis_turns, script)
        assert "redis.call('TIME')" in text
        timed = text.replace(
            "redis.call('TIME')", "{redis.call('GET', 'seconds'), redis.call('GET', 'micros')}"
        )
        monkeypatch.setattr(redis_turns, script, timed)
    made = Server(redis_server.url)
    yield made
    made.turns.close()
    made.plain.close()


def at(server: Server, micros: int) -> Fraction:
    """Set the time, and return it in seconds."""
    server.plain.mset({"seconds": micros // 1_000_000, "micros": micros % 1_000_000})
    return micros * MICRO


requests = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 3, 900, 33_333, 100_000, 333_333, 1_000_000, 10**7]),  # passes
        st.sampled_from([0, 1, 1, 2, 5, 30]),  # turns
        st.sampled_from([0.0, 0.0, 0.01, 0.5, 2.0]),  # within
    ),
    min_size=1, max_size=25,
)  # fmt: skip


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from([(1, 1.0), (3, 1.0), (7, 0.1), (1000, 1.0), (60, 60.0)]),
    st.sampled_from([1, 2, 10, None]), requests,
)  # fmt: skip
def test_l1_the_turns_keep_the_limit_and_none_is_held_back(
    server: Server, limit: tuple[int, float], burst: int | None,
    plan: list[tuple[int, int, float]],
) -> None:  # fmt: skip
    calls, period = limit
    naive = NaiveTurns(calls, period, burst or 1, quota=burst is None)
    key, now = f"limit-{next(_keys)}", 1_800_000_000_000_000
    for passes, most, within in plan:
        now += passes
        time = at(server, now)
        asked = request(key, most, within, limit, burst)
        answer = server.take(asked)
        assert len(answer.turns) <= most
        for wait in answer.turns:
            turn, exact = time + round(Fraction(wait) / MICRO) * MICRO, naive.turn(time)
            assert exact - MICRO < turn < exact + 3 * MICRO
            assert turn <= time + Fraction(within) + MICRO
            naive.given.append(turn)
        following = time + round(Fraction(answer.following) / MICRO) * MICRO
        if len(answer.turns) < most:
            assert following > time + Fraction(within) - MICRO
        assert abs(max(following, time) - naive.turn(time)) < 3 * MICRO
        assert answer.processes == 1
    pairs = itertools.combinations(range(len(naive.given)), 2)
    for first, last in pairs:
        number, width = last - first + 1, naive.given[last] - naive.given[first] + MICRO
        if burst is None:
            assert width > period or number <= calls
        else:
            assert number <= burst + calls * width / Fraction(period)


def test_a_quota_that_shrinks_and_grows_again_forgets_nothing(server: Server) -> None:
    """What the larger one has let in still counts."""
    at(server, 10**15)
    large, small = (request("q", 20, 0.0, (calls, 60.0), None) for calls in (10, 4))
    assert len(server.take(large).turns) == 10
    assert server.take(small).turns == ()
    at(server, 10**15 + 59_999_999)
    assert server.take(small).turns == server.take(large).turns == ()
    at(server, 10**15 + 60_000_000)
    assert len(server.take(small).turns) == 4
    assert len(server.take(large).turns) == 6
    assert server.plain.llen("{resilient}:quota:q") <= 20


@pytest.mark.parametrize("burst", [1, None])
def test_a_clock_that_is_set_back_holds_nobody(server: Server, burst: int | None) -> None:
    """As after a failover to a host whose clock is behind; what is due stays so far away."""
    asked = request("back", 5, 0.0, (1, 10.0), burst)
    at(server, 2 * 10**15)
    assert len(server.take(asked).turns) == 1
    at(server, 10**15)
    answer = server.take(asked)
    assert (len(answer.turns), answer.following) == ((0, 10.0) if burst else (1, 10.0))
    at(server, 10**15 + 10_000_000)
    assert len(server.take(asked).turns) == 1


@pytest.mark.parametrize("burst", [10, None])
def test_who_looks_less_far_ahead_forgets_nothing(server: Server, burst: int | None) -> None:
    """A process with another `max_wait` or burst, as in the middle of a deployment."""
    at(server, 10**15)
    far = request("far", 1000, 120.0, (100, 60.0), burst)
    given = len(server.take(far).turns)
    assert given >= 200
    at(server, 10**15 + 1_000_000)
    for within, less in ((5.0, burst), (0.0, burst and 1)):
        assert server.take(far._replace(within=within, burst=less or 1)).turns == ()
    assert len(server.take(far).turns) <= 2


@pytest.mark.parametrize("burst", [20, None])
def test_what_began_alone_counts(server: Server, burst: int | None) -> None:
    at(server, 10**15)
    asked = request("spent", 100, 0.0, (20, 60.0), burst)
    assert len(server.take(asked._replace(spent=15)).turns) == 5
    for _ in range(10):  # told again and again, it holds nobody for longer than a burst does
        answer = server.take(asked._replace(turns=0, spent=300))
        assert answer.turns == ()
        assert answer.following <= (3.0 if burst else 60.0)
    assert server.take(asked).turns == ()


def test_a_quota_and_a_pace_of_one_name_do_not_meet(server: Server) -> None:
    """As in a deployment that makes one of the other; nor do views that differ in anything."""
    at(server, 10**15)
    limits = [(1, 60.0), (1, 60.1), (2, 60.0)]
    for view in (False, True):
        for limit in limits if view else limits[:1]:
            for burst in (1, 3, None) if view else (1, None):
                assert server.take(request("same", 1, 0.0, limit, burst, view=view)).turns


def test_what_somebody_else_wrote_there_is_an_error_or_nothing(server: Server) -> None:
    at(server, 10**15)
    odd, listed, after = (request(key, 1, 0.0, (1, 1.0), 1) for key in ("odd", "list", "after"))
    server.plain.set("{resilient}:turns:odd", "x 1e400 -3")
    assert server.take(odd).turns == (0.0,)
    server.plain.set("{resilient}:quota:list", "not a list")
    connections = server.plain.info("clients")["connected_clients"]
    wrong, right = server.turns.take([listed._replace(quota=True), after])
    assert isinstance(wrong, StoreError)
    assert "WRONGTYPE" in str(wrong)
    assert isinstance(right, Answer)
    assert right.turns == (0.0,)
    assert server.plain.info("clients")["connected_clients"] == connections  # none was closed


def test_processes_count_for_half_a_minute(server: Server, redis_server: RedisServer) -> None:
    asked = request("n", 0, 0.0, (1, 1.0), 1)
    others = [RedisTurns(redis_server.url) for _ in range(3)]
    at(server, 10**15)
    assert [one(each, asked).processes for each in (server.turns, *others)] == [1, 2, 3, 4]
    at(server, 10**15 + 29_000_000)
    assert server.take(asked).processes == 4
    at(server, 10**15 + 31_000_000)
    assert server.take(asked).processes == 1
    for each in others:
        each.close()


@pytest.mark.parametrize("quota", [False, True])
def test_its_keys_fade(redis_server: RedisServer, quota: bool) -> None:
    """Nothing of a limit that nobody uses any more stays; by the server's own clock."""
    made = RedisTurns(f"{redis_server.url}?prefix=shop")
    assert one(made, request("fades", 1, 0.0, (100, 2.0), None if quota else 1)).turns
    plain: Any = redis.Redis.from_url(redis_server.url)
    keys: list[bytes] = sorted(plain.keys("*"))
    kind = b"quota" if quota else b"turns"
    assert keys == [b"{shop}:%b-askers:fades" % kind, b"{shop}:%b:fades" % kind]
    assert 0 < plain.pttl(keys[0]) <= 60_000
    assert 0 < plain.pttl(keys[1]) <= 3_100
    plain.close()
    made.close()
