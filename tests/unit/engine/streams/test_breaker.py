"""Streams and the circuit: what opens it, probes, and the states that views and stacking share."""

from __future__ import annotations

import anyio
import pytest

from resilient import (
    BulkheadFullError,
    CircuitOpenError,
    Policy,
    bulkhead,
    circuit_breaker,
    timeout,
)
from resilient.testing import ManualClock
from tests.kit.policies import booked, counts, error_of, idle, part, policy
from tests.kit.streams import END, Kind


def test_streams_that_fail_in_the_middle_open_it(kind: Kind) -> None:
    """Items before the failure do not make up for it."""
    shop = policy(circuit_breaker(failure_threshold=3), bulkhead(1))
    guarded = shop(kind.source(1, 2, OSError))

    async def body() -> None:
        for _ in range(3):
            assert shop.state == "closed"
            assert type(await error_of(kind.items(guarded()))) is OSError
        assert shop.state == "open"
        refused = await error_of(kind.next(guarded()))
        assert isinstance(refused, CircuitOpenError)
        assert "OSError" in str(refused)

    kind.run(body)
    assert counts(shop) == {"failure": 3, "refused": 1}
    idle(shop)


def test_a_success_counts_at_the_end_of_the_stream_only(kind: Kind) -> None:
    """A stream that is under way has not succeeded: failures round it are still in a row."""
    shop = policy(circuit_breaker(failure_threshold=2), bulkhead(9))

    async def body() -> None:
        running = shop.call(kind.source(1, 2))
        await error_of(kind.items(shop.call(kind.source(OSError))))
        assert await kind.next(running) == 1
        await error_of(kind.items(shop.call(kind.source(OSError))))
        assert shop.state == "open"
        assert await kind.items(running) == [2]
        assert shop.state == "open", "a result of another epoch moves nothing"

    kind.run(body)
    assert counts(shop) == {"failure": 2, "success": 1}
    idle(shop)


def half_open(clock: ManualClock, **options: object) -> Policy:
    """A policy whose circuit is about to try again."""
    shop = policy(
        circuit_breaker(failure_threshold=1, recovery_timeout=5, **options),  # type: ignore[arg-type]
        bulkhead(9),
        clock=clock,
    )
    assert shop.try_call(int, "x").served == "error"
    clock.advance(5)
    return shop


@pytest.mark.parametrize("end", ["exhausted", "failed", "closed", "dropped"])
def test_a_stream_is_a_probe_for_its_whole_life(kind: Kind, clock: ManualClock, end: str) -> None:
    """It keeps the probe's place until its end, which closes, reopens or moves nothing."""
    shop = half_open(clock)

    async def body() -> None:
        stream = shop.call(kind.source(1, OSError if end == "failed" else 2))
        assert shop.state != "half_open"
        assert await kind.next(stream) == 1
        assert (shop.state, part(shop, "circuit_breaker")["probes"]) == ("half_open", 1)
        refused = await error_of(kind.next(shop.call(kind.source(1))))
        assert isinstance(refused, CircuitOpenError)
        if end == "exhausted":
            assert await kind.items(stream) == [2]
        elif end == "failed":
            await error_of(kind.next(stream))
        elif end == "closed":
            await kind.close(stream)
        else:
            await kind.close(stream)
            del stream
            await kind.settle()

    kind.run(body)
    expected = {"exhausted": "closed", "failed": "open"}.get(end, "half_open")
    assert shop.state == expected
    idle(shop)


def test_a_probe_that_outlives_its_lease_has_failed(kind: Kind, clock: ManualClock) -> None:
    """A stream that hangs as a probe does not wedge the circuit, and its late end moves nothing."""
    shop = half_open(clock, probe_lease=20.0)

    async def body() -> None:
        stream = shop.call(kind.source(1, 2))
        assert await kind.next(stream) == 1
        clock.advance(21)
        refused = await error_of(kind.next(shop.call(kind.source(1))))
        assert isinstance(refused, CircuitOpenError)
        assert shop.state == "open"
        assert await kind.items(stream) == [2]
        assert shop.state == "open"
        clock.advance(60)
        assert await kind.items(shop.call(kind.source(1))) == [1]
        assert shop.state == "closed"

    kind.run(body)
    idle(shop)


def test_views_share_the_state(kind: Kind, clock: ManualClock) -> None:
    """Streams and calls of a policy and of its views: one breaker, one bulkhead, one count."""
    shop = policy(circuit_breaker(failure_threshold=2), bulkhead(1), clock=clock)
    view = shop.with_(timeout(5, sync="cooperative"))

    async def body() -> None:
        stream = view.call(kind.source(1))
        await kind.next(stream)
        assert isinstance(await error_of(kind.next(shop.call(kind.source(1)))), BulkheadFullError)
        assert isinstance(shop.try_call(int).error, BulkheadFullError)
        assert await kind.next(stream) == END
        assert shop.try_call(int).value == 0
        await error_of(kind.items(view.call(kind.source(1, OSError))))
        await error_of(kind.items(shop.call(kind.source(1, OSError))))
        assert shop.state == view.state == "open"

    kind.run(body)
    assert counts(shop) == counts(view) == {"success": 2, "failure": 2, "refused": 2}
    idle(shop)


def test_stacked_guards_act_as_one_policy(kind: Kind) -> None:
    """Decorators stacked on a stream function share one count."""
    guarded = circuit_breaker(failure_threshold=1)(bulkhead(1)(kind.source(1, OSError)))
    shop = guarded.__resilient__.policy

    async def body() -> None:
        stream = guarded()
        await kind.next(stream)
        assert isinstance(await error_of(kind.next(guarded())), BulkheadFullError)
        assert type(await error_of(kind.next(stream))) is OSError
        assert isinstance(await error_of(kind.next(guarded())), CircuitOpenError)

    kind.run(body)
    assert counts(shop) == {"failure": 1, "refused": 2}
    idle(shop)


def test_a_policy_round_a_guarded_stream(kind: Kind) -> None:
    """Two policies on one stream function each count it, and its refusal is the outer's failure."""
    inner, outer = policy(bulkhead(1)), policy(circuit_breaker(failure_threshold=1), bulkhead(9))
    guarded = outer(inner(kind.source(1, 2)))

    async def body() -> None:
        stream = guarded()
        await kind.next(stream)
        assert inner.snapshot()["in_flight"] == outer.snapshot()["in_flight"] == 1
        assert isinstance(await error_of(kind.next(guarded())), BulkheadFullError)
        assert outer.state == "open"
        assert await kind.items(stream) == [2]

    kind.run(body)
    assert booked(inner) == ({"success": 1, "refused": 1}, {"full": 1, "error": 1})
    assert booked(outer) == ({"success": 1, "failure": 1}, {"full": 1, "error": 1})
    idle(inner)
    idle(outer)


def test_calls_and_streams_share_the_slots(akind: Kind) -> None:
    """A stream that is held open keeps an async call of the same policy out."""
    shop = policy(bulkhead(1))

    async def body() -> None:
        stream = shop.call(akind.source(1))
        await akind.next(stream)
        error = await error_of(shop.acall(anyio.sleep, 0))
        assert isinstance(error, BulkheadFullError)
        await akind.close(stream)
        await shop.acall(anyio.sleep, 0)

    akind.run(body)
    assert counts(shop) == {"cancelled": 1, "refused": 1, "success": 1}
    idle(shop)
