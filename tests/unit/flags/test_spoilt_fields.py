"""A field of the levers in Redis that somebody has spoilt: it can be flipped, and is healed once."""

from __future__ import annotations

import re
import time

from resilient.flags.operations import order
from resilient.flags.stores.redis import RedisStore
from tests.kit.followers import Make
from tests.kit.servers.redis_server import RedisServer
from tests.kit.waiting import until
from tests.unit.flags.kit import flip


def commands(server: RedisServer) -> int:
    """Return how many commands a Redis has carried out."""
    found = re.search(rb"total_commands_processed:(\d+)", server.send("INFO", "stats"))
    assert found
    return int(found[1])


def test_a_spoilt_field_in_redis_can_be_flipped(redis_server: RedisServer) -> None:
    """What can't be read is at no version, for reading and for flipping alike."""
    store = RedisStore(redis_server.url)
    made = flip(store, "recs")
    redis_server.send("HSET", "{resilient}:levers", "flag/recs", f"{made.version} nonsense")
    done = order(store, "flag/recs", "on", by="ann", reason="again")
    assert done.changed
    assert [each.value for each in store.read("", -1).flips or []] == ["on"]
    store.close()


def test_a_spoilt_field_in_redis_is_healed_once(hand: Make, redis_server: RedisServer) -> None:
    """A process that knows what stood there gives it back, and does so no more."""
    store = RedisStore(redis_server.url)
    made = flip(store, "recs")
    one = hand(lambda: RedisStore(redis_server.url), "recs")
    one.follower.start()
    until(lambda: not one.says("recs"))
    redis_server.send("HSET", "{resilient}:levers", "flag/recs", f"{made.version} nonsense")
    flip(store, "more")
    until(lambda: len(store.read("", -1).flips or []) == 2)
    before = commands(redis_server)
    time.sleep(0.5)
    assert commands(redis_server) - before < 30
    assert not one.says("recs")
    one.follower.stop()
    store.close()
