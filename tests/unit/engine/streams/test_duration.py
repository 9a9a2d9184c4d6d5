"""How long a stream took: the time in its steps, not its consumer's."""

from __future__ import annotations

import pytest

from resilient import bulkhead, circuit_breaker, timeout
from resilient.testing import ManualClock
from tests.kit.policies import policy
from tests.kit.streams import END, Kind


def test_the_duration_is_the_time_in_the_steps(kind: Kind, clock: ManualClock) -> None:
    """A slow consumer does not make a stream slow."""
    shop = policy(bulkhead(1), timeout(1000, sync="cooperative"), clock=clock)

    async def body() -> None:
        stream = shop.call(kind.source(lambda: clock.advance(0.5), 1, lambda: clock.advance(1)))
        clock.advance(50)
        await kind.next(stream)
        clock.advance(100)
        assert await kind.next(stream) == END
        again = shop.call(kind.source(lambda: clock.advance(0.25), 1))
        await kind.next(again)
        clock.advance(100)
        await kind.close(again)

    kind.run(body)
    duration = shop.snapshot()["duration"]
    assert duration["count"] == 2
    assert duration["sum"] == pytest.approx(1.75)


@pytest.mark.parametrize("slow", ["body", "consumer"])
@pytest.mark.parametrize("together", [False, True])
def test_slowness_is_the_bodys(kind: Kind, clock: ManualClock, slow: str, together: bool) -> None:
    """slow_call_duration is held against the time in the steps, one by one or side by side."""
    breaker = circuit_breaker(
        failure_rate=None, failure_threshold=None, slow_call_duration=1.0, minimum_calls=4,
        window=1000.0,
    )  # fmt: skip
    shop = policy(breaker, bulkhead(9), clock=clock)
    steps = 0.6 if slow == "body" else 0.1
    guarded = shop(kind.source(*[lambda: clock.advance(steps), 1] * 2))

    async def body() -> None:
        for _ in range(4):
            streams = [guarded() for _ in range(4 if together else 1)]
            for _ in range(3):
                for stream in streams:
                    if shop.state == "closed":
                        await kind.next(stream)
                clock.advance(5 if slow == "consumer" else 0)
            for stream in streams:
                await kind.close(stream)
        if slow == "body":
            assert shop.state == "open"
        else:
            assert shop.state == "closed", (
                "streams that waited for their consumer were taken for slow"
            )

    kind.run(body)
