"""Loops whose body is an attempt, in sync and async code."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from resilient import Policy, registry, retry
from resilient.testing import ManualClock
from tests.kit.policies import counts
from tests.kit.waiting import until

QUICK: Any = {"on": ConnectionError, "wait_initial": 0.0001, "wait_max": 0.001}


def policies() -> dict[str, dict[str, Any]]:
    """Return the policies of loops in this file, by the function that has the loop."""
    found: dict[str, dict[str, Any]] = registry.snapshot()["policies"]
    return {name.rpartition(".")[2]: each for name, each in found.items() if __name__ in name}


def failing(times: int, error: type[BaseException] = ConnectionError) -> Callable[[], None]:
    """Return a function that fails so many times."""
    left = [times]

    def fn() -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise error(str(left[0]))

    return fn


def sync_loop(fn: Callable[[], None], **options: Any) -> list[int]:
    numbers = []
    for attempt in retry(**{**QUICK, **options}):
        with attempt:
            numbers.append(attempt.number)
            fn()
    return numbers


async def async_loop(fn: Callable[[], None], **options: Any) -> list[int]:
    numbers = []
    async for attempt in retry(**{**QUICK, **options}):
        async with attempt:
            numbers.append(attempt.number)
            await asyncio.sleep(0) if options else None
            fn()
    return numbers


async def mixed_loop(fn: Callable[[], None]) -> list[int]:
    numbers = []
    async for attempt in retry(**QUICK):
        with attempt:
            numbers.append(attempt.number)
            fn()
    return numbers


@pytest.fixture(params=["sync", "asyncio", "trio", "mixed"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[..., list[int]]]:
    """Run a loop over the attempts of a function."""
    yield {
        "sync": sync_loop,
        "asyncio": lambda fn: asyncio.run(async_loop(fn)),
        "trio": lambda fn: trio.run(async_loop, fn),
        "mixed": lambda fn: asyncio.run(mixed_loop(fn)),
    }[request.param]
    gc.collect()
    assert all(each["in_flight"] == 0 for each in policies().values())


def test_the_loop_ends_with_a_success(run: Any) -> None:
    """What failed before is dropped."""
    assert run(failing(0)) == [1]
    assert run(failing(2)) == [1, 2, 3]


def test_the_last_error_leaves_the_loop(run: Any) -> None:
    """With its note, as it is."""
    with pytest.raises(ConnectionError) as caught:
        run(failing(9))
    assert str(caught.value) == "6"
    assert caught.value.__notes__[0].endswith("not tried again: 3 attempts were made")
    assert caught.value.__context__ is None


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_other_errors_leave_at_once(run: Any, error: type[BaseException]) -> None:
    """Only what `on` names is tried again."""
    calls = failing(9, error)
    with pytest.raises(error, match="8"):
        run(calls)


def test_the_budget_lasts_from_run_to_run() -> None:
    """The policy belongs to the loop in the code, however often that runs."""

    def often() -> int:
        made = 0
        for attempt in retry(**QUICK):
            with attempt:
                made += 1
                raise ConnectionError(made)
        return made

    numbers = []
    for _ in range(12):
        with pytest.raises(ConnectionError) as caught:
            often()
        numbers.append(int(str(caught.value)))
    assert numbers == [3] * 5 + [1] * 5 + [2, 1]
    assert policies()["often"]["guards"][0]["budget_left"] < 1
    assert policies()["often"]["calls"]["failure"] == 12


def twice() -> None:
    for attempt in retry(**QUICK):
        with attempt:
            pass
    for attempt in retry(**QUICK):
        with attempt:
            pass


def test_two_loops_in_one_function_are_two_policies() -> None:
    """And neither is that of a loop elsewhere."""
    twice()
    twice()
    found = [each for name, each in policies().items() if name.startswith("twice")]
    assert [each["calls"]["success"] for each in found] == [2, 2]


def first(shared: Any) -> None:
    for attempt in shared:
        with attempt:
            pass


def second(shared: Any) -> None:
    for attempt in shared:
        with attempt:
            pass


def test_a_retry_that_is_made_once_serves_many_loops() -> None:
    """Its policy is that of the first."""
    shared = retry(**QUICK)
    first(shared)
    second(shared)
    assert policies()["first"]["calls"]["success"] == 2
    assert "second" not in policies()


def asks(attempts: int, error: type[Exception] = ConnectionError) -> None:
    options = {**QUICK, "on": lambda raised: isinstance(raised, error)}
    for attempt in retry(**options, attempts=attempts):
        with attempt:
            raise error(attempt.number)


def test_each_run_has_its_own_options() -> None:
    """And all of them share one budget and one count."""
    numbers = []
    for attempts, error in (2, ConnectionError), (3, KeyError), (4, ConnectionError), (9, KeyError):
        with pytest.raises(error) as caught:
            asks(attempts, error)
        numbers.append(caught.value.args[0])
    assert numbers == [2, 3, 4, 5]  # 1 + 2 + 3 + 4 of the budget's 10
    assert policies()["asks"]["calls"]["failure"] == 4
    assert policies()["asks"]["guards"][0]["retries"] == 10


class Hook:
    """An object whose loops ask itself what is worth another attempt."""

    def __init__(self, kind: type[Exception]) -> None:
        self.kind = kind

    def passes(self, error: Exception) -> bool:
        return isinstance(error, self.kind)

    def fetch(self, error: Exception) -> int:
        number = 0
        try:
            for attempt in retry(**{**QUICK, "on": self.passes}, budget=None):
                with attempt:
                    number = attempt.number
                    raise error
        except Exception as raised:
            assert raised is error
        return number


def test_each_object_has_its_own_predicate() -> None:
    """A method of another object is another predicate."""
    keys, values = Hook(KeyError), Hook(ValueError)
    assert [keys.fetch(KeyError()), values.fetch(KeyError())] == [3, 1]
    assert [keys.fetch(ValueError()), values.fetch(ValueError())] == [1, 3]


def test_an_operators_change_holds_in_each_run() -> None:
    """It is over what the code declares."""
    with pytest.raises(KeyError):
        asks(2, KeyError)
    (name,) = [name for name in registry.names() if name.endswith(".asks")]
    changed: Any = registry.get(name)
    changed.update(retry={"attempts": 3})
    with pytest.raises(KeyError) as caught:
        asks(2, KeyError)
    assert caught.value.args == (3,)


def test_a_predicate_of_the_value_makes_no_loop() -> None:
    """A block has no value."""
    with pytest.raises(TypeError, match="the body of a loop has none"):
        iter(retry(failed_result=lambda value: not value))


def once_more() -> None:
    for _ in retry(**QUICK):
        return


def test_no_run_leaves_a_cycle() -> None:
    """What it held is given back when the loop is left, without a collection."""
    gc.collect()
    gc.disable()
    try:
        sync_loop(failing(2))
        once_more()
        held = [policies()[each]["in_flight"] for each in ("sync_loop", "once_more")]
    finally:
        gc.enable()
    assert held == [0, 0]


def test_the_retry_of_a_policy_makes_no_loop(name: str) -> None:
    """The policy's other guards would not act in it."""
    again = retry(**QUICK)
    Policy(name, again)
    with pytest.raises(TypeError, match=f"a part of the policy {name}"):
        iter(again)


