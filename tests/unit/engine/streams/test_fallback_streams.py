"""The lesser stream that a fallback gives: closed early, unusual answers, and its time."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import CallTimeoutError, OrderWarning, bulkhead, circuit_breaker, fallback, timeout
from resilient.testing import ManualClock
from tests.kit.policies import booked, counts, error_of, idle, policy
from tests.kit.streams import END, SYNC_KIND, Kind
from tests.unit.engine.streams.test_fallback import ASYNC, PLAIN, answers

pytestmark = pytest.mark.usefixtures("unraised")


@pytest.mark.parametrize("sort", [*PLAIN, *ASYNC])
def test_its_stream_may_be_closed_early(kind: Kind, sort: str) -> None:
    """A consumer that leaves in the middle of the lesser stream costs nothing."""
    if sort not in answers(kind):
        pytest.skip("serves async streams only")
    shop = policy(answers(kind)[sort](), circuit_breaker(failure_threshold=9), bulkhead(1))

    async def body() -> None:
        stream = shop.call(kind.source(OSError("down")))
        assert await kind.next(stream) == "a"
        await kind.close(stream)
        assert await kind.next(stream) == END

    kind.run(body)
    assert sum(counts(shop).values()) == 1
    idle(shop)


def test_closing_closes_the_lesser_stream_too(kind: Kind) -> None:
    """The clean-up of a generator that serves as the fallback runs when the stream is closed."""
    log: list[Any] = []
    shop = policy(fallback(kind.source(1, 2, log=log)), bulkhead(1))

    async def body() -> None:
        stream = shop.call(kind.source(OSError))
        assert await kind.next(stream) == 1
        await kind.close(stream)

    kind.run(body)
    assert log == ["began", "GeneratorExit", "ended"]
    idle(shop)


def test_the_items_of_a_mutable_value_are_the_callers_own() -> None:
    """What one consumer does to the lesser stream's source does not reach the next one."""
    value = [1, 2]
    guarded = fallback(value=value)(SYNC_KIND.source(OSError))
    stream = guarded()
    assert next(stream) == 1
    value.append(3)
    assert list(stream) == [2]


def test_an_awaitable_is_no_answer_for_a_generator() -> None:
    """A coroutine that a plain fallback returns would be awaited by nobody: a TypeError, no items."""

    async def lesser() -> list[int]:
        return [1, 2]

    shop, down = policy(fallback(lambda: lesser()), bulkhead(1)), OSError("down")
    error = SYNC_KIND.run(error_of, SYNC_KIND.items(shop.call(SYNC_KIND.source(down))))
    assert type(error) is TypeError, repr(error)
    assert error.__cause__ is down
    assert booked(shop) == ({"failure": 1}, {"error": 1})
    idle(shop)


def test_an_async_iterable_is_closed_with_the_stream(akind: Kind) -> None:
    """What the fallback's answer opened to be iterated is closed when the consumer leaves."""
    log: list[str] = []

    class Answer:
        async def __aiter__(self) -> Any:
            try:
                yield "a"
                yield "b"
            finally:
                log.append("closed")

    shop = policy(fallback(Answer), bulkhead(1))

    async def body() -> None:
        stream = shop.call(akind.source(OSError))
        assert await akind.next(stream) == "a"
        await akind.close(stream)
        assert log == ["closed"]

    akind.run(body)
    idle(shop)


def test_the_time_of_the_lesser_stream_is_not_the_calls(kind: Kind, clock: ManualClock) -> None:
    """The duration is the function's own; the fallback's items may take their time."""
    lesser = kind.source(lambda: clock.advance(7), "a", lambda: clock.advance(7))
    shop = policy(fallback(lesser), bulkhead(1), timeout(1.0, sync="cooperative"), clock=clock)

    async def body() -> None:
        stream = shop.call(kind.source(lambda: clock.advance(0.5), OSError))
        assert await kind.items(stream) == ["a"]

    kind.run(body)
    assert shop.snapshot()["duration"]["sum"] == pytest.approx(0.5)
    assert shop.snapshot()["timeouts"] == 0
    assert booked(shop) == ({"failure": 1}, {"degraded": 1})


def test_a_limit_outside_the_fallback_binds_its_stream(kind: Kind, clock: ManualClock) -> None:
    """A total deadline round the fallback is the deadline of the lesser stream too."""
    with pytest.warns(OrderWarning, match="can't answer when that timeout is up"):
        shop = policy(timeout(5.0, sync="cooperative"), fallback(value=["a", "b"]), clock=clock)

    async def body() -> None:
        stream = shop.call(kind.source(OSError))
        assert await kind.next(stream) == "a"
        clock.advance(5)
        assert isinstance(await error_of(kind.next(stream)), CallTimeoutError)

    kind.run(body)
    idle(shop)
