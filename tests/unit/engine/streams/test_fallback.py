"""A fallback answers a stream as long as no item was handed out, with a stream of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilient import CallTimeoutError, Policy, bulkhead, circuit_breaker, fallback, timeout
from resilient.testing import ManualClock
from tests.kit.policies import booked, error_of, idle, part, policy
from tests.kit.streams import END, Kind

LESSER = ["a", "b", "c"]


def lesser_list(*args: Any) -> list[str]:
    return LESSER


def lesser_iterator(*args: Any) -> Any:
    return iter(LESSER)


def lesser_stream(*args: Any) -> Any:
    yield from LESSER


async def lesser_async_list(*args: Any) -> list[str]:
    return LESSER


async def lesser_async_stream(*args: Any) -> Any:
    for item in LESSER:
        yield item


def lesser_async_iterable(*args: Any) -> Any:
    return lesser_async_stream()


PLAIN: dict[str, Callable[[], Any]] = {
    "value": lambda: fallback(value=LESSER),
    "tuple": lambda: fallback(value=tuple(LESSER)),
    "list": lambda: fallback(lesser_list),
    "iterator": lambda: fallback(lesser_iterator),
    "generator": lambda: fallback(lesser_stream),
}
ASYNC: dict[str, Callable[[], Any]] = {
    "async list": lambda: fallback(lesser_async_list),
    "async generator": lambda: fallback(lesser_async_stream),
    "async iterable": lambda: fallback(lesser_async_iterable),
}


def answers(kind: Kind) -> dict[str, Callable[[], Any]]:
    """Return every sort of fallback that can serve a stream of this kind."""
    return PLAIN | ASYNC if kind.is_async else PLAIN


def whole(answer: Any, clock: ManualClock | None = None) -> Policy:
    """A policy with all four guards."""
    breaker = circuit_breaker(failure_threshold=9)
    return policy(answer, breaker, bulkhead(1), timeout(1.0, sync="cooperative"), clock=clock)


async def trouble(kind: Kind, how: str, shop: Policy, clock: ManualClock) -> tuple[Any, Any]:
    """Return a stream that comes to nothing before its first item, and what blocks the policy."""
    if how == "refused":
        shop.force_open()
        return shop.call(kind.source(1)), None
    if how == "full":
        holder = shop.with_(fallback(value=())).call(kind.source(1))
        await kind.next(holder)
        return shop.call(kind.source(1)), holder
    if how == "failed":
        return shop.call(kind.source(OSError("down"))), None
    return shop.call(kind.source(lambda: clock.advance(2), _check)), None


def _check() -> None:
    from resilient import check

    check()


@pytest.mark.parametrize("how", ["refused", "full", "failed", "timed out"])
@pytest.mark.parametrize("sort", [*PLAIN, *ASYNC])
def test_it_answers_before_the_first_item(
    kind: Kind, clock: ManualClock, how: str, sort: str
) -> None:
    """Refused, failed or too late before the first item: the fallback's items are streamed."""
    if sort not in answers(kind):
        pytest.skip("serves async streams only")
    shop = whole(answers(kind)[sort](), clock)

    async def body() -> None:
        stream, holder = await trouble(kind, how, shop, clock)
        assert await kind.next(stream) == "a"
        assert booked(shop)[1] == {}, "served is counted when the stream ends"
        assert part(shop, "bulkhead")["used"] == (holder is not None)
        clock.advance(10)  # no limit binds the fallback that stands outside it
        assert await kind.items(stream) == ["b", "c"]
        assert await kind.next(stream) == END
        if holder is not None:
            await kind.close(holder)

    kind.run(body)
    refused = how in ("refused", "full")
    outcomes = {"refused": 1} if refused else {"failure": 1}
    assert booked(shop) == (outcomes | ({"cancelled": 1} if how == "full" else {}), {"degraded": 1})
    assert shop.snapshot()["timeouts"] == (how == "timed out")
    idle(shop)


@pytest.mark.parametrize("items", [1, 3])
@pytest.mark.parametrize("how", ["failed", "too late"])
def test_it_does_not_act_after_the_first_item(
    kind: Kind, clock: ManualClock, items: int, how: str
) -> None:
    """Once an item was handed out the error is raised, and the fallback does not run."""
    ran: list[int] = []
    shop = whole(fallback(lambda: ran.append(1) or LESSER), clock)

    async def body() -> None:
        stream = shop.call(kind.source(*range(items), OSError("down")))
        for item in range(items):
            assert await kind.next(stream) == item
        clock.advance(0 if how == "failed" else 1)
        error = await error_of(kind.next(stream))
        assert type(error) is (OSError if how == "failed" else CallTimeoutError)
        assert await kind.next(stream) == END

    kind.run(body)
    assert ran == []
    assert booked(shop) == ({"failure": 1}, {"error": 1})
    idle(shop)


