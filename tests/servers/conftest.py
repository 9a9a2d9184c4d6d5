"""The fixtures of the servers, for the tests of the kit itself."""

from __future__ import annotations

from tests.servers.fixtures import (
    grpc_server,
    http_server,
    moto_server,
    postgres_server,
    prometheus_server,
    redis_server,
)

__all__ = [
    "grpc_server", "http_server", "moto_server", "postgres_server", "prometheus_server",
    "redis_server",
]  # fmt: skip
