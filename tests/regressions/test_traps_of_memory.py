"""Traps 23 to 25: what errors keep alive, what a result may look like, and names."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace, TracebackType
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    Policy,
    ResilientError,
    bulkhead,
    circuit_breaker,
    fallback,
    registry,
    timeout,
)
from resilient.testing import ManualClock
from tests.kit.policies import idle, part, policy, trip
from tests.kit.worlds import run


class Down(Exception):
    """A failure that can be referred to weakly."""


class Local:
    """Something that a frame holds."""


@pytest.fixture
def no_gc() -> Iterator[None]:
    """Switch the collector off: what is freed is freed by its count of references."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def length(traceback: TracebackType | None) -> int:
    """Count the frames of a traceback."""
    count = 0
    while traceback is not None:
        count, traceback = count + 1, traceback.tb_next
    return count


def refusals(call: Callable[[], object], number: int) -> list[ResilientError]:
    """Return what so many calls raised."""
    seen = []
    for _ in range(number):
        try:
            call()
        except ResilientError as error:
            seen.append(error)
    return seen


def _nothing() -> None:
    return None


WAYS: dict[str, Callable[[Policy], Callable[[], object]]] = {
    "decorated": lambda shop: shop(_nothing),
    "called": lambda shop: lambda: shop.call(_nothing),
}


@pytest.mark.parametrize("way", WAYS)
def test_trap_23_each_refusal_is_a_new_and_small_error(clock: ManualClock, way: str) -> None:
    """A thousand refusals are a thousand hashable errors, and no traceback grows."""
    shop = policy(circuit_breaker(), clock=clock)
    trip(shop)
    seen = refusals(WAYS[way](shop), 1000)
    assert len(set(seen)) == len({id(error) for error in seen}) == 1000
    assert len({length(error.__traceback__) for error in seen}) == 1
    assert length(seen[0].__traceback__) < 8
    assert not any(error.__cause__ or error.__context__ for error in seen)


def test_trap_23_the_same_async(clock: ManualClock, backend: str) -> None:
    """The same for async calls, of an open circuit and of a full bulkhead."""
    shop = policy(circuit_breaker(), clock=clock)
    full = policy(bulkhead(1))
    trip(shop)
    lengths: set[int] = set()
    kinds: set[type[BaseException]] = set()

    async def refused(of: Policy) -> None:
        for _ in range(300):
            try:
                await of.acall(anyio.lowlevel.checkpoint)
            except ResilientError as error:
                lengths.add(length(error.__traceback__))
                kinds.add(type(error))
                assert hash(error)
                assert error.__context__ is None

    async def main() -> None:
        await refused(shop)
        await full.acall(refused, full)

    run(backend, main)
    assert kinds == {CircuitOpenError, BulkheadFullError}
    assert len(lengths) <= 2


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize("way", ["decorated", "called", "tried"])
@pytest.mark.parametrize("limit", [None, "cooperative", "thread"])
def test_trap_23_nothing_keeps_a_failure_or_its_frames(
    clock: ManualClock, way: str, limit: Any
) -> None:
    """Once the caller drops an error it is freed at once, with the frames that it held."""
    inner = () if limit is None else (timeout(60, sync=limit),)
    shop = policy(circuit_breaker(failure_threshold=3), bulkhead(1), *inner, clock=clock)
    local: list[weakref.ref[Local]] = []

    def body() -> None:
        held = Local()
        local.append(weakref.ref(held))
        raise Down("down")

    def once() -> weakref.ref[BaseException]:
        if way == "tried":
            return weakref.ref(shop.try_call(body).error)  # type: ignore[arg-type]
        try:
            shop(body)() if way == "decorated" else shop.call(body)
        except Exception as error:
            return weakref.ref(error)
        raise AssertionError("it did not raise")

    errors = [once() for _ in range(5)]  # two of them refusals
    assert shop.state == "open"
    assert [error() for error in errors] == [None] * 5
    assert [held() for held in local] == [None] * 3


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize("way", ["decorated", "called", "tried"])
@pytest.mark.parametrize("limit", [False, True], ids=["no timeout", "timeout"])
def test_trap_23_nothing_keeps_an_async_failure(backend: str, way: str, limit: bool) -> None:
    """The same for async calls: a plain failure, with and without a timeout."""
    inner = (timeout(60),) if limit else ()
    shop = policy(circuit_breaker(failure_threshold=3), bulkhead(1), *inner)

    async def body() -> None:
        raise Down("down")

    async def once() -> weakref.ref[BaseException]:
        if way == "tried":
            return weakref.ref((await shop.atry_call(body)).error)  # type: ignore[arg-type]
        try:
            await (shop(body)() if way == "decorated" else shop.acall(body))
        except Exception as error:
            return weakref.ref(error)
        raise AssertionError("it did not raise")

    async def main() -> None:
        errors = [await once() for _ in range(5)]
        assert [error() for error in errors] == [None] * 5

    run(backend, main)


