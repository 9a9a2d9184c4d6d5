"""Settings for the whole suite."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from tests.kit.fixtures import alone, backend, colour, events, name, timed, world
from tests.kit.servers.fixtures import (
    grpc_server,
    http_server,
    moto_server,
    postgres_server,
    prometheus_server,
    redis_server,
)

__all__ = [
    "alone", "backend", "colour", "events", "grpc_server", "http_server", "moto_server",
    "name", "postgres_server", "prometheus_server", "redis_server", "timed", "world",
]  # fmt: skip

settings.register_profile(
    "ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# A shell has what it runs in the background ignore Ctrl-C, and so would all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True, scope="module")
def _small_heap() -> None:
    """Have the many collections that tests ask for leave out what was there before.

    That is modules, thousands of tests and what others have loaded, in which each would look.
    """
    gc.collect()
    gc.freeze()


if os.environ.get("TEST_LOOP") == "uvloop":  # `make loops`
    asyncio.set_event_loop_policy(importlib.import_module("uvloop").EventLoopPolicy())
