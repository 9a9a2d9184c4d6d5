"""One deadline for the whole life of a stream, kept at its steps and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

import resilient
from resilient import CallTimeoutError, Policy, bulkhead, circuit_breaker, timeout
from resilient.deadline import current
from resilient.testing import ManualClock
from tests.kit.policies import booked, counts, error_of, idle, part, policy
from tests.kit.streams import END, Kind


def timed(clock: ManualClock, seconds: float = 1.0, **options: Any) -> Policy:
    """A policy with a breaker that opens at the first failure, one slot and a time limit."""
    breaker = circuit_breaker(failure_threshold=1, **options)
    return policy(breaker, bulkhead(1), timeout(seconds, sync="cooperative"), clock=clock)


def test_remaining_is_told_in_the_steps_and_nowhere_else(kind: Kind, clock: ManualClock) -> None:
    """The body reads one deadline, from admission; the consumer's code between steps has none."""
    shop, seen = timed(clock), []

    def look() -> None:
        seen.append(resilient.remaining())

    async def body() -> None:
        stream = shop.call(kind.source(look, 1, look, 2, look))
        clock.advance(100)  # made long before it is begun
        for expected in (1, 2, END):
            assert await kind.next(stream) == expected
            assert resilient.remaining() is None
            assert current.get() is None
            clock.advance(0.25)

    kind.run(body)
    assert seen == [1.0, 0.75, 0.5]
    assert counts(shop) == {"success": 1}
    idle(shop)


def test_the_context_is_put_back_after_every_sort_of_step(kind: Kind, clock: ManualClock) -> None:
    """After send, throw, close, a failure and a timeout, no deadline binds the consumer."""
    shop = policy(bulkhead(9), timeout(1.0, sync="cooperative"), clock=clock)

    async def body() -> None:
        for how in ("send", "throw", "close", "fail", "late"):
            stream = shop.call(kind.source(1, OSError if how == "fail" else 2))
            await kind.next(stream)
            clock.advance(1.0 if how == "late" else 0)
            if how == "send":
                await kind.send(stream, "x")
            elif how == "throw":
                await error_of(kind.throw(stream, KeyError("mine")))
            elif how == "close":
                await kind.close(stream)
            else:
                await error_of(kind.next(stream))
            assert (resilient.remaining(), current.get()) == (None, None), how
            await kind.close(stream)

    kind.run(body)
    idle(shop)


@pytest.mark.parametrize("over", [1.0, 1.5])
def test_a_step_begun_after_the_deadline_closes_the_stream(
    kind: Kind, clock: ManualClock, over: float
) -> None:
    """At the deadline or after it, a step runs nothing but the body's clean-up and raises."""
    shop, log = timed(clock), []

    async def body() -> None:
        stream = shop.call(kind.source(1, lambda: log.append("ran on"), 2, log=log))
        assert await kind.next(stream) == 1
        clock.advance(over)
        assert part(shop, "bulkhead")["used"] == 1
        error = await error_of(kind.next(stream))
        assert type(error) is CallTimeoutError
        assert (error.policy, error.timeout) == (shop.name, 1.0)
        assert log == ["began", "GeneratorExit", "ended"]
        assert await kind.next(stream) == END

    kind.run(body)
    assert booked(shop) == ({"failure": 1}, {"error": 1})
    assert (shop.snapshot()["timeouts"], shop.state) == (1, "open")
    idle(shop)


@pytest.mark.parametrize("how", ["send", "throw"])
def test_send_and_throw_after_the_deadline(kind: Kind, clock: ManualClock, how: str) -> None:
    """What is sent or thrown too late does not reach the body."""
    shop, log = timed(clock), []

    async def body() -> None:
        stream = shop.call(kind.source(1, 2, log=log))
        await kind.next(stream)
        clock.advance(1)
        late = kind.send(stream, "x") if how == "send" else kind.throw(stream, KeyError("mine"))
        error = await error_of(late)
        if how == "send":
            assert type(error) is CallTimeoutError
            assert log == ["began", "GeneratorExit", "ended"]
        assert log[-1] == "ended"

    kind.run(body)
    assert sum(counts(shop).values()) == 1
    idle(shop)


