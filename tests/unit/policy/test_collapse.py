"""Callers who ask the same at the same time share one call; keys are gathered in batches."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any

import anyio
import pytest

import resilient
from resilient import (
    CallTimeoutError,
    Policy,
    circuit_breaker,
    collapse,
    fallback,
    policy_of,
    timeout,
)  # fmt: skip
from resilient.engine.flights import Flight, Flights, answers_of, distinct
from resilient.telemetry.policy_samples import row_of
from resilient.testing import ManualClock
from tests.kit.forks import Fork, in_both
from tests.kit.policies import policy
from tests.kit.waiting import WAIT, until
from tests.kit.worlds import BACKENDS, run


class Held:
    """A function whose calls last until the test ends them."""

    def __init__(self) -> None:
        self.calls = 0
        self.leave = threading.Event()
        self.error: BaseException | None = None

    def __call__(self, key: Any) -> Any:
        self.calls += 1
        assert self.leave.wait(WAIT)
        if self.error is not None:
            raise self.error
        return [key]


def in_threads(fn: Callable[[], Any], many: int) -> tuple[list[threading.Thread], list[Any]]:
    """Call fn in so many threads; return them, and the list that gets their ends."""
    ends: list[Any] = []

    def work() -> None:
        try:
            ends.append(fn())
        except BaseException as error:
            ends.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(many)]
    for thread in threads:
        thread.start()
    return threads, ends


def joined(of: Any) -> int:
    """Return how many callers wait in the one flight of a function."""
    flights = next(c.cell_contents for c in of.__closure__ if hasattr(c.cell_contents, "open"))
    return sum(len(flight._wakes) for flight in list(flights.open.values()))


def ended(threads: list[threading.Thread]) -> None:
    """Wait for threads."""
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()


# -- single flight: threads ------------------------------------------------------------------------


def test_threads_share_one_call_and_get_the_same_object() -> None:
    held = Held()
    shop = policy(circuit_breaker())
    find = collapse(shop(lambda key: held(key)))
    threads, ends = in_threads(lambda: find("a"), 5)
    until(lambda: joined(find) == 4)
    held.leave.set()
    ended(threads)
    assert (held.calls, ends) == (1, [["a"]] * 5)
    assert len({id(end) for end in ends}) == 1
    seen = shop.snapshot()
    assert (seen["calls"]["success"], seen["collapsed"]) == (1, {"shared": 4, "batches": None})
    assert find("a") == ["a"]
    assert held.calls == 2


def test_other_arguments_are_another_call_and_how_they_are_given_is_not() -> None:
    seen: list[Any] = []
    held = threading.Event()

    @collapse
    def find(key: Any, more: int = 1) -> Any:
        seen.append((key, more))
        assert held.wait(WAIT)
        return key

    asked = [("a",), ("b",), (1,), (True,), (1.0,), ("a", 2)]
    groups = [in_threads(lambda args=args: find(*args), 1) for args in asked]  # type: ignore[misc]
    groups.append(in_threads(lambda: find(key="a", more=1), 1))
    until(lambda: len(seen) == 6 and joined(find) == 1)
    held.set()
    for threads, _ in groups:
        ended(threads)
    assert len(seen) == 6


@pytest.mark.parametrize("guarded", [False, True])
def test_how_arguments_are_given_does_not_matter_under_guards_either(guarded: bool) -> None:
    """What the callers share is one call of the policies, whose functions hide their names."""
    held, calls = threading.Event(), list[Any]()

    def find(key: str, lang: str = "en") -> tuple[str, str]:
        calls.append(key)
        assert held.wait(WAIT)
        return key, lang

    outer: Any = fallback(value=None, on=KeyError)(policy(circuit_breaker())(find))
    shared: Any = collapse(outer if guarded else find)
    ways = [partial(shared, "a"), partial(shared, key="a"), partial(shared, "a", "en"),
            partial(shared, lang="en", key="a")]  # fmt: skip
    first, ends = in_threads(ways[0], 1)
    until(lambda: len(calls) == 1)
    groups = [in_threads(way, 1) for way in ways[1:]]
    until(lambda: joined(shared) == 3)
    held.set()
    for threads, more in [(first, ends), *groups]:
        ended(threads)
        assert more == [("a", "en")]
    assert calls == ["a"]


def test_each_caller_gets_an_error_of_its_own() -> None:
    held = Held()
    held.error = KeyError("gone")
    find = collapse(held.__call__)
    threads, ends = in_threads(lambda: find("a"), 3)
    until(lambda: joined(find) == 2)
    held.leave.set()
    ended(threads)
    assert [type(end) for end in ends] == [KeyError] * 3
    assert len({id(end) for end in ends}) == 3
    assert held.error in ends


def test_an_error_that_can_not_be_copied_is_shared() -> None:
    class Odd(Exception):
        def __copy__(self) -> Any:
            raise RuntimeError

    flight = Flight()
    number = flight.join(lambda: None)
    flight.end(None, Odd("x"))
    with pytest.raises(Odd) as raised:
        flight.answer(number, own=False)
    assert raised.value is flight.error


def test_an_interrupt_of_the_first_caller_is_its_own() -> None:
    """Another caller makes the call then."""
    calls: list[int] = []
    begun, go = threading.Event(), threading.Event()

    @collapse
    def find(key: str) -> str:
        calls.append(1)
        if len(calls) == 1:
            begun.set()
            assert go.wait(WAIT)
            raise KeyboardInterrupt
        return key

    first, ends = in_threads(lambda: find("a"), 1)
    assert begun.wait(WAIT)
    others, more = in_threads(lambda: find("a"), 3)
    until(lambda: joined(find) == 3)
    go.set()
    ended(first + others)
    assert [type(end) for end in ends] == [KeyboardInterrupt]
    assert (more, len(calls) <= 4) == (["a"] * 3, True)


def test_a_follower_waits_no_longer_than_its_own_deadline_and_the_call_goes_on() -> None:
    held = Held()
    find = collapse(held.__call__)
    first, ends = in_threads(lambda: find("a"), 1)
    until(lambda: held.calls == 1)
    hurried = policy(timeout(0.01, sync="cooperative"))
    with pytest.raises(CallTimeoutError):
        hurried.call(find, "a")
    held.leave.set()
    ended(first)
    assert (ends, held.calls) == ([["a"]], 1)


def test_the_shared_call_has_no_deadline_of_its_first_caller() -> None:
    seen: list[Any] = []
    find = collapse(lambda key: seen.append(resilient.remaining()))
    policy(timeout(5.0, sync="cooperative")).call(find, "a")
    assert seen == [None]


def test_a_call_inside_itself_does_not_wait_for_itself() -> None:
    @collapse
    def count(down: int) -> int:
        return 0 if down == 0 else count_again(down)

    def count_again(down: int) -> int:
        return 1 + (count(down) if not again.append(1) and len(again) < 3 else 0)  # type: ignore[func-returns-value]

    again: list[int] = []
    assert count(7) == 3


def test_what_can_not_be_hashed_is_called_alone() -> None:
    find = collapse(lambda key: key)
    assert find(["a"]) == ["a"]
    by_name = collapse(key=lambda row: row["id"])(lambda row: row["id"])
    assert by_name({"id": 7}) == 7


def test_in_a_thread_with_a_running_loop_it_never_waits() -> None:
    """It would stop the tasks that the other caller may be waiting for."""
    held = Held()
    find = collapse(lambda key: held(key))
    threads, _ = in_threads(lambda: find("a"), 1)
    until(lambda: held.calls == 1)

    async def main() -> Any:
        threading.Timer(0.05, held.leave.set).start()
        return find("a")

    assert asyncio.run(main()) == ["a"]
    ended(threads)
    assert held.calls == 2


def test_a_child_does_not_wait_for_a_thread_of_its_parent() -> None:
    held = Held()
    find = collapse(lambda key: held(key))
    threads, _ = in_threads(lambda: find("a"), 1)
    until(lambda: held.calls == 1)

    def scene(fork: Fork) -> Any:
        if fork():
            held.leave.set()
            return find("a")
        return "parent"

    assert in_both(scene) == ("parent", ["a"])
    held.leave.set()
    ended(threads)


# -- single flight: tasks --------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_tasks_share_one_call(backend: str) -> None:
    calls, ends = list[str](), list[Any]()

    async def main() -> None:
        go = anyio.Event()

        @collapse
        async def find(key: str) -> str:
            calls.append(key)
            await go.wait()
            if key == "bad":
                raise KeyError(key)
            return key

        async def one(key: str) -> None:
            try:
                ends.append(await find(key))
            except KeyError as error:
                ends.append(error)

        async with anyio.create_task_group() as group:
            for key in ("a", "a", "b", "bad", "bad"):
                group.start_soon(one, key)
            await anyio.wait_all_tasks_blocked()
            go.set()

    run(backend, main)
    assert sorted(calls) == ["a", "b", "bad"]
    assert sorted(map(str, ends)) == ["'bad'", "'bad'", "a", "a", "b"]
    assert len({id(end) for end in ends if isinstance(end, KeyError)}) == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_caller_who_leaves_stops_nobody_and_the_last_one_ends_the_call(backend: str) -> None:
    told: list[str] = []

    async def main() -> None:
        go = anyio.Event()

        @collapse
        async def find(key: str) -> str:
            try:
                await go.wait()
            except BaseException:
                told.append("cancelled")
                raise
            finally:
                told.append("cleaned")
            return key

        async def patient() -> None:
            told.append(await find("a"))

        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as first:
                group.start_soon(leave, first, lambda: group.start_soon(patient))
                await find("a")
            assert first.cancelled_caught
            assert told == []
            go.set()
        assert told == ["cleaned", "a"]
        go = anyio.Event()
        with anyio.CancelScope() as last:
            async with anyio.create_task_group() as group:
                group.start_soon(leave, last, lambda: None)
                await find("a")
        assert told[2:] == ["cancelled", "cleaned"]

    async def leave(scope: anyio.CancelScope, before: Callable[[], object]) -> None:
        await anyio.wait_all_tasks_blocked()
        before()
        await anyio.wait_all_tasks_blocked()
        scope.cancel()

    run(backend, main)


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_has_the_first_callers_context_without_its_deadline(backend: str) -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")
    seen: list[Any] = []

    @collapse
    async def find(key: str) -> None:
        seen.append((who.get(), resilient.remaining()))
        who.set("body")

    async def main() -> None:
        who.set("ana")
        await policy(timeout(5.0)).acall(find, "a")
        seen.append(who.get())

    run(backend, main)
    assert seen == [("ana", None), "ana"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_async_call_inside_itself_does_not_wait_for_itself(backend: str) -> None:
    @collapse
    async def find(key: str) -> int:
        depth.append(1)
        return len(depth) if len(depth) > 2 else await find(key)

    depth: list[int] = []
    assert run(backend, find, "a") == 3


def test_two_loops_share_nothing() -> None:
    calls: list[int] = []
    begin = threading.Barrier(2)

    @collapse
    async def find(key: str) -> str:
        calls.append(1)
        await asyncio.to_thread(begin.wait, WAIT)
        return key

    threads, ends = in_threads(lambda: asyncio.run(find("a")), 2)
    ended(threads)
    assert (ends, len(calls)) == (["a", "a"], 2)


def test_a_body_that_cancels_itself_is_cancelled_for_all_and_once() -> None:
    calls: list[int] = []

    @collapse
    async def find(key: str) -> None:
        calls.append(1)
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    async def main() -> list[Any]:
        return list(await asyncio.gather(find("a"), find("a"), return_exceptions=True))

    assert [type(end) for end in asyncio.run(main())] == [asyncio.CancelledError] * 2
    assert len(calls) == 1


def test_nothing_is_kept_of_a_call_that_is_over() -> None:
    class Big:
        pass

    @collapse
    def find(key: str) -> Big:
        return Big()

    ref = weakref.ref(find("a"))
    gc.collect()
    assert ref() is None


# -- batches ---------------------------------------------------------------------------------------


def test_keys_of_threads_are_gathered_and_repeats_asked_for_once() -> None:
    asked: list[list[Any]] = []

    @collapse(within=5.0, max_batch=4)
    def names(ids: list[int]) -> dict[int, Any]:
        asked.append(ids)
        return {each: KeyError(each) if each == 2 else f"name {each}" for each in ids if each < 9}

    ends: dict[int, Any] = {}

    def ask(number: int, key: int) -> None:
        try:
            ends[number] = names(key)
        except LookupError as error:
            ends[number] = error

    threads = [threading.Thread(target=ask, args=each) for each in enumerate((1, 2, 1, 9))]
    for thread in threads:
        thread.start()
    ended(threads)
    assert [sorted(each) for each in asked] == [[1, 2, 9]]
    assert (ends[0], ends[2], type(ends[1])) == ("name 1", "name 1", KeyError)
    assert "the batch has no answer for 9" in str(ends[3])


@pytest.mark.parametrize("backend", BACKENDS)
def test_keys_of_tasks_are_gathered(backend: str) -> None:
    asked: list[list[Any]] = []
    got: list[int] = []

    async def main() -> None:
        @collapse(within=60.0, max_batch=3)
        async def twice(ids: list[int]) -> list[int]:
            asked.append(ids)
            return [2 * each for each in ids]

        async def one(key: int) -> None:
            got.append(await twice(key))

        async with anyio.create_task_group() as group:
            for key in range(6):
                group.start_soon(one, key)

    run(backend, main)
    assert (sorted(map(len, asked)), sorted(got)) == ([3, 3], [0, 2, 4, 6, 8, 10])


@pytest.mark.parametrize("backend", BACKENDS)
def test_who_leaves_before_the_batch_begins_is_not_asked_for(backend: str) -> None:
    asked: list[list[Any]] = []
    clock = ManualClock()
    shop = policy(circuit_breaker(), clock=clock)

    async def main() -> None:
        @collapse(within=1.0)
        @shop
        async def echo(ids: list[int]) -> list[int]:
            asked.append(ids)
            return ids

        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as inner:
                    inner.start_soon(echo, 1)
                    await anyio.wait_all_tasks_blocked()
                    group.start_soon(echo, 2)
                    await anyio.wait_all_tasks_blocked()
                    scope.cancel()
            await anyio.wait_all_tasks_blocked()
            clock.advance(1.0)

    run(backend, main)
    assert asked == [[2]]
    assert shop.snapshot()["collapsed"] == {"shared": 1, "batches": 1}


def test_a_batch_waits_by_the_policys_clock() -> None:
    clock = ManualClock()
    shop = policy(circuit_breaker(), clock=clock)

    def given(ids: list[int]) -> list[int]:
        return ids

    echo = collapse(within=10.0)(shop(given))
    threads, ends = in_threads(lambda: echo(7), 1)
    until(lambda: joined(echo) == 1)
    clock.advance(9.9)
    assert ends == []
    clock.advance(0.1)
    ended(threads)
    assert ends == [7]


def test_a_method_has_a_batch_for_each_object() -> None:
    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        @collapse(within=0.001)
        def find(self, ids: Any) -> Any:
            return [f"{self.name}{each}" for each in ids]

    one, other = Shop("a"), Shop("b")
    threads, ends = in_threads(lambda: one.find(1), 2)
    more, others = in_threads(lambda: other.find(1), 2)
    ended(threads + more)
    assert (ends, others) == (["a1"] * 2, ["b1"] * 2)


@pytest.mark.parametrize(
    ("got", "said"),
    [
        ([1], "one answer for each key"), (7, "must give a mapping"), ("ab", "must give a mapping"),
    ],
)  # fmt: skip
def test_a_batch_function_that_answers_wrongly_is_told_so(got: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        answers_of("f", [1, 2], got)


def test_distinct_keys_keep_their_types_and_what_can_not_be_hashed_stands_for_itself() -> None:
    assert distinct([1, True, 1.0, 1, [2], [2]]) == (
        [1, True, 1.0, [2], [2]], [0, 1, 2, 0, 3, 4],
    )  # fmt: skip


class Incomparable:
    """A key that can be hashed, and compared with nothing."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise ValueError("compared")


