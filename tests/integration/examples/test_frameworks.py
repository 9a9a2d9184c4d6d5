"""The examples of frameworks run as their docstrings say, and do what they promise."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import celery
import pytest

from tests.integration.examples.kit import Dependency, Example, ask, calls, dependency
from tests.kit.command import Cli
from tests.kit.servers.redis_server import RedisServer
from tests.kit.waiting import WAIT, until
from tests.kit.workers import free_port

Start = Callable[..., Example]
# No test is about how quick a loaded machine is.
PATIENT = {f"RESILIENT__{name}__TIMEOUT__SECONDS": "60" for name in ("RECS", "STOCK")}
TOP_100 = {"picks": ["the top 100"]}
PICKED = {"picks": ["picked for 7"]}


@pytest.fixture
def shop() -> Iterator[Dependency]:
    """Give the dependency of the examples."""
    with dependency() as made:
        yield made


@pytest.fixture
def start(cli: Cli, shop: Dependency, tmp_path: Path) -> Iterator[Start]:
    """Start examples; they end with the test."""
    made: list[Example] = []

    def start(*words: object, **environ: str) -> Example:
        given = cli.env(RECS_URL=shop.url, RELAY_URL=shop.url, **PATIENT, **environ)
        made.append(Example(list(map(str, words)), given, tmp_path / f"log-{len(made)}"))
        return made[-1]

    yield start
    for each in made:
        each.kill()


def uvicorn(name: str, port: int) -> list[object]:
    """Return how an ASGI example is started."""
    return ["-m", "uvicorn", "--port", port, f"{name}:app"]


def gunicorn(name: str, port: int) -> list[object]:
    """Return how a WSGI example is started."""
    return ["-m", "gunicorn", "--workers", 1, "--threads", 4, "--no-control-socket",
            "--bind", f"127.0.0.1:{port}", name]  # fmt: skip


SERVICES = {
    "fastapi": lambda port: uvicorn("fastapi_service", port),
    "starlette": lambda port: uvicorn("starlette_service", port),
    "flask": lambda port: gunicorn("flask_service:app", port),
    "django": lambda port: gunicorn("django_service:application", port),
}


@pytest.fixture(params=SERVICES)
def port(request: pytest.FixtureRequest, start: Start) -> int:
    """Start one of the services over HTTP; return its port."""
    found = free_port()
    service = start(*SERVICES[request.param](found))
    service.serves(lambda: ask(found, "/ready").status == 200)
    return found


def refused(cli: Cli, port: int) -> None:
    """Force a policy without a fallback open: 503, and when to come again."""
    cli.flip("policies", "force-open", "stock").said(0, "applied by 1 of 1 process ")
    answer = ask(port, "/stock/heat")
    assert answer.status == 503, answer
    assert int(answer.headers["retry-after"]) >= 1


def flipped(cli: Cli, port: int, ask_it: Callable[[], Any]) -> None:
    """Turn the flag off: the answer of the switch, and no call reaches the dependency."""
    cli.flip("flags", "off", "recs").said(0, "applied by 1 of 1 process ")
    assert ask_it() == TOP_100
    cli.flip("flags", "on", "recs").said(0, "applied by 1 of 1 process ")


def test_a_service_lives_on_without_its_recommendations(
    port: int, cli: Cli, shop: Dependency
) -> None:
    """Well; down, with a fallback; refused, with none; and off."""
    assert ask(port, "/home/7").json == PICKED
    assert ask(port, "/stock/heat").json == 3
    shop.well = False
    assert ask(port, "/home/7").json == TOP_100
    assert calls(port, "recs") == {"success": 1, "failure": 1}
    assert ask(port, "/ready").status == 200, "an open circuit takes nobody off the load balancer"
    refused(cli, port)
    shop.well = True
    shop.asked.clear()
    flipped(cli, port, lambda: ask(port, "/home/7").json)
    assert shop.asked == []
    assert ask(port, "/home/7").json == PICKED


def test_a_request_that_has_no_time_left_is_answered_at_once(port: int, shop: Dependency) -> None:
    """The deadline comes with the header; with less than `at_least` nothing is called."""
    answer = ask(port, "/home/7", x_request_timeout="0.001")
    assert answer.status == 504, answer
    assert shop.asked == []


def test_grpc(start: Start, cli: Cli) -> None:
    """A page made with the answers of a gRPC server; then the server is gone."""
    behind, port = free_port(), free_port()
    server = start("grpc_service.py", "server", behind)
    server.serves(lambda: socket.create_connection(("127.0.0.1", behind)).close() is None)
    home = start("grpc_service.py", "home", port, behind)
    home.serves(lambda: ask(port, "/ready").status == 200)
    assert ask(port, "/home/7").json == PICKED
    assert ask(port, "/stock/heat").json == 3
    flipped(cli, port, lambda: ask(port, "/home/7").json)
    server.kill()
    assert ask(port, "/home/7").json == TOP_100
    assert calls(port, "recs").keys() >= {"success", "failure"}
    refused(cli, port)


def test_celery(start: Start, cli: Cli, shop: Dependency, redis_server: RedisServer) -> None:
    """A task that is done; that is kept, while the relay is away; and while the flag is off."""
    worker = start(
        "-m", "celery", "-A", "celery_worker", "worker", "--pool", "threads", "--concurrency", 2,
        "--without-gossip", "--without-mingle", CELERY_BROKER=redis_server.url,
    )  # fmt: skip
    port = free_port()
    page = start("celery_worker.py", port, CELERY_BROKER=redis_server.url)
    app = celery.Celery(broker=redis_server.url, backend=redis_server.url)

    def send() -> Any:
        sent = app.send_task("celery_worker.send", ["hello"])
        try:
            return sent.get(timeout=WAIT, interval=0.02)
        except celery.exceptions.TimeoutError:
            raise AssertionError(worker.said()) from None

    try:
        assert send() == "sent"
        shop.well = False
        assert send() == "kept for later"
        page.serves(lambda: ask(port, "/metrics").status == 200)
        until(lambda: calls(port, "mail") == {"success": 1, "failure": 1}, worker.said)
        shop.well = True
        shop.asked.clear()
        until(lambda: cli.flag("mail")["processes"] == 1)
        cli.flip("flags", "off", "mail").said(0, "applied by 1 of 1 process ")
        assert send() == "kept for later"
        assert shop.asked == []
    finally:
        app.close()
