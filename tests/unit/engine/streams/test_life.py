"""The life of a guarded stream: admission at the first step, and one outcome at its end."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import BulkheadFullError, CircuitOpenError, Policy, bulkhead, circuit_breaker
from tests.kit.colours import Gone
from tests.kit.policies import booked, counts, error_of, idle, part, policy
from tests.kit.streams import END, Kind


def touchy(slots: int = 1, **options: Any) -> Policy:
    """A policy whose circuit opens at the first failure."""
    return policy(circuit_breaker(failure_threshold=1, **options), bulkhead(slots))


def taken(shop: Policy) -> tuple[int, int]:
    """Return calls in flight and slots used."""
    return shop.snapshot()["in_flight"], part(shop, "bulkhead")["used"]


def test_nothing_is_taken_before_the_first_step(kind: Kind) -> None:
    """Making, closing, throwing into or dropping a stream that was never begun costs nothing."""
    shop, log = touchy(), []
    guarded = shop(kind.source(1, log=log))

    async def body() -> None:
        streams = [guarded() for _ in range(5)]
        assert taken(shop) == (0, 0)
        await kind.close(streams[0])
        error = KeyError("mine")
        assert await error_of(kind.throw(streams[1], error)) is error
        streams.clear()
        await kind.settle()

    kind.run(body)
    assert (log, counts(shop), shop.state) == ([], {}, "closed")
    idle(shop)


def test_the_slot_is_held_from_the_first_step_to_the_end(kind: Kind) -> None:
    """One call in flight and one slot, through all steps, until the stream is exhausted."""
    shop, log = touchy(), []
    guarded = shop(kind.source(1, 2, 3, log=log))

    async def body() -> None:
        stream = guarded()
        for item in (1, 2, 3):
            assert await kind.next(stream) == item
            assert taken(shop) == (1, 1)
            assert counts(shop) == {}
        assert await kind.next(stream) == END
        assert taken(shop) == (0, 0)
        assert [await kind.next(stream), await kind.next(stream)] == [END, END]
        await kind.close(stream)

    kind.run(body)
    assert log == ["began", "ended"]
    assert booked(shop) == ({"success": 1}, {"full": 1})
    assert shop.snapshot()["duration"]["count"] == 1


def test_an_empty_stream_is_a_success(kind: Kind) -> None:
    """No item at all is an answer too."""
    shop = touchy()

    async def body() -> None:
        assert await kind.items(shop.call(kind.source())) == []

    kind.run(body)
    assert booked(shop) == ({"success": 1}, {"full": 1})
    idle(shop)


def test_a_refusal_is_raised_at_the_first_step(kind: Kind) -> None:
    """The second stream of a bulkhead of one is refused when it is begun, and not before."""
    shop, log = touchy(), []

    async def body() -> None:
        first, second = shop.call(kind.source(1)), shop.call(kind.source(2, log=log))
        assert await kind.next(first) == 1
        assert isinstance(await error_of(kind.next(second)), BulkheadFullError)
        assert taken(shop) == (1, 1)
        assert await kind.next(second) == END
        await kind.close(second)
        assert await kind.next(first) == END

    kind.run(body)
    assert log == []
    assert booked(shop) == ({"success": 1, "refused": 1}, {"full": 1, "error": 1})
    assert shop.snapshot()["refusals"]["bulkhead"] == 1
    idle(shop)


def test_a_forced_open_policy_refuses_at_the_first_step(kind: Kind) -> None:
    """Cut off by an operator, streams can be made but not begun; those that run go on."""
    shop = policy(bulkhead(2))

    async def body() -> None:
        running, made = shop.call(kind.source(1, 2)), shop.call(kind.source(1))
        assert await kind.next(running) == 1
        shop.force_open("drill")
        assert isinstance(await error_of(kind.next(made)), CircuitOpenError)
        assert await kind.items(running) == [2]

    kind.run(body)
    assert counts(shop) == {"success": 1, "refused": 1}
    idle(shop)


@pytest.mark.parametrize("items", [0, 2])
def test_a_failure_is_judged_and_raised_as_it_is(kind: Kind, items: int) -> None:
    """What the body raises ends the stream: the very object, with nothing hung on it."""
    shop, down = touchy(), OSError("down")
    script = [*range(items), down]

    async def body() -> None:
        stream = shop.call(kind.source(*script))
        for item in range(items):
            assert await kind.next(stream) == item
        assert await error_of(kind.next(stream)) is down
        assert await kind.next(stream) == END

    kind.run(body)
    assert (down.__cause__, down.__context__) == (None, None)
    assert booked(shop) == ({"failure": 1}, {"error": 1})
    assert shop.state == "open"
    idle(shop)


def test_an_exception_that_is_named_is_ignored(kind: Kind) -> None:
    """ignore= holds for streams."""
    shop = touchy(ignore=KeyError)

    async def body() -> None:
        assert isinstance(await error_of(kind.items(shop.call(kind.source(1, KeyError)))), KeyError)

    kind.run(body)
    assert (counts(shop), shop.state) == ({"ignored": 1}, "closed")
    idle(shop)


@pytest.mark.parametrize("exit_", [Gone, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_is_a_cancellation(kind: Kind, exit_: Any) -> None:
    """An exit that comes out of the body is passed on, and nobody's failure."""
    shop = touchy()

    async def body() -> None:
        stream = shop.call(kind.source(1, exit_))
        assert await kind.next(stream) == 1
        assert type(await error_of(kind.next(stream))) is exit_

    kind.run(body)
    assert (booked(shop), shop.state) == (({"cancelled": 1}, {}), "closed")
    idle(shop)
