"""Eight processes keep one limit together; `make fleet` shows how well, and what a restart costs."""

from __future__ import annotations

from tests.integration.fleet.fleet import Fleet, excess, in_it
from tests.kit.servers.redis_server import RedisServer

RATE, BURST = 100, 10
LATE = 0.5  # seconds from a turn until a body on a loaded machine reads the clock


def test_eight_processes_keep_one_limit(redis_server: RedisServer) -> None:
    """However loaded the machine is they never go over it; that they use it is the trial's."""
    with Fleet(8, redis_server.url, max_calls=RATE, period=1.0, burst=BURST, max_wait=0.5) as fleet:
        fleet.ready()
        start, end = fleet.begin(2.0)
        fleet.end()
    assert in_it(fleet.began, start, end) > 0
    assert excess(fleet.began, RATE, BURST) <= RATE * LATE
