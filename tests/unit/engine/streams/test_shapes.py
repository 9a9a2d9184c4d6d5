"""What a guarded stream function looks like."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from resilient import bulkhead, circuit_breaker, fallback, timeout
from tests.kit.policies import booked, counts, idle, policy
from tests.kit.streams import ASYNC_KINDS, END, SYNC_KIND, Kind

WAYS: dict[str, Callable[[], Callable[[Any], Any]]] = {
    "policy": lambda: policy(circuit_breaker(), bulkhead(2)),
    "empty policy": policy,
    "bare guard": lambda: circuit_breaker,
    "breaker": circuit_breaker,
    "bulkhead": lambda: bulkhead(2),
    "timeout": lambda: timeout(9, sync="cooperative"),
    "fallback": lambda: fallback(value=[]),
    "stacked": lambda: lambda fn: fallback(value=[])(circuit_breaker()(bulkhead(2)(fn))),
    "two policies": lambda: lambda fn: policy(bulkhead(2))(policy(circuit_breaker())(fn)),
}
every_way = pytest.mark.parametrize("way", list(WAYS))


def count(start: int, /, stop: int = 3, *, step: int = 1) -> Iterator[int]:
    """Count."""
    yield from range(start, stop, step)


async def acount(start: int, /, stop: int = 3, *, step: int = 1) -> AsyncIterator[int]:
    """Count, in an async way."""
    for number in range(start, stop, step):
        yield number


class Counters:
    """Counts when it is called."""

    def __call__(self, stop: int) -> Iterator[int]:
        yield from range(stop)


class ACounts:
    """Counts, in an async way, when it is called."""

    async def __call__(self, stop: int) -> AsyncIterator[int]:
        for number in range(stop):
            yield number


def is_stream_function(kind: Kind, fn: Any) -> bool:
    """Tell whether fn is one of this kind, and of no other."""
    others = inspect.iscoroutinefunction(fn)
    if kind.is_async:
        return inspect.isasyncgenfunction(fn) and not inspect.isgeneratorfunction(fn) and not others
    return inspect.isgeneratorfunction(fn) and not inspect.isasyncgenfunction(fn) and not others


def is_stream(kind: Kind, value: Any) -> bool:
    """Tell whether value is a real generator of this kind."""
    return inspect.isasyncgen(value) if kind.is_async else inspect.isgenerator(value)


@every_way
def test_a_real_function_in_and_a_real_one_out(kind: Kind, way: str) -> None:
    """Kind, signature, name and docstring are kept, and its calls are real generators."""
    plain = acount if kind.is_async else count
    guarded = WAYS[way]()(plain)
    assert inspect.isfunction(guarded)
    assert is_stream_function(kind, guarded), f"{guarded} is no {kind.name} stream function"
    assert inspect.signature(guarded) == inspect.signature(plain)
    for told in ("__name__", "__qualname__", "__doc__", "__module__"):
        assert getattr(guarded, told) == getattr(plain, told)
    stream = guarded(0)
    assert is_stream(kind, stream)

    async def body() -> None:
        assert await kind.items(stream) == [0, 1, 2]
        assert await kind.items(guarded(1, 6, step=2)) == [1, 3, 5]

    kind.run(body)
    idle(guarded.__resilient__.policy)


@pytest.mark.parametrize("way", ["policy", "breaker", "stacked"])
def test_methods_of_every_sort(kind: Kind, way: str) -> None:
    """Methods, and class and static methods in either order, are guarded streams."""
    guard = WAYS[way]

    def made(*names: str) -> Any:
        def plain(*args: Any) -> Iterator[Any]:
            yield args[-1]
            yield len(args)

        async def waits(*args: Any) -> AsyncIterator[Any]:
            yield args[-1]
            yield len(args)

        fn: Any = waits if kind.is_async else plain
        for name in names:
            fn = {"guard": guard(), "class": classmethod, "static": staticmethod}[name](fn)
        return fn

    class Shop:
        method = made("guard")
        outer_class = made("class", "guard")
        inner_class = made("guard", "class")
        outer_static = made("static", "guard")
        inner_static = made("guard", "static")

    async def body() -> None:
        for name, number in (
            ("method", 2), ("outer_class", 2), ("inner_class", 2), ("outer_static", 1),
            ("inner_static", 1),
        ):  # fmt: skip
            bound = getattr(Shop(), name)
            assert is_stream_function(kind, bound), name
            assert await kind.items(bound("x")) == ["x", number], name
        assert await kind.items(Shop.outer_class("x")) == ["x", 2]
        assert await kind.items(Shop.inner_static("x")) == ["x", 1]

    kind.run(body)


@pytest.mark.parametrize("way", ["policy", "breaker", "stacked"])
@pytest.mark.parametrize("shape", ["partial", "object", "partial of an object", "bound method"])
def test_partials_and_callable_objects(kind: Kind, way: str, shape: str) -> None:
    """What is callable and gives a stream is a guarded stream function afterwards."""
    called = ACounts() if kind.is_async else Counters()
    plain: Any = {
        "partial": functools.partial(acount if kind.is_async else count, 0),
        "object": called,
        "partial of an object": functools.partial(called),
        "bound method": called.__call__,
    }[shape]
    guarded = WAYS[way]()(plain)
    assert is_stream_function(kind, guarded)
    assert inspect.signature(guarded) == inspect.signature(plain)

    async def body() -> None:
        assert await kind.items(guarded(4)) == [0, 1, 2, 3]

    kind.run(body)


def test_stacked_guards_are_one_policy(kind: Kind) -> None:
    """Guards stacked on a stream function fuse into one policy and one wrapper."""
    plain = kind.source(1)
    twice = circuit_breaker(bulkhead(1)(plain))
    made = twice.__resilient__
    assert [guard.kind for guard in made.policy.guards] == ["circuit_breaker", "bulkhead"]
    assert made.fn is plain


def test_call_gives_the_guarded_stream(kind: Kind) -> None:
    """call() of a stream function returns the stream; nothing runs or is taken before a step."""
    shop, log = policy(circuit_breaker(), bulkhead(1)), []
    stream = shop.call(kind.source(1, 2, log=log), "argument", key="word")
    assert is_stream(kind, stream)
    assert log == []
    assert shop.snapshot()["in_flight"] == 0

    async def body() -> None:
        assert await kind.next(stream) == 1
        assert shop.snapshot()["in_flight"] == 1
        assert [await kind.next(stream), await kind.next(stream)] == [2, END]

    kind.run(body)
    assert booked(shop) == ({"success": 1}, {"full": 1})
    idle(shop)


def test_call_passes_the_arguments(kind: Kind) -> None:
    """The arguments of call() are the stream function's."""
    shop = policy(bulkhead(1))

    async def body() -> None:
        stream = shop.call(acount if kind.is_async else count, 1, 9, step=4)  # type: ignore[arg-type]
        assert await kind.items(stream) == [1, 5]

    kind.run(body)


