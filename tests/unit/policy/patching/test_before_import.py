"""Patches of known libraries that are made before anybody has imported them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.kit.servers.fixtures import redis_server
from tests.kit.servers.process import HOST
from tests.kit.servers.redis_server import RedisServer

__all__ = ["redis_server"]

TARGETS = [
    "redis.client:Redis.execute_command",
    "requests.sessions:Session.request",
    "requests.api:get",
    "httpx._client:Client.send",
    "sqlalchemy.engine.base:Connection.execute",
    "urllib3.connectionpool:HTTPConnectionPool.urlopen",
    "aiohttp.client:ClientSession._request",
    "botocore.client:BaseClient._make_api_call",
    "psycopg.connection:Connection.execute",
    "grpc._channel:_UnaryUnaryMultiCallable.__call__",
]

_IMPORTED = """
import sys, resilient
from resilient import Policy, circuit_breaker
made = resilient.patch(sys.argv[1], Policy("early", circuit_breaker()))
__import__(sys.argv[1].partition(":")[0])
print(made.state)
"""

_JUDGED = """
import sys, resilient
from resilient import CircuitOpenError, Policy, circuit_breaker
policy = Policy("early", circuit_breaker(failure_threshold=1))
resilient.patch("redis.client:Redis.execute_command", policy)
import redis
client = redis.Redis(host=sys.argv[1], port=int(sys.argv[2]))
client.set("early-text", "a")
try:
    client.lpush("early-text", "b")
except redis.ResponseError:
    print(policy.snapshot()["calls"]["ignored"])
try:
    redis.Redis(host=sys.argv[1], port=9).ping()
except redis.ConnectionError:
    print(policy.state)
try:
    client.get("early-text")
except CircuitOpenError as error:
    print(isinstance(error, redis.RedisError))
"""


def output(code: str, *words: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code, *words],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("target", TARGETS)
def test_the_library_can_be_imported(target: str) -> None:
    """The patch is applied while its package is half imported; its adapter is loaded later."""
    assert output(_IMPORTED, target) == ["applied"]


def test_its_errors_are_known_all_the_same(redis_server: RedisServer) -> None:
    """Which are the caller's own, and of which type a refusal is."""
    assert output(_JUDGED, HOST, str(redis_server.port)) == ["1", "open", "True"]
