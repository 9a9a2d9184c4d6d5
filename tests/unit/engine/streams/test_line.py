"""Many guarded streams at once, and the line in front of a bulkhead."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient import BulkheadFullError, Policy, bulkhead, circuit_breaker, timeout
from tests.kit.policies import counts, error_of, idle, part, policy
from tests.kit.streams import END, SYNC_KIND, Kind
from tests.kit.threads import in_threads
from tests.kit.waiting import WAIT, until


def touchy(slots: int = 1, **options: Any) -> Policy:
    """A policy whose circuit opens at the first failure."""
    return policy(circuit_breaker(failure_threshold=1, **options), bulkhead(slots))


def taken(shop: Policy) -> tuple[int, int]:
    """Return calls in flight and slots used."""
    return shop.snapshot()["in_flight"], part(shop, "bulkhead")["used"]


# -- many, and the line ----------------------------------------------------------------------


def test_many_streams_side_by_side(kind: Kind) -> None:
    """Streams of one policy that are stepped in turn hold a slot each."""
    shop = touchy(50)
    guarded = shop(kind.source(1, 2, 3))

    async def body() -> None:
        streams = [guarded() for _ in range(50)]
        for item in (1, 2, 3):
            assert [await kind.next(stream) for stream in streams] == [item] * 50
            assert taken(shop) == (50, 50)
        assert isinstance(await error_of(kind.next(guarded())), BulkheadFullError)
        for left, stream in zip(range(49, -1, -1), streams, strict=True):
            assert await kind.next(stream) == END
            assert taken(shop) == (left, left)

    kind.run(body)
    assert counts(shop) == {"success": 50, "refused": 1}


def test_a_stream_waits_in_line_at_its_first_step(akind: Kind) -> None:
    """A task whose stream finds no slot waits there until the other stream has ended."""
    shop, order = policy(bulkhead(1, max_waiting=1, max_wait=WAIT)), []

    async def second() -> None:
        order.append(await akind.items(shop.call(akind.source("second"))))

    async def body() -> None:
        first = shop.call(akind.source(1))
        await akind.next(first)
        async with anyio.create_task_group() as group:
            group.start_soon(second)
            while part(shop, "bulkhead")["waiting"] == 0:
                await anyio.lowlevel.checkpoint()
            assert isinstance(
                await error_of(akind.next(shop.call(akind.source(3)))), BulkheadFullError
            )
            order.append("first")
            await akind.close(first)

    akind.run(body)
    assert order == ["first", ["second"]]
    assert counts(shop) == {"cancelled": 1, "success": 1, "refused": 1}
    idle(shop)


def test_a_thread_waits_in_line_at_its_first_step() -> None:
    """The same for generators in threads."""
    shop, ends = policy(bulkhead(1, max_waiting=1, max_wait=WAIT)), []
    guarded = shop(SYNC_KIND.source(1, 2))
    first = guarded()
    next(first)
    thread = threading.Thread(target=lambda: ends.append(list(guarded())), daemon=True)
    thread.start()
    until(lambda: part(shop, "bulkhead")["waiting"] == 1)
    assert ends == []
    assert list(first) == [2]
    thread.join(WAIT)
    assert ends == [[1, 2]]
    assert counts(shop) == {"success": 2}
    idle(shop)


def test_threads_with_streams_of_one_policy() -> None:
    """Eight threads with hundreds of streams, ended in every way: counts are exact."""
    shop = policy(circuit_breaker(metrics_only=True), bulkhead(64), timeout(60, sync="cooperative"))
    good, bad = shop(SYNC_KIND.source(1, 2, 3)), shop(SYNC_KIND.source(1, OSError))

    def actor(_: int) -> None:
        for number in range(150):
            assert list(good()) == [1, 2, 3]
            stream = bad()
            assert next(stream) == 1
            if number % 2:
                stream.close()
            else:
                with pytest.raises(OSError, match="down"):
                    next(stream)

    assert in_threads(8, actor) == [None] * 8
    assert counts(shop) == {"success": 1200, "cancelled": 600, "failure": 600}
    idle(shop)
