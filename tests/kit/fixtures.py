"""Fixtures that every test may ask for; tests/conftest.py has them from here.

But for `clock`, which would hide that of our own plugin, and for what is used without being asked for: a conftest.py
imports them where they are meant.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

import resilient
from resilient import registry
from resilient.engine.sync import workers
from resilient.testing import ManualClock
from tests.kit.colours import COLOURS, TIMED_COLOURS, Colour
from tests.kit.worlds import BACKENDS, WORLDS, World, world_of

_numbers = itertools.count(1)


@pytest.fixture
def clock() -> ManualClock:
    """Give a clock that only the test moves."""
    return ManualClock()


@pytest.fixture
def events() -> Iterator[list[resilient.Event]]:
    """Give the events that happen during the test."""
    seen: list[resilient.Event] = []
    unsubscribe = resilient.registry.subscribe(seen.append)
    yield seen
    unsubscribe()


@pytest.fixture
def name() -> Iterator[str]:
    """Give a policy name of this test's own, which is free again afterwards."""
    own = f"own-{next(_numbers)}"
    yield own
    for taken in resilient.registry.names():
        if taken == own or taken.startswith(own + "-"):
            resilient.registry.remove(taken)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test see only the policies that it makes."""
    monkeypatch.setattr(registry, "_entries", {})
    monkeypatch.setattr(registry, "_numbers", {})
    monkeypatch.setattr(registry, "_freed", {})


@pytest.fixture(params=COLOURS, ids=lambda colour: colour.name)
def colour(request: pytest.FixtureRequest) -> Colour:
    """Give every way to run a call; sync timeouts are cooperative."""
    found: Colour = request.param
    return found


@pytest.fixture(params=TIMED_COLOURS, ids=lambda colour: colour.name)
def timed(request: pytest.FixtureRequest) -> Colour:
    """Give every way to run a call under a timeout, worker threads too."""
    found: Colour = request.param
    return found


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Give calls in threads, in tasks of asyncio and in tasks of trio."""
    with world_of(request.param) as made:
        yield made


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Name an event loop."""
    return str(request.param)


@pytest.fixture(autouse=True)
def idle_workers_end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds of idleness would be ten seconds of waiting in each test that counts threads."""
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.1)