@pytest.mark.parametrize("way", ["acall", "try_call", "atry_call"])
def test_other_ways_to_call_are_refused(kind: Kind, way: str) -> None:
    """A stream can't be awaited or given as a result: the TypeError names call()."""
    shop, log = policy(circuit_breaker(), bulkhead(1)), []
    with pytest.raises(TypeError, match=r"\bcall\(\)") as caught:
        ended = getattr(shop, way)(kind.source(1, log=log))
        asyncio.run(ended)
    assert "generator" in str(caught.value) or "stream" in str(caught.value)
    assert (log, counts(shop)) == ([], {})
    idle(shop)


# -- what is built on generators --------------------------------------------------------------


def test_a_context_manager_of_a_guarded_generator() -> None:
    """contextlib's decorators work on a guarded stream function."""
    shop, log = policy(circuit_breaker(failure_threshold=1), bulkhead(1)), []
    managed = contextlib.contextmanager(shop(SYNC_KIND.source("inside", log=log)))
    with managed() as value:
        assert value == "inside"
        assert shop.snapshot()["in_flight"] == 1
    with pytest.raises(KeyError), managed():
        raise KeyError("mine")
    assert log == ["began", "ended", "began", "KeyError", "ended"]
    assert counts(shop) == {"success": 1, "ignored": 1}
    idle(shop)


@pytest.mark.parametrize("kind", ASYNC_KINDS, ids=lambda kind: kind.name)
def test_an_async_context_manager_of_a_guarded_generator(kind: Kind) -> None:
    """The same for the async one."""
    shop = policy(circuit_breaker(failure_threshold=1), bulkhead(1))
    managed = contextlib.asynccontextmanager(shop(kind.source("inside")))

    async def body() -> None:
        async with managed() as value:
            assert (value, shop.snapshot()["in_flight"]) == ("inside", 1)
        with pytest.raises(KeyError):
            async with managed():
                raise KeyError("mine")

    kind.run(body)
    assert counts(shop) == {"success": 1, "ignored": 1}
    idle(shop)