def test_an_early_close_after_the_deadline_is_neutral(kind: Kind, clock: ManualClock) -> None:
    """A consumer that closes a stream whose time is up has not timed out: it went away."""
    shop = timed(clock)

    async def body() -> None:
        stream = shop.call(kind.source(1, 2))
        await kind.next(stream)
        clock.advance(5)
        await kind.close(stream)

    kind.run(body)
    assert (counts(shop), shop.snapshot()["timeouts"]) == ({"cancelled": 1}, 0)
    assert shop.state == "closed"
    idle(shop)


def test_an_exhaustion_that_comes_late_is_a_success(kind: Kind, clock: ManualClock) -> None:
    """A body that ends after the deadline, in a step begun before it: success, counted late."""
    shop = timed(clock)

    async def body() -> None:
        stream = shop.call(kind.source(1, lambda: clock.advance(2)))
        assert [await kind.next(stream), await kind.next(stream)] == [1, END]

    kind.run(body)
    assert booked(shop) == ({"success": 1}, {"full": 1})
    assert (shop.snapshot()["late_values"], shop.snapshot()["timeouts"]) == (1, 0)
    assert shop.state == "closed"
    idle(shop)


def test_a_value_that_made_it_is_given(kind: Kind, clock: ManualClock) -> None:
    """An item that comes late, but comes, is handed out; the next step raises."""
    shop, log = timed(clock), []

    async def body() -> None:
        stream = shop.call(kind.source(1, lambda: clock.advance(2), 2, 3, log=log))
        assert [await kind.next(stream), await kind.next(stream)] == [1, 2]
        assert type(await error_of(kind.next(stream))) is CallTimeoutError

    kind.run(body)
    assert log == ["began", "GeneratorExit", "ended"]
    assert (counts(shop), shop.snapshot()["timeouts"]) == ({"failure": 1}, 1)
    idle(shop)


def test_check_in_the_body(kind: Kind, clock: ManualClock) -> None:
    """A body that asks check() and is told that its time is up has timed out."""
    shop = timed(clock)

    async def body() -> None:
        stream = shop.call(kind.source(1, lambda: clock.advance(2), resilient.check, 2))
        await kind.next(stream)
        error = await error_of(kind.next(stream))
        assert type(error) is CallTimeoutError
        assert error.policy == shop.name

    kind.run(body)
    assert (counts(shop), shop.snapshot()["timeouts"]) == ({"failure": 1}, 1)
    idle(shop)


def test_a_timeout_error_of_the_body_stays_its_own(kind: Kind, clock: ManualClock) -> None:
    """A TimeoutError that the body raises is a failure like any other."""
    shop, mine = timed(clock), TimeoutError("its own")

    async def body() -> None:
        assert await error_of(kind.items(shop.call(kind.source(1, mine)))) is mine

    kind.run(body)
    assert (counts(shop), shop.snapshot()["timeouts"]) == ({"failure": 1}, 0)


def test_the_tighter_limit_of_a_view(kind: Kind, clock: ManualClock) -> None:
    """A view made by with_ has its own limit, and the policy's slots and counts."""
    shop = timed(clock, 10)
    strict = shop.with_(timeout(1.0, sync="cooperative"))

    async def body() -> None:
        stream, other = strict.call(kind.source(1, 2)), shop.call(kind.source(1))
        assert await kind.next(stream) == 1
        assert (await error_of(kind.next(other))).guard == "bulkhead"  # type: ignore[attr-defined]
        clock.advance(1)
        assert (await error_of(kind.next(stream))).timeout == 1.0  # type: ignore[attr-defined]

    kind.run(body)
    assert counts(shop) == {"failure": 1, "refused": 1}
    idle(shop)


def test_streams_inside_streams(kind: Kind, clock: ManualClock) -> None:
    """Each stream's steps see the tightest limit round them, and put back what they found."""
    outer, inner = timed(clock, 1.0), timed(clock, 5.0)
    seen: list[Any] = []

    def look() -> None:
        seen.append(resilient.remaining())

    source = inner(kind.source(look, 1, look, 2, look))

    def plain() -> Any:
        look()
        for item in source():
            look()
            yield item
        look()

    async def waits() -> Any:
        look()
        async for item in source():
            look()
            yield item
        look()

    async def body() -> None:
        stream: Any = outer.call(waits if kind.is_async else plain)
        while await kind.next(stream) != END:
            assert current.get() is None
            clock.advance(0.25)

    kind.run(body)
    assert seen == [1.0, 1.0, 1.0, 0.75, 0.75, 0.5, 0.5]
    assert counts(inner) == counts(outer) == {"success": 1}
