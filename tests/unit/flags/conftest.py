"""Fixtures of the tests of flags."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.followers import Hand
from tests.kit.proxy import Proxy
from tests.kit.servers.redis_server import RedisServer
from tests.unit.flags.process_kit import Following


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    """A proxy in front of the Redis."""
    made = Proxy(redis_server.port)
    yield made
    made.close()


@pytest.fixture
def hand(tmp_path: Path) -> Iterator[Callable[..., Hand]]:
    """Make followers that the test drives; all are closed at its end."""
    made: list[Hand] = []

    def make(opener: Callable[[], Any], *names: str, **more: Any) -> Hand:
        directory = more.pop("directory", tmp_path / "state")
        made.append(Hand(opener, directory, *names, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., Following]]:
    """Start processes that follow a store; all are ended with the test."""
    made: list[Following] = []

    def start(store: str, **environ: str) -> Following:
        made.append(Following(store, tmp_path, **environ))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.fixture(params=["sqlite", "redis"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Every store that processes can share and write, by its setting."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return server.url
    return f"sqlite:///{tmp_path / 'flags.db'}"
