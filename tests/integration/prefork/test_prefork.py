"""Processes that come and go count as one: gunicorn whose workers are killed, and pools."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.prefork.kit import (
    HERE,
    Helper,
    Service,
    Truth,
    breakers,
    left,
    settled,
    sums,
)
from tests.kit.waiting import until

WORKERS, POLICIES, RATE, SECONDS, KILLS = 2, 50, 200, 4.0, 2


@pytest.fixture
def helpers() -> Iterator[list[Helper]]:
    """Give a list of helpers that end with the test."""
    made: list[Helper] = []
    yield made
    for each in made:
        each.kill()


@pytest.fixture
def service(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    """Give a gunicorn, in the middle of whose work prometheus_client counts too, if asked."""
    pytest.importorskip("gunicorn")
    started = Service(
        tmp_path, workers=WORKERS, policies=POLICIES, requests=int(RATE * SECONDS * 10), threads=8,
        preload=request.param, client=request.param,
    )  # fmt: skip
    yield started
    started.stop()


def under_load(service: Service, helpers: list[Helper], *, paused: bool) -> tuple[Any, Any]:
    """Load, scrape and kill for some seconds; return what load and scraper saw."""
    service.each()
    load = Helper("load.py", service.port, 16, RATE, POLICIES)
    scraper = Helper("scraper.py", service.port, 4)
    helpers += [load, scraper]
    for _ in range(KILLS):
        time.sleep(SECONDS / (KILLS + 1))
        if paused:
            load.tell("pause")
            load.hears("paused")
        service.kill_one(random.Random(1))
        until(service.whole)
        if paused:
            load.tell("go")
    time.sleep(SECONDS / (KILLS + 1))
    return load.end(), scraper.end()


@pytest.mark.parametrize("service", [False, True], indirect=True, ids=["plain", "preload"])
def test_totals_are_exact_while_workers_are_killed(service: Service, helpers: list[Helper]) -> None:
    """Totals are what was answered, never fall, gauges return to 0, and no page is left.

    With --preload the load pauses for each kill, and prometheus_client counts beside.
    """
    paused = service.preload
    answers, seen = under_load(service, helpers, paused=paused)
    truth = Truth(answers, service.marks)
    assert truth.calls > 0
    assert not answers["faults"]
    assert seen["seen"]
    assert not seen["falls"], service.log.read_text()[-2000:]
    assert not seen["faults"]
    _, scrape = settled(service)
    wrong, compared = truth.wrong(scrape)
    assert not wrong
    assert compared >= 9 * POLICIES / 2
    if paused:
        assert not answers["cut"]
        assert truth.wrong_client(scrape) == []
    assert not any(sums(scrape).values())
    assert breakers(scrape, POLICIES) == {WORKERS + service.preload}
    service.each()
    assert left(service) == []
    assert service.log.read_text().count("Traceback") == 0


@pytest.mark.parametrize("kind", ["fork", "spawn"])
def test_the_parent_of_a_pool_sums_its_tasks(kind: str, tmp_path: Path) -> None:
    """What the tasks of a pool have counted is in the parent's sums, during and after."""
    environ = {**os.environ, "RESILIENT_RUNTIME_DIR": str(tmp_path / "pages")}
    done = subprocess.run(
        [sys.executable, str(HERE / "pools.py"), kind, "200"],
        env=environ, stdin=subprocess.DEVNULL, capture_output=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    said = json.loads(done.stdout)
    assert said["after"] == said["counts"] == said["during"]
    assert sum(sum(each.values()) for each in said["after"].values()) == 210
    owners = [name.partition("-")[0] for name in said["names"]]
    assert owners == [str(said["pid"]), "departed.page"]
