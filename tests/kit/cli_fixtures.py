"""Fixtures of the tests of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kit.cli_workers import worker_of
from tests.kit.command import Cli
from tests.kit.servers.redis_server import RedisServer
from tests.kit.workers import Worker

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
        made.append(worker_of(of, **environ))
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


@pytest.fixture
def fleet(redis_server: RedisServer, tmp_path: Path) -> Cli:
    """The command, with a Redis store."""
    return Cli(redis_server.url, tmp_path)
