"""The servers of the transparency tests, and what they leave."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from ..servers.fixtures import grpc_server, http_server, moto_server, postgres_server, redis_server

__all__ = ["grpc_server", "http_server", "moto_server", "postgres_server", "redis_server"]


@pytest.fixture
def collected() -> Iterator[None]:
    """Be rid of what was left open, as it is by the bare client too, before the next test."""
    yield
    gc.collect()
