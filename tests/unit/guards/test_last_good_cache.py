"""A cache that the user hands in: a dict, and a real Redis."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import redis

from resilient import Policy, circuit_breaker, last_good, timeout
from resilient.guards.last_good.last_good import LastGood
from resilient.guards.last_good.memory import Memory
from resilient.testing import ManualClock
from resilient.testing.plugin import Policies
from tests.kit.policies import policy
from tests.kit.servers.redis_server import RedisServer
from tests.kit.threads import in_threads


class Fetch:
    """A function that can be down."""

    def __init__(self) -> None:
        self.down = False

    def __call__(self, it: int) -> str:
        if self.down:
            raise ConnectionError
        return f"found {it}"


def guarded(of: Policy, fetch: Fetch) -> Callable[[int], str]:
    @of
    def find(it: int) -> str:
        return fetch(it)

    return find


def test_a_dict() -> None:
    clock, kept, fetch = ManualClock(), dict[Any, Any](), Fetch()
    find = guarded(policy(last_good(cache=kept, max_age=10), clock=clock), fetch)
    find(1)
    assert list(kept.values()) == [("found 1", clock.now())]
    fetch.down = True
    clock.advance(10)
    assert find(1) == "found 1"
    clock.advance(1)
    with pytest.raises(ConnectionError):
        find(1)


def test_policies_can_share_one() -> None:
    kept = dict[Any, Any]()
    first, second = Fetch(), Fetch()
    one = guarded(policy(last_good(cache=kept)), first)
    other = guarded(policy(last_good(cache=kept)), second)
    one(1)
    second.down = True
    with pytest.raises(ConnectionError):
        other(1)
    assert len(kept) == 1


class Text:
    """A cache of strings, as a server of strings is: nothing else goes in."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.written: list[str] = []
        self.busy: Callable[[], object] = lambda: None

    def get(self, key: tuple[str, Any]) -> Any:
        found = self.kept.get(json.dumps(key))
        return None if found is None else json.loads(found)

    def __setitem__(self, key: tuple[str, Any], kept: Any) -> None:
        self.written.append(json.dumps(key))
        self.busy()
        self.kept[json.dumps(key)] = json.dumps(kept)


def test_a_cache_gets_names_and_the_time_of_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000_000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    cache, fetch = Text(), Fetch()
    find = guarded(policy(last_good(cache=cache, key=lambda it: it, max_age=10)), fetch)
    find(1)
    (key,) = cache.kept
    assert json.loads(key)[0].endswith("guarded.<locals>.find")
    assert json.loads(cache.kept[key]) == ["found 1", 1_000_000.0]
    fetch.down = True
    now[0] += 10
    assert find(1) == "found 1"
    now[0] -= 40  # another host's clock is behind
    assert find(1) == "found 1"
    now[0] += 41
    with pytest.raises(ConnectionError):
        find(1)


def test_one_caller_at_a_time_writes_a_key() -> None:
    cache, fetch = Text(), Fetch()
    find = guarded(policy(last_good(cache=cache, key=lambda it: it)), fetch)
    find(0)  # what a first call does comes first
    begun, go_on = threading.Event(), threading.Event()

    def busy() -> None:
        if cache.written[-1].endswith("1]"):
            begun.set()
            assert go_on.wait(60)

    cache.busy = busy
    slow = threading.Thread(target=find, args=(1,))
    slow.start()
    assert begun.wait(60)
    assert [find(1), find(1), find(2)] == ["found 1", "found 1", "found 2"]
    go_on.set()
    slow.join(60)
    assert [each[-2] for each in cache.written] == ["0", "1", "2"]
    find(1)
    assert [each[-2] for each in cache.written] == ["0", "1", "2", "1"]