def test_keys_that_can_not_be_compared_stand_for_themselves() -> None:
    one, other = Incomparable(), Incomparable()
    found, places = distinct([one, other])
    assert found[0] is one
    assert found[1] is other
    assert places == [0, 1]


# -- interrupts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interrupt_in_a_shared_call_is_its_first_callers_alone(backend: str) -> None:
    calls, ends = [], []

    @collapse
    async def find(key: str) -> str:
        calls.append(key)
        await anyio.sleep(0.01)
        if len(calls) == 1:
            raise SystemExit(3)
        return key

    async def ask() -> None:
        try:
            ends.append(await find("a"))
        except SystemExit as error:
            ends.append(error.code)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask)

    run(backend, main)
    assert sorted(map(str, ends)) == ["3", "a", "a"]
    assert calls == ["a", "a"]


def test_an_interrupt_between_the_body_and_its_end_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = collapse(lambda key: key)
    end = Flight.end

    def interrupted(flight: Flight, *given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Flight, "end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find("a")
    monkeypatch.setattr(Flight, "end", end)
    threads, ends = in_threads(lambda: find("a"), 2)
    ended(threads)
    assert ends == ["a", "a"]


def test_a_call_from_a_flight_that_has_ended_joins_the_next_one() -> None:
    """Its number is that of its flight alone: an id would be given again."""
    assert Flight().serial < Flight().serial
    contexts: list[Any] = []
    find = collapse(lambda key: contexts.append(copy_context()) or key)
    find("a")
    held = Held()
    other = collapse(held.__call__)
    threads, ends = in_threads(lambda: other("a"), 1)
    until(lambda: held.calls == 1)
    more, others = in_threads(lambda: contexts[0].run(other, "a"), 1)
    until(lambda: joined(other) == 1)
    held.leave.set()
    ended(threads + more)
    assert (held.calls, ends + others) == (1, [["a"]] * 2)


def test_an_interrupt_at_its_end_has_those_who_wait_begin_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = Held()
    find = collapse(held.__call__)
    first: list[Any] = []
    leading = threading.Thread(target=lambda: first.append(_interrupted(find)), daemon=True)
    leading.start()
    until(lambda: held.calls == 1)
    threads, ends = in_threads(lambda: find("a"), 2)
    until(lambda: joined(find) == 2)
    end = Flight.end

    def interrupted(flight: Flight, *given: Any) -> None:
        monkeypatch.setattr(Flight, "end", end)
        raise KeyboardInterrupt

    monkeypatch.setattr(Flight, "end", interrupted)
    held.leave.set()
    ended([leading, *threads])
    assert (first, ends) == ([True], [["a"]] * 2)


def _interrupted(fn: Callable[[str], Any]) -> bool:
    try:
        fn("a")
    except KeyboardInterrupt:
        return True
    return False


def test_others_who_fill_a_batch_before_its_first_caller_waits_get_their_own_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first caller's number is its own, however early the others come."""
    echo = collapse(within=10.0, max_batch=3)(lambda ids: list(ids))
    of, others = Flights.of, list[Any]()
    ends: list[Any] = []

    def published(flights: Flights, place: Any, fresh: Flight) -> Flight:
        flight = of(flights, place, fresh)
        monkeypatch.setattr(Flights, "of", of)
        for key in "bc":
            threads, answers = in_threads(partial(echo, key), 1)
            others.extend(threads)
            ends.append(answers)
            until(lambda: len(flight.keys) == len(others) + 1)
        return flight

    monkeypatch.setattr(Flights, "of", published)
    assert echo("a") == "a"
    ended(others)
    assert ends == [["b"], ["c"]]


@pytest.mark.parametrize("how", ["unhashable", "raises"])
def test_a_call_that_can_not_be_told_apart_is_made_alone_and_logged_once(
    caplog: pytest.LogCaptureFixture, how: str
) -> None:
    def key(given: dict[str, int]) -> Any:
        raise LookupError("no key")

    find = collapse(key=key if how == "raises" else None)(lambda given: sorted(given))
    assert [find({"a": 1}), find({"b": 1})] == [["a"], ["b"]]
    assert len([each for each in caplog.records if "made alone" in each.message]) == 1


def test_a_task_that_can_not_begin_leaves_no_flight() -> None:
    calls: list[int] = []

    @collapse
    async def find(key: str) -> str:
        calls.append(1)
        return key

    def refuses(loop: Any, coroutine: Any, **more: Any) -> Any:
        coroutine.close()
        raise RuntimeError("no more tasks")

    async def main() -> str:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(refuses)
        with pytest.raises(RuntimeError, match="no more tasks"):
            await find("a")
        loop.set_task_factory(None)
        return await asyncio.wait_for(find("a"), WAIT)

    assert asyncio.run(main()) == "a"
    assert len(calls) == 1


# -- the decorator ---------------------------------------------------------------------------------


def test_the_policy_that_counts_what_has_none_is_kept() -> None:
    find = collapse(len)
    gc.collect()
    find("abc")
    found = policy_of(find)
    assert found is not None
    assert found.snapshot()["collapsed"] == {"shared": 0, "batches": None}


def test_functions_keep_their_kind_and_their_policy() -> None:
    shop = policy(circuit_breaker())

    @collapse
    @shop
    async def find(key: str) -> str:
        """Find it."""
        return key

    assert inspect.iscoroutinefunction(find)
    assert (find.__doc__, policy_of(find)) == ("Find it.", shop)
    plain = collapse(len)
    assert plain("abc") == 3
    outer = fallback(value="")(find)
    assert asyncio.run(outer("a")) == "a"


def test_classmethods_and_staticmethods() -> None:
    class Shop:
        @collapse
        @classmethod
        def of(cls, key: str) -> str:
            return key

        @collapse
        @staticmethod
        def at(key: str) -> str:
            return key

    assert (Shop.of("a"), Shop().at("b")) == ("a", "b")


def test_bad_input_is_refused_at_once() -> None:
    def stream(key: str) -> Iterator[str]:
        yield key

    @contextlib.contextmanager
    def session(key: str) -> Iterator[str]:
        yield key

    for fn, what in ((stream, "a stream"), (session, "a context manager")):
        with pytest.raises(TypeError, match=what):
            collapse(fn)
    for given, error, said in (
        ({"max_batch": 3}, ValueError, "with within"),
        ({"within": 0.1, "key": len}, ValueError, "left out with within"),
        ({"within": -1}, ValueError, "within must be"),
        ({"within": 0.1, "max_batch": 0}, ValueError, "max_batch must be"),
        ({"key": 3}, TypeError, "key must be a plain function"),
        ({"keys": 3}, TypeError, "did you mean"),
    ):
        with pytest.raises(error, match=said):
            collapse(**given)  # type: ignore[call-overload]
    for wrong in (dict, lambda: {"ids": 3}):
        with pytest.raises(TypeError, match="called with one key, by its place"):
            collapse(within=0.1)(lambda ids: ids)(**wrong())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="guards must be guards"):
        Policy("no-guard", collapse())  # type: ignore[arg-type]


def test_metrics_say_how_many_calls_were_shared() -> None:
    shop = policy(circuit_breaker())
    collapse(within=0.001)(shop(lambda ids: ids))(7)
    found, row = row_of(shop._core)
    shown = {m.name: row[at] for at, (m, _) in enumerate(found.tail, found.heads)}
    assert (shown["collapsed_total"], shown["batches_total"]) == (0.0, 1.0)