@pytest.mark.usefixtures("no_gc")
def test_trap_23_control_a_bare_coroutine_frees_its_error(backend: str) -> None:
    """The measuring itself keeps nothing: a bare coroutine's error is freed at once."""

    async def bare() -> None:
        raise Down("down")

    async def main() -> None:
        try:
            await bare()
        except Down as error:
            kept = weakref.ref(error)
        assert kept() is None

    run(backend, main)


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize("way", ["decorated", "called"])
def test_trap_23_nothing_keeps_a_timeout(way: str) -> None:
    """The error of a worker that was abandoned is freed with its last holder."""
    shop = policy(timeout(0.001, sync="thread"))
    body = threading.Event()
    call = shop(body.wait) if way == "decorated" else (lambda t: shop.call(body.wait, t))
    try:
        call(5)
    except CallTimeoutError as error:
        kept = weakref.ref(error)
    body.set()
    assert kept() is None


@pytest.mark.usefixtures("no_gc")
def test_trap_23_nothing_keeps_an_answered_error() -> None:
    """An error that a fallback answered is freed when the call is over."""
    seen: list[weakref.ref[BaseException]] = []

    def instead(error: Exception) -> int:
        seen.append(weakref.ref(error))
        return 0

    def body() -> int:
        raise Down("down")

    shop = policy(fallback(instead, with_error=True), circuit_breaker(failure_threshold=2))
    guarded = shop(body)
    for _ in range(4):
        assert guarded() == 0
        assert shop.call(body) == 0
    assert [error() for error in seen] == [None] * 8


def test_trap_23_memory_stays_flat() -> None:
    """Ten thousand refusals and failures leave no more objects than the first few."""
    shop = policy(fallback(value=None), circuit_breaker(), bulkhead(1))

    def body() -> None:
        raise Down("down")

    guarded = shop(body)

    def blocks() -> int:
        for _ in range(2000):
            guarded()
        gc.collect()
        return sys.getallocatedblocks()

    blocks()
    before = blocks()
    assert min(blocks() - before for _ in range(3)) < 50
    idle(shop)


# -- 24 and 25 ------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        SimpleNamespace(success=False, error=OSError("x")),
        SimpleNamespace(ok=False, status_code=500),
        OSError("returned"),
        False,
        None,
    ],
    ids=repr,
)
def test_trap_24_no_result_is_guessed_to_be_a_failure(value: object) -> None:
    """What a value looks like says nothing; only a predicate that is given makes it a failure."""
    shop = policy(circuit_breaker(failure_threshold=1))
    assert shop.call(lambda: value) is value
    assert shop.snapshot()["calls"]["success"] == 1
    strict = policy(circuit_breaker(failure_threshold=1, failed_result=lambda seen: seen is value))
    assert strict.call(lambda: value) is value
    assert strict.state == "open"


def _closure() -> tuple[Policy, Callable[[], None]]:
    @circuit_breaker(failure_threshold=1)
    def inner() -> None:
        raise Down("down")

    return inner.__resilient__.policy, inner


def test_trap_25_closures_of_one_name_do_not_share() -> None:
    """Two closures of one qualified name have a policy, a name and a state each."""
    (first, fails), (second, _) = _closure(), _closure()
    assert first.name != second.name
    with pytest.raises(Down):
        fails()
    assert (first.state, second.state) == ("open", "closed")
    assert {first.name, second.name} <= set(registry.names())


def test_trap_25_dropped_policies_are_forgotten() -> None:
    """An anonymous policy leaves the registry with the last function that it guards."""
    made, fn = _closure()
    name = made.name
    assert name in registry.names()
    del made, fn
    gc.collect()
    assert name not in registry.names()


def test_trap_25_a_taken_name_is_an_error_that_shows_both_places() -> None:
    """A second policy of one name is refused, whatever its options, and changes nothing."""
    shop = policy(circuit_breaker(failure_threshold=1, ignore=KeyError))
    with pytest.raises(ValueError, match="exists already") as caught:
        Policy(shop.name, circuit_breaker(failure_threshold=9))
    assert str(caught.value).count(".py:") == 2
    assert part(shop, "circuit_breaker")["options"]["failure_threshold"] == 1


def test_trap_25_one_policy_on_two_functions_keeps_its_name() -> None:
    """Functions that share a policy share its state under the policy's own name."""
    shop = policy(circuit_breaker(failure_threshold=2))
    name = shop.name

    @shop
    def first() -> None:
        raise Down("down")

    @shop
    def second() -> None:
        raise Down("down")

    for fn in (first, second):
        with pytest.raises(Down):
            fn()
    for fn in (first, second):
        with pytest.raises(CircuitOpenError) as caught:
            fn()
        assert caught.value.policy == name == shop.name


def test_trap_25_a_guard_is_one_policys() -> None:
    """A guard that stands in a policy is refused by a second one."""
    guard = circuit_breaker()
    policy(guard)
    with pytest.raises(ValueError, match="with_"):
        policy(guard)
