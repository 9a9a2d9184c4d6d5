"""The Flask example under a real uWSGI: flips reach its workers, and their counts add up."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.examples.kit import Dependency, Example, ask, calls, dependency
from tests.kit.command import Cli
from tests.kit.waiting import until
from tests.kit.workers import free_port

UWSGI = Path(sys.executable).with_name("uwsgi")
EXEC = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
RIGHT = ["--enable-threads", "--py-call-osafterfork"]

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 12),
    reason="requirements/test.txt installs uWSGI for Python 3.11 alone: it is built from source",
)


@pytest.fixture
def shop() -> Iterator[Dependency]:
    with dependency() as made:
        yield made


@pytest.fixture
def served(
    cli: Cli, shop: Dependency, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Any]:
    """Two workers of uWSGI, and their port."""
    port, options = free_port(), getattr(request, "param", RIGHT)
    environ = cli.env(
        RECS_URL=shop.url,
        RESILIENT__RECS__TIMEOUT__SECONDS="60",
        RESILIENT__STOCK__TIMEOUT__SECONDS="60",
    )
    words = [
        "-c", EXEC, str(UWSGI), "--http-socket", f"127.0.0.1:{port}", "--master", "--processes", "2", "--threads", "2",
        "--module", "flask_service:app", "--virtualenv", sys.prefix,
        "--die-on-term", *options,
    ]  # fmt: skip
    made = Example(words, environ, tmp_path / "uwsgi.log")
    try:
        made.serves(lambda: ask(port, "/ready").status == 200)
        yield made, port
    finally:
        made.kill()


def both_follow(cli: Cli, port: int) -> None:
    """Ask until both workers have served a request, and so follow the store."""

    def known() -> bool:
        ask(port, "/home/7")
        done = cli("flags", "--json")
        return done.code == 0 and [row["processes"] for row in done.json] == [2]

    until(known)


def test_flips_reach_every_worker_and_counts_add_up(
    cli: Cli, served: Any, shop: Dependency
) -> None:
    service, port = served
    both_follow(cli, port)
    cli.flip("flags", "off", "recs").said(0, "applied by 2 of 2 processes")
    for _ in range(10):
        assert ask(port, "/home/7").json == {"picks": ["the top 100"]}
    before = calls(port, "recs")
    assert before["refused"] >= 10
    cli.flip("flags", "on", "recs").said(0, "applied by 2 of 2 processes")
    for _ in range(20):
        assert ask(port, "/home/7").json == {"picks": ["picked for 7"]}
    assert calls(port, "recs")["success"] == before.get("success", 0) + 20
    # A worker that is killed takes no count with it, and the next one obeys.
    victim = cli("processes", "--json").json[0]["pid"]
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in [row["pid"] for row in cli("processes", "--json").json])
    both_follow(cli, port)
    assert calls(port, "recs")["success"] >= before.get("success", 0) + 20
    cli.flip("flags", "off", "recs").said(0, "applied by 2 of 2 processes")
    assert ask(port, "/home/7").json == {"picks": ["the top 100"]}
    assert "Traceback" not in service.said()


@pytest.mark.parametrize(
    ("served", "missing"),
    [(["--enable-threads"], "py-call-osafterfork"), (["--py-call-osafterfork"], "enable-threads")],
    indirect=["served"], ids=["threads", "forks"],
)  # fmt: skip
def test_a_missing_option_is_named(served: Any, missing: str) -> None:
    service, port = served
    ask(port, "/home/7")
    until(lambda: f"uWSGI needs {missing}: " in service.log.read_text(), service.said)
