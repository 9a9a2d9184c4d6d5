"""A policy with keys: each has a circuit breaker, a bulkhead and limits of its own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest
import trio

from resilient import (
    BulkheadFullError,
    CircuitOpenError,
    Event,
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    policy_of,
    rate_limit,
    registry,
    retry,
    timeout,
)  # fmt: skip
from resilient.policy.keyed import KeyedPolicy
from resilient.telemetry.policy_samples import row_of
from resilient.testing import ManualClock
from tests.kit.forks import Fork, in_both
from tests.kit.policies import policy
from tests.kit.waiting import until
from tests.kit.worlds import BACKENDS, run


def by_first(first: Any, *_: Any, **__: Any) -> Any:
    """Return the first argument: the key of most tests."""
    return first


def keyed(
    *guards: Any, max_keys: int = 100, clock: ManualClock | None = None
) -> KeyedPolicy[Policy]:
    """Return a policy with keys, by the first argument."""
    return policy(*guards, clock=clock).keyed(by_first, max_keys=max_keys)


def fail(_: object) -> None:
    """Fail as a dependency does."""
    raise ConnectionError("it is down")


def state(of: KeyedPolicy[Policy], key: object) -> str | None:
    """Return the state of a key, None if it has no guards of its own."""
    seen = of.snapshot(key)
    return None if seen is None else str(seen["state"])


def keys(of: KeyedPolicy[Policy]) -> dict[str, Any]:
    """Return what the policy says of its keys."""
    found: dict[str, Any] = of.policy.snapshot()["keys"]
    return found


def breaks(of: KeyedPolicy[Policy], key: object) -> None:
    """Let the one call fail that opens a key's circuit."""
    with contextlib.suppress(ConnectionError):
        of.call(fail, key)


# -- one key and the others ------------------------------------------------------------------------


def test_a_sick_key_does_not_hurt_the_others() -> None:
    hosts = keyed(circuit_breaker(failure_threshold=1))
    breaks(hosts, "a")
    with pytest.raises(CircuitOpenError) as refused:
        hosts.call(len, "a")
    assert refused.value.key == "a"
    assert f"{hosts.name}[a]: refused by its circuit_breaker" in str(refused.value)
    assert hosts.call(len, "bb") == 2
    assert (state(hosts, "a"), state(hosts, "bb")) == ("open", "closed")
    assert hosts.policy.state == "closed"


def test_each_key_has_slots_of_its_own() -> None:
    hosts = keyed(bulkhead(1))
    with hosts.block("a"), hosts.block("b"):
        for key in "ab":
            with pytest.raises(BulkheadFullError):
                hosts.call(len, key)
    assert hosts.call(len, "a") == 1


def test_each_key_has_a_rate_of_its_own(clock: ManualClock) -> None:
    hosts = keyed(rate_limit(1, 10.0), clock=clock)
    assert [hosts.try_call(len, key).served for key in "aabb"] == ["full", "error"] * 2


def test_what_a_server_asks_for_holds_back_the_retries_of_its_key_alone(clock: ManualClock) -> None:
    """DESIGN: ``Retry-After`` holds back the retries of the policy, or of its key."""
    again = retry(on=ConnectionError, attempts=2, hold=True, retry_after=lambda _: 3.0,
                  wait_initial=0.0, wait_max=5.0)  # fmt: skip
    hosts = keyed(again, clock=clock)
    done = threading.Thread(target=breaks, args=(hosts, "a"), daemon=True)
    done.start()
    while (hosts.snapshot("a") or {"guards": [{"held_for": 0}]})["guards"][0]["held_for"] == 0:
        pass
    assert hosts.snapshot("a")["guards"][0]["held_for"] == 3.0  # type: ignore[index]
    assert hosts.call(len, "b") == 1
    assert hosts.snapshot("b")["guards"][0]["held_for"] == 0.0  # type: ignore[index]
    while done.is_alive():
        clock.advance(1.0)
        done.join(0.01)