def test_a_stream_that_goes_well_is_full(kind: Kind) -> None:
    """Neither an exhausted nor an empty stream is answered by the fallback."""
    shop = whole(fallback(value=LESSER))

    async def body() -> None:
        assert await kind.items(shop.call(kind.source(1, 2))) == [1, 2]
        assert await kind.items(shop.call(kind.source())) == []

    kind.run(body)
    assert booked(shop) == ({"success": 2}, {"full": 2})


def test_it_is_given_the_arguments_and_the_error(kind: Kind) -> None:
    """As for calls: the same arguments, and with_error=True the exception first."""
    down, given = OSError("down"), []

    def lesser(*args: Any, **kwargs: Any) -> list[int]:
        given.append((args, kwargs))
        return [7]

    shop = policy(fallback(lesser, with_error=True), bulkhead(1))

    async def body() -> None:
        assert await kind.items(shop.call(kind.source(down), "x", key="y")) == [7]

    kind.run(body)
    assert given == [((down, "x"), {"key": "y"})]


def test_what_it_does_not_answer_is_raised(kind: Kind) -> None:
    """on= and ignore= hold for streams."""
    shop = policy(fallback(value=LESSER, on=ConnectionError), bulkhead(1))

    async def body() -> None:
        assert type(await error_of(kind.items(shop.call(kind.source(KeyError))))) is KeyError
        assert await kind.items(shop.call(kind.source(ConnectionError))) == LESSER

    kind.run(body)
    assert booked(shop) == ({"failure": 2}, {"error": 1, "degraded": 1})
    idle(shop)


def test_a_cancellation_is_never_answered(kind: Kind) -> None:
    """An exit before the first item is not what a fallback is for."""
    shop = policy(fallback(value=LESSER), bulkhead(1))

    async def body() -> None:
        error = await error_of(kind.items(shop.call(kind.source(KeyboardInterrupt))))
        assert type(error) is KeyboardInterrupt

    kind.run(body)
    assert booked(shop) == ({"cancelled": 1}, {})
    idle(shop)


@pytest.mark.parametrize("answer", [lambda: fallback(lambda: None), lambda: fallback(value=7)])
def test_an_answer_that_is_no_iterable(kind: Kind, answer: Any) -> None:
    """A fallback whose answer can't be streamed is a TypeError, from the original error."""
    shop, down = policy(answer(), bulkhead(1)), OSError("down")

    async def body() -> None:
        error = await error_of(kind.next(shop.call(kind.source(down))))
        assert type(error) is TypeError, repr(error)
        assert error.__cause__ is down
        assert "fallback" in str(error)

    kind.run(body)
    assert booked(shop) == ({"failure": 1}, {"error": 1})
    assert shop.snapshot()["fallback_failures"] == 1
    idle(shop)


@pytest.mark.parametrize("items", [0, 2])
def test_a_fallback_that_fails_too(kind: Kind, items: int) -> None:
    """Its error is raised, from the original one, at its first item or at a later one."""
    shop, down, worse = policy(circuit_breaker(), bulkhead(1)), OSError("down"), ValueError("worse")
    view = shop.with_(fallback(kind.source(*range(items), worse)))

    async def body() -> None:
        stream = view.call(kind.source(down))
        for item in range(items):
            assert await kind.next(stream) == item
        assert await error_of(kind.next(stream)) is worse
        assert await kind.next(stream) == END

    kind.run(body)
    assert worse.__cause__ is down
    assert booked(shop) == ({"failure": 1}, {"error": 1})
    assert shop.snapshot()["fallback_failures"] == 1
    idle(shop)


@pytest.mark.parametrize("items", [0, 1])
def test_a_chain_of_fallbacks(kind: Kind, items: int) -> None:
    """The outer one answers for the inner one, but not once that has handed out an item."""
    inner = fallback(kind.source(*range(items), ValueError("worse")))
    guarded = fallback(value=LESSER)(inner(kind.source(OSError("down"))))
    shop = guarded.__resilient__.policy

    async def body() -> None:
        if not items:
            assert await kind.items(guarded()) == LESSER
            return
        stream = guarded()
        assert await kind.next(stream) == 0
        assert type(await error_of(kind.next(stream))) is ValueError

    kind.run(body)
    assert booked(shop) == ({"failure": 1}, {"error": 1} if items else {"degraded": 1})
