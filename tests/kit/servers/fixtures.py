"""Fixtures: real servers, one of each kind for a whole test process, healthy in every test.

Only a Prometheus is of one test alone, as what it has scraped is what it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import pytest

from tests.kit.servers.grpc_server import GrpcServer
from tests.kit.servers.http_server import HttpServer
from tests.kit.servers.moto_server import MotoServer
from tests.kit.servers.postgres_server import PostgresServer
from tests.kit.servers.process import ServerProcess
from tests.kit.servers.prometheus import Prometheus
from tests.kit.servers.redis_server import RedisServer

Kind = TypeVar("Kind", bound=ServerProcess)

# Not session-scoped fixtures: each folder that imports one would have a server of its own.
_started: dict[type[ServerProcess], ServerProcess] = {}


def shared(kind: type[Kind], config: pytest.Config) -> Kind:
    """Return the server of a kind: started at its first use, closed at the end of the session.

    It answers, and is empty, whatever a test before has done to it and left in it.
    """
    server = _started.get(kind)
    if server is None:
        server = kind()
        config.add_cleanup(server.close)
        server.start()
        _started[kind] = server
    server.revive()
    server.clear()
    assert isinstance(server, kind)
    return server


@pytest.fixture
def http_server(request: pytest.FixtureRequest) -> HttpServer:
    """A server of HTTP/1.1, with its counts at zero."""
    return shared(HttpServer, request.config)


@pytest.fixture
def redis_server(request: pytest.FixtureRequest) -> RedisServer:
    """A Redis that is empty."""
    return shared(RedisServer, request.config)


@pytest.fixture
def postgres_server(request: pytest.FixtureRequest) -> PostgresServer:
    """A PostgreSQL with nothing in its schema, and no other connections."""
    return shared(PostgresServer, request.config)


@pytest.fixture
def moto_server(request: pytest.FixtureRequest) -> MotoServer:
    """An AWS without buckets, tables and queues."""
    return shared(MotoServer, request.config)


@pytest.fixture
def grpc_server(request: pytest.FixtureRequest) -> GrpcServer:
    """A gRPC server."""
    return shared(GrpcServer, request.config)


@pytest.fixture
def prometheus_server() -> Iterator[Prometheus]:
    """A Prometheus that knows nothing: the test starts it, with its targets and rules."""
    server = Prometheus()
    yield server
    server.close()
