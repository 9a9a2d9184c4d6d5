"""gunicorn with --preload under load: a flip reaches every worker, and outlives them all."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.gunicorn.service import Load, Service
from tests.kit.command import Cli
from tests.kit.servers.redis_server import RedisServer
from tests.kit.waiting import until
from tests.kit.workers import free_port

pytest.importorskip("gunicorn")

WORKERS = 3


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Cli], Service]]:
    """Start services; they end with the test."""
    made: list[Service] = []

    def start(cli: Cli) -> Service:
        made.append(Service(free_port(), WORKERS, cli.env(), tmp_path / f"log-{len(made)}"))
        made[-1].answers()
        return made[-1]

    yield start
    for each in made:
        each.kill()


def flip(cli: Cli, word: str, number: int = WORKERS) -> None:
    """Flip the flag; every worker must have applied it when the command ends."""
    cli.flip("flags", word, "recs").said(0, f"applied by {number} of {number} processes")


def replaced(service: Service) -> None:
    """Kill one worker, and wait until another has taken its place."""
    before = service.answers()
    os.kill(min(before), signal.SIGKILL)
    until(lambda: min(before) not in service.answers())


def scene(cli: Cli, service: Service) -> None:
    """Flip under load, to and fro, and lose a worker."""
    cli.applied_by(WORKERS)
    with Load(service) as load:
        flip(cli, "off")
        assert set(service.answers().values()) == {"top 100"}
        flip(cli, "on")
        assert set(service.answers().values()) == {"personal"}
        flip(cli, "off")
        replaced(service)
        assert set(service.answers().values()) == {"top 100"}
        cli.applied_by(WORKERS)
        flip(cli, "on")
        assert set(service.answers().values()) == {"personal"}
    assert load.asked > 0
    cli("status").said(0, f"{WORKERS} processes; all in step")


def test_on_sqlite(cli: Cli, database: Path, serve: Callable[[Cli], Service]) -> None:
    """On SQLite; then the whole service begins again with the store deleted."""
    service = serve(cli)
    scene(cli, service)
    flip(cli, "off")
    service.stop()
    assert cli("processes", "--json").said(0).json == [], "each has said goodbye"
    for each in database.parent.glob("flags.db*"):
        with contextlib.suppress(IsADirectoryError, PermissionError):
            each.unlink()
    service = serve(cli)
    assert set(service.answers().values()) == {"top 100"}
    cli.applied_by(WORKERS)
    assert cli.flag("recs")["state"] == "off", "the store was given back what it had lost"
    flip(cli, "on")
    assert set(service.answers().values()) == {"personal"}


@pytest.mark.parametrize("store", ["cli", "fleet"])
def test_a_parent_that_follows_too(
    store: str, serve: Callable[[Cli], Service], request: pytest.FixtureRequest
) -> None:
    """Where the parent read a flag before it forked, it is counted, and each worker obeys."""
    cli: Cli = request.getfixturevalue(store)
    cli.environ["APP_READS_EARLY"] = "1"
    service = serve(cli)
    until(lambda: cli.followers() == WORKERS + 1)
    for word, answer in (("off", "top 100"), ("on", "personal")):
        flip(cli, word, WORKERS + 1)
        assert set(service.answers().values()) == {answer}
    replaced(service)
    until(lambda: cli.followers() == WORKERS + 1)
    flip(cli, "off", WORKERS + 1)
    assert set(service.answers().values()) == {"top 100"}


def test_on_redis(fleet: Cli, redis_server: RedisServer, serve: Callable[[Cli], Service]) -> None:
    """On Redis; then the whole service is killed, and begins again with Redis down."""
    service = serve(fleet)
    scene(fleet, service)
    flip(fleet, "off")
    redis_server.kill()
    assert set(service.answers().values()) == {"top 100"}
    service.kill()
    service = serve(fleet)
    assert set(service.answers().values()) == {"top 100"}
    redis_server.start()
    fleet.applied_by(WORKERS)
    assert fleet.flag("recs")["state"] == "off", "the store was given back what it had lost"
    flip(fleet, "on")
    assert set(service.answers().values()) == {"personal"}