def test_fallbacks_and_timeouts_are_shared_and_the_plan_says_what_is_not() -> None:
    hosts = keyed(fallback(value="lesser"), circuit_breaker(failure_threshold=1), timeout(1.0))
    plan = str(hosts.policy)
    assert "one for each key [closed" in plan
    assert plan.count("one for each key") == 1
    assert "keys: 0 of at most 100, 0 not closed" in plan


def test_counts_are_those_of_the_one_policy() -> None:
    hosts = keyed(fallback(value=0, on=CircuitOpenError), circuit_breaker(failure_threshold=1))
    for key in "ab":
        breaks(hosts, key)
        assert hosts.call(len, key) == 0
    seen = hosts.policy.snapshot()
    assert seen["calls"] | {"failure": 2, "refused": 2} == seen["calls"]
    assert seen["served"] | {"degraded": 2, "error": 2} == seen["served"]
    assert [row["key"] for row in seen["keys"]["worst"]] == ["a", "b"]
    assert [row["refused"] for row in seen["keys"]["worst"]] == [1, 1]


# -- shapes ----------------------------------------------------------------------------------------


class Shop:
    """Methods of every kind."""

    def find(self, host: str) -> str:
        return host

    @classmethod
    def of(cls, host: str) -> str:
        return host

    @staticmethod
    def at(host: str) -> str:
        return host


def test_decorated_functions_keep_their_kind_and_signature() -> None:
    hosts = keyed(circuit_breaker(), bulkhead(3))

    @hosts
    def plain(host: str, *, more: int = 1) -> str:
        """Say it."""
        return host

    @hosts
    async def awaited(host: str) -> str:
        return host

    @hosts
    def stream(host: str) -> Iterator[str]:
        yield host
        yield "end"

    @hosts
    async def astream(host: str) -> AsyncIterator[str]:
        yield host
        yield "end"

    async def all_of() -> list[str]:
        return [item async for item in astream("a")]

    assert (plain("a"), plain.__doc__) == ("a", "Say it.")
    assert list(inspect.signature(plain).parameters) == ["host", "more"]
    assert inspect.iscoroutinefunction(awaited)
    assert inspect.isgeneratorfunction(stream)
    assert inspect.isasyncgenfunction(astream)
    assert asyncio.run(awaited("b")) == "b"
    assert trio.run(awaited, "b") == "b"
    assert list(stream("c")) == ["c", "end"]
    assert asyncio.run(all_of()) == trio.run(all_of) == ["a", "end"]
    assert keys(hosts)["known"] == 3
    assert policy_of(plain) is hosts.policy


def test_methods_of_every_kind() -> None:
    hosts = policy(bulkhead(1)).keyed(lambda *args: args[-1])
    for name in ("find", "of", "at"):
        setattr(Shop, name, hosts(vars(Shop)[name]))
    shop = Shop()
    assert (shop.find("a"), shop.of("b"), shop.at("c")) == ("a", "b", "c")
    assert keys(hosts)["known"] == 3


def test_the_end_of_a_context_manager_is_the_end_of_its_slot() -> None:
    hosts = keyed(bulkhead(1))

    @hosts
    @contextlib.contextmanager
    def session(host: str) -> Iterator[str]:
        yield host

    with session("a"), pytest.raises(BulkheadFullError):
        hosts.call(len, "a")
    assert hosts.call(len, "a") == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_async_blocks_and_results(backend: str) -> None:
    hosts = keyed(bulkhead(1))

    async def length(key: str) -> int:
        return len(key)

    async def body() -> list[str]:
        async with hosts.block("a"):
            ends = [await hosts.atry_call(length, key) for key in "ab"]
        return [end.served for end in ends] + [str(await hosts.acall(length, "a"))]

    assert run(backend, body) == ["error", "full", "1"]


def test_a_block_is_for_one_use() -> None:
    hosts = keyed(bulkhead(1))
    block = hosts.block("a")
    with block, pytest.raises(RuntimeError, match="entered before"), block:
        pass
    assert hosts.call(len, "a") == 1
    assert hosts.snapshot("a")["running"] == 0  # type: ignore[index]


