"""Tests of the kit: every server answers, freezes, goes on, dies and comes back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3  # noqa: F401  # slow to import: not inside what a test measures
import grpc
import psycopg
import pytest
import redis
import requests

from tests.kit.paths import ROOT
from tests.kit.servers import postgres_server as postgres_module
from tests.kit.servers import redis_server as redis_module
from tests.kit.servers import tree
from tests.kit.servers.fixtures import shared
from tests.kit.servers.grpc_server import GrpcServer
from tests.kit.servers.http_server import HttpServer
from tests.kit.servers.moto_server import MotoServer
from tests.kit.servers.postgres_server import PostgresServer
from tests.kit.servers.process import HOST, ServerError, ServerProcess, reserve
from tests.kit.servers.redis_server import RedisServer
from tests.kit.waiting import until

KINDS: dict[str, type[ServerProcess]] = {
    "http_server": HttpServer,
    "redis_server": RedisServer,
    "postgres_server": PostgresServer,
    "moto_server": MotoServer,
    "grpc_server": GrpcServer,
}


PATIENCE = 3.0  # seconds, of whoever asks


def ask_http(server: Any) -> bool:
    """Ask with requests."""
    return requests.get(f"{server.url}/json", timeout=PATIENCE).json() == {"ok": True}


def ask_redis(server: Any) -> bool:
    """Ask with redis-py, with no retries."""
    retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    with redis.Redis(
        host=HOST, port=server.port, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE,
        retry=retry,
    ) as client:  # fmt: skip
        return bool(client.ping())


def ask_postgres(server: Any) -> bool:
    """Ask with psycopg."""
    with psycopg.connect(server.conninfo, connect_timeout=int(PATIENCE)) as connection:
        return connection.execute("SELECT 1").fetchone() == (1,)


def ask_moto(server: Any) -> bool:
    """Ask with boto3."""
    client = server.client("sqs", read_timeout=PATIENCE, connect_timeout=PATIENCE)
    try:
        return "ResponseMetadata" in client.list_queues()
    finally:
        client.close()


def ask_grpc(server: Any) -> bool:
    """Ask with grpcio."""
    with grpc.insecure_channel(server.target) as channel:
        return server.method(channel, "Echo")(b"hello", timeout=PATIENCE) == b"hello"


ASK: dict[str, Callable[[Any], bool]] = {
    "http_server": ask_http,
    "redis_server": ask_redis,
    "postgres_server": ask_postgres,
    "moto_server": ask_moto,
    "grpc_server": ask_grpc,
}


@pytest.fixture(params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    """Every kind of server."""
    return str(request.param)


@pytest.fixture
def server(name: str, request: pytest.FixtureRequest) -> ServerProcess:
    """A server of every kind."""
    found: ServerProcess = request.getfixturevalue(name)
    return found


def took(fn: Callable[[], object]) -> float:
    """Return how long a call took that has to raise."""
    began = time.monotonic()
    with pytest.raises(Exception):  # noqa: B017 - each library has its own
        fn()
    return time.monotonic() - began


def refused(port: int) -> None:
    """Check that nobody listens."""
    with pytest.raises(ConnectionRefusedError):
        connect(port)


def connect(port: int) -> None:
    """Connect, and leave."""
    socket.create_connection((HOST, port), 5).close()


def test_it_answers(server: ServerProcess, name: str) -> None:
    assert server.running
    assert ASK[name](server)


def test_frozen_it_takes_connections_and_does_not_answer(server: ServerProcess, name: str) -> None:
    assert ASK[name](server)
    server.stop()
    assert set(tree.tree(server.process.pid).values()) <= set(tree.HELD + tree.GONE)
    connect(server.port)
    seconds = took(lambda: ASK[name](server))
    assert seconds > 0.4
    server.cont()
    until(lambda: server.answers())
    assert ASK[name](server)


def test_killed_it_refuses_at_once_and_comes_back(server: ServerProcess, name: str) -> None:
    port = server.port
    server.kill()
    assert not server.running
    for _ in range(100):
        refused(port)
    with pytest.raises(Exception):  # noqa: B017 - each library has its own
        ASK[name](server)
    server.restart()
    assert server.port == port
    assert ASK[name](server)
    server.restart()  # also where it runs
    assert server.port == port
    assert ASK[name](server)


def test_frozen_it_can_be_killed(server: ServerProcess, name: str) -> None:
    server.stop()
    server.kill()
    refused(server.port)
    server.start()
    assert ASK[name](server)


@pytest.mark.parametrize("harm", ["stop", "kill", "crash"])
def test_the_next_test_has_it_healthy(
    server: ServerProcess, name: str, harm: str, request: pytest.FixtureRequest
) -> None:
    if harm == "crash":
        os.kill(server.process.pid, signal.SIGKILL)
        until(lambda: not server.running)
    else:
        getattr(server, harm)()
    again = shared(KINDS[name], request.config)
    assert again is server
    assert ASK[name](again)


@pytest.mark.parametrize("harm", ["", "stop", "kill"])
def test_close_leaves_nothing(name: str, harm: str) -> None:
    with KINDS[name]() as server:
        pids = set(tree.tree(server.process.pid))
        assert pids
        if harm:
            getattr(server, harm)()
        watcher = server._watcher.pid
    assert not tree.alive(pids | {watcher})
    assert not server.directory.exists()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, server.port))
    server.close()  # once more does no harm


SCRIPT = """
import sys, time
from tests.kit.servers.{module} import {kind}
server = {kind}().start()
{harm}
print(server.process.pid, server.directory, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("harm", ["", "server.stop()"])
def test_a_killed_test_process_leaves_nothing(server: ServerProcess, harm: str) -> None:
    kind = type(server)
    script = SCRIPT.format(module=kind.__module__.rpartition(".")[2], kind=kind.__name__, harm=harm)
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            pid, directory = process.stdout.readline().decode().split()
            pids = set(tree.tree(int(pid)))
            assert int(pid) in tree.alive(pids)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    until(lambda: not tree.alive(pids))
    until(lambda: not Path(directory).exists())


class Broken(ServerProcess):
    """A server that says why it ends."""

    def command(self) -> list[str]:
        return [sys.executable, "-c", "raise SystemExit('no such setting')"]


def test_a_server_that_ends_says_why() -> None:
    broken = Broken()
    with pytest.raises(ServerError, match=r"ended with 1\nno such setting"), broken:
        pass
    assert not broken.directory.exists()


class Unlucky(ServerProcess):
    """A server whose first port another program takes."""

    tried: tuple[int, ...] = ()

    def command(self) -> list[str]:
        self.tried += (self.port,)
        if len(self.tried) == 1:
            return [sys.executable, "-c", "raise SystemExit('Address already in use')"]
        return [sys.executable, "-m", "http.server", "--bind", HOST, str(self.port)]


def test_a_port_that_is_taken_is_left_for_another() -> None:
    with Unlucky() as unlucky:
        assert len(set(unlucky.tried)) == 2
        assert unlucky.port == unlucky.tried[1]


def test_a_reserved_port_is_given_to_nobody_else() -> None:
    held = [reserve() for _ in range(50)]
    ports = {sock.getsockname()[1] for sock in held}
    assert len(ports) == 50
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((HOST, min(ports)))
    for sock in held:
        sock.close()


@pytest.mark.parametrize("needed", ["1", ""])
@pytest.mark.parametrize(
    ("kind", "module", "found", "variable"),
    [
        (RedisServer, redis_module, "redis_program", "RESILIENT_NEED_REDIS"),
        (PostgresServer, postgres_module, "postgres_programs", "RESILIENT_NEED_POSTGRES"),
    ],
)
def test_without_the_program_it_skips_or_fails(
    kind: Any, module: Any, found: str, variable: str, needed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, found, lambda: None)
    monkeypatch.setenv(variable, needed)
    expected = pytest.fail.Exception if needed else pytest.skip.Exception
    with pytest.raises(expected, match="there is no"):
        kind()
