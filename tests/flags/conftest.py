"""Fixtures of the tests of flags."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flags.kit import Hand, RedisServer, redis_program
from tests.flags.process_kit import Worker
from tests.flags.proxy import Proxy


@pytest.fixture(scope="session")
def _redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for the session: a test that harms it starts it again."""
    program = redis_program()
    if program is None:
        said = "there is no redis-server on PATH"
        if os.environ.get("RESILIENT_NEED_REDIS") == "1":
            pytest.fail(f"{said}, and RESILIENT_NEED_REDIS=1 asks for one")
        pytest.skip(said)
    server = RedisServer(tmp_path_factory.mktemp("redis"), program)
    yield server
    server.kill()


@pytest.fixture
def redis_server(_redis: RedisServer) -> Iterator[RedisServer]:
    """A Redis that is empty, and that runs again after the test."""
    _redis.flush()
    yield _redis
    if _redis.process is None:
        _redis.start()
    _redis.cont()


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
def worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Start processes that follow a store; all are ended with the test."""
    made: list[Worker] = []

    def start(store: str, **environ: str) -> Worker:
        made.append(Worker(store, tmp_path, **environ))
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
