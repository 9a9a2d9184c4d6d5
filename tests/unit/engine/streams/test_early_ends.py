"""Early ends of a guarded stream, and what its consumer sends and throws into it."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import Policy, bulkhead, circuit_breaker
from tests.kit.policies import booked, counts, error_of, idle, part, policy
from tests.kit.streams import END, SYNC_KIND, End, Kind


def touchy(slots: int = 1, **options: Any) -> Policy:
    """A policy whose circuit opens at the first failure."""
    return policy(circuit_breaker(failure_threshold=1, **options), bulkhead(slots))


def taken(shop: Policy) -> tuple[int, int]:
    """Return calls in flight and slots used."""
    return shop.snapshot()["in_flight"], part(shop, "bulkhead")["used"]


# -- the early end ---------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_an_early_close_is_neutral(kind: Kind, steps: int) -> None:
    """close() runs the body's clean-up, gives the slot back and is nobody's failure."""
    shop, log = touchy(), []

    async def body() -> None:
        stream = shop.call(kind.source(1, 2, 3, 4, log=log))
        for _ in range(steps):
            await kind.next(stream)
        await kind.close(stream)
        assert log == ["began", "GeneratorExit", "ended"]
        assert taken(shop) == (0, 0)
        assert await kind.next(stream) == END
        await kind.close(stream)

    kind.run(body)
    assert (booked(shop), shop.state) == (({"cancelled": 1}, {}), "closed")


def test_twenty_early_ends_do_not_open_the_circuit(kind: Kind) -> None:
    """Breaking out of a stream says nothing about the dependency."""
    shop = policy(circuit_breaker(minimum_calls=2, failure_rate=0.1), bulkhead(1))
    guarded = shop(kind.source(1, 2, 3))

    async def body() -> None:
        for _ in range(20):
            stream = guarded()
            if kind.is_async:
                async for _item in stream:
                    break
            else:
                for _item in stream:
                    break
            await kind.close(stream)
        assert await kind.items(guarded()) == [1, 2, 3]

    kind.run(body)
    assert (counts(shop), shop.state) == ({"cancelled": 20, "success": 1}, "closed")
    idle(shop)


def test_a_clean_up_that_fails_is_raised_and_gives_the_slot_back(kind: Kind) -> None:
    """What the body's clean-up raises at close() comes out of it, and is counted once."""
    shop = policy(circuit_breaker(), bulkhead(1))

    def plain() -> Any:
        try:
            yield 1
        finally:
            raise OSError("clean-up")

    async def waits() -> Any:
        try:
            yield 1
        finally:
            raise OSError("clean-up")

    async def body() -> None:
        stream: Any = shop.call(waits if kind.is_async else plain)
        await kind.next(stream)
        assert repr(await error_of(kind.close(stream))) == "OSError('clean-up')"
        assert await kind.next(stream) == END

    kind.run(body)
    assert sum(counts(shop).values()) == 1
    idle(shop)


# -- send and throw ---------------------------------------------------------------------------


def test_what_is_sent_reaches_the_body(kind: Kind) -> None:
    """send() and its answer pass through."""
    log: list[Any] = []
    shop = policy(bulkhead(1))

    async def body() -> None:
        stream = shop.call(kind.source(1, 2, 3, log=log))
        assert isinstance(await error_of(kind.send(stream, "too early")), TypeError)
        assert taken(shop) == (0, 0)
        assert await kind.next(stream) == 1
        assert await kind.send(stream, "a") == 2
        assert await kind.next(stream) == 3
        assert await kind.send(stream, "b") == END

    kind.run(body)
    assert log == ["began", "a", "b", "ended"]
    assert counts(shop) == {"success": 1}


class Catching:
    """Makes streams that do with an exception what they are told."""

    def __init__(self, kind: Kind, how: str) -> None:
        def handle(error: Exception) -> Any:
            if how == "raises its own":
                raise OSError("its own") from error
            if how == "raises one like it":
                raise KeyError("mine")
            if how == "lets it out":
                raise error
            return "caught"

        def plain() -> Any:
            try:
                yield 1
            except KeyError as error:
                yield handle(error)

        async def waits() -> Any:
            try:
                yield 1
            except KeyError as error:
                yield handle(error)

        self.fn: Any = waits if kind.is_async else plain


@pytest.mark.parametrize(
    ("how", "outcome"),
    [
        ("lets it out", "ignored"), ("raises its own", "failure"),
        ("raises one like it", "failure"), ("goes on", "success"),
    ],
)  # fmt: skip
def test_an_exception_that_is_thrown_in(kind: Kind, how: str, outcome: str) -> None:
    """Only the consumer's own exception, come back as the same object, is ignored."""
    shop, mine = touchy(), KeyError("mine")

    async def body() -> None:
        stream = shop.call(Catching(kind, how).fn)
        assert await kind.next(stream) == 1
        if how == "goes on":
            assert await kind.throw(stream, mine) == "caught"
            assert taken(shop) == (1, 1)
            assert await kind.next(stream) == END
            return
        raised = await error_of(kind.throw(stream, mine))
        assert (raised is mine) == (how == "lets it out")
        assert repr(raised) == ("OSError('its own')" if "own" in how else "KeyError('mine')")
        assert await kind.next(stream) == END

    kind.run(body)
    assert counts(shop) == {outcome: 1}
    assert shop.state == ("open" if outcome == "failure" else "closed")
    idle(shop)


def test_an_exception_thrown_in_at_a_later_step_than_it_comes_out(kind: Kind) -> None:
    """A thrown exception that was caught, and a failure of the body's own later: a failure."""
    shop = touchy()

    def plain() -> Any:
        try:
            yield 1
        except KeyError:
            yield 2
        raise OSError("down")

    async def waits() -> Any:
        try:
            yield 1
        except KeyError:
            yield 2
        raise OSError("down")

    async def body() -> None:
        stream: Any = shop.call(waits if kind.is_async else plain)
        await kind.next(stream)
        assert await kind.throw(stream, KeyError("mine")) == 2
        assert isinstance(await error_of(kind.next(stream)), OSError)

    kind.run(body)
    assert counts(shop) == {"failure": 1}
    idle(shop)


def test_the_return_value_passes() -> None:
    """A generator's return value is the value of `yield from`, and of StopIteration."""
    shop = policy(circuit_breaker(), bulkhead(1))
    guarded = shop(SYNC_KIND.source(1, 2, End("returned")))

    def outer() -> Any:
        got.append((yield from guarded()))

    got: list[Any] = []
    assert list(outer()) == [1, 2]
    assert got == ["returned"]
    assert SYNC_KIND.run(SYNC_KIND.next, shop.call(SYNC_KIND.source(End(7)))) == End(7)
    assert counts(shop) == {"success": 2}