def test_a_guard_round_a_function_with_keys_is_refused() -> None:
    hosts = keyed(bulkhead(1))

    @hosts
    def find(host: str) -> str:
        return host

    with pytest.raises(TypeError, match="give its fallback to that policy"):
        fallback(value="")(find)
    with pytest.raises(ValueError, match="is guarded by"):
        hosts(find)


# -- which key -------------------------------------------------------------------------------------


def test_keys_of_one_text_are_one_key() -> None:
    hosts = keyed(circuit_breaker(failure_threshold=1))
    breaks(hosts, 7)
    assert state(hosts, "7") == "open"
    assert hosts.try_call(str, 7).served == hosts.try_call(str, "7").served == "error"


class Nameless:
    """Has no text of its own."""


@pytest.mark.parametrize("key", ["", "x" * 201, Nameless(), "(overflow)"])
def test_a_key_that_is_none_shares_guards_and_is_told_of_once(
    key: object, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = keyed(bulkhead(1))
    with caplog.at_level(logging.ERROR, "resilient"):
        for _ in range(3):
            assert hosts.try_call(bool, key).served == "full"
    assert [row.message for row in caplog.records if "has no key" in row.message] == [
        f"{hosts.name}: a call has no key, and shares its guards with others (logged once)"
    ]
    assert keys(hosts) | {"known": 0, "overflowed": 3} == keys(hosts)


def test_a_key_function_that_raises_never_costs_a_call() -> None:
    hosts = policy(bulkhead(1)).keyed(lambda *_: 1 / 0)
    assert hosts.call(len, "a") == 1
    assert keys(hosts)["overflowed"] == 1


def test_bad_input_is_refused_at_once() -> None:
    shop = policy(fallback(value=1))
    with pytest.raises(ValueError, match="has no guard that each key could have for itself"):
        shop.keyed(by_first)
    shop = policy(bulkhead(1))
    for key in (None, 3, "host"):
        with pytest.raises(TypeError, match="key must be a plain function"):
            shop.keyed(key)  # type: ignore[arg-type]

    async def later(host: str) -> str:
        return host

    with pytest.raises(TypeError, match="key must be a plain function"):
        shop.keyed(later)
    for most in (0, 100_001):
        with pytest.raises(ValueError, match="max_keys must be"):
            shop.keyed(by_first, max_keys=most)
    shop.keyed(by_first, max_keys=5)
    with pytest.raises(ValueError, match="max_keys must be 5"):
        shop.keyed(by_first)
    with pytest.raises(ValueError, match="this is a view"):
        shop.with_(timeout(1.0)).keyed(by_first)


# -- room ------------------------------------------------------------------------------------------


def test_any_number_of_keys_stays_within_the_bound() -> None:
    hosts = keyed(circuit_breaker(), bulkhead(5), max_keys=50)

    @hosts
    def find(host: str) -> str:
        return host

    for number in range(20_000):
        find(f"host-{number}")
    seen = keys(hosts)
    assert (seen["known"], seen["forgotten"], seen["overflowed"]) == (50, 19_950, 0)
    assert len(hosts.policy._core.all_guards()) == 2 * 52  # with the shared ones, and the policy's


def test_an_open_circuit_is_never_forgotten(clock: ManualClock) -> None:
    hosts = keyed(circuit_breaker(failure_threshold=1), max_keys=3, clock=clock)
    breaks(hosts, "sick")
    for number in range(1000):
        hosts.call(len, f"host-{number}")
    assert state(hosts, "sick") == "open"
    assert keys(hosts)["overflowed"] == 0


def test_where_all_are_busy_or_open_further_keys_share_guards_and_are_counted() -> None:
    hosts = keyed(circuit_breaker(failure_threshold=1), bulkhead(1), max_keys=2)
    breaks(hosts, "sick")
    with hosts.block("busy"):
        with hosts.block("third"), pytest.raises(BulkheadFullError) as refused:
            hosts.call(len, "fourth")
        assert refused.value.key == "(overflow)"
        assert (state(hosts, "third"), keys(hosts)["overflowed"]) == (None, 2)
    assert hosts.call(len, "third") == 5
    assert (state(hosts, "third"), state(hosts, "busy")) == ("closed", None)


def test_failures_that_still_count_keep_a_key(clock: ManualClock) -> None:
    hosts = keyed(circuit_breaker(failure_threshold=2), max_keys=1, clock=clock)
    breaks(hosts, "a")
    assert hosts.call(len, "b") == 1
    assert state(hosts, "b") is None
    clock.advance(20.0)
    assert hosts.call(len, "b") == 1
    assert state(hosts, "b") == "closed"


def test_a_quota_in_use_keeps_a_key(clock: ManualClock) -> None:
    """A key can't be forgotten to have another quota."""
    hosts = keyed(rate_limit(1, 60.0, quota=True), max_keys=1, clock=clock)
    ends = [hosts.try_call(len, key).served for key in ("a", "b", "a")]
    assert ends == ["full", "full", "error"]
    clock.advance(60.0)
    assert [hosts.try_call(len, key).served for key in ("b", "a")] == ["full", "full"]
    assert (state(hosts, "a"), state(hosts, "b")) == (None, "closed")


def test_a_stream_keeps_its_key_to_its_end() -> None:
    hosts = keyed(circuit_breaker(failure_threshold=1), max_keys=1)

    @hosts
    def stream(host: str) -> Generator[str, None, None]:
        yield host
        raise ConnectionError

    running = stream("a")
    assert next(running) == "a"
    assert hosts.call(len, "b") == 1
    with pytest.raises(ConnectionError):
        next(running)
    assert state(hosts, "a") == "open"
    other = stream("b")
    next(other)
    other.close()
    assert [each.key.running for each in hosts._table.all()] == [0, 0]


def test_a_manager_and_a_stream_of_a_client_keep_their_key_to_the_end() -> None:
    class Client:
        @contextlib.contextmanager
        def session(self, host: str) -> Iterator[str]:
            yield host

        def items(self, host: str) -> Iterator[str]:
            yield host
            raise ConnectionError

    shop = policy(circuit_breaker(failure_threshold=1), bulkhead(1))
    client = shop.wrap(Client(), key=by_first)
    with client.session("a"):
        seen = shop.snapshot()["keys"]
        assert [(row["key"], row["running"]) for row in seen["worst"]] == []
        assert shop._core.keys is not None
        held = shop._core.keys.states["a"]
        assert (held.key.running, held.is_idle(0.0)) == (1, False)
    assert held.key.running == 0
    items = client.items("c")
    assert next(items) == "c"
    with pytest.raises(ConnectionError):
        next(items)
    with pytest.raises(CircuitOpenError) as error:
        next(client.items("c"))
    assert error.value.key == "c"
    assert shop.state == "closed"


def test_a_block_that_is_dropped_gives_its_place_back() -> None:
    hosts = keyed(circuit_breaker(), max_keys=1)
    block = hosts.block("a")
    block.__enter__()
    del block
    gc.collect()
    assert hosts.call(len, "b") == 1
    assert state(hosts, "a") is None


def test_a_block_left_twice_takes_nothing_from_another_one() -> None:
    hosts = keyed(bulkhead(2))
    with hosts.block("a") as block:
        with hosts.block("a") as other:
            pass
        with pytest.raises(RuntimeError, match="has ended"):
            other.__exit__(None, None, None)
    with pytest.raises(RuntimeError, match="has ended"):
        block.__exit__(None, None, None)
    with pytest.raises(RuntimeError, match="has not begun"):
        hosts.block("a").__exit__(None, None, None)


def test_what_is_made_for_a_key_goes_with_what_was_decorated() -> None:
    hosts = keyed(circuit_breaker())
    for _ in range(20):
        hosts(lambda host: host)("a")
    gc.collect()
    assert len(hosts._table.states["a"].made) <= 2


def test_keys_give_up_their_places_after_an_order_was_released(clock: ManualClock) -> None:
    hosts = keyed(circuit_breaker(), max_keys=3, clock=clock)
    for key in "abc":
        hosts.call(len, key)
    hosts.policy.force_open("INC-1")
    hosts.policy.release()
    assert state(hosts, "a") == "half_open"
    for key in "defg":
        hosts.call(len, key)
        hosts.force_open(key)
        hosts.release(key)
    for number in range(20):
        hosts.call(bool, f"host-{number}")
    assert keys(hosts) | {"known": 3, "overflowed": 0} == keys(hosts)


def test_the_longest_unused_gives_up_its_place() -> None:
    hosts = keyed(bulkhead(1), max_keys=3)
    for key in "abc":
        hosts.call(len, key)
    hosts.call(len, "d")  # all were used since the last look: the first one goes
    hosts.call(len, "b")
    hosts.call(len, "e")
    assert [state(hosts, key) for key in "abcde"] == [None, "closed", None, "closed", "closed"]


def test_a_call_that_takes_a_key_at_that_moment_keeps_it() -> None:
    """A call appends itself, then looks; who forgets looks the other way round."""
    hosts = keyed(bulkhead(1), max_keys=1)
    hosts.call(len, "a")
    mine = hosts._table.states["a"]

    class Racing(list[None]):
        """Gets its user just when the table has decided."""

        looked = 0

        def __bool__(self) -> bool:
            self.looked += 1
            if self.looked == 2:
                self.append(None)
            return len(self) > 0

    mine.users = Racing()
    hosts.call(len, "b")
    assert (hosts._table.states["a"] is mine, mine.usual) == (True, True)
    assert keys(hosts)["overflowed"] == 1


# -- operators -------------------------------------------------------------------------------------


def test_orders_reach_one_key_or_all(events: list[Event]) -> None:
    hosts = keyed(fallback(value=-1, on=CircuitOpenError), circuit_breaker(), bulkhead(1))
    length = hosts(lambda key: len(key))
    assert length("a") == 1
    hosts.force_open("a", "INC-1")
    assert [hosts.call(len, key) for key in ("a", "bb")] == [-1, 2]
    assert [length(key) for key in ("a", "bb")] == [-1, 2]
    hosts.policy.force_open("INC-2")
    assert [hosts.call(len, key) for key in ("a", "bb", "new")] == [-1, -1, -1]
    hosts.policy.release()
    assert [hosts.call(len, key) for key in ("a", "bb")] == [-1, 2]
    hosts.release("a", "over")
    assert hosts.call(len, "a") == length("a") == 1
    told = [(e.kind, e.key, e.reason) for e in events if e.guard == "policy"]
    assert ("forced", "a", "INC-1") in told
    assert ("released", "a", "over") in told
    assert str(next(e for e in events if e.kind == "forced")).startswith(f"{hosts.name}[a]: ")


def test_a_key_is_forced_before_its_first_call_and_without_room() -> None:
    hosts = keyed(bulkhead(1), max_keys=1)
    with hosts.block("busy"):
        hosts.force_open("a", "INC-1")
        error = hosts.try_call(len, "a").error
    assert isinstance(error, CircuitOpenError)
    assert (error.guard, error.key) == ("policy", "a")
    assert str(error) == f"{hosts.name}[a]: refused (forced open: INC-1)"
    assert keys(hosts)["forced"] == {"a": "forced_open"}
    assert hosts.policy.snapshot()["refusals"]["policy"] == 1
    for number in range(300):
        hosts.call(bool, f"host-{number}")
    assert state(hosts, "a") == "forced_open"


def test_a_timed_order_for_a_key_ends_by_itself(clock: ManualClock, events: list[Event]) -> None:
    hosts = keyed(circuit_breaker(), clock=clock)
    hosts.force_open("a", "INC-1", for_=60)
    error = hosts.try_call(len, "a").error
    assert isinstance(error, CircuitOpenError)
    assert error.retry_after == 60
    clock.advance(59.9)
    assert state(hosts, "a") == "forced_open"
    clock.advance(0.2)
    assert state(hosts, "a") == "half_open"
    assert hosts.call(len, "a") == 1
    assert ("released", "a") in [(e.kind, e.key) for e in events]


def test_a_newer_order_is_not_ended_by_the_alarm_of_an_older_one(clock: ManualClock) -> None:
    hosts = keyed(circuit_breaker(), clock=clock)
    hosts.force_open("a", "first", for_=60)
    hosts.force_open("a", "second", for_=120)
    clock.advance(61)
    assert state(hosts, "a") == "forced_open"
    hosts.force_open("a", "for good")
    clock.advance(1000)
    assert state(hosts, "a") == "forced_open"


def test_forced_closed_passes_the_breaker_of_the_key_alone() -> None:
    hosts = keyed(circuit_breaker(failure_threshold=1))
    for key in "ab":
        breaks(hosts, key)
    hosts.force_closed("a", "they say it is up")
    assert hosts.call(len, "a") == 1
    assert hosts.try_call(len, "b").served == "error"
    hosts.release("a")
    assert state(hosts, "a") == "closed"


def test_reset_closes_one_circuit_and_policy_reset_them_all() -> None:
    hosts = keyed(circuit_breaker(failure_threshold=1))
    for key in "ab":
        breaks(hosts, key)
    hosts.reset("a", "mended")
    assert (state(hosts, "a"), state(hosts, "b")) == ("closed", "open")
    hosts.policy.reset()
    assert state(hosts, "b") == "closed"
    with pytest.raises(LookupError, match="has no key 'nobody'"):
        hosts.reset("nobody")


def test_changed_options_reach_every_key_and_later_ones() -> None:
    hosts = keyed(circuit_breaker(failure_threshold=5), bulkhead(3), max_keys=2)
    for key in "ab":
        hosts.call(len, key)
    breaks(hosts, "a")
    hosts.policy.update(circuit_breaker={"failure_threshold": 2}, bulkhead={"max_concurrent": 1})
    breaks(hosts, "a")
    assert state(hosts, "a") == "open"
    for key in "bcd":
        with hosts.block(key), pytest.raises(BulkheadFullError):
            hosts.call(len, key)


def test_predicates_are_those_of_the_policy() -> None:
    def never(_: Exception) -> bool:
        raise RuntimeError("a bug")

    hosts = keyed(circuit_breaker(failure_threshold=1, ignore=(KeyError,)), bulkhead(2))
    for _ in range(3):
        with contextlib.suppress(KeyError):
            hosts.call(dict[str, int]().__getitem__, "a")
    assert state(hosts, "a") == "closed"
    hosts = keyed(circuit_breaker(on=never))
    breaks(hosts, "a")
    breaks(hosts, "b")
    assert hosts.policy.snapshot()["predicate_errors"] == 2


# -- what is seen ----------------------------------------------------------------------------------


def sample(of: KeyedPolicy[Policy], name: str, *labels: str) -> float:
    """Return one number of the policy's row."""
    found, row = row_of(of.policy._core)
    at = {(m.name, values): n for n, (m, values) in enumerate(found.tail, found.heads)}
    return row[at[name, labels]]


def test_one_row_in_metrics_has_the_sums_of_all_keys() -> None:
    hosts = keyed(circuit_breaker(failure_threshold=1), bulkhead(4), max_keys=5)
    for key in "abc":
        breaks(hosts, key)
    for number in range(20):
        hosts.call(len, f"host-{number}")
    assert sample(hosts, "breaker_workers", "open") == 3
    assert sample(hosts, "breaker_transitions_total", "open", "auto") == 3
    assert sample(hosts, "keys") == 5
    assert sample(hosts, "keys_forgotten_total") == 18
    with hosts.block("a2"):
        assert sample(hosts, "slots_used") == 1
    assert sample(hosts, "slots_used") == 0
    assert len([row for row in registry.snapshot()["policies"] if row == hosts.name]) == 1


def test_counters_never_fall_when_a_key_is_forgotten(clock: ManualClock) -> None:
    hosts = keyed(circuit_breaker(failure_threshold=1, recovery_timeout=1.0), max_keys=1,
                  clock=clock)  # fmt: skip
    breaks(hosts, "a")
    clock.advance(1.0)
    assert hosts.call(len, "a") == 1
    before = sample(hosts, "breaker_transitions_total", "open", "auto")
    hosts.call(len, "b")
    assert state(hosts, "a") is None
    assert sample(hosts, "breaker_transitions_total", "open", "auto") == before == 1


def test_events_of_its_guards_name_the_key(events: list[Event]) -> None:
    hosts = keyed(circuit_breaker(failure_threshold=1))
    breaks(hosts, "a")
    hosts.try_call(len, "a")
    assert [(e.kind, e.policy, e.key) for e in events if e.policy == hosts.name] == [
        ("opened", hosts.name, "a"), ("refused", hosts.name, "a"),
    ]  # fmt: skip


def test_an_error_with_a_key_survives_a_pickle() -> None:
    import pickle

    hosts = keyed(circuit_breaker(failure_threshold=1))
    breaks(hosts, "a")
    error = hosts.try_call(len, "a").error
    assert isinstance(error, CircuitOpenError)
    assert pickle.loads(pickle.dumps(error)).key == "a"


# -- threads and forks -----------------------------------------------------------------------------


def test_threads_share_one_state_a_key() -> None:
    hosts = keyed(bulkhead(100), max_keys=3)
    begin, seen = threading.Barrier(8), list[Any]()

    def work() -> None:
        begin.wait()
        for number in range(500):
            with hosts.block(f"k{number % 7}"):
                pass
        seen.append(True)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert [len(each.users) for each in hosts._table.all()] == [0] * 4
    assert [guard.used for each in hosts._table.all() for guard in each.own] == [0] * 4  # type: ignore[attr-defined]


def test_a_child_keeps_its_keys_and_their_circuits_and_none_of_the_calls() -> None:
    hosts = keyed(circuit_breaker(failure_threshold=1), bulkhead(1))
    breaks(hosts, "sick")
    hosts.call(len, "a")
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with hosts.block("a"):
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    entered.wait(30)

    def scene(fork: Fork) -> dict[str, Any]:
        fork()
        return {
            "sick": hosts.try_call(len, "sick").served,
            "a": hosts.try_call(len, "a").served,
            "running": hosts.snapshot("a")["running"],  # type: ignore[index]
        }

    parent, child = in_both(scene)
    leave.set()
    thread.join()
    assert child == {"sick": "error", "a": "full", "running": 0}
    assert parent == {"sick": "error", "a": "error", "running": 1}
    assert hosts.snapshot("a")["running"] == 0  # type: ignore[index]


def test_a_timed_order_for_a_key_ends_in_a_child_too() -> None:
    hosts = keyed(circuit_breaker())
    hosts.force_open("a", for_=0.05)

    def scene(fork: Fork) -> bool:
        fork()
        until(lambda: hosts.try_call(len, "a").served == "full")
        return True

    assert in_both(scene) == (True, True)


def test_a_child_counts_anew_and_has_the_newest_options() -> None:
    hosts = keyed(circuit_breaker(failure_threshold=1), max_keys=1)
    hosts.call(len, "a")
    hosts.call(len, "b")
    own: Any = hosts._table.states["b"].own[0]
    base: Any = hosts.policy.guards[0]
    hosts.policy.update(circuit_breaker={"failure_threshold": 7})
    own._revision, own.health.failure_threshold = 0, 1  # as if the fork had come in between

    def scene(fork: Fork) -> list[Any]:
        fork()
        seen = hosts.snapshot("b")
        assert seen is not None
        return [keys(hosts)["forgotten"], seen["guards"][0]["options"]["failure_threshold"]]

    assert in_both(scene) == ([1, 1], [0, 7])
    assert base.health.failure_threshold == 7


def test_options_that_change_twice_at_once_end_alike() -> None:
    """An update looks again at what the policy has, once it holds the lock."""
    hosts = keyed(bulkhead(1))
    hosts.call(len, "a")
    base: Any = hosts.policy.guards[0]
    anew, raced = type(base).anew, list[bool]()

    def slow(guard: Any) -> Any:
        made = anew(guard)
        if guard is base and not raced:
            raced.append(True)
            hosts.policy.update(bulkhead={"max_concurrent": 9})
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(base), "anew", slow)
        hosts.policy.update(bulkhead={"max_concurrent": 5})
    every = [hosts.policy.guards[0], *(each.own[0] for each in hosts._table.all())]
    assert [guard.options()["max_concurrent"] for guard in every] == [9, 9, 9]


