"""Fixtures of the tests of the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.kit import Cli, RedisServer, redis_program
from tests.cli.workers import Worker

pytest.importorskip("click")
pytest.importorskip("rich")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The file of the SQLite store, empty: one that is not there is taken for a wrong path."""
    path = tmp_path / "flags.db"
    path.touch()
    return path


@pytest.fixture
def cli(tmp_path: Path, database: Path) -> Cli:
    """The command, with a SQLite store in which there is nothing yet."""
    return Cli(f"sqlite:///{database}", tmp_path)


@pytest.fixture
def make(cli: Cli) -> Iterator[Callable[..., Worker]]:
    """Start processes that follow the store; they end with the test."""
    made: list[Worker] = []

    def start(of: Cli = cli, **environ: str) -> Worker:
        made.append(Worker(of, **environ))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.fixture
def worker(cli: Cli, make: Callable[..., Worker]) -> Worker:
    """One process that follows the store, and is known there."""
    one = make()
    cli.applied_by(1)
    return one


def needed_redis() -> str:
    """Return where redis-server is, or skip, or fail where one is asked for."""
    program = redis_program()
    if program is None:
        said = "there is no redis-server on PATH"
        if os.environ.get("RESILIENT_NEED_REDIS") == "1":
            pytest.fail(f"{said}, and RESILIENT_NEED_REDIS=1 asks for one")
        pytest.skip(said)
    return program


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that is empty."""
    server = RedisServer(tmp_path, needed_redis())
    yield server
    server.kill()


@pytest.fixture
def fleet(redis_server: RedisServer, tmp_path: Path) -> Cli:
    """The command, with a Redis store."""
    return Cli(redis_server.url, tmp_path)