def test_a_body_without_its_block_is_told() -> None:
    """It would never be judged."""
    with pytest.raises(RuntimeError, match="must stand in a block of its attempt"):
        for attempt in retry(**QUICK):
            assert attempt.number == 1

    for attempt in retry(**QUICK):
        with attempt:
            pass
        with pytest.raises(RuntimeError, match="was entered before"), attempt:
            pass


def leaves(how: str) -> None:
    for attempt in retry(**QUICK):
        if how == "before":
            break
        with attempt:
            if how == "break":
                break
            return


def test_who_leaves_the_loop_gives_everything_back() -> None:
    """By break or return in the block it is a success; before the block it is neutral."""
    for how in ("before", "break", "return"):
        leaves(how)
    gc.collect()
    calls = policies()["leaves"]["calls"]
    assert (calls["success"], calls["cancelled"]) == (2, 1)


def test_a_cancellation_in_the_pause_ends_it() -> None:
    """At once, and the budget has its token back."""
    clock = ManualClock()

    async def asks() -> None:
        async for attempt in retry(on=ConnectionError, wait_initial=100, wait_max=100):
            async with attempt:
                raise ConnectionError

    async def main() -> None:
        task = asyncio.create_task(asks())
        for _ in range(5):
            await asyncio.sleep(0)
        assert policies()["asks"]["in_flight"] == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert clock.waiting == 0
    shown = policies()["asks"]
    assert {word: n for word, n in shown["calls"].items() if n} == {"cancelled": 1}
    assert shown["guards"][0]["budget_left"] == 10
    assert shown["in_flight"] == 0


def test_an_attempt_of_a_loop_is_one_for_retries_inside(name: str) -> None:
    """They pay the budget of both."""
    inner = Policy(name, retry(**QUICK, budget=None, nested="never"))
    made = []

    def fetch() -> None:
        made.append(1)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        sync_loop(inner(fetch))
    assert len(made) == 3
    until(lambda: counts(inner) == {"failure": 3})