def test_a_counter_is_read_once_while_its_key_is_forgotten(clock: ManualClock) -> None:
    hosts = keyed(circuit_breaker(failure_threshold=1, recovery_timeout=1.0), max_keys=1,
                  clock=clock)  # fmt: skip
    breaks(hosts, "a")
    clock.advance(1.0)
    hosts.call(len, "a")
    table, measured = hosts._table, hosts._table.measured

    def forgotten_meanwhile() -> Any:
        seen = measured()
        table.core.locked(table._find, "b", clock.now())
        return seen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "measured", forgotten_meanwhile)
        assert sample(hosts, "breaker_transitions_total", "open", "auto") == 1
    assert sample(hosts, "breaker_transitions_total", "open", "auto") == 1


def test_gauges_follow_changes_without_calls() -> None:
    hosts = keyed(circuit_breaker(), bulkhead(4))
    hosts.call(len, "a")
    assert sample(hosts, "limit") == 8  # its own, and that of the policy itself
    hosts.policy.update(bulkhead={"max_concurrent": 5})
    assert sample(hosts, "limit") == 10
    hosts.policy.force_open()
    hosts.policy.release()
    assert sample(hosts, "breaker_workers", "half_open") == 1


def test_a_text_that_is_no_plain_str_never_costs_a_call() -> None:
    class Odd(str):
        __hash__ = None  # type: ignore[assignment]
        __slots__ = ()

    class Named:
        def __str__(self) -> str:
            return Odd("a")

    hosts = keyed(bulkhead(1))
    assert hosts.call(bool, Named()) is True
    assert state(hosts, "a") == "closed"
    hosts.policy.force_open()
    assert "[a?b]" in str(hosts.try_call(bool, "a\nb").error)