@pytest.mark.parametrize("broken", ["get", "set", "data", "nan", "inf", "milliseconds"])
def test_a_broken_cache_costs_no_call(broken: str, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Text):
        def get(self, key: Any) -> Any:
            if broken == "get":
                raise OSError("no cache")
            odd = {"nan": float("nan"), "inf": float("inf"), "milliseconds": time.time() * 1000}
            if broken in odd:
                return "of the future", odd[broken]
            return 7 if broken == "data" else super().get(key)

        def __setitem__(self, key: Any, kept: Any) -> None:
            if broken == "set":
                raise OSError("no cache")
            super().__setitem__(key, kept)

    fetch = Fetch()
    of = policy(last_good(cache=Broken(), key=lambda it: it), circuit_breaker())
    find = guarded(of, fetch)
    assert [find(1) for _ in range(3)] == ["found 1"] * 3
    fetch.down = True
    for _ in range(2):
        with pytest.raises(ConnectionError):
            find(1)
    told = of.snapshot()["guards"][0]
    if broken == "set":
        assert (told["not_kept"]["fault"], told["answers"]["missing"]) == (3, 2)
    else:
        assert (told["not_kept"]["fault"], told["answers"]["fault"]) == (0, 2)
    assert len([each for each in caplog.records if "logged once" in each.message]) == 1
    assert told["entries"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_age": 0}, "max_age must be a duration > 0"),
        ({"max_age": "10"}, "max_age must be a duration > 0"),
        ({"max_age": float("nan")}, "max_age must be a duration > 0"),
        ({"max_entries": 0}, "max_entries must be an int from 1 to 1,000,000"),
        ({"max_entries": True}, "max_entries must be an int from 1 to 1,000,000"),
        ({"key": 7}, "key must be a plain function"),
        ({"key": "name"}, "key must be a plain function"),
        ({"copy": 7}, "copy must be a plain function"),
        ({"cache": 7}, r"cache must be an object with get\(key\)"),
        ({"cache": []}, r"cache must be an object with get\(key\)"),
        ({"cache": Text()}, "needs key="),
        ({"cache": {}, "max_entries": 10}, "max_entries must be left out beside cache="),
        ({"on": 7}, "on must be an exception type"),
        ({"max_ages": 7}, "did you mean 'max_age'"),
    ],
)
def test_bad_input_is_named(options: dict[str, Any], said: str) -> None:
    make: Any = last_good
    with pytest.raises((ValueError, TypeError), match=said):
        make(**options)


def test_async_ones_are_refused() -> None:
    class Async(Text):
        async def get(self, key: Any) -> Any:
            return None

    async def key(it: int) -> int:
        return it

    with pytest.raises(TypeError, match="an async one can't be asked here"):
        last_good(cache=Async(), key=lambda it: it)
    with pytest.raises(TypeError, match="key must be a plain function"):
        last_good(key=key)


def test_options_by_position_are_refused() -> None:
    make: Any = last_good
    with pytest.raises(TypeError, match="takes its options by name"):
        make(600)


def test_a_timedelta_will_do() -> None:
    guard = last_good(max_age=timedelta(minutes=1))
    assert isinstance(guard, LastGood)
    assert guard.max_age == 60


def test_a_test_leaves_nothing_behind(policies: Policies) -> None:
    """What a test keeps is gone before the next one; what was kept before it is back."""
    from resilient.testing.policy_snapshot import PolicySnapshot

    fetch = Fetch()
    of = policy(last_good(), timeout(60, sync="cooperative"))
    find = guarded(of, fetch)
    find(1)
    before = PolicySnapshot(of._core)
    find(2)
    for _ in range(2):
        before.put_back()
        assert of.snapshot()["guards"][0]["entries"] == 1
    fetch.down = True
    assert find(1) == "found 1"
    with pytest.raises(ConnectionError):
        find(2)


def test_an_interrupt_at_any_line_leaves_no_entry_behind() -> None:
    """What a signal handler raises may come between any two steps."""
    memory = Memory(3)

    def interrupted(at: int, step: Callable[[], None]) -> bool:
        seen = 0

        def trace(frame: Any, event: str, arg: Any) -> Any:
            nonlocal seen
            if event == "line" and frame.f_code.co_filename.endswith("memory.py"):
                seen += 1
                if seen == at:
                    raise KeyboardInterrupt
            return trace

        sys.settrace(trace)
        try:
            step()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
        return False

    for at in range(1, 40):
        for key in range(6):
            interrupted(at, lambda key=key, at=at: memory.__setitem__((at, key), (0, 0.0)))
    for key in range(4):
        memory[key] = (0, 0.0)
    assert (len(memory._entries), len(memory._order)) == (3, 3)


def test_an_interrupted_write_is_no_write_for_ever() -> None:
    cache = Text()
    fetch = Fetch()
    find = guarded(policy(last_good(cache=cache, key=lambda it: it)), fetch)

    def interrupt() -> None:
        raise KeyboardInterrupt

    cache.busy = interrupt
    with pytest.raises(KeyboardInterrupt):
        find(1)
    cache.busy = lambda: None
    find(1)
    assert len(cache.kept) == 1


