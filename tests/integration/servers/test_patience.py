"""A header of a stranger's does not make what we depend on look ill."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from resilient import Policy, circuit_breaker, remaining, timeout
from resilient.integrations.wsgi import Middleware
from tests.integration.servers.kit import new_policy
from tests.integration.servers.test_wsgi import PLAIN, Answer


@pytest.fixture
def dependency() -> Iterator[Any]:
    """The address of what answers each request after 20 ms."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield server.getsockname()


def serve(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def answer(connection: socket.socket) -> None:
    with connection:
        try:
            connection.recv(1)
            threading.Event().wait(0.02)
            connection.sendall(b"y")
        except OSError:
            pass


def asks(policy: Policy, address: Any) -> Any:
    @policy
    def ask() -> bytes:
        with socket.create_connection(address, timeout=remaining()) as connection:
            connection.sendall(b"x")
            return connection.recv(1)

    def app(environ: Any, start: Any) -> list[bytes]:
        ask()
        start("200 OK", PLAIN)
        return [b"done"]

    return app


def test_a_deadline_that_is_too_tight_opens_no_circuit(dependency: Any) -> None:
    policy = new_policy(timeout(20, sync="cooperative"), circuit_breaker(minimum_calls=5))
    guarded = Middleware(asks(policy, dependency), at_most=30.0)
    for _ in range(20):
        with suppress(TimeoutError):  # of the socket's, where the application says nothing of it
            Answer(guarded, {"x-request-timeout": "0.005"})
    calls = policy.snapshot()["calls"]
    assert (policy.state, calls["failure"], calls["refused"]) == ("closed", 0, 0)
    assert Answer(guarded).status == "200 OK"


def test_one_below_at_least_does_not_come_to_the_dependency(dependency: Any) -> None:
    policy = new_policy(timeout(20, sync="cooperative"), circuit_breaker())
    guarded = Middleware(asks(policy, dependency), at_most=30.0, at_least=0.01)
    statuses = {Answer(guarded, {"x-request-timeout": "0.005"}).status[:3] for _ in range(20)}
    assert statuses == {"504"}
    assert not any(policy.snapshot()["calls"].values())