def test_a_policy_given_keys_by_two_functions_has_one_table() -> None:
    shop = Policy("two-ways", circuit_breaker(failure_threshold=1))
    one, other = shop.keyed(by_first), shop.keyed(lambda _, second: second)
    breaks(one, "a")
    assert other.try_call(max, "x", "a").served == "error"
    shop.drop()


def test_a_misspelt_key_is_gone_once_it_is_released() -> None:
    """No call would ever close it; one that had calls is half-open, as a policy is."""
    hosts = keyed(circuit_breaker())
    hosts.call(len, "a")
    for key in ("a", "misspelt"):
        hosts.force_open(key, "INC-1")
        hosts.release(key)
    assert hosts.snapshot("misspelt") is None
    assert part_of(hosts, "a")["state"] == "half_open"
    assert [row["key"] for row in keys(hosts)["worst"]] == ["a"]


def part_of(hosts: Any, key: str) -> Any:
    """Return what is known of a key."""
    seen = hosts.snapshot(key)
    assert seen is not None
    return seen


def test_what_no_call_goes_through_is_closed_when_its_policy_is_released() -> None:
    """The policy's own circuit, and the shared one: nothing else would ever close them."""
    hosts = keyed(circuit_breaker())
    hosts.call(len, "a")
    hosts.policy.force_open("INC-1")
    assert hosts.policy.state == "forced_open"
    hosts.policy.release()
    assert hosts.policy.state == "closed"
    assert part_of(hosts, "a")["state"] == "half_open"
    assert keys(hosts)["not_closed"] == 1


def test_a_policy_that_is_called_without_a_key_too_probes() -> None:
    hosts = keyed(circuit_breaker())
    hosts.policy.call(len, "a")
    hosts.policy.force_open("INC-1")
    hosts.policy.release()
    assert hosts.policy.state == "half_open"


def test_the_shared_guards_are_counted_once_calls_share_them() -> None:
    hosts = keyed(circuit_breaker(failure_threshold=1), max_keys=1)
    hosts.policy.force_open("INC-1")
    assert keys(hosts)["not_closed"] == 0
    hosts.policy.release()
    hosts.call(len, "a")
    breaks(hosts, "a")
    assert keys(hosts)["not_closed"] == 1
    breaks(hosts, "b")
    assert [row["key"] for row in keys(hosts)["worst"]] == ["(overflow)", "a"]
