"""Fixtures of the tests of limits that a fleet shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from resilient.engine.policy_state import PolicyState
from resilient.fleet_limits.asker import FleetAsker
from tests.kit.proxy import Proxy
from tests.kit.servers.redis_server import RedisServer


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], FleetAsker]:
    """Have the policies of this process ask another store."""

    def ask(setting: str) -> FleetAsker:
        asker = FleetAsker(lambda: setting)
        monkeypatch.setattr(PolicyState, "on_fleet_asked", staticmethod(asker.ask))
        return asker

    return ask


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    """A proxy in front of the Redis."""
    made = Proxy(redis_server.port)
    yield made
    made.close()