def test_keys_whose_hash_changes_do_not_pile_up() -> None:
    class Odd:
        def __init__(self) -> None:
            self.it = 0

        def __hash__(self) -> int:
            return self.it

    of = policy(last_good(max_entries=3))
    find = of(lambda it: it)
    for _ in range(1000):
        odd = Odd()
        find(odd)
        odd.it += 1
    assert of.snapshot()["guards"][0]["entries"] <= 3 + 3 + 64


def test_each_kind_of_fault_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    of = policy(last_good(cache=Text(), key=lambda it: it), circuit_breaker())
    find = of(lambda it: it)
    for it in ([1], object(), [2], object()):
        find(it)
    said = [str(each.exc_info) for each in caplog.records if "logged once" in each.message]
    assert len(said) == 2


def test_threads_keep_and_ask_at_the_same_time() -> None:
    of = policy(last_good(max_entries=5), circuit_breaker(failure_rate=1.0, minimum_calls=10**6))

    @of
    def find(it: int, down: bool) -> int:
        return it

    @of
    def broken(it: int) -> int:
        raise ConnectionError

    def work(number: int) -> None:
        for step in range(2000):
            assert find((number + step) % 9, False) == (number + step) % 9
            if step % 7 == 0:
                assert of.try_call(broken, step).served == "error"

    assert in_threads(4, work) == [None] * 4
    told = of.snapshot()["guards"][0]
    assert told["entries"] <= 5 + 4  # one a thread may be on its way
    guard: Any = of._core.guards[0]
    assert len(guard.values._entries) <= len(guard.values._order)


class RedisCache:
    """The one of docs/guards/last-good.md."""

    def __init__(self, url: str, seconds: int) -> None:
        # Who waits for it waits for a call that has ended: better no value than a slow one.
        self.redis = redis.Redis.from_url(
            url, socket_timeout=0.05, socket_connect_timeout=0.05, retry=None
        )
        self.seconds = seconds

    def get(self, key: Any) -> Any:
        found: Any = self.redis.get(f"shop:last_good:{json.dumps(key)}")
        return None if found is None else json.loads(found)

    def __setitem__(self, key: Any, kept: Any) -> None:
        self.redis.set(f"shop:last_good:{json.dumps(key)}", json.dumps(kept), ex=self.seconds)


def test_a_real_redis_that_comes_and_goes(redis_server: RedisServer) -> None:
    fetch, other = Fetch(), Fetch()
    shared = RedisCache(redis_server.url, 600)
    shared.redis.connection_pool.connection_kwargs["socket_timeout"] = 30  # of a loaded machine

    def made() -> Policy:
        return policy(last_good(cache=shared, key=lambda it: it), circuit_breaker())

    of = made()
    find, elsewhere = guarded(of, fetch), guarded(made(), other)
    assert find(1) == "found 1"
    other.down = True
    assert elsewhere(1) == "found 1"  # kept by another policy, as by another process
    redis_server.kill()
    assert find(2) == "found 2"
    fetch.down = True
    with pytest.raises(ConnectionError):
        find(1)
    told = of.snapshot()["guards"][0]
    assert (told["not_kept"]["fault"], told["answers"]["fault"]) == (1, 1)


def test_far_fewer_entries_than_before_drop_the_oldest_alone() -> None:
    of = policy(last_good(max_entries=1000))
    find = of(lambda it: it)
    for it in range(900):
        find(it)
    of.update(last_good={"max_entries": 2})
    left = 900
    for it in range(900, 912):
        find(it)
        left = max(2, left + 1 - 100)  # a hundred at a time
        assert of.snapshot()["guards"][0]["entries"] == left
    guard: Any = of._core.guards[0]
    assert [key[2][0] for key in guard.values._entries] == [910, 911]


def test_the_oldest_age_is_forgotten_after_two_minutes() -> None:
    clock = ManualClock()
    of = policy(last_good(max_age=100), clock=clock)
    down: list[int] = []

    @of
    def find() -> int:
        if down:
            raise ConnectionError
        return 1

    def oldest() -> float:
        return float(of.snapshot()["guards"][0]["oldest"])

    find()
    down.append(1)
    clock.advance(90)
    find()
    assert oldest() == 90
    clock.advance(59)
    assert oldest() == 90
    down.clear()
    find()
    down.append(1)
    clock.advance(2)
    find()
    assert oldest() == 90  # of the window before
    clock.advance(119)
    assert oldest() == 2
    clock.advance(2)
    assert oldest() == 0
